#![cfg(test)]
//! PCR 11 as `systemd-measure` computes it, and the log that leads there.

mod common;

use portcullis_attest::eventlog::{EventLog, EventLogError};
use portcullis_attest::tpm::pcr::Bank;
use portcullis_attest::uki::pcr11;
use portcullis_wire::hex::{hex, unhex};

#[test]
fn pcr_11_is_what_systemd_measure_computes() {
    let Some(root) = common::vectors("uki-pcr11") else { return };
    for entry in std::fs::read_dir(root.join("systemd-measure")).unwrap() {
        let json: serde_json::Value = serde_json::from_slice(&common::read(&entry.unwrap().path())).unwrap();
        let sections: Vec<(String, Vec<u8>)> = json["sections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| (format!(".{}", s["name"].as_str().unwrap()), unhex(s["data_hex"].as_str().unwrap()).unwrap()))
            .collect();
        let sections: Vec<(&str, &[u8])> =
            sections.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect();
        let phases: Vec<&str> = json["phases"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
        for bank in Bank::ALL {
            let required = json["pcr11"][bank.name()].as_str().unwrap();
            assert_eq!(hex(&pcr11(bank, &sections, &phases)), required, "{bank}");
            let reversed: Vec<(&str, &[u8])> = sections.iter().rev().copied().collect();
            assert_eq!(hex(&pcr11(bank, &reversed, &phases)), required, "{bank}, in another order");
        }
    }
}

/// What user space logs after the stub leads on from there.
#[test]
fn phases_in_systemds_log_lead_to_the_predicted_value() {
    let sections: [(&str, &[u8]); 2] = [(".linux", b"kernel"), (".initrd", b"initrd")];
    let phases = ["enter-initrd", "leave-initrd", "sysinit", "ready"];
    let record = |pcr: u8, text: &str| {
        let digest = hex(&Bank::Sha256.hash(&[text.as_bytes()]));
        format!(
            "\u{1e}{{\"pcr\":{pcr},\"digests\":[{{\"hashAlg\":\"sha256\",\"digest\":\"{digest}\"}}],\
             \"content_type\":\"systemd\",\"content\":{{\"eventType\":\"phase\",\"string\":\"{text}\"}}}}\n"
        )
    };
    let text: String = phases.iter().map(|phase| record(11, phase)).collect();
    let user = EventLog::parse_cel_json(text.as_bytes()).unwrap();
    // The same records in TLV form, after the stub's.
    let tlv =
        |kind: u8, value: &[u8]| [&[kind][..], &u32::try_from(value.len()).unwrap().to_be_bytes(), value].concat();
    let words = [".linux\0", "kernel", ".initrd\0", "initrd"];
    let stub: Vec<u8> = words
        .iter()
        .zip(0_u64..)
        .flat_map(|(word, number)| {
            let digest = tlv(0x0b, &Bank::Sha256.hash(&[word.as_bytes()]));
            [tlv(0, &number.to_be_bytes()), tlv(1, &[11]), tlv(3, &digest), tlv(8, word.as_bytes())].concat()
        })
        .collect();
    let log = EventLog::parse_cel_tlv(&stub).unwrap().followed_by(user);
    assert_eq!(log.replay(Bank::Sha256).unwrap().value(11), pcr11(Bank::Sha256, &sections, &phases));
    assert!(log.replay(Bank::Sha384).is_err());

    // Records left out or reordered are refused.
    let length = 13 + 6 + 42 + 5 + words[0].len();
    assert_eq!(EventLog::parse_cel_tlv(&stub[length..]), Err(EventLogError::Order));
    let mut far = stub.clone();
    far[18] = 24;
    assert_eq!(EventLog::parse_cel_tlv(&far), Err(EventLogError::Pcr(24)));
    for at in 0..stub.len() {
        let _no_panic = EventLog::parse_cel_tlv(&stub[..at]);
    }
    // One for an NV index is listed, and is in no PCR: its handle begins with 1.
    let nv = [
        tlv(0, &[0]),
        tlv(2, &0x01d1_0201_u32.to_be_bytes()),
        tlv(3, &tlv(0x0b, &Bank::Sha256.hash(&[b"x"]))),
        tlv(9, b"x"),
    ];
    let listed = EventLog::parse_cel_tlv(&nv.concat()).unwrap();
    assert_eq!((listed.events.len(), listed.nv_records.len()), (0, 1));
    assert_eq!((listed.nv_records[0].index, listed.nv_records[0].data.as_slice()), (0x01d1_0201, &b"x"[..]));
    let mut wrong = nv.clone();
    wrong[1] = tlv(2, &0x81d1_0201_u32.to_be_bytes());
    assert_eq!(EventLog::parse_cel_tlv(&wrong.concat()), Err(EventLogError::NvIndex(0x81d1_0201)));
    assert_eq!(EventLog::parse_cel_json(b"[]"), Err(EventLogError::Empty));
    let short = text.replacen(r#""digest":""#, r#""digest":"00"#, 1);
    assert_eq!(EventLog::parse_cel_json(short.as_bytes()), Err(EventLogError::Digests));
}

/// `tpm2-measure.log` with and without a record of an NV index, as systemd 258
/// writes them (systemd-pcrextend(8), "Files").
#[test]
fn logs_of_systemd_are_read_with_records_of_nv_indices() {
    let read =
        |file: &str| common::read(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file));
    let firmware = EventLog::parse(&read("boot.bin")).unwrap();
    let before = firmware.events.len();
    let plain = firmware.clone().with_user_space(&read("tpm2-measure.log")).unwrap();
    assert_eq!((plain.events.len(), plain.user_space, plain.nv_records.len()), (before + 4, before, 0));
    let value = ["enter-initrd", "leave-initrd", "sysinit", "ready"]
        .iter()
        .fold(firmware.replay(Bank::Sha256).unwrap().value(11), |value, phase| {
            Bank::Sha256.extend(&value, &Bank::Sha256.hash(&[phase.as_bytes()]))
        });
    assert_eq!(plain.replay(Bank::Sha256).unwrap().value(11), value);
    let with_index = firmware.clone().with_user_space(&read("tpm2-measure-nvpcr.log")).unwrap();
    assert_eq!((with_index.events.len(), with_index.nv_records.len()), (before + 3, 1));
    let record = &with_index.nv_records[0];
    assert_eq!((record.index, record.data.as_slice()), (0x01d1_0201, &b"cryptsetup:root:tpm2"[..]));
    // A file that nothing was written to yet says nothing.
    assert_eq!(firmware.clone().with_user_space(b"\n"), Ok(firmware.clone()));
    // What is cut, of no PCR, or of two things at once is refused, and named.
    let text = read("tpm2-measure.log");
    assert_eq!(firmware.clone().with_user_space(&text[..text.len() - 3]), Err(EventLogError::Record(3)));
    let altered = |from: &str, to: &str| {
        let text = String::from_utf8(text.clone()).unwrap().replacen(from, to, 1);
        firmware.clone().with_user_space(text.as_bytes()).unwrap_err()
    };
    assert_eq!(altered("\"pcr\": 11", "\"pcr\": 24"), EventLogError::Pcr(24));
    assert_eq!(altered("\"pcr\": 11,", ""), EventLogError::Target(0));
    assert_eq!(altered("\"pcr\": 11,", "\"pcr\": 11, \"nv_index\": 30474753,"), EventLogError::Target(0));
    assert_eq!(altered("\"pcr\": 11,", "\"nv_index\": 11,"), EventLogError::NvIndex(11));
}
