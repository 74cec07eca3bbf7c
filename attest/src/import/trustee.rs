//! JSON of Trustee (Confidential Containers) and its relatives: `snp` and
//! `az-snp-vtpm` evidence, with bytes as base64, hex or arrays of numbers.

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD};
use portcullis_wire::hex::unhex;
use serde_json::Value;

use super::report::encode_report;
use super::{ArchivedQuote, ImportError, Imported};
use crate::evidence::SnpEvidence;
use crate::tpm::pcr::{Bank, PcrValues};

pub(super) fn parse(json: &Value) -> Result<Imported, ImportError> {
    // attestation-rs wraps the evidence with the name of its platform.
    let evidence = json.get("evidence").filter(|_| json.get("platform").is_some()).unwrap_or(json);
    if let Some(report) = evidence.get("attestation_report") {
        return snp(report, evidence.get("cert_chain"));
    }
    let hcl = evidence.get("hcl_report").or_else(|| evidence.get("report"));
    let quote = evidence.get("tpm_quote").or_else(|| evidence.get("quote"));
    match (hcl, quote) {
        (Some(hcl), Some(quote)) => azure(hcl, quote, evidence.get("vcek")),
        _ => Err(ImportError::Unknown),
    }
}

fn snp(report: &Value, chain: Option<&Value>) -> Result<Imported, ImportError> {
    let report = match report {
        // The crate's structure, as JSON: converted back into the signed bytes.
        Value::Object(fields) => encode_report(fields).ok_or(ImportError::Part("attestation report"))?,
        other => bytes_of(other).ok_or(ImportError::Part("attestation report"))?,
    };
    let certificates = chain.map(certificates).transpose()?.unwrap_or_default();
    Ok(Imported::Snp { snp: SnpEvidence { report, certificates: Vec::new() }, certificates })
}

/// A list of entries with `data`, or an object of named certificates.
fn certificates(chain: &Value) -> Result<Vec<Vec<u8>>, ImportError> {
    let refused = ImportError::Part("certificate chain");
    match chain {
        Value::Null => Ok(Vec::new()),
        Value::Array(entries) => {
            entries.iter().map(|entry| entry.get("data").and_then(bytes_of).ok_or_else(|| refused.clone())).collect()
        }
        Value::Object(named) => {
            let given = named.values().filter(|value| !value.is_null());
            given.map(|value| bytes_of(value).ok_or_else(|| refused.clone())).collect()
        }
        _ => Err(refused),
    }
}

fn azure(hcl: &Value, quote: &Value, vcek: Option<&Value>) -> Result<Imported, ImportError> {
    let hcl = bytes_of(hcl).ok_or(ImportError::Part("HCL report"))?;
    let part = |name: &str| quote.get(name).and_then(bytes_of).ok_or(ImportError::Part("quote"));
    let signature = rsassa(&part("signature")?).ok_or(ImportError::Part("quote"))?;
    let mut pcrs = PcrValues::default();
    let list = quote.get("pcrs").and_then(Value::as_array).ok_or(ImportError::Part("PCR values"))?;
    for (number, value) in list.iter().enumerate() {
        let number = u8::try_from(number).map_err(|_| ImportError::Part("PCR values"))?;
        let value = bytes_of(value).ok_or(ImportError::Part("PCR values"))?;
        if !pcrs.insert(Bank::Sha256, number, value) {
            return Err(ImportError::Part("PCR values"));
        }
    }
    let certificates = match vcek {
        None | Some(Value::Null) => Vec::new(),
        Some(value) => vec![bytes_of(value).ok_or(ImportError::Part("VCEK"))?],
    };
    let quote = Box::new(ArchivedQuote { attest: part("message")?, signature, pcrs });
    Ok(Imported::Azure { hcl, quote, certificates })
}

/// Azure's vTPM signs with RSASSA and SHA-256, and the archive stores the bare
/// signature. A signature of another scheme does not verify.
fn rsassa(signature: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(signature.len()).ok()?;
    Some([&[0x00, 0x14, 0x00, 0x0b][..], &length.to_be_bytes(), signature].concat())
}

/// PEM, hex, base64 in any of its forms, or an array of numbers below 256.
pub(super) fn bytes_of(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Array(numbers) => {
            numbers.iter().map(|number| number.as_u64().and_then(|n| u8::try_from(n).ok())).collect()
        }
        Value::String(text) if text.contains("-----BEGIN ") => Some(text.as_bytes().to_vec()),
        Value::String(text) => {
            let text = text.trim();
            let hex = || unhex(&text.to_lowercase());
            let base64 = || {
                [BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD]
                    .iter()
                    .find_map(|encoding| encoding.decode(text.as_bytes()).ok())
            };
            hex().or_else(base64)
        }
        _ => None,
    }
}
