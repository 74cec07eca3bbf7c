#![cfg(test)]
//! Public keys in `SubjectPublicKeyInfo`: the curve is the one that is named.

use portcullis_attest::tpm::key::KeyMaterial;

/// prime256v1, 1.2.840.10045.3.1.7 (RFC 5480, §2.1.1.1).
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// A point of another curve has 65 bytes, too: brainpoolP256r1, secp256k1. Such a
/// key was taken for one on P-256, and nothing that it signed verified.
#[test]
fn a_point_of_another_curve_is_no_key() {
    let mut spki = KeyMaterial::P256([&[4][..], &[7; 64]].concat()).to_spki().unwrap();
    assert_eq!(KeyMaterial::from_spki(&spki), Ok(KeyMaterial::P256([&[4][..], &[7; 64]].concat())));
    let at = spki.windows(P256.len()).position(|window| window == P256).unwrap();
    // prime239v1, and prime192v1: as long as the name of P-256.
    for curve in [4, 1] {
        spki[at + P256.len() - 1] = curve;
        assert!(KeyMaterial::from_spki(&spki).is_err(), "1.2.840.10045.3.1.{curve}");
    }
}
