//! A bundle from its template to its signatures, and every mistake on the way.
#![cfg(test)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{edit, filled, good, refused, text, tool};
use tempfile::TempDir;

#[test]
fn the_template_passes_once_it_is_filled_in_and_builds_the_same_everywhere() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (first, second) = (filled(one.path()), filled(two.path()));
    let json: Value = serde_json::from_str(&good(&["check", "--json", &text(&first)])).unwrap();
    assert_eq!(json["sound"], true);
    let checked = good(&["check", &text(&first)]);
    assert!(checked.contains("warning: collateral/: no revocation list of a Genoa root"), "{checked}");
    assert!(checked.contains("warning: reference/: no image has the role \"authority\""), "{checked}");
    // Another order of writing, other times and modes, files of an editor.
    let policy = fs::read(second.join("policy.toml")).unwrap();
    fs::remove_file(second.join("policy.toml")).unwrap();
    fs::write(second.join("policy.toml"), policy).unwrap();
    fs::write(second.join(".policy.toml.swp"), "x").unwrap();
    fs::create_dir(second.join(".git")).unwrap();
    let (a, b) = (text(&one.path().join("a.pcb")), text(&two.path().join("b.pcb")));
    good(&["build", &text(&first), "--out", &a]);
    good(&["build", &text(&second), "--out", &b]);
    assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
    // A bundle is what its folder is.
    assert_eq!(good(&["show", &text(&first), "--json"]), good(&["show", &a, "--json"]));
    assert!(good(&["diff", &text(&first), &b]).contains("The two bundles say the same."));
}

/// Every mistake names file, line and key, says what would do, and writes nothing.
#[test]
fn every_mistake_is_told_with_its_place_and_nothing_is_written() {
    let wrong: &[(&str, &str, &str, &str)] = &[
        ("policy.toml", "version = 1", "version = \"one\"", "policy.toml:4: invalid type: string \"one\""),
        ("policy.toml", "version = 1", "verison = 1", "policy.toml:4: unknown field `verison`"),
        ("policy.toml", "[limits]", "[limits", "policy.toml:11: "),
        ("policy.toml", "\"2100-01-01T00:00:00Z\"", "2100-01-01T00:00:00Z", "policy.toml:7: a time without quotes"),
        (
            "policy.toml",
            "lease_seconds = 60",
            "lease_seconds = 1",
            "policy.toml:12: limits.lease_seconds: cannot be \"1\"",
        ),
        ("policy.toml", "status_seconds = 30", "status_seconds = 61", "policy.toml:13: limits.status_seconds"),
        ("policy.toml", "evidence_seconds = 10", "evidence_seconds = 11", "policy.toml:14: limits.evidence_seconds"),
        ("policy.toml", "renewal_seconds = 86400", "renewal_seconds = 59", "policy.toml:15: limits.renewal_seconds"),
        ("policy.toml", "\"snp+tpm\", \"snp\"", "\"snp+tmp\"", "policy.toml:8: classes: cannot be \"snp+tmp\""),
        (
            "policy.toml",
            "\"2100-01-01T00:00:00Z\"",
            "\"2025-01-01T00:00:00Z\"",
            "policy.toml:7: expires: is not after not_before",
        ),
        ("policy.toml", "# predecessor = \"", "predecessor = \"x", "policy.toml:5: predecessor: cannot be"),
        (
            "policy.toml",
            "generation = \"Genoa\"",
            "generation = \"genoa\"",
            "policy.toml:30: floor[0].generation: cannot be \"genoa\"",
        ),
        (
            "policy.toml",
            "microcode = 84\n",
            "microcode = 84\non = [\"launch\"]\n",
            "Genoa has no floor for the reported TCB",
        ),
        ("policy.toml", "microcode = 84\n", "microcode = 300\n", "policy.toml:34: invalid value: integer `300`"),
        ("policy.toml", "microcode = 84\n", "microcode = 84\nfmc = 1\n", "floor[0].fmc: does not fit the generation"),
        ("policy.toml", "minimum_class = \"snp\"", "minimum_class = \"snp+tpm\"", "node[0].ek: is missing"),
        ("policy.toml", "name = \"node-1\"", "name = \"node 1\"", "node[0].name: cannot be \"node 1\""),
        (
            "policy.toml",
            "roots = \"amd\"",
            "roots = \"given\"",
            "policy.toml: roots: is \"given\", but roots/ is empty",
        ),
        ("reference/image.toml", "reviewed = true", "reviewed = false", "reference/image.toml:5: reviewed: is false"),
        ("reference/image.toml", "boot-chain", "firmware", "reference/image.toml:4: covers: cannot be \"firmware\""),
        (
            "reference/image.toml",
            "host_data = \"any\"",
            "host_data = \"\"",
            "reference/image.toml:10: host_data: cannot be \"\"",
        ),
        ("reference/image.toml", "# [pcrs]", "[pcrs]\n24 = \"00\"\n#", "pcrs.24: is no PCR"),
        ("policy.cedar", "principal.tags.contains", "principal.tag.contains", "policy.cedar:6: "),
        ("policy.cedar", "@id(\"production-nodes\")", "", "policy.cedar: policy 1 has no @id"),
        ("policy.cedar", "no-quarantined", "production-nodes", "names two policies"),
        ("policy.cedar", "permit(", "permt(", "policy.cedar:5: "),
        (
            "schema.cedarschema",
            "\"image\": String,",
            "",
            "schema.cedarschema: the question that is asked of every request does not fit",
        ),
        ("schema.cedarschema", "entity Generation;", "entity Generation", "schema.cedarschema:8: "),
    ];
    for (file, from, to, expected) in wrong {
        let at = TempDir::new().unwrap();
        let folder = filled(at.path());
        edit(&folder, file, &[(from, to)]);
        let out = at.path().join("x.pcb");
        fs::write(&out, "what was there before").unwrap();
        let said = refused(&["build", &text(&folder), "--out", &text(&out)]);
        assert!(said.contains(expected), "{from} -> {to}\n{said}");
        assert!(said.contains("hint: "), "{said}");
        assert_eq!(fs::read_to_string(&out).unwrap(), "what was there before");
        assert_eq!(refused(&["check", &text(&folder)]), said);
    }
}

#[test]
fn files_that_nothing_reads_are_refused_and_all_mistakes_told_at_once() {
    let at = TempDir::new().unwrap();
    let folder = filled(at.path());
    for file in ["README.md", "reference/old/image.toml", "reference/image.json", "ima/list"] {
        fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
        fs::write(folder.join(file), "x").unwrap();
    }
    edit(&folder, "policy.toml", &[("version = 1", "verison = 1")]);
    edit(&folder, "policy.cedar", &[("principal.tags", "principal.tag")]);
    let said = refused(&["check", &text(&folder)]);
    for expected in [
        "README.md: is read by no part of a bundle",
        "reference/old/image.toml: is read by no part",
        "reference/image.json: is read by no part",
        "policy.toml:4: unknown field `verison`",
        "policy.cedar:6: ",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    let output = tool(&["check", "--json", &text(&folder)]);
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(portcullis_schemas::check(&json), "portcullis/bundle-check/1");
    assert_eq!((&json["sound"], &json["check"]), (&false.into(), &"bundle.document".into()));
    let typo = json["findings"].as_array().unwrap().iter().find(|f| f["file"] == "policy.toml").unwrap();
    assert_eq!(typo["line"], 4);
    fs::write(folder.join("collateral/list.crl"), "no list").unwrap();
    for file in ["README.md", "reference/old/image.toml", "reference/image.json", "ima/list"] {
        fs::remove_file(folder.join(file)).unwrap();
    }
    edit(&folder, "policy.toml", &[("verison = 1", "version = 1")]);
    edit(&folder, "policy.cedar", &[("principal.tag", "principal.tags")]);
    let said = refused(&["check", &text(&folder)]);
    assert!(said.contains("bundle.collateral") && said.contains("collateral/list.crl: "), "{said}");
}

/// Governors sign on machines of their own; sets are joined; too few, the wrong
/// bundle and a doubled signature do not pass.
#[test]
fn signatures_are_made_apart_and_joined() {
    let at = TempDir::new().unwrap();
    let path = |name: &str| text(&at.path().join(name));
    let folder = filled(at.path());
    for (name, suite) in [("alice", "classic"), ("bob", "pq"), ("carol", "classic")] {
        good(&["keygen", "--out", &path(name), "--suite", suite]);
    }
    let keys = ["alice.cose", "bob.cose", "carol.cose"].map(path);
    good(&["governance", "--threshold", "2", &keys[0], &keys[1], &keys[2], "--out", &path("g.cbor")]);
    good(&["build", &text(&folder), "--out", &path("v1.pcb")]);
    // Alice from the bundle, Bob from the folder: the same thing is signed.
    good(&["sign", &path("v1.pcb"), "--key", &path("alice.pem"), "--out", &path("a.pcs")]);
    good(&["sign", &text(&folder), "--key", &path("bob.pem"), "--out", &path("b.pcs")]);
    let (bundle, governance, out) = (path("v1.pcb"), path("g.cbor"), path("bundle.pcb"));
    let few = refused(&["assemble", &bundle, &path("a.pcs"), "--governance", &governance, "--out", &out]);
    assert!(few.contains("bundle.threshold"), "{few}");
    assert!(!Path::new(&out).exists());
    let unsigned = refused(&["check", &bundle, "--governance", &governance]);
    assert!(unsigned.contains("bundle.unsigned"), "{unsigned}");
    good(&["assemble", &bundle, &path("a.pcs"), &path("b.pcs"), "--governance", &governance, "--out", &out]);
    // The same set twice counts once; a set is added to.
    good(&["assemble", &out, &path("a.pcs"), &path("a.pcs"), "--governance", &governance, "--out", &out]);
    let added = good(&["sign", &bundle, "--key", &path("carol.pem"), "--out", &path("a.pcs")]);
    assert!(added.contains("2 signatures"), "{added}");
    let shown: Value = serde_json::from_str(&good(&["show", &out, "--governance", &governance, "--json"])).unwrap();
    assert_eq!(portcullis_schemas::check(&shown), "portcullis/bundle/1");
    assert_eq!(shown["signatures"]["governors"].as_array().unwrap().len(), 2);
    // Signatures are for one bundle.
    edit(&folder, "policy.toml", &[("version = 1", "version = 2")]);
    good(&["build", &text(&folder), "--out", &path("v2.pcb")]);
    let output = tool(&["assemble", &path("v2.pcb"), &path("b.pcs"), "--out", &path("never.pcb")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the signatures are for another document"));
    // Whether it may follow, and when it is valid.
    let sign = |name: &str| {
        let sets = path(&format!("{name}.pcs"));
        let bundle = path(&format!("{name}.pcb"));
        good(&["sign", &bundle, "--key", &path("alice.pem"), "--key", &path("carol.pem"), "--out", &sets]);
        good(&["assemble", &bundle, &sets, "--governance", &governance, "--out", &bundle]);
        bundle
    };
    let second = sign("v2");
    let check = |more: &[&str]| refused(&[&["check", &second, "--governance", &governance], more].concat());
    assert!(check(&["--active", &out]).contains("bundle.predecessor"));
    assert!(check(&["--at", "2020-01-01T00:00:00Z"]).contains("bundle.not_before"));
    assert!(check(&["--at", "2101-01-01T00:00:00Z"]).contains("bundle.expired"));
    let digest = shown["digest"].as_str().unwrap().to_owned();
    edit(
        &folder,
        "policy.toml",
        &[(
            "# predecessor = \"digest of the bundle before this one; absent in the first\"",
            &format!("predecessor = \"{digest}\""),
        )],
    );
    good(&["build", &text(&folder), "--out", &path("v3.pcb")]);
    let third = sign("v3");
    good(&["check", &third, "--governance", &governance, "--active", &out]);
    let back = refused(&["check", &out, "--governance", &governance, "--active", &third]);
    assert!(back.contains("bundle.version"), "{back}");
}

#[test]
fn a_difference_is_told_in_sentences() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (old, new) = (filled(one.path()), filled(two.path()));
    edit(
        &new,
        "policy.toml",
        &[
            ("lease_seconds = 60", "lease_seconds = 120"),
            ("name = \"node-1\"", "name = \"node-2\""),
            ("# [distrust]\n# generations", "[distrust]\ngenerations"),
            ("snp = 23", "snp = 27"),
        ],
    );
    edit(&new, "policy.cedar", &[("production\")", "prod\")")]);
    let told = good(&["diff", &text(&old), &text(&new)]);
    for sentence in [
        "The bundle itself: permits live would be 120 s, was 60 s.",
        "New: the distrust of generation Milan.",
        "The floor for Genoa launch: at least would be boot_loader 10 tee 0 snp 27 microcode 84, was boot_loader 10 tee 0 snp 23 microcode 84.",
        "Gone: the node node-1, shows at least snp, chip 1212",
        "New: the node node-2, shows at least snp, chip 1212",
        "The policy production-nodes: text would be",
    ] {
        assert!(told.contains(sentence), "{sentence}\n{told}");
    }
    let json: Value = serde_json::from_str(&good(&["diff", &text(&old), &text(&new), "--json"])).unwrap();
    assert_eq!(portcullis_schemas::check(&json), "portcullis/bundle-diff/1");
    assert_eq!(json["changes"].as_array().unwrap().len(), 9, "{json:#}");
}
