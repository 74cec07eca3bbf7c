//! What `check` tells of a sound bundle: dates in the right tense, and policies
//! about things that do not exist.
#![cfg(test)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use portcullis_vectors::vectors;
use serde_json::Value;
use support::{edit, filled, good, refused, text, tool};
use tempfile::TempDir;

/// A filled-in folder with AMD's list of Genoa, 2024-10-23 to 2025-11-03T01:00:00Z.
fn with_list(at: &Path) -> Option<PathBuf> {
    let list = vectors("snp/amd-crl")?.join("genoa_2024-10-23.crl.der");
    let folder = filled(at);
    edit(&folder, "policy.toml", &[("\"2026-01-01T00:00:00Z\"", "\"2025-01-01T00:00:00Z\"")]);
    fs::copy(list, folder.join("collateral/genoa.crl")).unwrap();
    Some(folder)
}

/// The fault that was reported: a list that had ended was announced to end.
#[test]
fn a_revocation_list_that_has_ended_is_an_error_and_one_that_ends_soon_a_warning() {
    let at = TempDir::new().unwrap();
    let Some(folder) = with_list(at.path()) else { return };
    let folder = text(&folder);
    let said = refused(&["check", &folder, "--at", "2025-11-03T01:00:01Z"]);
    let ended =
        "refused by snp.crl\n  collateral/genoa.crl: the revocation list of Genoa ended on 2025-11-03T01:00:00Z";
    assert!(said.contains(ended) && said.contains("collateral/"), "{said}");
    // The last second counts.
    for (at, expected) in [
        ("2025-11-03T01:00:00Z", "ends on 2025-11-03T01:00:00Z, in 1 minute: from then on evidence of Genoa is denied"),
        ("2025-10-24T00:00:00Z", "ends on 2025-11-03T01:00:00Z, in 10 days"),
        ("2025-02-01T00:00:00Z", "ends on 2025-11-03T01:00:00Z, before the bundle does"),
    ] {
        let said = good(&["check", &folder, "--at", at]);
        let warning = format!("warning: collateral/genoa.crl: the revocation list of Genoa {expected}");
        assert!(said.contains(&warning) && said.contains(": sound, version 1"), "{said}");
    }
    // Without --at the clock counts, which is later than that.
    assert!(refused(&["check", &folder]).contains("ended on 2025-11-03T01:00:00Z"));
    let output = tool(&["check", "--json", &folder, "--at", "2026-06-01T00:00:00Z"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(portcullis_schemas::check(&json), "portcullis/bundle-check/1");
    assert_eq!((output.status.code(), &json["sound"], &json["check"]), (Some(1), &false.into(), &"snp.crl".into()));
    assert_eq!(json["findings"][0]["file"], "collateral/genoa.crl");
    // Whoever builds or signs it is told as well.
    let output = tool(&["build", &folder, "--out", &text(&at.path().join("x.pcb"))]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("warning: collateral/genoa.crl: the revocation list"), "{said}");
}

#[test]
fn dates_of_bundle_images_and_floors_are_told_in_the_right_tense() {
    let at = TempDir::new().unwrap();
    let folder = filled(at.path());
    edit(
        &folder,
        "policy.toml",
        &[
            ("# [[floor]]\n# generation = \"Genoa\"", "[[floor]]\ngeneration = \"Genoa\""),
            ("# deny_from", "deny_from"),
            (
                "# boot_loader = 10\n# tee = 0\n# snp = 27\n# microcode = 84",
                "boot_loader = 10\ntee = 0\nsnp = 27\nmicrocode = 84",
            ),
        ],
    );
    edit(&folder, "reference/image.toml", &[("# expires", "expires")]);
    let image = fs::read_to_string(folder.join("reference/image.toml")).unwrap();
    let check = |at: &str, sound: bool| {
        let output = tool(&["check", &text(&folder), "--at", at]);
        assert_eq!(output.status.code(), Some(i32::from(!sound)), "{at}");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let line = |file: &str, key: &str| {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        let at = text.lines().position(|line| line.starts_with(key)).unwrap();
        format!("{file}:{}: {key}: ", at + 1)
    };
    let end = line("reference/image.toml", "expires");
    let floor = line("policy.toml", "deny_from").replace(" deny_from", " floor[1].deny_from");
    let bundle = line("policy.toml", "expires");

    let said = check("2026-03-01T00:00:00Z", true);
    assert!(
        said.contains(&format!("{end}the image \"node 1.0\" ends on 2027-01-01T00:00:00Z, before the bundle")),
        "{said}"
    );
    assert!(!said.contains("the floor of"), "{said}");
    let said = check("2026-12-20T00:00:00Z", true);
    assert!(said.contains(&format!("{end}the image \"node 1.0\" ends on 2027-01-01T00:00:00Z, in 12 days")), "{said}");
    assert!(
        said.contains(&format!("{floor}the floor of Genoa denies from 2027-01-01T00:00:00Z on, in 12 days")),
        "{said}"
    );
    // The last image of its role: nothing passes any more.
    let said = check("2027-01-01T00:00:00Z", false);
    assert!(said.contains("refused by reference.validity"), "{said}");
    assert!(said.contains(&format!("{end}the image \"node 1.0\" ended on 2027-01-01T00:00:00Z")), "{said}");
    // Another stands beside it: a warning.
    let next = image.replace("node 1.0", "node 1.1").replace("\nexpires", "\n# expires");
    fs::write(folder.join("reference/next.toml"), next).unwrap();
    let said = check("2027-02-01T00:00:00Z", true);
    assert!(said.contains(&format!("warning: {end}the image \"node 1.0\" ended on 2027-01-01T00:00:00Z")), "{said}");
    assert!(said.contains(&format!("{floor}the floor of Genoa denies since 2027-01-01T00:00:00Z")), "{said}");
    // AMD's pinned root of Genoa, which the list needs.
    let said = check("2048-01-01T00:00:00Z", false);
    assert!(
        said.contains("refused by snp.validity\n  AMD's pinned roots: the certificate ARK-Genoa ended on 2047-"),
        "{said}"
    );
    // The bundle itself.
    edit(&folder, "policy.toml", &[("\"2100-01-01T00:00:00Z\"", "\"2030-01-01T00:00:00Z\"")]);
    let said = check("2029-12-20T00:00:00Z", true);
    assert!(said.contains(&format!("{bundle}the bundle ends on 2030-01-01T00:00:00Z, in 12 days")), "{said}");
    edit(&folder, "policy.toml", &[("\"2030-01-01T00:00:00Z\"", "\"2026-02-01T00:00:00Z\"")]);
    edit(&folder, "reference/image.toml", &[("\nexpires", "\n# expires")]);
    let said = refused(&["check", &text(&folder)]);
    assert!(
        said.contains(&format!("refused by bundle.expired\n  {bundle}the bundle ended on 2026-02-01T00:00:00Z")),
        "{said}"
    );
    assert!(check("2025-01-01T00:00:00Z", false).contains("bundle.not_before"));
}

/// The fault that was reported: a policy about an image that does not exist.
#[test]
fn a_policy_about_what_does_not_exist_is_warned_of_with_the_nearest_that_does() {
    let at = TempDir::new().unwrap();
    let folder = filled(at.path());
    edit(&folder, "reference/image.toml", &[("node 1.0", "canary")]);
    edit(
        &folder,
        "policy.cedar",
        &[(
            "principal.tags.contains(\"production\")",
            "principal.image == \"canari\" ||\n principal.tags.contains(\"prodution\")",
        )],
    );
    let said = good(&["check", &text(&folder)]);
    for expected in [
        "warning: policy.cedar:6: @id(\"production-nodes\"): no node's image is called \"canari\"\n      hint: did you mean \"canary\"?",
        "warning: policy.cedar:7: @id(\"production-nodes\"): no node has the tag \"prodution\"\n      hint: did you mean \"production\"?",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    // The template's own tag that nobody has yet is reserved.
    assert!(!said.contains("quarantined"), "{said}");
    let json: Value = serde_json::from_str(&good(&["check", "--json", &text(&folder)])).unwrap();
    let lines: Vec<&Value> =
        json["warnings"].as_array().unwrap().iter().filter(|w| w["file"] == "policy.cedar").collect();
    assert_eq!((lines.len(), &lines[0]["line"], &json["sound"]), (2, &6.into(), &true.into()));
    let strict = refused(&["check", "--strict", &text(&folder)]);
    assert!(strict.contains("policy.cedar:6: ") && strict.contains("\"canari\""), "{strict}");
    // What nothing reads is left out: roles, digests, authority images.
    edit(&folder, "policy.cedar", &[("canari", "canary"), ("prodution", "production")]);
    assert!(!good(&["check", &text(&folder)]).contains("policy.cedar"));
}

/// A bundle that was signed with such texts stays readable, to be compared with
/// the next one; a check tells of them.
#[test]
fn a_bundle_that_has_crlf_already_is_read_and_told() {
    use portcullis_firmware_policy::{Files, pack, unpack};
    use portcullis_permit::Quorum;
    let at = TempDir::new().unwrap();
    let folder = filled(at.path());
    let bundle = text(&at.path().join("v1.pcb"));
    good(&["build", &text(&folder), "--out", &bundle]);
    let built = Quorum::decode(&fs::read(&bundle).unwrap(), 1 << 23).unwrap();
    let mut files: Files = unpack(built.unverified_document()).unwrap();
    let policy = files.get_mut("policy.toml").unwrap();
    *policy = String::from_utf8(policy.clone()).unwrap().replace('\n', "\r\n").into_bytes();
    fs::write(&bundle, Quorum::unsigned(pack(&files).unwrap()).encode()).unwrap();
    assert!(good(&["check", &bundle]).contains("warning: policy.toml:1: has CRLF line ends"));
    assert!(good(&["diff", &bundle, &text(&folder)]).contains("The two bundles say the same."));
}
