#![cfg(test)]
//! No folder of the vectors that this crate answers for is without a test: a new
//! one fails here until somebody writes what must happen to it.

/// Part and folders; what shows the outcome is the test file beside each part.
const COVERED: [(&str, &[&str]); 8] = [
    // snp_vectors.rs, attested_statements.rs
    (
        "snp",
        &[
            "amd-crl",
            "amd-roots",
            "attested-cose-css",
            "genoa-v3-ms-aci",
            "genoa-v5-baremetal",
            "milan-v2-gsg",
            "milan-v2-trustee",
            "milan-v3-dstack",
            "milan-v3-ms-aci",
            "milan-v3-oak-staging",
            "milan-v3-vlek-aws",
            "neg-malformed-lit",
            "turin-v5-ms-aci",
            "turin-vcek-virtee",
        ],
    ),
    // azure_vectors.rs, envelopes.rs, certificate_vectors.rs
    ("azure-vtpm", &["kinvolk", "neg-tdx", "openpcc-akcert", "trustee-raw", "trustee-v0-v1"]),
    // tpm_vectors.rs, certificate_vectors.rs
    (
        "tpm-quote",
        &[
            "gce-ak-certs",
            "gce-cos-85-nonce9009",
            "haruhi-failed-1-NEG",
            "haruhi-good-1",
            "keylime-quote-encoding",
            "trustee-tpm",
            "windows-dell-5-logs",
            "windows-gcp-shielded",
            "windows-supermicro-wbcl",
            "x1carbon-before",
        ],
    ),
    // tpm_vectors.rs, claims.rs
    ("eventlog", &["go-attestation", "go-tpm-tools", "guard-oss", "keylime", "neg-ccel", "openpcc", "tpm2-tools"]),
    // ima_vectors.rs
    ("ima", &["h12ssl", "keylime-ascii"]),
    // uki_vectors.rs
    ("uki-pcr11", &["systemd-measure"]),
    // wycheproof.rs
    ("crypto", &["wycheproof"]),
    // firmware-policy/tool/tests/measure.rs
    ("measure", &["ec2-metadata", "sev-snp-measure"]),
];

#[test]
fn no_folder_is_without_a_test() {
    for (part, covered) in COVERED {
        let Some(root) = portcullis_vectors::vectors(part) else { return };
        let entries = std::fs::read_dir(root).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir());
        let mut found: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        found.sort();
        assert_eq!(found, covered, "{part}");
    }
}
