//! Requests in a file, as an authority archives them. The bytes to be signed follow
//! from that file alone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result};
use fastrand::Rng;
use portcullis_attest::crypto::sha256;
use portcullis_firmware_policy::{Decision, RecordedFacts, Revocations, VerifiedBundle, decide};
use portcullis_permit::{Governance, ReceivedRequest};
use portcullis_wire::{Value, bstr, decode, encode};

use crate::{Stage, generate};

const MAX_LENGTH: usize = 256 << 20;
const UNDER_ONE_BUNDLE: usize = 25;

/// Records this many requests. The file contains no revocations, so nothing is revoked.
///
/// # Errors
/// Cryptography.
pub fn record(stage: &mut Stage, seed: u64, cases: usize) -> Result<Vec<u8>> {
    let mut rng = Rng::with_seed(seed);
    let (mut bundles, mut asks) = (Vec::new(), Vec::new());
    while asks.len() < cases {
        let staged = stage.stage(generate::bundle(&mut rng))?;
        let number = bundles.len() as u64;
        bundles.push(bstr(staged.real.bytes()));
        for _ in 0..UNDER_ONE_BUNDLE {
            let mut told = generate::told(&mut rng, &staged.told);
            told.revoked = [false; 2];
            told.lifted = [false; 2];
            if let Some(Some(parent)) = &mut told.parent {
                parent.revoked = false;
            }
            let archived = stage.ask(&staged, &told)?.archived();
            asks.push(Value::Array(std::iter::once(number.into()).chain(archived.map(bstr)).collect()));
        }
    }
    Ok(encode(&Value::Array(vec![bstr(stage.governance().encode()), Value::Array(bundles), Value::Array(asks)])))
}

/// Decides everything in a file, with this many threads; returns the SHA-256
/// over the bytes to be signed, in the order of the file.
///
/// # Errors
/// The file is none, or something in it does not verify.
pub fn replay(file: &[u8], threads: usize) -> Result<[u8; 32]> {
    let parts = decode(file, MAX_LENGTH)?.into_array().ok().and_then(|p| <[Value; 3]>::try_from(p).ok());
    let Some([Value::Bytes(governance), Value::Array(bundles), Value::Array(asks)]) = parts else {
        anyhow::bail!("no record of requests");
    };
    let governance = Governance::decode(&governance)?;
    let bundle = |value: &Value| Ok(VerifiedBundle::verify(value.as_bytes().context("a bundle")?, &governance)?);
    let bundles: Vec<VerifiedBundle> = bundles.iter().map(bundle).collect::<Result<_>>()?;
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, [u8; 32])>> {
        let mut decided = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(ask) = asks.get(at) else { return Ok(decided) };
            decided.push((at, decide_one(ask, &bundles)?));
        }
    };
    let mut all = thread::scope(|scope| -> Result<Vec<(usize, [u8; 32])>> {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|w| w.join().map_err(|_| anyhow::anyhow!("a worker stopped"))?);
        Ok(joined.collect::<Result<Vec<_>>>()?.concat())
    })?;
    all.sort_unstable();
    let digests: Vec<&[u8]> = all.iter().map(|(_, digest)| digest.as_slice()).collect();
    Ok(sha256(&digests))
}

fn decide_one(ask: &Value, bundles: &[VerifiedBundle]) -> Result<[u8; 32]> {
    let parts: &[Value; 5] = ask.as_array().and_then(|a| a.as_slice().try_into().ok()).context("a request")?;
    let [
        Value::Integer(number),
        Value::Bytes(envelope),
        Value::Bytes(request),
        Value::Bytes(evidence),
        Value::Bytes(facts),
    ] = parts
    else {
        anyhow::bail!("no request");
    };
    let bundle = bundles.get(usize::try_from(*number)?).context("a bundle")?;
    let received = ReceivedRequest::rejoin(envelope, request, evidence)?;
    let (recorded, revocations) = (RecordedFacts::decode(facts)?, Revocations::default());
    let facts = recorded.with(&revocations).context("revocations")?;
    Ok(match decide(&received, &facts, bundle) {
        Decision::Authorized { permit, result } => sha256(&[&permit.encode(), result.bytes()]),
        Decision::Denied(denial) => sha256(&[&denial.encode()]),
    })
}
