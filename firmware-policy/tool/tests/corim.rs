//! CoRIMs of others: what is kept, what cannot be, and what is refused.
#![cfg(test)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use portcullis_vectors::vectors;
use serde_json::Value;

fn tool(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis-policy")).args(arguments).output().unwrap()
}

fn file(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

fn import(file: &str, more: &[&str]) -> Result<Value, String> {
    let output = tool(&[&["corim", "import", "--json", file], more].concat());
    if output.status.success() {
        let body = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(portcullis_schemas::check(&body), "portcullis/corim-import/1");
        return Ok(body);
    }
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// How many values were kept, and how many are not representable.
fn count(report: &Value) -> (usize, usize) {
    let values = report["values"].as_array().unwrap();
    let kept = values.iter().filter(|value| value.get("kept").is_some()).count();
    assert!(values.iter().all(|value| value.get("kept").is_some() != value.get("not_representable").is_some()));
    (kept, values.len().saturating_sub(kept))
}

/// A folder that `new` made.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("b");
    assert!(tool(&["new", &bundle.display().to_string()]).status.success());
    (folder, bundle)
}

#[test]
fn an_snp_corim_is_drafted_and_every_value_accounted_for() {
    let Some(vectors) = vectors("corim/sevsnp-veraison") else { return };
    let (_folder, bundle) = folder();
    let into = bundle.display().to_string();
    let report = import(&file(&vectors, "corim-sevsnp-valid.cbor"), &["--into", &into]).unwrap();
    // Id, profile, guest SVN, VMPL, measurement, trust anchor are kept.
    assert_eq!(count(&report), (6, 19), "{report:#}");
    let drafted = fs::read_to_string(bundle.join("reference/00000000-0000-0000-5596-0000000000001.toml")).unwrap();
    let measurement =
        "7699e6ac12ccdfd1dfac70e649ce1f046cb2afbb003438f4cdddfe2ccbe182fa5ffbe8dcdb930454324e10c52c788980";
    assert!(drafted.contains(measurement), "{drafted}");
    assert!(drafted.contains("reviewed = false"), "{drafted}");
    assert!(bundle.join("roots/ARK-Genoa.pem").exists());
    // A draft does not pass before somebody has looked at it; a second import
    // takes the place of nothing.
    let checked = tool(&["check", &into]);
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(said.contains("reviewed: is false") && said.contains("covers: cannot be \"firmware\""), "{said}");
    let again = tool(&["corim", "import", &file(&vectors, "corim-sevsnp-valid.cbor"), "--into", &into]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("drafts take the place of nothing"));
}

#[test]
fn malformed_snp_corims_are_refused_with_the_place_and_change_nothing() {
    let Some(vectors) = vectors("corim/sevsnp-veraison") else { return };
    let (_folder, bundle) = folder();
    let before: Vec<_> = fs::read_dir(bundle.join("reference")).unwrap().collect();
    let into = bundle.display().to_string();
    for (name, said) in [
        (
            "corim-sevsnp-bad-refval-key.cbor",
            "tags[0].reference-values[0].measurements[0]: mkey: found tag 111, required an unsigned integer",
        ),
        ("corim-sevsnp-bad-ta-no-vendor.cbor", "tags[0].attest-keys[0]: class: vendor is missing"),
    ] {
        let refused = import(&file(&vectors, name), &["--into", &into]).unwrap_err();
        assert!(refused.contains(said), "{refused}");
    }
    let after: Vec<_> = fs::read_dir(bundle.join("reference")).unwrap().collect();
    assert_eq!(before.len(), after.len());
    assert!(!bundle.join("roots").exists());
}

#[test]
fn signed_corims_verify_under_the_key_that_is_named() {
    let Some(vectors) = vectors("corim") else { return };
    let (signed, cocli) = (vectors.join("veraison-signed"), vectors.join("cocli-signed"));
    let (key, other) = (file(&signed, "ec-p256.jwk"), file(&cocli, "ec-p256.jwk"));
    // Valid from 2021 to 2025.
    let at = ["--at", "2024-01-01T00:00:00Z"];
    for name in ["signed-good-corim.cbor", "signed-example-corim.cbor"] {
        let report = import(&file(&signed, name), &[&at[..], &["--key", &key]].concat()).unwrap();
        assert_eq!(report["signer"], "ACME Ltd signing key");
        let values = report["values"].as_array().unwrap();
        let of_tags = |value: &&Value| value["place"].as_str().unwrap().starts_with("tags");
        assert!(values.iter().filter(of_tags).all(|value| value.get("kept").is_none()), "no SEV-SNP: {report:#}");
        let unnamed = import(&file(&signed, name), &at).unwrap_err();
        assert!(unnamed.contains("--key or --root says who may have signed it"), "{unnamed}");
    }
    let valid = import(&file(&cocli, "signed-corim-valid.cbor"), &[&at[..], &["--key", &other]].concat()).unwrap();
    assert!(valid["signer"].is_string(), "{valid:#}");
    let late = ["--at", "2044-01-01T00:00:00Z", "--key", &key];
    let late = import(&file(&signed, "signed-good-corim.cbor"), &late).unwrap_err();
    assert!(late.contains("the signature was meant until 2025-12-31"), "{late}");
    let bad = import(&file(&cocli, "signed-corim-bad-signature.cbor"), &["--key", &other]).unwrap_err();
    assert!(bad.contains("signed CoRIM: "), "{bad}");
    // A byte of the payload, and a byte of the signature.
    let bytes = fs::read(signed.join("signed-good-corim.cbor")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for at_byte in [bytes.len().saturating_sub(80), bytes.len().saturating_sub(1)] {
        let mut changed = bytes.clone();
        changed[at_byte] ^= 1;
        let path = folder.path().join("changed.cbor");
        fs::write(&path, changed).unwrap();
        let refused = import(&path.display().to_string(), &["--key", &key]).unwrap_err();
        assert!(refused.contains("signature of the CoRIM does not verify"), "{refused}");
    }
    let unsigned = file(&signed, "unsigned-good-corim.cbor");
    let refused = import(&unsigned, &["--key", &key]).unwrap_err();
    assert!(refused.contains("not signed, but a signer was named"), "{refused}");
}

#[test]
fn a_corim_with_certificates_verifies_under_its_root() {
    let Some(vectors) = vectors("corim/corim-x5chain") else { return };
    let (root, corim) = (file(&vectors, "root.cert.pem"), file(&vectors, "signed-with-cert-cca-ta.cose"));
    let report = import(&corim, &["--root", &root, "--at", "2026-06-01T00:00:00Z"]).unwrap();
    assert!(report["signer"].is_string(), "{report:#}");
    let late = import(&corim, &["--root", &root, "--at", "2199-01-01T00:00:00Z"]).unwrap_err();
    assert!(late.contains("do not lead to the root"), "{late}");
    let unsigned = import(&file(&vectors, "unsigned-cca-ta.cbor"), &[]).unwrap();
    let (inside, outside) = (unsigned["values"].as_array().unwrap(), report["values"].as_array().unwrap());
    assert!(inside.iter().all(|value| outside.contains(value)), "{unsigned:#}");
}

/// The drafts' examples: everything in them is for other machines, and said so.
#[test]
fn examples_of_the_draft_decode_and_lose_nothing_in_silence() {
    let Some(vectors) = vectors("corim/veraison-comid") else { return };
    let mut count_files = 0_usize;
    for entry in fs::read_dir(&vectors).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "cbor") {
            continue;
        }
        let report = import(&path.display().to_string(), &[]).unwrap();
        let (kept, lost) = count(&report);
        assert!(kept == 0 && lost > 0, "{}: {report:#}", path.display());
        // Decoding and encoding again means the same.
        let bytes = fs::read(&path).unwrap();
        let value: ciborium::Value = ciborium::from_reader(bytes.as_slice()).unwrap();
        let mut again = Vec::new();
        ciborium::into_writer(&value, &mut again).unwrap();
        assert_eq!(ciborium::from_reader::<ciborium::Value, _>(again.as_slice()).unwrap(), value);
        count_files = count_files.saturating_add(1);
    }
    assert_eq!(count_files, 10);
}

/// Cut anywhere, or with a byte changed: an error or an honest report, no panic.
#[test]
fn damaged_corims_never_stop_the_tool() {
    let Some(vectors) = vectors("corim/sevsnp-veraison") else { return };
    let bytes = fs::read(vectors.join("corim-sevsnp-valid.cbor")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.cbor");
    for at in (0..bytes.len()).step_by(61) {
        fs::write(&path, &bytes[..at]).unwrap();
        let output = tool(&["corim", "import", &path.display().to_string()]);
        assert_eq!(output.status.code(), Some(1), "cut at {at}");
        let mut changed = bytes.clone();
        changed[at] ^= 0xff;
        fs::write(&path, changed).unwrap();
        let code = tool(&["corim", "import", &path.display().to_string()]).status.code();
        assert!(code == Some(0) || code == Some(1), "changed at {at}: {code:?}");
    }
}

/// What is written comes back: the values of an image that the profile has.
#[test]
fn an_exported_image_is_imported_as_it_was() {
    let (folder, bundle) = folder();
    let image = fs::read_to_string(bundle.join("reference/image.toml")).unwrap();
    let (measurement, data) = ("ab".repeat(48), "cd".repeat(32));
    let image = image
        .replace("reviewed = false", "reviewed = true")
        .replace("\"CHANGE-ME\"", &format!("{measurement:?}"))
        .replace("host_data = \"any\"", &format!("host_data = {data:?}"))
        .replace("guest_svn = 0", "guest_svn = 3")
        .replace("vmpl = 0", "vmpl = 2");
    fs::write(bundle.join("reference/image.toml"), image).unwrap();
    let policy = fs::read_to_string(bundle.join("policy.toml")).unwrap();
    let policy = policy
        .replace("CHANGE-ME: origin of the authority's log, such as permits.example.org", "permits.example.org")
        .replace("CHANGE-ME, such as 2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z")
        .replace("expires = \"CHANGE-ME\"", "expires = \"2027-01-01T00:00:00Z\"")
        .replace("CHANGE-ME: 64 bytes in hex", &"12".repeat(64))
        .replace("CHANGE-ME: SHA-256 of the executable", &"34".repeat(32));
    fs::write(bundle.join("policy.toml"), policy).unwrap();
    let path = bundle.display().to_string();
    let at = folder.path();
    let key = file(at, "signer");
    assert!(tool(&["keygen", "--out", &key]).status.success());
    let (plain, signed) = (file(at, "plain.corim"), file(at, "signed.corim"));
    assert!(tool(&["corim", "export", &path, "--out", &plain]).status.success());
    let sign = ["corim", "export", &path, "--out", &signed, "--key", &file(at, "signer.pem"), "--signer", "ACME"];
    assert!(tool(&sign).status.success());
    let (_other, into) = self::folder();
    let into_text = into.display().to_string();
    let now = ["--at", "2026-06-01T00:00:00Z"];
    let public = file(at, "signer.cose");
    let with_key = [&now[..], &["--key", &public, "--into", &into_text]].concat();
    let report = import(&signed, &with_key).unwrap();
    assert_eq!(report["signer"], "ACME");
    assert_eq!(import(&plain, &now).unwrap()["signer"], Value::Null);
    let drafted = report["files"][0].as_str().unwrap();
    let drafted: toml::Table = toml::from_str(&fs::read_to_string(into.join(drafted)).unwrap()).unwrap();
    assert_eq!(drafted["measurements"]["CoRIM 1"].as_str(), Some(measurement.as_str()));
    assert_eq!(drafted["host_data"].as_str(), Some(data.as_str()));
    assert_eq!((drafted["guest_svn"].as_integer(), drafted["vmpl"].as_integer()), (Some(3), Some(2)));
    assert_eq!(drafted["not_before"].as_str(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(drafted["expires"].as_str(), Some("2027-01-01T00:00:00Z"));
    let late = import(&plain, &["--at", "2030-01-01T00:00:00Z"]).unwrap_err();
    assert!(late.contains("the CoRIM was valid until 2026-12-31T23:59:59Z"), "{late}");
    // The same bundle has the same CoRIM.
    let again = file(at, "again.corim");
    assert!(tool(&["corim", "export", &path, "--out", &again]).status.success());
    assert_eq!(fs::read(plain).unwrap(), fs::read(again).unwrap());
}

/// The valid CoRIM with other tags beside its CoMID.
fn with_tags(bytes: &[u8], more: &[ciborium::Value]) -> Vec<u8> {
    use ciborium::Value;
    let Value::Tag(501, corim) = ciborium::from_reader(bytes).unwrap() else { panic!("no CoRIM") };
    let mut members = corim.into_map().unwrap();
    let tags = members.iter_mut().find(|(key, _)| *key == Value::from(1)).unwrap();
    tags.1.as_array_mut().unwrap().extend_from_slice(more);
    let mut changed = Vec::new();
    ciborium::into_writer(&Value::Tag(501, Box::new(Value::Map(members))), &mut changed).unwrap();
    changed
}

/// A CoTS (507, draft-ietf-rats-concise-ta-stores) and its like are accounted for,
/// and the CoMID beside them is drafted all the same.
#[test]
fn tags_that_are_no_comid_are_named_and_stop_nothing() {
    use ciborium::Value;
    let Some(vectors) = vectors("corim/sevsnp-veraison") else { return };
    let sound = fs::read(vectors.join("corim-sevsnp-valid.cbor")).unwrap();
    let (_folder, bundle) = folder();
    let path = bundle.join("other.corim").display().to_string();
    let tag = |number: u64| Value::Tag(number, Box::new(Value::Bytes(vec![0xa0])));
    // Also in the form of drafts before 04: the tag inside of a byte string.
    let mut inside = Vec::new();
    ciborium::into_writer(&tag(507), &mut inside).unwrap();
    fs::write(&path, with_tags(&sound, &[tag(505), tag(507), tag(508), tag(65_000), Value::Bytes(inside)])).unwrap();
    let report = import(&path, &["--into", &bundle.display().to_string()]).unwrap();
    assert_eq!(count(&report), (6, 24), "{report:#}");
    let why = |place: &str| {
        let values = report["values"].as_array().unwrap();
        let value = values.iter().find(|value| value["place"] == place).unwrap();
        value["not_representable"].as_str().unwrap().to_owned()
    };
    // Two CoMIDs come first.
    assert!(why("tags[2]").starts_with("a CoSWID: "));
    assert!(why("tags[3]").starts_with("a CoTS: ") && why("tags[6]") == why("tags[3]"));
    assert!(why("tags[4]").starts_with("a CoTL: "));
    assert_eq!(why("tags[5]"), "tag 65000: an unknown kind of tag");
    assert_eq!(report["files"].as_array().unwrap().len(), 2);
    // What is no tag at all is malformed, and a tag alone is no CoRIM.
    fs::write(&path, with_tags(&sound, &[Value::from(7)])).unwrap();
    assert!(import(&path, &[]).unwrap_err().contains("tags[2]: found an integer, required a tag, such as a CoMID"));
    for (number, name) in [(505, "a CoSWID"), (507, "a CoTS"), (508, "a CoTL")] {
        let mut alone = Vec::new();
        ciborium::into_writer(&tag(number), &mut alone).unwrap();
        fs::write(&path, alone).unwrap();
        let refused = import(&path, &[]).unwrap_err();
        assert!(refused.contains(&format!("no CoRIM, but one tag of it alone: {name}")), "{refused}");
    }
}

/// The tags that older drafts put around a CoRIM, signed or not, change nothing.
#[test]
fn outer_tags_of_older_drafts_are_taken_off() {
    let Some(vectors) = vectors("corim") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tagged").display().to_string();
    let sound = fs::read(vectors.join("sevsnp-veraison/corim-sevsnp-valid.cbor")).unwrap();
    fs::write(&path, [&[0xd9, 0x01, 0xf4][..], &sound].concat()).unwrap();
    assert_eq!(count(&import(&path, &[]).unwrap()), (6, 19));
    let signed = fs::read(vectors.join("veraison-signed/signed-good-corim.cbor")).unwrap();
    let key = file(&vectors.join("veraison-signed"), "ec-p256.jwk");
    for outer in [&[0xd9, 0x01, 0xf6][..], &[0xd9, 0x01, 0xf4, 0xd9, 0x01, 0xf6]] {
        fs::write(&path, [outer, &signed].concat()).unwrap();
        let report = import(&path, &["--at", "2024-01-01T00:00:00Z", "--key", &key]).unwrap();
        assert_eq!(report["signer"], "ACME Ltd signing key");
        assert!(import(&path, &[]).unwrap_err().contains("--key or --root says who may have signed it"));
    }
}
