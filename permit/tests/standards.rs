//! Numbers and forms of permits, denials, status lists, keys and signatures, as
//! the standards print them and as other implementations read and write them.
#![cfg(test)]

use aws_lc_rs::signature::{KeyPair, ML_DSA_65_SIGNING, PqdsaKeyPair};
use ciborium::Value as Cbor;
use coset::iana::{
    Algorithm, CWT_CLAIM_PRIVATE_USE_MAX, CwtClaimName, EnumI64, HEADER_PARAMETER_PRIVATE_USE_MAX, HeaderParameter,
    KeyType,
};
use coset::{CborSerializable, CoseKey, CoseSign1, CoseSign1Builder, HeaderBuilder, Label, TaggedCborSerializable};
use flate2::read::ZlibDecoder;
use portcullis_permit::{
    Clock, Constraints, Denial, DynamicLinking, Governance, GovernanceError, Kind, Permit, PermitError, PermitId,
    PublicKey, Quorum, Refusal, SigningKey, Status, StatusList, StatusReference, Suite, WITNESSED_LABEL, claims,
    statement,
};
use portcullis_wire::{Fields, Sign1, bstr, decode, encode, map, sha256};
use std::io::Read;

fn unhex(text: &str) -> Vec<u8> {
    portcullis_wire::hex::unhex(&text.replace([' ', '\n'], "")).unwrap()
}

fn cbor(bytes: &[u8]) -> Cbor {
    ciborium::from_reader(bytes).unwrap()
}

/// The value under a label, in a map that another decoder read.
fn member<'a>(map: &'a Cbor, label: &Cbor) -> &'a Cbor {
    &map.as_map().unwrap().iter().find(|(key, _)| key == label).unwrap_or_else(|| panic!("{label:?}")).1
}

fn number(n: i64) -> Cbor {
    Cbor::Integer(n.into())
}

/// RFC 8392, appendix A.1.
#[test]
fn claims_have_the_numbers_of_the_cwt_of_rfc_8392() {
    let example = unhex(
        "a70175636f61703a2f2f61732e6578616d706c652e636f6d02656572696b77037818636f61703a2f2f6c696768742e6578616d70\
         6c652e636f6d041a5612aeb0051a5610d9f0061a5610d9f007420b71",
    );
    let mut fields = Fields::of(decode(&example, 256).unwrap()).unwrap();
    assert_eq!(fields.text(claims::ISS).unwrap(), "coap://as.example.com");
    assert_eq!(fields.text(claims::SUB).unwrap(), "erikw");
    assert_eq!(fields.text(claims::AUD).unwrap(), "coap://light.example.com");
    assert_eq!(fields.uint(claims::EXP).unwrap(), 1_444_064_944);
    assert_eq!(fields.uint(claims::NBF).unwrap(), 1_443_944_944);
    assert_eq!(fields.uint(claims::IAT).unwrap(), 1_443_944_944);
    assert_eq!(fields.bytes(claims::CTI).unwrap(), [0x0b, 0x71]);
    fields.finish().unwrap();
    // RFC 9679, §5.6: confirmation method `ckt`.
    assert_eq!(claims::CKT, 5);
}

/// IANA's registry of CWT claims, as `coset` has it.
#[test]
fn claims_are_those_of_the_registry_or_private() {
    for (ours, theirs) in [
        (claims::ISS, CwtClaimName::Iss),
        (claims::SUB, CwtClaimName::Sub),
        (claims::AUD, CwtClaimName::Aud),
        (claims::EXP, CwtClaimName::Exp),
        (claims::NBF, CwtClaimName::Nbf),
        (claims::IAT, CwtClaimName::Iat),
        (claims::CTI, CwtClaimName::Cti),
        (claims::CNF, CwtClaimName::Cnf),
        (claims::SCOPE, CwtClaimName::Scope),
    ] {
        assert_eq!(ours, theirs.to_i64());
    }
    let private = [
        claims::EVIDENCE,
        claims::BUNDLE,
        claims::RESULT,
        claims::PARENT,
        claims::CONSTRAINTS,
        claims::CHANNEL,
        claims::BOOT,
        claims::WARNINGS,
    ];
    assert!(private.iter().all(|claim| *claim < CWT_CLAIM_PRIVATE_USE_MAX));
    assert!([WITNESSED_LABEL].iter().all(|label| *label < HEADER_PARAMETER_PRIVATE_USE_MAX));
}

fn permit() -> Permit {
    Permit {
        issuer: "permits.example.org".into(),
        subject: "node-1".into(),
        audience: "gate/node-1".into(),
        not_before: 1_686_920_170,
        expires: 1_686_920_230,
        id: PermitId::from_bytes([1; 16]),
        confirmation: [2; 32],
        workload: [3; 32],
        constraints: Constraints { arguments: None, environment: None, linking: DynamicLinking::Static },
        status: StatusReference { uri: "https://example.com/statuslists/1".into(), index: 0 },
        evidence: [4; 32],
        bundle: [5; 32],
        result: [6; 32],
        channel: [7; 32],
        boot: None,
        parent: None,
        warnings: Vec::new(),
    }
}

/// A permit, read by another decoder: `cnf` with a thumbprint (RFC 9679), `scope`
/// with an AIF in a byte string (RFC 9237), and the reference to its status as the
/// token of the Token Status List draft has it (§6.3, "Referenced Token in CWT").
#[test]
fn a_permit_has_the_forms_of_its_standards() {
    let bytes = permit().encode();
    let claims = cbor(&bytes);
    let confirmation = member(&claims, &number(8));
    assert_eq!(*confirmation, Cbor::Map(vec![(number(5), Cbor::Bytes(vec![2; 32]))]));

    // RFC 9237, figure 5: [["/s/temp", 1], ["/a/led", 5], ["/dtls", 2]].
    let figure = cbor(&unhex("83 82 67 2f732f74656d70 01 82 66 2f612f6c6564 05 82 65 2f64746c73 02"));
    let scope = cbor(member(&claims, &number(9)).as_bytes().unwrap());
    let shape = |aif: &Cbor| -> Vec<(bool, bool, usize)> {
        let pairs = aif.as_array().unwrap().iter().map(|pair| pair.as_array().unwrap());
        pairs.map(|pair| (pair[0].is_text(), pair[1].is_integer(), pair.len())).collect()
    };
    assert_eq!(shape(&figure), [(true, true, 2); 3]);
    assert_eq!(shape(&scope), [(true, true, 2)]);
    let target = scope.as_array().unwrap()[0].as_array().unwrap()[0].as_text().unwrap();
    assert_eq!(target, format!("sha-256:{}", "03".repeat(32)));

    // Claim 65535 as the draft's token has it, byte for byte.
    let reference = unhex(
        "19ffff a16b7374617475735f6c697374 a263696478 00 63757269
         782168747470733a2f2f6578616d706c652e636f6d2f7374617475736c697374732f31",
    );
    assert!(bytes.windows(reference.len()).any(|window| window == reference));
    assert_eq!(Permit::decode(&bytes).unwrap(), permit());
    // Another scope, thumbprint method or reference is no permit of ours.
    for (from, to) in
        [("19ffff", "19fffe"), ("08a105", "08a103"), ("63696478", "63696479"), ("6375726978", "6375726a78")]
    {
        let (from, to) = (unhex(from), unhex(to));
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        let mut other = bytes.clone();
        other[at..at + from.len()].copy_from_slice(&to);
        assert!(Permit::decode(&other).is_err(), "{from:02x?} to {to:02x?}");
    }
}

/// RFC 9290, §2 and §3: standard keys are -1 to -7, `response-code` is one byte,
/// and an entry of one's own is a map under a URI.
#[test]
fn a_denial_is_a_concise_problem_detail() {
    let denial = Denial {
        issuer: "permits.example.org".into(),
        subject: "node-1".into(),
        id: PermitId::from_bytes([1; 16]),
        time: 1_686_920_170,
        refusals: vec![Refusal { found: Some("1".into()), ..Refusal::id_only("snp.tcb.floor.current") }],
        evidence: [2; 32],
        bundle: [3; 32],
        facts: [4; 32],
    };
    let problem = cbor(&denial.encode());
    assert_eq!(member(&problem, &number(-1)).as_text(), Some("permit denied"));
    assert_eq!(member(&problem, &number(-2)).as_text(), Some("snp.tcb.floor.current"));
    // The RFC writes 4.04 as 132, and 4.00 as 128; 4.03 is Forbidden.
    assert_eq!(*member(&problem, &number(-4)), number(131));
    for (key, value) in problem.as_map().unwrap() {
        match (key, value) {
            (Cbor::Integer(key), _) => assert!((-7..=-1).contains(&i128::from(*key)), "{key:?} is IANA's to assign"),
            (Cbor::Text(uri), Cbor::Map(own)) => {
                assert_eq!(uri, "tag:portcullis.invalid,2026:denial#1");
                assert_eq!(own.len(), 6);
            }
            other => panic!("{other:?}"),
        }
    }
    let key = SigningKey::generate(Suite::Classic).unwrap();
    assert_eq!(Denial::verify(&denial.sign(&key).unwrap(), key.public()), Ok(denial.clone()));
    // With an HTTP status for CoAP's code, or with the members where they were.
    let sign = |payload: &[u8]| statement::sign(Kind::Denial, &key, "permits.example.org", "node-1", payload).unwrap();
    let mut members = decode(&denial.encode(), 4096).unwrap().into_map().unwrap();
    let code = members.iter().position(|(key, _)| *key == (-4).into()).unwrap();
    for (other, refused) in [(403_u64, true), (131, false)] {
        members[code].1 = other.into();
        let bytes = sign(&encode(&portcullis_wire::Value::Map(members.clone())));
        assert_eq!(Denial::verify(&bytes, key.public()).is_err(), refused, "{other}");
    }
    let old = map([(-1, "permit denied".into()), (-2, "x".into()), (-4, 131.into()), (-70_011, 1.into())]);
    assert_eq!(Denial::verify(&sign(&encode(&old)), key.public()).unwrap_err().check(), "permit.form");
}

/// COSE_Keys by way of `coset`, in both directions, and the thumbprints that the
/// standards print: RFC 9679, §6, for a P-256 key, and RFC 9964, appendix A, for the
/// ML-DSA-65 key of a seed of zeroes.
#[test]
fn keys_and_thumbprints_are_those_of_the_standards() {
    for (suite, algorithm, kind) in
        [(Suite::Classic, Algorithm::ESP256, KeyType::EC2), (Suite::Pq, Algorithm::ML_DSA_65, KeyType::AKP)]
    {
        let key = SigningKey::generate(suite).unwrap();
        let theirs = CoseKey::from_slice(&key.public().to_cose()).unwrap();
        assert_eq!(theirs.alg, Some(coset::RegisteredLabelWithPrivate::Assigned(algorithm)));
        assert_eq!(theirs.kty, coset::RegisteredLabel::Assigned(kind));
        assert_eq!(suite.algorithm(), algorithm.to_i64());
        assert_eq!(PublicKey::from_cose(&sorted(&theirs.to_vec().unwrap())).unwrap(), *key.public());
    }
    let (x, y) = (
        unhex("65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d"),
        unhex("1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c"),
    );
    let key = map([(1, 2.into()), (3, (-9).into()), (-1, 1.into()), (-2, bstr(&x)), (-3, bstr(&y))]);
    let thumbprint = unhex("496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec");
    assert_eq!(PublicKey::from_cose(&encode(&key)).unwrap().thumbprint()[..], thumbprint);

    let seed = PqdsaKeyPair::from_seed(&ML_DSA_65_SIGNING, &[0; 32]).unwrap();
    let public = bstr(seed.public_key().as_ref());
    let key = map([(1, 7.into()), (3, (-49).into()), (-1, public.clone())]);
    let thumbprint = unhex("b788acf242f1f1d6532926d816e76e1636874267f2a48c84c4e65789ab80cc02");
    assert_eq!(PublicKey::from_cose(&encode(&key)).unwrap().thumbprint()[..], thumbprint);
    // Another algorithm or kind of key for the same bytes.
    for (kty, alg) in [(7, -48), (7, -9), (2, -49), (1, -49)] {
        let other = map([(1, kty.into()), (3, alg.into()), (-1, public.clone())]);
        assert!(PublicKey::from_cose(&encode(&other)).is_err(), "{kty} {alg}");
    }
}

/// Other encoders do not sort: the same value, as deterministic CBOR has it.
fn sorted(bytes: &[u8]) -> Vec<u8> {
    encode(&ciborium::from_reader(bytes).unwrap())
}

/// A statement is a COSE_Sign1 that `coset` reads and verifies, with SCITT's headers
/// (RFC 9943, §6.1: `iss` and `sub` in 15, `kid`), and one that `coset` wrote is read.
#[test]
fn statements_pass_between_two_implementations() {
    let key = SigningKey::generate(Suite::Classic).unwrap();
    let ours = statement::sign(Kind::Permit, &key, "permits.example.org", "node-1", b"payload").unwrap();
    let theirs = CoseSign1::from_tagged_slice(&ours).unwrap();
    let verified =
        theirs.verify_signature(
            &[],
            |signature, message| {
                if key.public().verifies(message, signature) { Ok(()) } else { Err(()) }
            },
        );
    assert_eq!(verified, Ok(()));
    let header = &theirs.protected.header;
    assert_eq!(header.alg, Some(coset::RegisteredLabelWithPrivate::Assigned(Algorithm::ESP256)));
    assert_eq!(header.key_id, key.public().thumbprint());
    let rest = |label: i64| &header.rest.iter().find(|(found, _)| *found == Label::Int(label)).unwrap().1;
    assert_eq!((HeaderParameter::CwtClaims.to_i64(), HeaderParameter::ObjectContentType.to_i64()), (15, 16));
    let names = Cbor::Map(vec![(number(1), "permits.example.org".into()), (number(2), "node-1".into())]);
    assert_eq!(*rest(15), names);
    assert_eq!(rest(16).as_text(), Some("application/vnd.portcullis.permit+cwt"));

    let build = |typ: Cbor, kid: Vec<u8>| {
        let header = HeaderBuilder::new()
            .algorithm(Algorithm::ESP256)
            .key_id(kid)
            .value(15, names.clone())
            .value(16, typ)
            .build();
        let object = CoseSign1Builder::new().protected(header).payload(b"payload".to_vec());
        object.create_signature(&[], |message| key.sign(message).unwrap()).build().to_tagged_vec().unwrap()
    };
    let good = build("application/vnd.portcullis.permit+cwt".into(), key.public().thumbprint().to_vec());
    assert_eq!(statement::verify(&good, Kind::Permit, key.public()).unwrap().payload(), b"payload");
    let denial = build("application/vnd.portcullis.denial+cose".into(), key.public().thumbprint().to_vec());
    assert_eq!(
        statement::verify(&denial, Kind::Permit, key.public()).unwrap_err(),
        PermitError::Kind { required: Kind::Permit }
    );
    let other = build("application/vnd.portcullis.permit+cwt".into(), vec![0; 32]);
    assert_eq!(statement::verify(&other, Kind::Permit, key.public()).unwrap_err(), PermitError::Key);
}

/// A hash envelope (RFC 9995, §3): 258 is the hash, 259 the type of what was hashed,
/// 3 is absent, and the payload is the digest. What `coset` writes so is read.
#[test]
fn signatures_of_governors_are_hash_envelopes() {
    const TYPE: &str = "application/vnd.example.document+cbor";
    let key = SigningKey::generate(Suite::Classic).unwrap();
    let governance = Governance::new(1, vec![key.public().clone()]).unwrap();
    let mut quorum = Quorum::unsigned(b"document".to_vec());
    quorum.sign(TYPE, &key).unwrap();
    let parts = cbor(&quorum.encode());
    let signatures = parts.as_array().unwrap()[1].as_array().unwrap();
    let ours = CoseSign1::from_tagged_slice(signatures[0].as_bytes().unwrap()).unwrap();
    assert_eq!(ours.payload.as_deref(), Some(&sha256(&[b"document"])[..]));
    assert!(ours.protected.header.content_type.is_none() && ours.unprotected.is_empty());
    let typ = ours.protected.header.rest.iter().find(|(label, _)| *label == Label::Int(16)).unwrap().1.clone();
    let rest = |label: i64| ours.protected.header.rest.iter().find(|(found, _)| *found == Label::Int(label));
    // COSE algorithm -16: SHA-256 (RFC 9054, §3.2).
    assert_eq!(Algorithm::SHA_256.to_i64(), -16);
    assert_eq!(rest(258).unwrap().1, number(-16));
    assert_eq!(rest(259).unwrap().1.as_text(), Some(TYPE));

    let build = |hash: i64, kind: &str, content_type: bool, payload: &[u8]| {
        let header = HeaderBuilder::new()
            .algorithm(Algorithm::ESP256)
            .key_id(key.public().thumbprint().to_vec())
            .value(16, typ.clone())
            .value(258, number(hash))
            .value(259, kind.into());
        let header = if content_type { header.content_type(kind.into()) } else { header };
        let object = CoseSign1Builder::new().protected(header.build()).payload(payload.to_vec());
        let object = object.create_signature(&[], |message| key.sign(message).unwrap()).build();
        let quorum = Cbor::Array(vec![
            Cbor::Bytes(b"document".to_vec()),
            Cbor::Array(vec![Cbor::Bytes(object.to_tagged_vec().unwrap())]),
        ]);
        Quorum::decode(&encode(&quorum), 4096).unwrap().verify(TYPE, &governance).map(<[u8]>::to_vec)
    };
    let digest = sha256(&[b"document"]);
    assert_eq!(build(-16, TYPE, false, &digest), Ok(b"document".to_vec()));
    assert_eq!(build(-16, "text/plain", false, &digest), Err(GovernanceError::ContentType { required: TYPE }));
    for (hash, content_type, payload) in
        [(-18, false, &digest[..]), (-16, true, &digest[..]), (-16, false, b"document"), (-16, false, &digest[..16])]
    {
        assert!(build(hash, TYPE, content_type, payload).is_err(), "{hash} {content_type} {payload:02x?}");
    }
}

/// The token of the Token Status List draft (§5.2), whose key is `verification-key.jwk`
/// of its examples: form and signature are read here, and its kind is not ours, since
/// it names its type by media type, has one bit and claims in another order.
const TOKEN: &str = "d2845820a2012610781a6170706c69636174696f6e2f7374617475736c6973742b63
    7774a1044231325850a502782168747470733a2f2f6578616d706c652e636f6d2f73
    74617475736c697374732f31061a648c5bea041a8898dfea19fffe19a8c019fffda2
    646269747301636c73744a78dadbb918000217015d584093fa4d01032b18c35e2fe1
    101b77fd6cc9440022caa4694450c4e4e9feab4e99d1fa6d9772ce2bf3a12e0323de
    d7c982c5e101a5e67f0cbc1e2b6f57ce99c279";

#[test]
fn the_status_token_of_the_draft_verifies_and_has_our_claims() {
    let bytes = unhex(TOKEN);
    let object = Sign1::parse(&bytes, 1024).unwrap();
    let base64 = |text: &str| data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
    let (x, y) =
        (base64("I3HWm_0Ds1dPMI-IWmf4mBmH-YaeAVbPVu7vB27CxXo"), base64("6N_d5Elj9bs1htgV3okJKIdbHEpkgTmAluYKJemzn1M"));
    let key = map([(1, 2.into()), (3, (-9).into()), (-1, 1.into()), (-2, bstr(x)), (-3, bstr(y))]);
    let key = PublicKey::from_cose(&encode(&key)).unwrap();
    // ES256 (-7) with a P-256 key is what ESP256 (-9) says in one number (RFC 9864).
    assert!(object.algorithm() == -7 && key.suite().signs_as(-7));
    assert!(key.verifies(&object.to_be_signed(None), object.signature()));
    assert_eq!(object.protected(16).and_then(|typ| typ.as_text()), Some("application/statuslist+cwt"));
    let claims = cbor(object.payload().unwrap());
    let labels: Vec<i128> = claims.as_map().unwrap().iter().map(|(l, _)| l.as_integer().unwrap().into()).collect();
    let ours = [claims::SUB, claims::IAT, claims::EXP, claims::TTL, claims::STATUS_LIST];
    assert_eq!(labels, ours.map(i128::from));
    let refused =
        StatusList::verify(&bytes, &key, "https://example.com/statuslists/1", Clock { now: 1_700_000_000, skew: 0 });
    assert_eq!(refused.unwrap_err(), PermitError::Kind { required: Kind::StatusList });
}

/// A token of ours, read as the draft says (§8.3), by another decoder: the list of
/// two bits of §4.2, whose bytes are `c9 44 f9`, without the value that the draft
/// leaves to applications.
#[test]
fn our_status_token_is_read_as_the_draft_says() {
    const URI: &str = "https://example.com/statuslists/1";
    let key = SigningKey::generate(Suite::Classic).unwrap();
    let mut list = StatusList::new(URI, 12, 1_686_920_170, 1_686_963_370);
    // status[0] to status[11] of the draft's figure; 3 is not ours to give.
    let statuses = [1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3];
    for (index, status) in (0..).zip(statuses) {
        let status = match status {
            1 => Status::Invalid,
            2 => Status::Suspended,
            _ => Status::Valid,
        };
        list.set(index, status).unwrap();
    }
    let token = CoseSign1::from_tagged_slice(&list.sign(&key, "permits.example.org").unwrap()).unwrap();
    let typ = token.protected.header.rest.iter().find(|(label, _)| *label == Label::Int(16)).unwrap();
    // The content format of application/statuslist+cwt in IANA's registry.
    assert_eq!(typ.1, number(279));
    let claims = cbor(token.payload.as_deref().unwrap());
    assert_eq!(member(&claims, &number(2)).as_text(), Some(URI));
    assert_eq!(*member(&claims, &number(6)), number(1_686_920_170));
    assert_eq!(*member(&claims, &number(4)), number(1_686_963_370));
    assert_eq!(*member(&claims, &number(65_534)), number(43_200));
    let status_list = member(&claims, &number(65_533));
    assert_eq!(*member(status_list, &"bits".into()), number(2));
    let mut bytes = Vec::new();
    let packed = member(status_list, &"lst".into()).as_bytes().unwrap();
    ZlibDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
    let read = |bytes: &[u8], index: usize| bytes[index / 4] >> (index % 4 * 2) & 3;
    for (index, status) in statuses.into_iter().enumerate() {
        assert_eq!(read(&[0xc9, 0x44, 0xf9], index), status, "the figure itself");
        assert_eq!(read(&bytes, index), if status == 3 { 0 } else { status }, "{index}");
    }
}
