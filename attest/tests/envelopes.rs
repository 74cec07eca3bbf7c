#![cfg(test)]
//! Envelopes of other systems, and the forms of RFC 9999.

mod common;

use portcullis_attest::cmw::{Cmw, CmwError, Label, MessageType};
use portcullis_attest::evidence::{Collected, Evidence, SnpEvidence};
use portcullis_attest::import::{Envelope, ImportError, Imported};
use portcullis_attest::tsm::TsmError;
use portcullis_wire::{Headers, Value, encode, sign1};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser;

fn read(file: &str) -> Option<Vec<u8>> {
    Some(common::read(&common::vectors("eat-ear-cmw/veraison-cmw")?.join(file)))
}

fn media(text: &str) -> MessageType {
    MessageType::Media(text.into())
}

#[test]
fn collections_of_veraison_decode() {
    let Some(bytes) = read("collection-cbor-ok.cbor") else { return };
    let Cmw::Collection { kind: None, items } = Cmw::parse(&bytes).unwrap() else { panic!("no collection") };
    let signed = Cmw::Record {
        kind: media("application/signed-corim+cbor"),
        message: vec![0xd2, 0x84, 0x43, 0xa1, 0x01, 0x26, 0xa1],
        indicator: Some(3),
    };
    assert_eq!(items[0], (Label::Number(1), signed));
    // RFC 9277 has 255 formats in a page of tags: 117 pages and 49.
    let message = vec![0x23, 0x47, 0xda, 0x55];
    let tagged = Cmw::Record { kind: MessageType::Format(117 * 255 + 49), message: message.clone(), indicator: None };
    assert_eq!(items[1], (Label::Number(2), tagged));
    let last = Cmw::Record { kind: MessageType::Format(30001), message, indicator: None };
    assert_eq!(items[2], (Label::Text("s".into()), last));

    let bytes = read("collection-cbor-ok-2.cbor").unwrap();
    assert_eq!(Cmw::parse(&bytes).unwrap().messages(&["application/vnd.1"]), [[0xde, 0xad, 0xbe, 0xef]]);
    let bytes = read("collection-cbor-mixed-keys.cbor").unwrap();
    let Cmw::Collection { items, .. } = Cmw::parse(&bytes).unwrap() else { panic!("no collection") };
    assert_eq!(items.len(), 2);
    assert_eq!(items[0].0, Label::Text("string".into()));
    assert_eq!(items[1].0, Label::Number(1024));
}

/// RFC 9999, "CBOR-encoded Collection": its diagnostic notation, typed in as CBOR.
#[test]
fn the_collection_of_the_standard_decodes() {
    let bytes = portcullis_wire::hex::unhex(concat!(
        "a4685f5f636d77635f74",
        "7827", // "__cmwc_t": "tag:example.com,2024:composite-attester"
        "7461673a6578616d706c652e636f6d2c323032343a",
        "636f6d706f736974652d6174746573746572",
        "008319fde7442347da5504",                                 // 0: [64999, h'2347da55', 4]
        "01da6374ffe6442347da55",                                 // 1: 1668612070(h'2347da55')
        "0283736170706c69636174696f6e2f6561742b6a7774432e2e2e08", // 2: ["application/eat+jwt", h'2e2e2e', 8]
    ));
    let Cmw::Collection { kind, items } = Cmw::parse(&bytes.unwrap()).unwrap() else { panic!("no collection") };
    assert_eq!(kind.as_deref(), Some("tag:example.com,2024:composite-attester"));
    let record = |kind, message: &[u8], indicator| Cmw::Record { kind, message: message.to_vec(), indicator };
    let expected = [
        (Label::Number(0), record(MessageType::Format(64_999), &[0x23, 0x47, 0xda, 0x55], Some(1 << 2))),
        (Label::Number(1), record(MessageType::Format(64_999), &[0x23, 0x47, 0xda, 0x55], None)),
        (Label::Number(2), record(media("application/eat+jwt"), b"...", Some(1 << 3))),
    ];
    assert_eq!(items, expected);
}

/// What we write, the same reader reads: it has been shown what others write.
#[test]
fn our_evidence_is_a_collection_of_the_standard() {
    let snp = SnpEvidence { report: vec![1; 1184], certificates: Vec::new() };
    let evidence = Evidence::of(Collected::Snp(snp));
    let Cmw::Collection { kind, items } = Cmw::parse(evidence.bytes()).unwrap() else { panic!("no collection") };
    assert_eq!(kind.as_deref(), Some("tag:portcullis.invalid,2026:evidence#1"));
    let [(Label::Text(label), Cmw::Record { kind, indicator, message })] = items.as_slice() else {
        panic!("{items:?}")
    };
    assert_eq!((label.as_str(), kind), ("snp", &media("application/vnd.veraison.tsm-report+cbor")));
    // RFC 9999, "CM Type": evidence is bit 2.
    assert_eq!(*indicator, Some(1 << 2));
    let report: Value = ciborium::from_reader(message.as_slice()).unwrap();
    let mut members: Vec<&str> = report.as_map().unwrap().iter().map(|(key, _)| key.as_text().unwrap()).collect();
    members.sort_unstable();
    assert_eq!(members, ["auxblob", "outblob", "provider"]);
}

/// The examples of the standard, which are written in diagnostic notation.
#[test]
fn examples_of_the_standard_decode() {
    let record = |kind: Value, rest: Vec<Value>| encode(&Value::Array([vec![kind], rest].concat()));
    let bytes = |hex: &str| Value::Bytes(portcullis_wire::hex::unhex(hex).unwrap());
    let parse = |bytes: &[u8]| Cmw::parse(bytes);
    assert!(parse(&record(64999.into(), vec![bytes("2347da55")])).is_ok());
    assert!(parse(&record("application/vnd.example.rats-conceptual-msg".into(), vec![bytes("2347da55")])).is_ok());
    assert!(parse(&record("application/rim+cose".into(), vec![bytes("d28440a044d901f5a040"), 3.into()])).is_ok());
    let tagged = encode(&Value::Tag(1_668_612_069, Box::new(bytes("a10a48a7c76d8424a96fb4"))));
    assert!(matches!(parse(&tagged), Ok(Cmw::Record { kind: MessageType::Format(_), .. })));
    for (tag, format) in [(1_668_546_817, 0), (1_668_612_070, 64_999), (1_668_612_095, 65_024)] {
        let tagged = encode(&Value::Tag(tag, Box::new(bytes("00"))));
        assert!(matches!(parse(&tagged), Ok(Cmw::Record { kind: MessageType::Format(f), .. }) if f == format), "{tag}");
    }
    for (bad, error) in [
        (record("x".into(), vec![]), CmwError::Form),
        (record("x".into(), vec!["text".into()]), CmwError::Form),
        (record("x".into(), vec![bytes("00"), 1.into(), 2.into()]), CmwError::Form),
        // `ind` is not zero and has four bytes; a content format has two.
        (record("x".into(), vec![bytes("00"), 0.into()]), CmwError::Form),
        (record("x".into(), vec![bytes("00"), (1_u64 << 32).into()]), CmwError::Form),
        (record(0x1_0000.into(), vec![bytes("00")]), CmwError::Form),
        // RFC 9277, appendix B: tags end with 1668612095, of format 65,024.
        (encode(&Value::Tag(1_668_612_096, Box::new(bytes("00")))), CmwError::Form),
        (encode(&Value::Tag(1_668_612_097, Box::new(bytes("00")))), CmwError::Form),
        (encode(&Value::Tag(1_668_546_816, Box::new(bytes("00")))), CmwError::Form),
        (encode(&Value::Map(Vec::new())), CmwError::Form),
        (encode(&Value::Tag(0x6374_0200, Box::new(bytes("00")))), CmwError::Form),
        ([record(1.into(), vec![bytes("00")]), vec![0]].concat(), CmwError::Cbor),
        (vec![0x9f; 64], CmwError::Cbor),
    ] {
        assert_eq!(parse(&bad), Err(error), "{bad:02x?}");
    }
    // One label twice, which deterministic encoders do not write.
    let item = record(1.into(), vec![bytes("00")]);
    let twice = [&[0xa2, 0x01][..], &item, &[0x01], &item].concat();
    assert_eq!(parse(&twice), Err(CmwError::Label));
}

#[test]
fn azure_evidence_of_trustee_is_imported() {
    let Some(root) = common::vectors("azure-vtpm") else { return };
    for file in ["evidence-v0.json", "evidence-v1.json"] {
        let bytes = common::read(&root.join("trustee-v0-v1").join(file));
        let Imported::Azure { hcl, quote, certificates } = Imported::parse(&bytes).unwrap() else { panic!("{file}") };
        assert!(hcl.starts_with(b"HCLA"));
        assert_eq!((quote.pcrs.iter().count(), certificates.len()), (24, 1));
    }
}

#[test]
fn a_report_in_json_of_a_relative_of_trustee_is_imported() {
    let Some(root) = common::vectors("snp/genoa-v5-baremetal") else { return };
    let bytes = common::read(&root.join("live-evidence-genoa.json"));
    let Imported::Snp { snp, certificates } = Imported::parse(&bytes).unwrap() else { panic!("no SNP evidence") };
    assert_eq!((snp.report.len(), certificates.len()), (1184, 1));
}

/// The form that Trustee itself writes: the `sev` crate's structure in JSON.
#[test]
fn reports_survive_the_sev_crates_json() {
    let Some(root) = common::vectors("snp") else { return };
    for file in [
        "milan-v2-gsg/report.bin",
        "milan-v3-ms-aci/report.bin",
        "milan-v3-vlek-aws/report.bin",
        "genoa-v3-ms-aci/report.bin",
        "genoa-v5-baremetal/live-report-v5-genoa.bin",
        "turin-v5-ms-aci/report.bin",
    ] {
        let report = common::read(&root.join(file));
        let parsed = AttestationReport::from_bytes(&report).unwrap();
        let body = serde_json::json!({
            "attestation_report": parsed,
            "cert_chain": [{ "cert_type": "VCEK", "data": [48, 130] }],
        });
        let imported = Imported::parse(body.to_string().as_bytes()).unwrap();
        let Imported::Snp { snp, certificates } = imported else { panic!("{file}") };
        // What AMD reserves is not in the structure; the rest is as it was signed.
        let differing: Vec<usize> = (0..report.len()).filter(|at| snp.report[*at] != report[*at]).collect();
        assert_eq!(differing, Vec::<usize>::new(), "{file}");
        assert_eq!(certificates, [[48, 130]]);
    }
}

#[test]
fn tsm_reports_and_our_own_collections_are_imported() {
    let tsm = |provider: &str| {
        Value::Map(vec![
            ("provider".into(), provider.into()),
            ("outblob".into(), Value::Bytes(vec![1; 1184])),
            ("generation".into(), 3.into()),
        ])
    };
    let expected = Imported::Snp {
        snp: SnpEvidence { report: vec![1; 1184], certificates: Vec::new() },
        certificates: Vec::new(),
    };
    assert_eq!(Imported::parse(&encode(&tsm("sev_guest"))).as_ref(), Ok(&expected));
    let wrapped = Value::Map(vec![(
        "any label".into(),
        Value::Array(vec![
            "application/vnd.veraison.tsm-report+cbor".into(),
            Value::Bytes(encode(&tsm("sev_guest"))),
            4.into(),
        ]),
    )]);
    assert_eq!(Imported::parse(&encode(&wrapped)).as_ref(), Ok(&expected));
    let foreign = Err(ImportError::Tsm(TsmError::Provider("tdx_guest".into())));
    assert_eq!(Imported::parse(&encode(&tsm("tdx_guest"))), foreign);
    for nothing in [&b""[..], b"{}", b"{\"evidence\":1}", b"[]", b"\xff", b"{\"attestation_report\":{}}"] {
        assert!(Imported::parse(nothing).is_err());
    }
}

/// A signed wrapper is opened where it says that it is one, and keeps its
/// signature for whoever knows the key.
#[test]
fn signed_wrappers_are_opened_and_not_believed() {
    let tsm =
        Value::Map(vec![("provider".into(), "sev_guest".into()), ("outblob".into(), Value::Bytes(vec![1; 1184]))]);
    let record =
        Value::Array(vec!["application/vnd.veraison.tsm-report+cbor".into(), Value::Bytes(encode(&tsm)), 4.into()]);
    let wrapper = encode(&Value::Map(vec![("snp".into(), record)]));
    let signed = |headers: Headers, detached: bool| {
        sign1(headers, &wrapper, detached, |_| Ok::<_, std::convert::Infallible>(vec![7; 64])).unwrap()
    };
    for kind in [Value::from("application/cmw+cbor"), 273.into()] {
        let opened = Envelope::open(&signed(vec![(1, (-9).into()), (3, kind)], false)).unwrap();
        assert!(matches!(opened.evidence, Imported::Snp { .. }));
        assert_eq!(opened.signed.unwrap().signature(), [7; 64]);
    }
    assert!(Envelope::open(&wrapper).unwrap().signed.is_none());
    // Whoever expects no signature does not skip one by accident.
    let good = || vec![(1, Value::from(-9)), (3, "application/cmw+cbor".into())];
    assert_eq!(Imported::parse(&signed(good(), false)), Err(ImportError::Unknown));
    for (headers, detached, part) in [
        (vec![(1, (-9).into())], false, "content type"),
        (vec![(1, (-9).into()), (3, "application/cwt".into())], false, "content type"),
        (vec![(3, "application/cmw+cbor".into())], false, "COSE_Sign1"),
        ([good(), vec![(2, Value::Array(vec![3.into()]))]].concat(), false, "COSE_Sign1"),
        (good(), true, "payload"),
    ] {
        assert_eq!(Envelope::open(&signed(headers, detached)).unwrap_err(), ImportError::Part(part));
    }
}
