//! Keys at rest, encrypted under a key that only this machine with this image can
//! derive again.
//!
//! KEK = HKDF-SHA256(secret sealed in the TPM under PolicyPCR ‖ derived key of the
//! secure processor). The TCB version that the derived key mixes in is stored with the
//! blob, so a firmware upgrade does not lose the key. Neither half alone opens the
//! blob. If the KEK is lost, the keys are lost: that requires a new genesis, never a
//! silent restore.

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;
use portcullis_attest::binding::Role;
use portcullis_attest::bytes::Reader;
use portcullis_attester::{DerivedKeyRequest, Machine, SealedBlob};
use portcullis_firmware_policy::Policy;
use portcullis_permit::SigningKey;
use portcullis_sys::locked::Secret;
use portcullis_wire::{Fields, bstr, decode, encode, map};
use zeroize::Zeroizing;

const MAX_BLOB: usize = 64 * 1024;
const CONTEXT: &[u8] = b"portcullis/kek/1";

/// The keys of an authority.
pub(crate) struct Keys {
    pub(crate) permit: SigningKey,
    pub(crate) checkpoint_seed: Secret,
    pub(crate) receipt_seed: Secret,
}

impl Keys {
    /// Generates new keys inside this process.
    pub(crate) fn generate(suite: portcullis_permit::Suite) -> Result<Self> {
        Ok(Self {
            permit: SigningKey::generate(suite)?,
            checkpoint_seed: Secret::new(random()?.to_vec())?,
            receipt_seed: Secret::new(random()?.to_vec())?,
        })
    }

    /// Returns the permit key; the seeds of the other keys are overwritten.
    pub(crate) fn into_permit_key(self) -> SigningKey {
        self.permit
    }

    /// The log's keys under an origin.
    pub(crate) fn log_keys(&self, origin: &str) -> Result<portcullis_lineage::Keys> {
        let seed = |secret: &Secret| secret.expose().try_into().map(Zeroizing::new);
        let (checkpoint, receipt) = (seed(&self.checkpoint_seed)?, seed(&self.receipt_seed)?);
        Ok(portcullis_lineage::Keys::from_seeds(origin, &checkpoint, &receipt)?)
    }
}

fn random() -> Result<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    rand::fill(bytes.as_mut_slice()).map_err(|_| anyhow!("the system gives no randomness"))?;
    Ok(bytes)
}

/// Seals keys to the current state of the machine.
pub(crate) fn seal(keys: &Keys, machine: &mut Machine, policy: &Policy) -> Result<Vec<u8>> {
    let request = present_request(machine)?;
    let secret = random()?;
    let blob = machine
        .tpm()
        .context("sealing needs a TPM: an authority shows snp+tpm")?
        .seal(&secret, policy.selection(Role::Authority))?;
    let kek = kek(machine, &secret, &request)?;
    let mut nonce = [0; 12];
    rand::fill(&mut nonce).map_err(|_| anyhow!("the system gives no randomness"))?;
    let plain = encode(&map([
        (1, bstr(keys.permit.to_pkcs8()?.as_slice())),
        (2, bstr(keys.checkpoint_seed.expose())),
        (3, bstr(keys.receipt_seed.expose())),
    ]));
    let mut sealed = Zeroizing::new(plain).to_vec();
    kek.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(CONTEXT), &mut sealed)
        .map_err(|_| anyhow!("encryption of the keys failed"))?;
    Ok(encode(&map([
        (1, u64::from(request.guest_svn).into()),
        (2, request.tcb_version.into()),
        (3, bstr(blob.public)),
        (4, bstr(blob.private)),
        (5, bstr(nonce)),
        (6, bstr(sealed)),
    ])))
}

/// Opens the output of [`seal`], on the same machine under the same measurements.
pub(crate) fn unseal(sealed: &[u8], machine: &mut Machine, policy: &Policy) -> Result<Keys> {
    let mut fields = Fields::of(decode(sealed, MAX_BLOB)?)?;
    let request = DerivedKeyRequest { guest_svn: u32::try_from(fields.uint(1)?)?, tcb_version: fields.uint(2)? };
    let blob = SealedBlob { public: fields.bytes(3)?, private: fields.bytes(4)? };
    let nonce: [u8; 12] = fields.array(5)?;
    let mut cipher = Zeroizing::new(fields.bytes(6)?);
    fields.finish()?;
    let secret = machine
        .tpm()
        .context("unsealing needs a TPM: an authority shows snp+tpm")?
        .unseal(&blob, policy.selection(Role::Authority))
        .context("the TPM does not unseal: the machine booted something else than at genesis")?;
    let kek = kek(machine, &secret, &request)?;
    let plain = kek
        .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(CONTEXT), &mut cipher)
        .map_err(|_| anyhow!("the sealed keys are of another machine, image or policy"))?;
    let mut keys = Fields::of(decode(plain, MAX_BLOB)?)?;
    Ok(Keys {
        permit: SigningKey::from_pkcs8(&Zeroizing::new(keys.bytes(1)?))?,
        checkpoint_seed: Secret::new(keys.bytes(2)?)?,
        receipt_seed: Secret::new(keys.bytes(3)?)?,
    })
}

/// Current SVN and committed TCB of the machine, from a separate report.
fn present_request(machine: &mut Machine) -> Result<DerivedKeyRequest> {
    let snp = machine.snp().context("sealing needs a secure processor: no derived key, no authority")?;
    let report = snp.report(&[0; 64])?.report;
    let mut svn = Reader::new(report.get(4..).unwrap_or_default());
    let mut committed = Reader::new(report.get(0x1e0..).unwrap_or_default());
    Ok(DerivedKeyRequest { guest_svn: svn.u32_le()?, tcb_version: committed.u64_le()? })
}

fn kek(machine: &mut Machine, secret: &[u8; 32], request: &DerivedKeyRequest) -> Result<LessSafeKey> {
    let derived = machine
        .snp()
        .context("no derived key, no authority")?
        .derived_key(request)
        .context("the secure processor derives no key")?;
    let material = Zeroizing::new([secret.as_slice(), derived.as_slice()].concat());
    let mut kek = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA256, &[])
        .extract(&material)
        .expand(&[CONTEXT], HKDF_SHA256)
        .and_then(|okm| okm.fill(kek.as_mut_slice()))
        .map_err(|_| anyhow!("key derivation failed"))?;
    let key = UnboundKey::new(&AES_256_GCM, kek.as_slice()).map_err(|_| anyhow!("key derivation failed"))?;
    Ok(LessSafeKey::new(key))
}
