//! TSM reports as configfs-tsm of Linux gives them, and as programs archive them.
//! Outside witnesses: reports in CBOR and JSON around AMD's certificates and a
//! report of go-sev-guest, made by an encoder of others; the media types and the
//! forms of Veraison's ratsd.
#![cfg(test)]

mod common;

use data_encoding::{BASE64, BASE64URL, BASE64URL_NOPAD, Encoding};
use portcullis_attest::cmw::{Cmw, CmwError, Label, MessageType};
use portcullis_attest::evidence::{Evidence, SnpEvidence, SvsmEvidence};
use portcullis_attest::import::{ImportError, Imported};
use portcullis_attest::tsm::{MEDIA_TYPES, TsmError, TsmReport};
use portcullis_wire::{Value, encode};
use serde_json::json;

const PLAIN: &[u8] = include_bytes!("tsm-reports/provider-plain.cbor");
const NEWLINE: &[u8] = include_bytes!("tsm-reports/provider-with-newline.cbor");
const JSON: &[u8] = include_bytes!("tsm-reports/tsm-report.json");
const TABLE: &[u8] = include_bytes!("certificate-tables/rfc4122-order.bin");

fn guest(report: &[u8], certificates: &[u8]) -> SnpEvidence {
    SnpEvidence { report: report.to_vec(), certificates: certificates.to_vec() }
}

fn snp(imported: &Result<Imported, ImportError>) -> &SnpEvidence {
    match imported {
        Ok(Imported::Snp { snp, certificates }) if certificates.is_empty() => snp,
        other => panic!("{other:?}"),
    }
}

/// Members of a TSM report in CBOR.
fn cbor(members: &[(&str, Value)]) -> Vec<u8> {
    encode(&Value::Map(members.iter().map(|(name, value)| ((*name).into(), value.clone())).collect()))
}

fn refused(members: &[(&str, Value)]) -> TsmError {
    TsmReport::parse(&cbor(members)).unwrap_err()
}

fn blob(byte: u8) -> Value {
    Value::Bytes(vec![byte; 1184])
}

#[test]
fn every_form_in_the_field_is_the_same_report() {
    let forms = [PLAIN, NEWLINE, JSON].map(Imported::parse);
    let first = snp(&forms[0]).clone();
    assert_eq!((first.report.len(), first.certificates.as_slice()), (1184, TABLE));
    if let Some(root) = common::vectors("snp/milan-v2-gsg") {
        assert_eq!(first.report, common::read(&root.join("report.bin")));
    }
    assert!(forms.iter().all(|form| *snp(form) == first));
}

/// In wrappers of either form, of any of its media types.
#[test]
fn wrappers_of_both_forms_are_opened() {
    let first = snp(&Imported::parse(PLAIN)).clone();
    for media in MEDIA_TYPES {
        for message in [PLAIN, NEWLINE, JSON] {
            let record = Value::Array(vec![media.into(), Value::Bytes(message.to_vec()), 4.into()]);
            let collection = Value::Map(vec![
                ("__cmwc_t".into(), "tag:example.com,2026:machine".into()),
                ("tsm-report".into(), record.clone()),
                ("other".into(), Value::Array(vec!["application/eat-ucs+cbor".into(), Value::Bytes(vec![0xa0])])),
            ]);
            let nested = Value::Map(vec![("a".into(), collection.clone())]);
            let text = BASE64URL_NOPAD.encode(message);
            let record_json = json!([media, text, 4]);
            let collection_json = json!({ "__cmwc_t": "tag:example.com,2026:machine", "tsm-report": record_json });
            let in_json = json!({ "a": ["#cmw-c2j-tunnel", BASE64URL_NOPAD.encode(&encode(&record))] });
            let in_cbor =
                Value::Array(vec!["#cmw-j2c-tunnel".into(), Value::Bytes(collection_json.to_string().into_bytes())]);
            // A token of ratsd, whose claim has the wrapper as base64 or as it is.
            let token = json!({ "eat_profile": "tag:github.com,2025:veraison/ratsd/cmw", "cmw": collection_json });
            let older = json!({ "cmw": BASE64.encode(collection_json.to_string().as_bytes()) });
            for bytes in [record, collection, nested, in_cbor].map(|value| encode(&value)) {
                assert_eq!(*snp(&Imported::parse(&bytes)), first, "{media}");
            }
            for text in [record_json, collection_json, in_json, token, older] {
                assert_eq!(*snp(&Imported::parse(text.to_string().as_bytes())), first, "{media}");
            }
        }
    }
}

#[test]
fn base64_is_read_in_every_form_that_encoders_write() {
    let text = |encoding: &Encoding, wrap: bool| {
        let encoded = encoding.encode(TABLE);
        if wrap {
            encoded.as_bytes().chunks(76).map(|l| std::str::from_utf8(l).unwrap()).collect::<Vec<_>>().join("\n")
        } else {
            encoded
        }
    };
    let read = |auxblob: serde_json::Value| {
        let body = json!({ "outblob": BASE64.encode(&[1; 1184]), "provider": "sev_guest\n", "auxblob": auxblob });
        Imported::parse(body.to_string().as_bytes())
    };
    for encoding in [BASE64, BASE64URL, BASE64URL_NOPAD, data_encoding::BASE64_NOPAD] {
        for wrap in [false, true] {
            assert_eq!(*snp(&read(text(&encoding, wrap).into())), guest(&[1; 1184], TABLE));
        }
    }
    assert_eq!(*snp(&read(TABLE.to_vec().into())), guest(&[1; 1184], TABLE));
    // An empty table, whose base64 looks like hex.
    assert_eq!(*snp(&read("A".repeat(32).into())), guest(&[1; 1184], &[0; 24]));
    for none in [json!(""), json!(null)] {
        assert_eq!(*snp(&read(none)), guest(&[1; 1184], &[]));
    }
    for bad in [json!("AA-+"), json!("A"), json!("AA="), json!("AB"), json!("!"), json!([1, 256]), json!(7), json!({})]
    {
        let error = read(bad.clone()).unwrap_err();
        assert!(matches!(error, ImportError::Tsm(TsmError::Member("auxblob") | TsmError::Form)), "{bad} {error:?}");
    }
}

#[test]
fn a_service_module_brings_its_manifest() {
    let service = SvsmEvidence { snp: guest(&[1; 1184], &[]), manifest: vec![5; 40] };
    let base = [("outblob", blob(1)), ("provider", "sev_guest\n".into())];
    let manifest = || Value::Bytes(vec![5; 40]);
    for name in ["svsm", "svsm\n"] {
        let flat = [&base[..], &[("service_provider", name.into()), ("manifestblob", manifest())]].concat();
        let map = Value::Map(vec![("service_provider".into(), name.into()), ("manifestblob".into(), manifest())]);
        let nested = [&base[..], &[("service", map)]].concat();
        for members in [flat, nested] {
            assert_eq!(Imported::parse(&cbor(&members)), Ok(Imported::Svsm(service.clone())));
        }
        let json = json!({
            "outblob": BASE64URL_NOPAD.encode(&[1; 1184]),
            "provider": "sev_guest\n",
            "service": { "service_provider": name, "manifestblob": BASE64URL_NOPAD.encode(&[5; 40]) },
        });
        assert_eq!(Imported::parse(json.to_string().as_bytes()), Ok(Imported::Svsm(service.clone())));
    }
    // ratsd writes the members of a service always, and empty.
    for empty in [Value::Map(Vec::new()), Value::Map(vec![("service_provider".into(), "".into())])] {
        let members = [&base[..], &[("service", empty)]].concat();
        assert_eq!(*snp(&Imported::parse(&cbor(&members))), guest(&[1; 1184], &[]));
    }
    let with = |more: &[(&str, Value)]| refused(&[&base[..], more].concat());
    assert_eq!(with(&[("service_provider", "svsm".into())]), TsmError::Member("manifestblob"));
    assert_eq!(with(&[("manifestblob", manifest())]), TsmError::Member("service_provider"));
    let other = [("service_provider", Value::from("coconut\n")), ("manifestblob", manifest())];
    assert_eq!(with(&other), TsmError::Service("coconut".into()));
}

#[test]
fn other_providers_are_refused_by_name() {
    for (name, shown) in [("tdx_guest\n", "tdx_guest"), ("arm_cca_guest", "arm_cca_guest"), ("SEV_GUEST", "SEV_GUEST")]
    {
        let members = [("outblob", blob(1)), ("provider", name.into())];
        let error = ImportError::Tsm(TsmError::Provider(shown.into()));
        assert_eq!(Imported::parse(&cbor(&members)), Err(error.clone()));
        assert!(error.to_string().contains(&format!("provider {shown:?} is not supported; sev_guest is")), "{error}");
        let record = Value::Array(vec![MEDIA_TYPES[0].into(), Value::Bytes(cbor(&members)), 4.into()]);
        assert_eq!(Imported::parse(&encode(&record)), Err(error.clone()));
        let json = json!({ "outblob": BASE64URL.encode(&[1; 1184]), "provider": name });
        assert_eq!(Imported::parse(json.to_string().as_bytes()), Err(error));
    }
    // Nothing of a terminal's gets into a message.
    let hostile = refused(&[("outblob", blob(1)), ("provider", "\u{1b}[2J".into())]);
    assert!(!hostile.to_string().contains('\u{1b}'), "{hostile}");
}

#[test]
fn malformed_reports_are_refused_by_member() {
    let (out, provider) = (("outblob", blob(1)), ("provider", Value::from("sev_guest")));
    assert_eq!(refused(std::slice::from_ref(&provider)), TsmError::Member("outblob"));
    assert_eq!(refused(std::slice::from_ref(&out)), TsmError::Member("provider"));
    assert_eq!(refused(&[out.clone(), ("provider", "\n".into())]), TsmError::Member("provider"));
    assert_eq!(refused(&[out.clone(), ("provider", 1.into())]), TsmError::Member("provider"));
    assert_eq!(refused(&[("outblob", "text".into()), provider.clone()]), TsmError::Member("outblob"));
    assert_eq!(refused(&[("outblob", Value::Bytes(Vec::new())), provider.clone()]), TsmError::Member("outblob"));
    assert_eq!(refused(&[("outblob", Value::Bytes(vec![1; 4096])), provider.clone()]), TsmError::Member("outblob"));
    assert_eq!(refused(&[out.clone(), provider.clone(), ("auxblob", Value::Null)]), TsmError::Member("auxblob"));
    // The bytes of the attribute, as a program reads them.
    let bytes = [out.clone(), ("provider", Value::Bytes(b"sev_guest\n".to_vec()))];
    assert!(TsmReport::parse(&cbor(&bytes)).is_ok());
    assert_eq!(refused(&[out, ("provider", Value::Bytes(vec![0xff]))]), TsmError::Member("provider"));
    // One member twice.
    let twice = [
        &[0xa3, 0x68][..],
        b"provider",
        &[0x69],
        b"sev_guest",
        &[0x68],
        b"provider",
        &[0x69],
        b"sev_guest",
        &[0x67],
        b"outblob",
        &[0x41, 1],
    ]
    .concat();
    assert_eq!(TsmReport::parse(&twice), Err(TsmError::Form));
    let twice = br#"{"outblob": "AQ", "provider": "sev_guest", "provider": "sev_guest"}"#;
    assert_eq!(TsmReport::parse(twice), Err(TsmError::Form));
}

/// Which of several reports counts is not guessed, and what is in a wrapper
/// without one is said.
#[test]
fn wrappers_have_exactly_one_report() {
    let record = Value::Array(vec![MEDIA_TYPES[0].into(), Value::Bytes(PLAIN.to_vec()), 4.into()]);
    let two = Value::Map(vec![("a".into(), record.clone()), ("b".into(), record)]);
    let error = Imported::parse(&encode(&two)).unwrap_err();
    assert!(matches!(error, ImportError::Wrapper { reports: 2, .. }), "{error:?}");
    let none = json!({ "a": ["application/eat-ucs+json", "e30K", 4], "b": [263, "e30K"] });
    let error = Imported::parse(none.to_string().as_bytes()).unwrap_err();
    assert!(error.to_string().contains("\"application/eat-ucs+json\", content format 263"), "{error}");
}

/// Ours with a part that is refused is not taken for an SNP report alone; a
/// newline in it is Linux'.
#[test]
fn our_own_collections_are_whole_or_refused() {
    let tsm = |provider: &str| {
        let members = [("auxblob", Value::Bytes(TABLE.to_vec())), ("outblob", blob(1)), ("provider", provider.into())];
        Value::Array(vec![MEDIA_TYPES[0].into(), Value::Bytes(cbor(&members)), 4.into()])
    };
    let own = |snp: Value, tpm: Option<Value>| {
        let mut entries =
            vec![("__cmwc_t".into(), "tag:portcullis.invalid,2026:evidence#1".into()), ("snp".into(), snp)];
        entries.extend(tpm.map(|tpm| ("tpm".into(), tpm)));
        encode(&Value::Map(entries))
    };
    for provider in ["sev_guest", "sev_guest\n"] {
        let evidence = Evidence::parse(&own(tsm(provider), None)).unwrap();
        assert_eq!(evidence.collected().snp(), Some(&guest(&[1; 1184], TABLE)));
    }
    assert!(Evidence::parse(&own(tsm("tdx_guest"), None)).is_err());
    let broken =
        Value::Array(vec!["application/vnd.portcullis.tpm-quote+cbor".into(), Value::Bytes(vec![0xa0]), 4.into()]);
    let error = Imported::parse(&own(tsm("sev_guest"), Some(broken))).unwrap_err();
    assert!(matches!(error, ImportError::Portcullis(_)), "{error:?}");
}

/// The examples of the standard in JSON (RFC 9999).
#[test]
fn examples_of_the_standard_in_json_decode() {
    let Some(root) = common::vectors("eat-ear-cmw/cmw-draft") else { return };
    for (file, kind) in [
        ("collection-example-1.json", None),
        ("collection-example-2.json", Some("tag:example.com,2024:another-composite-attester")),
    ] {
        let Cmw::Collection { kind: found, items } = Cmw::parse(&common::read(&root.join(file))).unwrap() else {
            panic!("{file}: no collection")
        };
        assert_eq!(found.as_deref(), kind);
        let record = |media: &str, message: &[u8]| Cmw::Record {
            kind: MessageType::Media(media.into()),
            message: message.to_vec(),
            indicator: Some(4),
        };
        assert_eq!(items[0], (Label::Text("attester A".into()), record("application/eat-ucs+json", b"{}\n")));
        assert_eq!(items[1], (Label::Text("attester B".into()), record("application/eat-ucs+cbor", &[0xa0])));
    }
    for (bad, error) in [
        ("[]", CmwError::Form),
        ("{}", CmwError::Form),
        (r#"["x"]"#, CmwError::Form),
        (r#"["x", "!"]"#, CmwError::Form),
        (r#"["x", "AA", "4"]"#, CmwError::Form),
        (r#"["x", "AA", 4, 5]"#, CmwError::Form),
        (r#"[1.5, "AA"]"#, CmwError::Form),
        (r#"{"a": "text"}"#, CmwError::Form),
        (r#"{"__cmwc_t": ["x", "AA"], "a": ["x", "AA"]}"#, CmwError::Form),
        (r#"{"a": ["x", "AA"], "a": ["x", "AA"]}"#, CmwError::Json),
        (r#"["x", "AA"] []"#, CmwError::Json),
        ("[", CmwError::Json),
    ] {
        assert_eq!(Cmw::parse(bad.as_bytes()), Err(error), "{bad}");
    }
    let deep = [&b"["[..], &vec![b'['; 10_000]].concat();
    assert_eq!(Cmw::parse(&deep), Err(CmwError::Json));
}
