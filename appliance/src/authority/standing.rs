//! Whether the authority signs, and whether gates would accept what it issues.

use portcullis_wire::rfc3339;

use super::Authority;
use crate::clock;
use crate::signer::Stopped;

impl Authority {
    /// Why the authority signs nothing and answers no request; `None` if it does. It may
    /// have tripped, be in doubt, not be the only running start, or no longer be endorsed.
    pub(crate) fn silent(&self, now: u64) -> Option<Stopped> {
        self.signer.key().err().or_else(|| self.fenced()).or_else(|| self.unendorsed(now))
    }

    /// Why no permit is issued: [`Self::silent`], or a quorum of witnesses that gates would
    /// refuse. Nodes get this reason instead of a permit that their gate would refuse.
    pub(crate) fn withheld(&self, now: u64) -> Option<Stopped> {
        self.silent(now).or_else(|| self.unwitnessed().map(|why| Stopped::for_now("witness.lag", why)))
    }

    /// If the TPM's counter was not read in time, another start may have taken over.
    pub(super) fn fenced(&self) -> Option<Stopped> {
        let why = "the TPM's counter was not read in time: another start of this authority may run";
        (!self.fence.holds()).then(|| Stopped::for_now("anchor.lease", why))
    }

    fn unendorsed(&self, now: u64) -> Option<Stopped> {
        let expires = self.endorsement().endorsement.expires;
        let why = || format!("found an endorsement until {}, required later than {}", rfc3339(expires), rfc3339(now));
        (now >= expires).then(|| Stopped::for_now("authority.endorsement.expired", why()))
    }

    /// Why gates would refuse the newest cosignatures, if the bundle demands witnesses.
    pub(crate) fn unwitnessed(&self) -> Option<String> {
        let bundle = self.bundle();
        let witnesses = bundle.policy().witnesses.as_ref()?;
        self.vouched.lag(&witnesses.quorum, clock::boot_time())
    }
}
