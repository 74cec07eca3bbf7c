#![cfg(test)]
//! Lists of other banks, of several PCRs, of every template, and with names of any
//! bytes. Layouts are those of Linux, `security/integrity/ima/ima_fs.c`
//! (`ima_measurements_show`) and `ima_template_lib.c`; the lists in `data/ima` were
//! made by somebody else, from the same source.

use std::collections::BTreeMap;

use portcullis_attest::check::{Checks, Outcome};
use portcullis_attest::eventlog::EventLog;
use portcullis_attest::ima::{
    AllowList, Entries, Entry, FileName, ListError, Refusal, Template, pcrs, verify, verify_after,
};
use portcullis_attest::tpm::pcr::{Bank, PcrSet, PcrValues};
use portcullis_wire::hex::{hex, unhex};

const SHA256_TEMPLATES: &[u8] = include_bytes!("data/ima/pcr10-sha256-templates.bin");
const SHA1_TEMPLATES: &[u8] = include_bytes!("data/ima/pcr10-sha1.bin");
const TWO_PCRS: &[u8] = include_bytes!("data/ima/pcr10-and-pcr11-sha1.bin");
/// SHA-256 values of their PCRs, computed with Python's hashlib.
const PCR10: &str = "c2714c5e1e8ab1581d40f3680bbae19bc1b990deeaadb9d5326f5c82beb88322";
const TWO: [(u8, &str); 2] = [
    (10, "2d27d3d4196de2ae06b3b410b28f4e23e75495f053758f3c08c4d9cf865c5f25"),
    (11, "25644d0896eac0471c57a8eebf30c6dd5c90a4ccb6d34532490b2ced6189bbae"),
];

fn entries(bytes: &[u8]) -> Result<Vec<Entry>, ListError> {
    Entries::of(bytes)?.collect()
}

fn values(of: &[(u8, &str)]) -> PcrValues {
    let mut values = PcrValues::default();
    of.iter().for_each(|(pcr, value)| assert!(values.insert(Bank::Sha256, *pcr, unhex(value).unwrap())));
    values
}

/// The checks that did not pass, each with what was found or required.
fn refused(list: &[u8], bank: Bank, values: &PcrValues, allow: Option<&AllowList>) -> Vec<(String, String)> {
    let mut checks = Checks::all();
    let verified = verify(list, bank, values, allow, &mut checks);
    assert_eq!(verified.is_some(), checks.passed());
    let said = |check: &portcullis_attest::check::Check| match check.outcome {
        Outcome::Missing => check.required.clone().unwrap(),
        _ => check.found.clone().unwrap(),
    };
    checks.refused().map(|check| (check.id.to_string(), said(check))).collect()
}

fn field(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat()
}

fn digest(algorithm: &str, digest: &[u8]) -> Vec<u8> {
    [algorithm.as_bytes(), b":\0", digest].concat()
}

/// An entry as the kernel writes it into the list of a bank.
fn entry(pcr: u32, bank: Bank, template: &str, fields: &[&[u8]]) -> Vec<u8> {
    let data: Vec<u8> = fields.iter().flat_map(|bytes| field(bytes)).collect();
    [&pcr.to_le_bytes()[..], &bank.hash(&[&data]), &field(template.as_bytes()), &field(&data)].concat()
}

fn file(pcr: u32, name: &[u8]) -> Vec<u8> {
    entry(pcr, Bank::Sha1, "ima-ng", &[&digest("sha256", &[2; 32]), &[name, b"\0"].concat()])
}

/// The values of every PCR after a list.
fn replayed(list: &[u8], bank: Bank) -> PcrValues {
    let mut after: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    for entry in entries(list).unwrap() {
        let value = after.entry(entry.pcr).or_insert_with(|| bank.initial(entry.pcr));
        *value = bank.extend(value, &entry.extended(bank));
    }
    let mut values = PcrValues::default();
    after.into_iter().for_each(|(pcr, value)| assert!(values.insert(bank, pcr, value)));
    values
}

#[test]
fn lists_of_one_bank_state_hashes_of_that_bank() {
    assert_eq!(Entries::of(SHA256_TEMPLATES).unwrap().bank(), Bank::Sha256);
    for list in [SHA256_TEMPLATES, SHA1_TEMPLATES] {
        assert_eq!(refused(list, Bank::Sha256, &values(&[(10, PCR10)]), None), []);
        assert_eq!(entries(list).unwrap().len(), 4);
    }
    let data = |list: &[u8]| entries(list).unwrap().into_iter().map(|entry| entry.data).collect::<Vec<_>>();
    assert_eq!(data(SHA256_TEMPLATES), data(SHA1_TEMPLATES), "the same measurements");
    // Every bank's list, against the PCR of every bank.
    for stated in Bank::ALL {
        let one = |name: &[u8]| entry(10, stated, "ima-ng", &[&digest("sha256", &[2; 32]), name]);
        let list = [one(b"boot_aggregate\0"), one(b"/init\0")].concat();
        assert_eq!(Entries::of(&list[..]).unwrap().bank(), stated);
        for bank in [Bank::Sha256, Bank::Sha384, Bank::Sha512] {
            assert_eq!(refused(&list, bank, &replayed(&list, bank), None), [], "{stated} in {bank}");
        }
        // ASCII forms state the same hash.
        let line = |entry: &Entry, name: &str| {
            format!("10 {} ima-ng sha256:{} {name}\n", hex(&entry.template_hash), "02".repeat(32))
        };
        let read = entries(&list).unwrap();
        let ascii = [line(&read[0], "boot_aggregate"), line(&read[1], "/init")].concat();
        assert_eq!(entries(ascii.as_bytes()).unwrap(), read, "{stated}");
    }
}

/// SM3 is as long as SHA-256, and nothing here can compute it.
#[test]
fn lists_of_a_bank_that_is_not_supported_say_which_one_to_read() {
    let mut sm3 = SHA256_TEMPLATES.to_vec();
    sm3[4] ^= 1;
    let found = refused(&sm3, Bank::Sha256, &values(&[(10, PCR10)]), None);
    let why = "entry 0 states another hash; if the list is that of the bank sm3_256, which is not supported, read the one of sha256";
    assert_eq!(found, [("ima.template".into(), why.into())]);
    // A kernel without a hash of the bank keeps SHA-1 with zeroes behind.
    let data = [field(&digest("sha256", &[2; 32])), field(b"boot_aggregate\0")].concat();
    let hash = [Bank::Sha1.hash(&[&data]), vec![0; 28]].concat();
    let padded = [&10_u32.to_le_bytes()[..], &hash, &field(b"ima-ng"), &field(&data)].concat();
    let found = refused(&padded, Bank::Sha384, &replayed(&padded, Bank::Sha384), None);
    assert_eq!(found[0].0, "ima.template");
    assert!(found[0].1.starts_with("entry 0 states its SHA-1 hash with zeroes behind"), "{found:?}");
}

/// What Linux 6.1 wrote and extended in `ci/measured-boot`, with `pcr=13` in its
/// policy, a name that is no UTF-8 and has a newline, and a file that was open for
/// writing while it was read.
#[test]
fn a_kernels_own_list_of_two_pcrs() {
    let json: serde_json::Value = serde_json::from_slice(include_bytes!("data/ima/linux-6.1-pcrs.json")).unwrap();
    let all = json["sha256"].as_object().unwrap().iter();
    let all: Vec<(u8, &str)> = all.map(|(pcr, value)| (pcr.parse().unwrap(), value.as_str().unwrap())).collect();
    let values = values(&all);
    let (binary, ascii) = (include_bytes!("data/ima/linux-6.1.bin"), include_bytes!("data/ima/linux-6.1.txt"));
    let list = entries(binary).unwrap();
    assert_eq!(entries(ascii), Ok(list.clone()));
    let shown: Vec<(u8, String, bool)> =
        list.iter().map(|entry| (entry.pcr, entry.file().unwrap().1.to_string(), entry.is_violation())).collect();
    let name = |pcr, name: &str, violation| (pcr, name.to_owned(), violation);
    let required = [
        name(10, "boot_aggregate", false),
        name(10, "/bin/busybox", false),
        name(13, "/na\\xefve\\x0atool", false),
        name(10, "/changing", true),
        name(10, "/changing", false),
    ];
    assert_eq!(shown, required);
    let mut checks = Checks::all();
    let verified = verify(&binary[..], Bank::Sha256, &values, None, &mut checks).unwrap();
    assert_eq!((verified.covered(), verified.violations(), verified.pcrs()), (5, 1, PcrSet::of([10, 13])));
}

#[test]
fn every_pcr_with_entries_needs_its_value() {
    assert_eq!(pcrs(TWO_PCRS), Ok(PcrSet::of([10, 11])));
    let mut checks = Checks::all();
    let verified = verify(TWO_PCRS, Bank::Sha256, &values(&TWO), None, &mut checks).unwrap();
    assert_eq!((verified.covered(), verified.beyond(), verified.pcrs()), (4, 0, PcrSet::of([10, 11])));
    for (given, absent) in [(TWO[0], 11), (TWO[1], 10)] {
        let found = refused(TWO_PCRS, Bank::Sha256, &values(&[given]), None);
        let required = format!("the quoted sha256 value of PCR {absent}, which the list has entries for");
        assert_eq!(found, [("ima.pcr".into(), required)]);
    }
    // The values of one PCR in the place of the other's.
    let swapped = values(&[(10, TWO[1].1), (11, TWO[0].1)]);
    let found = refused(TWO_PCRS, Bank::Sha256, &swapped, None);
    assert_eq!(found.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["ima.pcr", "ima.pcr"]);
    assert!(found[1].1.starts_with("PCR 11 sha256:") && found[1].1.ends_with("reached after no entry"), "{found:?}");
    // One PCR was extended after the quote: what it covers counts.
    let longer = [TWO_PCRS, &file(11, b"/later"), &file(12, b"/later")].concat();
    let reset = values(&[TWO[0], TWO[1], (12, &"00".repeat(32))]);
    let mut checks = Checks::all();
    let verified = verify(&longer[..], Bank::Sha256, &reset, None, &mut checks).unwrap();
    assert_eq!((verified.covered(), verified.beyond()), (4, 2));
    // A PCR that does not exist.
    assert_eq!(entries(&file(24, b"/a")), Err(ListError::Pcr(0, 24)));
}

/// Firmware and boot loader measured into the PCR before: the list goes on from
/// there (systemd's stub, PCR 11).
#[test]
fn a_list_goes_on_from_what_the_event_log_leads_to() {
    let record = r#"{"pcr":11,"digests":[{"hashAlg":"sha256","digest":"0303030303030303030303030303030303030303030303030303030303030303"}]}"#;
    let log = EventLog::parse_cel_json(record.as_bytes()).unwrap().replay(Bank::Sha256).unwrap();
    let list = [file(10, b"boot_aggregate"), file(11, b"/key")].concat();
    let mut after = replayed(&list, Bank::Sha256);
    let mut checks = Checks::all();
    assert!(verify_after(&list[..], &log, &after, None, &mut checks).is_none());
    let value = Bank::Sha256.extend(&log.value(11), &entries(&list).unwrap()[1].extended(Bank::Sha256));
    assert!(after.insert(Bank::Sha256, 11, value));
    assert!(verify_after(&list[..], &log, &after, None, &mut Checks::all()).is_some());
}

/// A file is called as whoever made it likes.
#[test]
fn names_are_bytes() {
    let latin = b"/opt/na\xefve/tool";
    let names: [&[u8]; 5] = [latin, b"/tmp/a\nb", b"/tmp/a b", b"C:\\a", "/opt/na\u{ef}ve".as_bytes()];
    let shown = ["/opt/na\\xefve/tool", "/tmp/a\\x0ab", "/tmp/a b", "C:\\\\a", "/opt/na\u{ef}ve"];
    let list = [vec![file(10, b"boot_aggregate")], names.map(|name| file(10, name)).to_vec()].concat().concat();
    assert_eq!(refused(&list, Bank::Sha256, &replayed(&list, Bank::Sha256), None), []);
    let read = entries(&list).unwrap();
    for ((entry, name), shown) in read[1..].iter().zip(names).zip(shown) {
        assert_eq!(entry.file().unwrap().1, FileName(name));
        assert_eq!(entry.file().unwrap().1.to_string(), shown);
    }
    // The ASCII form has the very bytes, newlines included.
    let line = |entry: &Entry, name: &[u8]| {
        let head = format!("10 {} ima-ng sha256:{} ", hex(&entry.template_hash), "02".repeat(32));
        [head.as_bytes(), name, b"\n"].concat()
    };
    let all = [&b"boot_aggregate"[..], names[0], names[1], names[2], names[3], names[4]];
    let ascii: Vec<u8> = read.iter().zip(all).flat_map(|(entry, name)| line(entry, name)).collect();
    assert_eq!(entries(&ascii).unwrap(), read);
    // The terminal sees no control character, whatever a file is called.
    let allow = AllowList::parse(format!("{}  a\n", "01".repeat(32))).unwrap();
    let steering = [file(10, b"boot_aggregate"), file(10, b"\x1b[2J\xff")].concat();
    let found = refused(&steering, Bank::Sha256, &replayed(&steering, Bank::Sha256), Some(&allow));
    assert_eq!(found, [("ima.files".into(), format!("\\x1b[2J\\xff sha256:{}", "02".repeat(32)))]);
}

/// Every template of the kernel, in both forms, and fields of one's own choice.
#[test]
fn all_templates() {
    let (plain, verity, sha512) =
        (digest("sha256", &[2; 32]), digest("verity:sha256", &[3; 32]), digest("sha512", &[4; 64]));
    let name = b"/usr/bin/a b\0";
    let numbers: [&[u8]; 3] = [&1000_u32.to_le_bytes(), &100_u32.to_le_bytes(), &0o100_755_u16.to_le_bytes()];
    let two = "02".repeat(32);
    let cases: [(&str, Vec<&[u8]>, String); 11] = [
        ("ima-ng", vec![&plain, name], format!("sha256:{two} /usr/bin/a b")),
        ("ima-ngv2", vec![&verity, name], format!("verity:sha256:{} /usr/bin/a b", "03".repeat(32))),
        ("ima-sig", vec![&plain, name, b"\x03\x02sig"], format!("sha256:{two} /usr/bin/a b 0302736967")),
        ("ima-sig", vec![&plain, name, b""], format!("sha256:{two} /usr/bin/a b ")),
        (
            "ima-sigv2",
            vec![&verity, name, b"\x03\x02sig"],
            format!("verity:sha256:{} /usr/bin/a b 0302736967", "03".repeat(32)),
        ),
        (
            "ima-buf",
            vec![&sha512, b"kexec-cmdline\0", b"quiet"],
            format!("sha512:{} kexec-cmdline 7175696574", "04".repeat(64)),
        ),
        (
            "ima-modsig",
            vec![&plain, name, b"", &sha512, b"\x30\x82"],
            format!("sha256:{two} /usr/bin/a b  sha512:{} 3082", "04".repeat(64)),
        ),
        ("ima-modsig", vec![&plain, name, b"\x03\x02", b"", b""], format!("sha256:{two} /usr/bin/a b 0302  ")),
        (
            "evm-sig",
            vec![
                &plain,
                name,
                b"\x05\x02",
                b"security.ima|security.selinux\0",
                b"\x08\0\0\0",
                b"value",
                numbers[0],
                numbers[1],
                numbers[2],
            ],
            format!("sha256:{two} /usr/bin/a b 0502 security.ima|security.selinux 08000000 76616c7565 1000 100 33261"),
        ),
        ("d-ng|n-ng|iuid", vec![&plain, name, numbers[0]], format!("sha256:{two} /usr/bin/a b 1000")),
        ("n-ng|d", vec![name, &[5; 20]], format!("/usr/bin/a b {}", "05".repeat(20))),
    ];
    for (template, fields, text) in cases {
        let list = entry(10, Bank::Sha256, template, &fields);
        let read = entries(&list).unwrap();
        assert_eq!(read[0].template.name(), template);
        assert!(read[0].file().unwrap().1.0.starts_with(b"/usr") || template == "ima-buf");
        let ascii = format!("10 {} {template} {text}\n", hex(&read[0].template_hash));
        assert_eq!(entries(ascii.as_bytes()), Ok(read), "{ascii}");
    }
    // The oldest one has no lengths, and hashes the name padded to the kernel's buffer.
    let data = [&[6; 20][..], b"/init"].concat();
    let hash = Bank::Sha1.hash(&[&[6; 20], b"/init", &[0; 251]]);
    let old = [&10_u32.to_le_bytes()[..], &hash, &field(b"ima"), &[6; 20], &field(b"/init")].concat();
    let read = entries(&old).unwrap();
    assert_eq!((&read[0].template, &read[0].data, read[0].hash(Bank::Sha1)), (&Template::Ima, &data, hash.clone()));
    let ascii = format!("10 {} ima {} /init\n", hex(&hash), "06".repeat(20));
    assert_eq!(entries(ascii.as_bytes()), Ok(read));
    // What nobody here knows is named.
    let unknown = entry(10, Bank::Sha1, "ima-ng", &[&plain, name]);
    let at = unknown.windows(6).position(|window| window == b"ima-ng").unwrap();
    let mut second = unknown.clone();
    second[at..at + 6].copy_from_slice(b"ima-xx");
    assert_eq!(entries(&[unknown, second].concat()), Err(ListError::Template(1, "ima-xx".into())));
    for nonsense in ["d-ng", "d-ng|d-ng|n-ng", "n-ng|sig", "d-ng|n-ng|what"] {
        assert!(entries(&entry(10, Bank::Sha1, nonsense, &[&plain, name])).is_err(), "{nonsense}");
    }
}

#[test]
fn lists_of_big_endian_machines_are_named() {
    let big = [&10_u32.to_be_bytes()[..], &[0; 20], &6_u32.to_be_bytes(), b"ima-ng"].concat();
    assert_eq!(entries(&big), Err(ListError::BigEndian));
}

/// The kernel extends ones where a file changed meanwhile: the PCR vouches for that,
/// and for nothing in the entry.
#[test]
fn violations_count_for_what_they_are() {
    let mut list = [file(10, b"boot_aggregate"), file(11, b"/etc/x")].concat();
    let at = file(10, b"boot_aggregate").len() + 4;
    list[at..at + 20].fill(0);
    let (values, allow) = (replayed(&list, Bank::Sha256), AllowList::parse(format!("{}  x", "02".repeat(32))).unwrap());
    assert_eq!(values.value(Bank::Sha256, 11).unwrap(), Bank::Sha256.extend(&[0; 32], &[0xff; 32]));
    let verified = verify(&list[..], Bank::Sha256, &values, None, &mut Checks::all()).unwrap();
    assert_eq!(verified.violations(), 1);
    assert_eq!(refused(&list, Bank::Sha256, &values, Some(&allow)), [("ima.violations".into(), "entry 1".into())]);
    // What the name says is anybody's: the PCR stays the same.
    let renamed = [file(10, b"boot_aggregate"), file(11, b"/etc/y")].concat();
    let mut renamed: Vec<u8> = renamed;
    renamed[at..at + 20].fill(0);
    assert_eq!(replayed(&renamed, Bank::Sha256), values);
}

#[test]
fn allow_lists_say_what_is_wrong_and_what_to_do() {
    let refused = |text: &str| AllowList::parse(text).map_err(|error| (error.line, error.why));
    let (sha1, md5, sha256) = ("02".repeat(20), "02".repeat(16), "02".repeat(32));
    assert_eq!(refused(&format!("{sha256}  a\n{sha1}  b\n")), Err((2, Refusal::Weak("SHA-1"))));
    assert_eq!(refused(&format!("{md5}  a\n")), Err((1, Refusal::Weak("MD5"))));
    for wrong in ["zz  a", "0202  a", "no digest", &format!("{sha256} a"), &format!("SHA256 (a) = {sha256}")] {
        assert_eq!(refused(wrong), Err((1, Refusal::Form)), "{wrong}");
    }
    let said = AllowList::parse(format!("{sha1}  b")).unwrap_err().to_string();
    assert!(said.contains("make the list with sha256sum, and boot the machines with ima_hash=sha256"), "{said}");
    // Binary mode, names of any bytes, and names that sha256sum escapes.
    let sha384 = "03".repeat(48);
    let text =
        [format!("# files\n\n{sha256} *a\r\n\\{sha384}  a\\nb\n").as_bytes(), sha256.as_bytes(), b"  \xff\n"].concat();
    assert_eq!(AllowList::parse(text).unwrap().len(), 2);
    // A kernel that measures with SHA-1 is told how to do better.
    let old = entry(10, Bank::Sha1, "ima-ng", &[&digest("sha1", &[2; 20]), b"/init\0"]);
    let list = [file(10, b"boot_aggregate"), old].concat();
    let allow = AllowList::parse(format!("{sha256}  a")).unwrap();
    let found = self::refused(&list, Bank::Sha256, &replayed(&list, Bank::Sha256), Some(&allow));
    assert!(found[0].1.ends_with("which no allow list can have: boot with ima_hash=sha256"), "{found:?}");
}
