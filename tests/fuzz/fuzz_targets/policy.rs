//! Bundles, their texts, recorded facts, and the messages of the exchange.
#![no_main]
use libfuzzer_sys::fuzz_target;
use portcullis_firmware_policy::ear::Ear;
use portcullis_firmware_policy::{
    ActivateRequest, AttestRequest, AttestResponse, Content, Files, RecordedFacts, decode_credential, pack, unpack,
};

const POLICY: &[u8] = include_bytes!("../../../firmware-policy/tool/src/draft/policy.toml");
const IMAGE: &[u8] = include_bytes!("../../../firmware-policy/tool/src/draft/image.toml");
const CEDAR: &[u8] = include_bytes!("../../../firmware-policy/tool/src/draft/policy.cedar");

fuzz_target!(|data: &[u8]| {
    if let Ok(files) = unpack(data) {
        assert_eq!(pack(&files).unwrap(), data);
    }
    drop((AttestRequest::decode(data), AttestResponse::decode(data)));
    if let Ok(ear) = Ear::decode(data) {
        let again = Ear::decode(&ear.encode()).unwrap();
        assert_eq!((ear.issued, ear.subject, ear.policies), (again.issued, again.subject, again.policies));
    }
    drop((ActivateRequest::decode(data), decode_credential(data), RecordedFacts::decode(data)));
    // Texts of a folder, whichever of them the data is taken for.
    let (at, text) = data.split_first().map_or((0, data), |(first, rest)| (usize::from(*first), rest));
    let name = ["policy.toml", "reference/image.toml", "policy.cedar", "schema.cedarschema", "ima/list"][at % 5];
    let mut files = Files::from([
        ("policy.toml".to_owned(), POLICY.to_vec()),
        ("reference/image.toml".to_owned(), IMAGE.to_vec()),
        ("policy.cedar".to_owned(), CEDAR.to_vec()),
        ("schema.cedarschema".to_owned(), portcullis_firmware_policy::SCHEMA.as_bytes().to_vec()),
    ]);
    files.insert(name.to_owned(), text.to_vec());
    if let Err(error) = Content::read(&files) {
        assert!(!error.to_string().is_empty());
    }
});
