//! Templates of the primary keys: together with the TPM's seeds they determine the
//! keys.

use tss_esapi::attributes::{ObjectAttributes, ObjectAttributesBuilder};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::structures::{
    EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, Public, PublicBuilder, PublicEccParametersBuilder,
    SymmetricDefinitionObject,
};

/// ECDSA P-256, restricted, fixed to this TPM.
pub(super) fn attestation_key() -> tss_esapi::Result<Public> {
    let attributes = restricted().with_sign_encrypt(true).build()?;
    let parameters = PublicEccParametersBuilder::new()
        .with_ecc_scheme(EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)))
        .with_is_signing_key(true);
    p256(attributes, parameters)
}

/// The usual ECC storage key: it protects sealed objects, and salts sessions.
pub(super) fn storage_key() -> tss_esapi::Result<Public> {
    let attributes = restricted().with_decrypt(true).build()?;
    let parameters = PublicEccParametersBuilder::new()
        .with_ecc_scheme(EccScheme::Null)
        .with_symmetric(SymmetricDefinitionObject::AES_128_CFB)
        .with_is_decryption_key(true);
    p256(attributes, parameters)
}

fn restricted() -> ObjectAttributesBuilder {
    ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_restricted(true)
}

fn p256(attributes: ObjectAttributes, parameters: PublicEccParametersBuilder) -> tss_esapi::Result<Public> {
    let parameters = parameters
        .with_curve(EccCurve::NistP256)
        .with_restricted(true)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
}
