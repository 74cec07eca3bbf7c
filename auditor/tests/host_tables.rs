//! What the host gives along: its certificate table, used and accounted for.
#![cfg(test)]

mod common;

use common::{audit, failed, ids, json};
use portcullis_vectors::vectors;
use portcullis_wire::{Value as Cbor, encode};
use serde_json::json;

const TABLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../attest/tests/certificate-tables/");
const AT: [&str; 2] = ["--at", "2025-06-01T00:00:00Z"];
const CRL: [&str; 2] = ["--crl", "amd-crl/milan_2025-05-06.crl.der"];
const REPORT: &str = "milan-v2-gsg/report.bin";
const VCEK: &str = "milan-v2-gsg/vcek.der";

fn table(name: &str) -> String {
    format!("{TABLES}{name}")
}

#[test]
fn a_host_s_table_gives_the_certificates() {
    let Some(root) = vectors("snp") else { return };
    for name in ["rfc4122-order.bin", "rfc4122-order-page-padded.bin", "unknown-entry-and-vcek.bin"] {
        let file = table(name);
        let (code, body) = json(&root, &[&["snp-report", REPORT, "--table", &file][..], &CRL, &AT].concat());
        assert_eq!((code, failed(&body), ids(&body, "missing")), (0, vec![], vec![]), "{name}");
        assert!(ids(&body, "pass").contains(&"snp.certificates".to_owned()));
        assert_eq!(body["inputs"][1]["role"], "table");
    }
    // A person reads what was passed over.
    let file = table("unknown-entry-and-vcek.bin");
    let arguments = [&["snp-report", REPORT, "--table", &file][..], &CRL, &AT].concat();
    let (_, body) = json(&root, &arguments);
    let unknown = "12345678-90ab-cdef-1234-567890abcdef";
    assert_eq!(body["certificate_table"][0], json!({ "guid": unknown, "kind": null, "length": 40 }));
    assert_eq!(body["certificate_table"][1]["kind"], "VCEK");
    let said = String::from_utf8(audit(&root, &arguments).stdout).unwrap();
    assert!(said.contains(&format!("{unknown}  unknown, not used, 40 bytes")), "{said}");
}

#[test]
fn a_table_that_says_nothing_is_no_pass() {
    let Some(root) = vectors("snp") else { return };
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).unwrap();
        folder.path().join(name).display().to_string()
    };
    let whole = std::fs::read(table("rfc4122-order.bin")).unwrap();
    let mut foreign = whole.clone();
    [0, 24, 48].into_iter().for_each(|at| foreign[at] ^= 0xff);
    let (foreign, empty, cut) = (write("foreign", &foreign), write("empty", &[0; 24]), write("cut", &whole[..3000]));
    let run = |table: &str, rest: &[&str]| {
        let (code, body) = json(&root, &[&["snp-report", REPORT, "--table", table][..], &CRL, &AT, rest].concat());
        (code, failed(&body).join(" "), ids(&body, "missing").join(" "), body)
    };
    let (code, failed, missing, body) = run(&foreign, &[]);
    assert_eq!((code, failed.as_str(), missing.as_str()), (3, "", "snp.certificates.known snp.vek"));
    assert_eq!(body["certificate_table"][2]["kind"], json!(null));
    assert!(!ids(&body, "pass").contains(&"snp.certificates".to_owned()));
    let (code, _, missing, _) = run(&foreign, &["--certs", VCEK]);
    assert_eq!((code, missing.as_str()), (3, "snp.certificates.known"));
    // A host without certificates is legitimate; they come from elsewhere.
    let (code, _, missing, body) = run(&empty, &[]);
    assert_eq!((code, missing.as_str(), body["certificate_table"].clone()), (3, "snp.vek", json!([])));
    let (code, _, missing, body) = run(&empty, &["--certs", VCEK]);
    assert_eq!((code, missing.as_str()), (0, ""));
    assert!(!ids(&body, "pass").contains(&"snp.certificates".to_owned()));
    let (code, failed, _, body) = run(&cut, &["--certs", VCEK]);
    assert_eq!((code, failed.as_str(), body["certificate_table"].clone()), (1, "snp.certificates", json!(null)));
    // Named in the wrong place, the table says where it belongs.
    let file = table("rfc4122-order.bin");
    let output = audit(&root, &["snp-report", REPORT, "--certs", &file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("a certificate table, for --table"));
}

/// A record of the table as the GHCB specification has it, written by hand.
fn entry(guid: u128, offset: usize, length: usize) -> Vec<u8> {
    let number = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
    [&guid.to_be_bytes()[..], &number(offset), &number(length)].concat()
}

/// Evidence brings its table; a revocation list in it counts where the root
/// signed it.
#[test]
fn the_table_in_an_envelope_is_used_with_its_revocation_list() {
    let Some(root) = vectors("snp") else { return };
    let read = |file: &str| std::fs::read(root.join(file)).unwrap();
    let (report, vcek, crl) = (read(REPORT), read(VCEK), read(CRL[1]));
    let data = report[0x50..0x90].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let run = |crl: &[u8], rest: &[&str]| {
        let table = [
            entry(0x63da_758d_e664_4564_adc5_f4b9_3be8_accd, 72, vcek.len()),
            entry(0x92f8_1bc3_5811_4d3d_97ff_d19f_88dc_67ea, 72 + vcek.len(), crl.len()),
            vec![0; 24],
            vcek.clone(),
            crl.to_vec(),
        ];
        let tsm = encode(&Cbor::Map(vec![
            ("auxblob".into(), Cbor::Bytes(table.concat())),
            ("outblob".into(), Cbor::Bytes(report.clone())),
            ("provider".into(), "sev_guest".into()),
        ]));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tsm").display().to_string();
        std::fs::write(&file, tsm).unwrap();
        let (code, body) = json(&root, &[&["evidence", &file, "--report-data", &data][..], &AT, rest].concat());
        (code, failed(&body).join(" "), ids(&body, "missing").join(" "))
    };
    assert_eq!(run(&crl, &[]), (0, String::new(), String::new()));
    let mut forged = crl.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(run(&forged, &[]).1, "snp.crl");
    assert_eq!(run(&vcek, &[]).2, "snp.crl");
    // Two tables: which one counts is not guessed.
    let output = audit(
        &root,
        &[
            "evidence",
            concat!(env!("CARGO_MANIFEST_DIR"), "/../attest/tests/tsm-reports/provider-plain.cbor"),
            "--table",
            REPORT,
        ],
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("brings a certificate table of its own"));
}

/// As Linux gives a TSM report, and as programs archive it: the certificates in
/// it are all that is needed beside a revocation list.
#[test]
fn tsm_reports_in_every_form_pass_with_their_own_certificates() {
    const REPORTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../attest/tests/tsm-reports/");
    let Some(root) = vectors("snp") else { return };
    let report = std::fs::read(root.join(REPORT)).unwrap();
    let data = report[0x50..0x90].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for name in ["provider-plain.cbor", "provider-with-newline.cbor", "tsm-report.json"] {
        let file = format!("{REPORTS}{name}");
        let run = |rest: &[&str]| json(&root, &[&["evidence", &file][..], &CRL, &AT, rest].concat());
        let (code, body) = run(&["--report-data", &data]);
        assert_eq!((code, failed(&body), ids(&body, "missing")), (0, vec![], vec![]), "{name}");
        assert_eq!((&body["envelope"], &body["certificate_table"][2]["kind"]), (&json!("SNP report"), &json!("VCEK")));
        let (code, body) = run(&[]);
        assert_eq!((code, ids(&body, "missing")), (3, vec!["evidence.binding".to_owned()]));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tdx").display().to_string();
    std::fs::write(&file, r#"{"outblob": "AAAA", "provider": "tdx_guest\n"}"#).unwrap();
    let output = audit(&root, &["evidence", &file]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("provider \"tdx_guest\" is not supported; sev_guest is"), "{said}");
}
