//! The cost of bare cryptography, measured in the same run as the product.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair, ParsedPublicKey, Signature,
};

const ROUNDS: usize = 21;
const EACH: u32 = 50;
/// Length of a request whose hash costs next to nothing, in bytes.
pub(super) const SMALL: usize = 145;

/// Number of different signatures of each kind. Repeating one signature is faster by 2
/// % (P-384) and 6 % (P-256) because of branch prediction, which does not happen in
/// service. The number is prime, so that a caller that takes every third meets all.
const DIFFERENT: usize = 1021;

/// Keys, decoded once as the authority does, and signatures under them.
pub(super) struct Bare {
    random: SystemRandom,
    p256: EcdsaKeyPair,
    report_key: ParsedPublicKey,
    quote_key: ParsedPublicKey,
    report: [u8; 0x2a0],
    quote: [u8; 145],
    request: Vec<u8>,
    signed: Vec<Signatures>,
    turn: AtomicUsize,
}

/// Over report, quote and request.
struct Signatures {
    report: Signature,
    quote: Signature,
    request: Signature,
}

impl Bare {
    /// With signed requests of this length.
    pub(super) fn new(request: usize) -> Result<Self> {
        let random = SystemRandom::new();
        let pair = |algorithm: &'static EcdsaSigningAlgorithm| EcdsaKeyPair::generate(algorithm);
        let (p384, p256) = (pair(&ECDSA_P384_SHA384_FIXED_SIGNING)?, pair(&ECDSA_P256_SHA256_FIXED_SIGNING)?);
        let (report, quote, request) = ([7; 0x2a0], [7; 145], vec![7; request]);
        let sign = || -> Result<Signatures> {
            Ok(Signatures {
                report: p384.sign(&random, &report)?,
                quote: p256.sign(&random, &quote)?,
                request: p256.sign(&random, &request)?,
            })
        };
        Ok(Self {
            signed: (0..DIFFERENT).map(|_| sign()).collect::<Result<_>>()?,
            turn: AtomicUsize::new(0),
            report_key: ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, p384.public_key().as_ref())?,
            quote_key: ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, p256.public_key().as_ref())?,
            random,
            p256,
            report,
            quote,
            request,
        })
    }

    /// The signatures that were used longest ago.
    fn next(&self) -> Result<&Signatures> {
        let at = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(DIFFERENT);
        at.and_then(|at| self.signed.get(at)).context("signatures")
    }

    /// The signature of a report.
    pub(super) fn verify_report(&self) -> Result<()> {
        Ok(self.report_key.verify_sig(&self.report, self.next()?.report.as_ref())?)
    }

    fn verify_quote(&self) -> Result<()> {
        Ok(self.quote_key.verify_sig(&self.quote, self.next()?.quote.as_ref())?)
    }

    fn verify_request(&self) -> Result<()> {
        Ok(self.quote_key.verify_sig(&self.request, self.next()?.request.as_ref())?)
    }

    /// All verifications of a decision: report, quote, request.
    pub(super) fn verify_decision(&self) -> Result<()> {
        self.verify_report()?;
        self.verify_quote()?;
        self.verify_request()
    }

    /// All verifications of a decision, and its signed statement.
    pub(super) fn verify_entry(&self) -> Result<()> {
        self.verify_decision()?;
        self.verify_quote()
    }

    /// All verifications of a decision, and the permit's signature.
    fn permit(&self) -> Result<()> {
        self.verify_decision()?;
        self.p256.sign(&self.random, &self.quote)?;
        Ok(())
    }
}

/// The fastest of several rounds, in µs: noise only makes a round slower.
pub(super) fn fastest(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for _ in 0..EACH {
            run()?;
        }
        rounds.push(started.elapsed().as_secs_f64() * 1e6 / f64::from(EACH));
    }
    rounds.into_iter().min_by(f64::total_cmp).context("rounds")
}

/// Cost of the cryptography of a permit, in µs.
pub(super) fn permit() -> Result<f64> {
    let bare = Bare::new(SMALL)?;
    fastest(|| bare.permit())
}
