//! Commands of governors: revocations, bundles, endorsements. Each is in the log before
//! it takes effect.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use portcullis_firmware_policy::VerifiedBundle;
use portcullis_lineage::Blob;
use portcullis_permit::{Endorsement, EventKind, Kind, PolicyRecord, Revocation, RevocationTarget};
use portcullis_wire::Digest;
use portcullis_wire::hex::hex;
use portcullis_wire::rfc3339;

use super::{Authority, Failure, SignedEndorsement};
use crate::clock;
use crate::instance::{Refused, bundle_begins};
use crate::signer::Stopped;

/// Longest time for which a command waits until its bundle begins; the client waits for
/// the answer.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

impl Authority {
    /// Puts a revocation into effect, or lifts one. It is logged first and then announced.
    /// Returns a description of the effect.
    pub(crate) async fn revoke(&self, signed: &[u8]) -> Result<String, Failure> {
        let refused = |check, why: String| Failure::Refused(Refused::new(check, why));
        let command = Revocation::verify(signed, &self.governance)
            .map_err(|error| refused("governance.signature", error.to_string()))?;
        if command.authority != self.origin() {
            return Err(refused(
                "governance.authority",
                format!("found {}, required {}", command.authority, self.origin()),
            ));
        }
        let _turn = self.turn.lock().await;
        let now = clock::now();
        if now >= command.expires {
            let (found, now) = (rfc3339(command.expires), rfc3339(now));
            return Err(refused("governance.expired", format!("found {found}, required later than {now}")));
        }
        let revocations = Arc::clone(self.ledger().revocations());
        let (sequence, last) = (revocations.sequence().saturating_add(1), revocations.last().copied());
        if command.sequence != sequence {
            return Err(refused("governance.sequence", format!("found {}, required {sequence}", command.sequence)));
        }
        if command.predecessor != last {
            let name = |digest: Option<Digest>| digest.map_or_else(|| "none".to_owned(), |digest| hex(&digest));
            let (found, required) = (name(command.predecessor), name(last));
            return Err(refused("governance.predecessor", format!("found {found}, required {required}")));
        }
        if !revocations.can_apply(&command.target) {
            let why = format!("found {}, which is not revoked, required one that is", command.target);
            return Err(refused("governance.lift", why));
        }
        let key = self.signer.key()?;
        let entry = self.sign(Kind::Revocation, "revocation", signed)?;
        self.append(entry, Vec::new(), None).await?;
        let hit = self.ledger().last_hit(now);
        self.events.send(EventKind::Status, &key, self.origin());
        tracing::info!(sequence = command.sequence, target = %command.target, hit, "command of governors in effect");
        let done = if command.target.is_lifted() {
            format!("{} gets permits again; permits that were revoked stay revoked", command.target)
        } else {
            format!("{} revoked; permits that had not ended: {hit}", command.target)
        };
        if let RevocationTarget::Authority(successor) = command.target {
            let successor = successor.unwrap_or_else(|| "nobody".into());
            self.trip("authority.retired", &format!("{}; {successor} takes its place", command.reason)).await;
        }
        Ok(done)
    }

    /// Activates the next bundle, if it succeeds the active one and this machine passes it.
    /// The activation is logged.
    pub(crate) async fn activate_policy(&self, bytes: &[u8]) -> Result<u64, Failure> {
        let refused =
            |error: portcullis_firmware_policy::BundleError| Failure::Refused(Refused::new(error.check(), error));
        let _turn = self.turn.lock().await;
        let bundle = Arc::new(VerifiedBundle::verify(bytes, &self.governance).map_err(refused)?);
        bundle.check_authority(self.origin()).map_err(refused)?;
        let now = bundle_begins(&bundle, LONGEST_WAIT).await.map_err(refused)?;
        bundle.check_succession(&self.bundle()).map_err(refused)?;
        self.attestor.self_check(Arc::clone(&bundle), self.origin().to_owned(), now).await.map_err(|error| {
            match error.downcast::<Refused>() {
                Ok(refused) => Failure::Refused(refused),
                Err(error) => Stopped::for_now("watch.device", format!("{error:#}")).into(),
            }
        })?;
        let key = self.signer.key()?;
        let version = bundle.policy().version;
        let payload = PolicyRecord { time: now, version, bundle: *bundle.digest() }.encode();
        let entry = self.sign(Kind::Policy, "policy", &payload)?;
        // The bundle is on the disk before the log records that it is active.
        let kept = self.folders.kept(&self.governance).keep_bundle(&bundle);
        kept.map_err(|error| Failure::Internal(error.to_string()))?;
        self.append(entry, vec![Blob::recurring(bytes.to_vec())], None).await?;
        *self.bundle.write().unwrap_or_else(PoisonError::into_inner) = bundle;
        self.events.send(EventKind::Policy, &key, self.origin());
        tracing::info!(version, "bundle active");
        // The bundle may demand witnesses that have not cosigned yet.
        if let Err(failure) = self.ask_witnesses().await {
            tracing::error!(?failure, "the witnesses of the new bundle were not asked");
        }
        Ok(version)
    }

    /// The direct successor of a bundle, for nodes that missed it.
    pub(crate) fn successor(&self, predecessor: &Digest) -> Result<Option<Vec<u8>>, Failure> {
        let found = self.folders.kept(&self.governance).successor(predecessor);
        found.map_err(|error| Failure::Internal(format!("{error:#}")))
    }

    /// Takes a newer endorsement of this instance.
    pub(crate) async fn activate_instance(&self, bytes: &[u8]) -> Result<(), Failure> {
        let refused = |check, why: String| Failure::Refused(Refused::new(check, why));
        let new = Endorsement::verify(bytes, &self.governance)
            .map_err(|error| refused("authority.endorsement", error.to_string()))?;
        let _turn = self.turn.lock().await;
        let now = clock::now();
        let active = self.endorsement();
        let same =
            Endorsement { expires: new.expires, bundle_version: new.bundle_version, ..active.endorsement.clone() };
        if new != same || new.bundle_version > self.bundle().policy().version {
            return Err(refused("authority.endorsement", "not an endorsement of this instance".into()));
        }
        if now >= new.expires {
            let (found, now) = (rfc3339(new.expires), rfc3339(now));
            let why = format!("found {found}, required later than {now}");
            return Err(refused("authority.endorsement.expired", why));
        }
        let entry = self.sign(Kind::Instance, "instance", bytes)?;
        let kept = self.folders.kept(&self.governance).keep_endorsement(bytes);
        kept.map_err(|error| Failure::Internal(error.to_string()))?;
        self.append(entry, Vec::new(), None).await?;
        let signed = SignedEndorsement { bytes: bytes.to_vec(), endorsement: new };
        *self.endorsement.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(signed);
        Ok(())
    }
}
