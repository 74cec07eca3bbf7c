//! Keys, names and signatures: what a governor gives by mistake is named for what
//! it is, and whose signature there is, is said by name.
#![cfg(test)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{filled, good, refused, text, tool};
use tempfile::TempDir;

fn usage(arguments: &[&str]) -> String {
    let output = tool(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    said
}

fn openssl(at: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").current_dir(at).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The fault that was reported: `sign --key alice.cose` spoke of UTF-8. The files are
/// of OpenSSL's making.
#[test]
fn what_is_given_for_a_key_is_named_and_so_is_what_is_wanted() {
    let at = TempDir::new().unwrap();
    let path = |name: &str| text(&at.path().join(name));
    let folder = text(&filled(at.path()));
    good(&["keygen", "--out", &path("alice")]);
    good(&["governance", "--threshold", "1", &path("alice.cose"), "--out", &path("g.cbor")]);
    good(&["build", &folder, "--out", &path("v1.pcb")]);
    good(&["sign", &path("v1.pcb"), "--key", &path("alice.pem"), "--out", &path("a.pcs")]);
    let key = path("alice.pem");
    let revoke =
        ["revoke", "--authority", "a/b", "--reason", "x", "--node", "n", "--first", "--for", "1d", "--key", &key];
    good(&[&revoke[..], &["--out", &path("r.pcr")]].concat());
    let here = at.path();
    openssl(here, &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "sec1.pem"]);
    openssl(here, &["pkcs8", "-topk8", "-in", "sec1.pem", "-out", "secret.pem", "-passout", "pass:x"]);
    openssl(here, &["pkcs8", "-topk8", "-nocrypt", "-in", "sec1.pem", "-out", "p256.pem"]);
    openssl(here, &["pkcs8", "-topk8", "-nocrypt", "-in", "sec1.pem", "-outform", "DER", "-out", "p256.der"]);
    openssl(here, &["ec", "-in", "sec1.pem", "-pubout", "-out", "public.pem"]);
    openssl(here, &["ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", "p384.sec1"]);
    openssl(here, &["pkcs8", "-topk8", "-nocrypt", "-in", "p384.sec1", "-out", "p384.pem"]);
    openssl(here, &["req", "-x509", "-key", "p256.pem", "-subj", "/CN=x", "-out", "certificate.pem"]);
    fs::write(here.join("empty"), "").unwrap();
    fs::write(here.join("notes.txt"), "a note\n").unwrap();
    fs::write(here.join("noise"), [0xff, 0x00, 0x80]).unwrap();
    let private = "required a private key for P-256 or ML-DSA-65 in PEM (PKCS#8): ";
    for (name, found, hint) in [
        ("alice.cose", "a public key (COSE_Key)", "beside the public one, as .pem"),
        ("public.pem", "a public key in PEM", "name the private key that belongs to it"),
        ("certificate.pem", "a certificate in PEM", "name the private key that belongs to it"),
        ("secret.pem", "an encrypted private key", "openssl pkcs8 -in FILE -out key.pem"),
        ("sec1.pem", "a private key in an older form of PEM", "openssl pkcs8 -topk8 -nocrypt"),
        ("p384.pem", "a private key in PEM", "of another algorithm, or damaged"),
        ("p256.der", "DER", "-inform DER"),
        ("empty", "an empty file", "keygen makes one"),
        ("notes.txt", "a text", "keygen makes one"),
        ("noise", "a file of no known kind", "keygen makes one"),
        ("g.cbor", "the governors' keys and threshold", "keygen makes one"),
        ("v1.pcb", "a bundle", "keygen makes one"),
        ("a.pcs", "a set of signatures", "keygen makes one"),
    ] {
        let said = usage(&["sign", &path("v1.pcb"), "--key", &path(name), "--out", &path("x.pcs")]);
        assert!(said.contains(&format!("{}: {found}; {private}", path(name))) && said.contains(hint), "{name}: {said}");
    }
    assert!(usage(&["sign", &path("v1.pcb"), "--key", &folder, "--out", &path("x.pcs")]).contains("Is a directory"));
    for (name, found, hint) in [
        ("alice.pem", "a private key in PEM", "Nobody else needs the private one"),
        ("public.pem", "a public key in PEM", "name the .cose file"),
        ("v1.pcb", "a bundle", "name the .cose file"),
    ] {
        let said = usage(&["governance", "--threshold", "1", &path(name), "--out", &path("x.cbor")]);
        assert!(said.contains(&format!("{}: {found}", path(name))) && said.contains(hint), "{name}: {said}");
    }
    let said = usage(&["check", &path("v1.pcb"), "--governance", &path("alice.cose")]);
    assert!(said.contains("a public key (COSE_Key); required the governors' keys and threshold"), "{said}");
    let bundle = "required a bundle (.pcb), or the folder that one is built of";
    for name in ["alice.cose", "a.pcs", "certificate.pem", "r.pcr"] {
        assert!(usage(&["check", &path(name)]).contains(bundle), "{name}");
    }
    let said = usage(&["assemble", &path("v1.pcb"), &path("alice.cose"), "--out", &path("x.pcb")]);
    assert!(said.contains("alice.cose: a public key (COSE_Key); required a set of signatures (.pcs)"), "{said}");
    let said = usage(&["endorse", &path("r.pcr"), "--key", &path("alice.pem"), "--out", &path("x.pce")]);
    assert!(said.contains("r.pcr: a revocation; required what portcullisd init wrote"), "{said}");
    // One of OpenSSL's own making is as good as one of keygen's.
    good(&["sign", &path("v1.pcb"), "--key", &path("p256.pem"), "--out", &path("x.pcs")]);
}

#[test]
fn governors_have_names_and_strangers_are_named_as_such() {
    let at = TempDir::new().unwrap();
    let path = |name: &str| text(&at.path().join(name));
    let folder = text(&filled(at.path()));
    for name in ["alice", "bob", "mallory"] {
        good(&["keygen", "--out", &path(name)]);
    }
    let bob = format!("Bob Byrne={}", path("bob.cose"));
    let root = good(&["governance", "--threshold", "2", &path("alice.cose"), &bob, "--out", &path("g.cbor")]);
    assert!(root.contains("  alice (") && root.contains("  Bob Byrne ("), "{root}");
    let shown: Value = serde_json::from_str(&good(&["show", &path("g.cbor"), "--json"])).unwrap();
    assert_eq!(portcullis_schemas::check(&shown), "portcullis/governance/1");
    let print = |name: &str| {
        let all = shown["governors"].as_array().unwrap().iter().find(|governor| governor["name"] == name);
        all.unwrap()["key"].as_str().unwrap().to_owned()
    };
    assert!(good(&["show", &path("g.cbor")]).contains("2 of these 2 governors must sign"));
    good(&["build", &folder, "--out", &path("v1.pcb")]);
    good(&["sign", &path("v1.pcb"), "--key", &path("alice.pem"), "--out", &path("a.pcs")]);
    good(&["sign", &path("v1.pcb"), "--key", &path("mallory.pem"), "--out", &path("m.pcs")]);
    good(&["sign", &path("v1.pcb"), "--key", &path("bob.pem"), "--out", &path("b.pcs")]);
    let assemble = |sets: &[&str]| {
        let sets: Vec<String> = sets.iter().map(|set| path(set)).collect();
        let mut all = vec!["assemble".to_owned(), path("v1.pcb")];
        all.extend(sets.into_iter().chain(["--governance".into(), path("g.cbor"), "--out".into(), path("s.pcb")]));
        all
    };
    fn as_str(all: &[String]) -> Vec<&str> {
        all.iter().map(String::as_str).collect()
    }
    let few = refused(&as_str(&assemble(&["a.pcs", "m.pcs"])));
    let expected = format!("signed by 1 of 2 governors needed: alice ({}); the signature by the key ", print("alice"));
    assert!(
        few.contains("bundle.threshold") && few.contains(&expected) && few.contains("it is no governor's"),
        "{few}"
    );
    let enough = good(&as_str(&assemble(&["a.pcs", "m.pcs", "b.pcs"])));
    let signed = format!("Bob Byrne ({})", print("Bob Byrne"));
    assert!(enough.contains("signed by 2 of 2 governors needed: ") && enough.contains(&signed), "{enough}");
    assert!(enough.contains("does not count: it is no governor's"), "{enough}");
    for command in ["show", "check"] {
        let told = good(&[command, &path("s.pcb"), "--governance", &path("g.cbor")]);
        assert!(told.contains(&signed) && told.contains("it is no governor's"), "{told}");
    }
    let json: Value =
        serde_json::from_str(&good(&["show", &path("s.pcb"), "--governance", &path("g.cbor"), "--json"])).unwrap();
    assert_eq!(portcullis_schemas::check(&json), "portcullis/bundle/1");
    let signatures = &json["signatures"];
    assert_eq!((&signatures["signers"].as_array().unwrap().len(), &signatures["others"]), (&2, &1.into()));
    let told = good(&["diff", &path("v1.pcb"), &path("s.pcb"), "--governance", &path("g.cbor")]);
    assert!(
        told.starts_with("old: signed by no governor, 2 needed\nnew: signed by 2 of 2 governors needed: "),
        "{told}"
    );
    assert!(told.contains("new: the signature by the key ") && told.contains(&signed), "{told}");
    // Signatures for another bundle are told apart from files of another kind.
    fs::create_dir(path("other")).unwrap();
    let other = text(&filled(&at.path().join("other")));
    support::edit(Path::new(&other), "policy.toml", &[("version = 1", "version = 2")]);
    let said = usage(&["sign", &other, "--key", &path("alice.pem"), "--out", &path("a.pcs")]);
    assert!(said.contains("a.pcs: nothing is added to it: name another file"), "{said}");
    let said = usage(&["assemble", &other, &path("a.pcs"), "--out", &path("x.pcb")]);
    assert!(said.contains("a.pcs: the signatures are for another document"), "{said}");
    // A key that is no governor's signs nothing where the governors are known.
    let said = refused(&[
        "sign",
        &path("v1.pcb"),
        "--key",
        &path("mallory.pem"),
        "--governance",
        &path("g.cbor"),
        "--out",
        &path("x.pcs"),
    ]);
    assert!(
        said.contains("mallory.pem: its key ") && said.contains("is no governor's") && said.contains(&signed),
        "{said}"
    );
    assert!(!Path::new(&path("x.pcs")).exists());
    let revoke = |more: &[&str]| {
        let out = path("r.pcr");
        let key = path("alice.pem");
        let base =
            ["revoke", "--authority", "a/b", "--reason", "x", "--node", "n", "--first", "--key", &key, "--out", &out];
        let all: Vec<String> = base.iter().chain(more).map(|part| (*part).to_owned()).collect();
        tool(&as_str(&all))
    };
    let revoked = revoke(&["--for", "90d", "--governance", &path("g.cbor")]);
    let told = String::from_utf8(revoked.stdout).unwrap();
    assert!(told.contains(&format!("signed by 1 of 2 governors needed: alice ({})", print("alice"))), "{told}");
    assert!(told.contains("refused from  20"), "{told}");
    for (expires, hint) in [
        ("1900000000", "these are Unix seconds: write 2030-03-17T17:46:40Z"),
        ("2030-01-01", "a day without a time: write 2030-01-01T00:00:00Z"),
        ("2030-01-01T00:00:00", "a time without a zone: write 2030-01-01T00:00:00Z for UTC"),
        ("tomorrow", "write a time after 1970 as 2026-12-01T00:00:00Z"),
        ("2020-01-01T00:00:00Z", "is over already"),
    ] {
        let output = revoke(&["--expires", expires]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(hint), "{expires}: {said}");
    }
    assert_eq!(revoke(&["--for", "90"]).status.code(), Some(2));
    assert_eq!(revoke(&["--for", "90d", "--expires", "2030-01-01T00:00:00Z"]).status.code(), Some(2));
}

#[test]
fn a_key_keeps_its_name_and_replaces_none() {
    let at = TempDir::new().unwrap();
    let path = |name: &str| text(&at.path().join(name));
    good(&["keygen", "--out", &path("alice.smith")]);
    good(&["keygen", "--out", &path("alice.jones.pem")]);
    for name in ["alice.smith.pem", "alice.smith.cose", "alice.jones.pem", "alice.jones.cose"] {
        assert!(at.path().join(name).exists(), "{name}");
    }
    let key = fs::read(path("alice.smith.pem")).unwrap();
    let said = usage(&["keygen", "--out", &path("alice.smith")]);
    assert!(said.contains("alice.smith.pem: exists, and keygen replaces no key"), "{said}");
    fs::remove_file(path("alice.jones.pem")).unwrap();
    assert!(usage(&["keygen", "--out", &path("alice.jones")]).contains("alice.jones.cose: exists"));
    assert_eq!(fs::read(path("alice.smith.pem")).unwrap(), key);
    let root = good(&["governance", "--threshold", "1", &path("alice.smith.cose"), "--out", &path("g.cbor")]);
    assert!(root.contains("  alice.smith ("), "{root}");
}

/// A deployment from before governors had names makes the same root as ever.
#[test]
fn a_root_without_names_can_be_made_as_before() {
    let at = TempDir::new().unwrap();
    let path = |name: &str| text(&at.path().join(name));
    good(&["keygen", "--out", &path("alice")]);
    fs::copy(path("alice.cose"), path("other.cose")).unwrap();
    let root = |more: &[&str], out: &str| {
        let out = path(out);
        let all = [&["governance", "--threshold", "1", "--out", &out], more].concat();
        good(&all).lines().next().unwrap().to_owned()
    };
    let (alice, other) = (path("alice.cose"), path("other.cose"));
    assert_ne!(root(&[&alice], "1"), root(&[&other], "2"));
    assert_eq!(root(&["--unnamed", &alice], "3"), root(&["--unnamed", &other], "4"));
    assert_eq!(root(&[&format!("alice={other}")], "5"), root(&[&alice], "1"));
    let said = usage(&["governance", "--threshold", "1", "--out", &path("6"), &format!("Ärger={alice}")]);
    assert!(said.contains("NAME=FILE") && said.contains("printable ASCII"), "{said}");
    let said = usage(&["governance", "--threshold", "2", "--out", &path("6"), &alice]);
    assert!(said.contains("--threshold 2 with 1 keys"), "{said}");
}
