//! Credentials for nodes that are enrolled by their endorsement key.

use aws_lc_rs::rand;
use portcullis_attest::tpm::credential::{Credential, EndorsementKey};
use portcullis_attest::tpm::key::AttestationKey;
use portcullis_firmware_policy::Activation;
use zeroize::Zeroizing;

/// A credential, and the fact that its secret will prove.
pub(crate) struct Issued {
    pub(crate) credential: Credential,
    pub(crate) activation: Activation,
    pub(crate) secret: Zeroizing<[u8; 32]>,
}

/// Makes a credential for two public areas, for any node. The decision, which is
/// logged, checks whether the endorsement key is enrolled.
pub(crate) fn issue(ek: &[u8], ak: &[u8]) -> Result<Issued, &'static str> {
    let ek = EndorsementKey::from_area(ek).map_err(|_| "no endorsement key that is understood")?;
    let ak = AttestationKey::from_area(ak).map_err(|_| "no attestation key that is understood")?;
    let ak_name = ak.name().ok_or("no attestation key that is understood")?.to_vec();
    let digest = ek.digest().ok_or("no endorsement key that is understood")?;
    let mut secret = Zeroizing::new([0; 32]);
    rand::fill(secret.as_mut()).map_err(|_| "no randomness")?;
    let credential = Credential::make(&ek, &ak_name, &secret).map_err(|_| "an endorsement key that cannot encrypt")?;
    Ok(Issued { credential, activation: Activation { ek: digest, ak_name }, secret })
}
