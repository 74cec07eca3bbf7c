//! What governors command: revocations, bundles, endorsements. Each is in the
//! log before it takes effect.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use portcullis_firmware_policy::VerifiedBundle;
use portcullis_lineage::Blob;
use portcullis_permit::{Endorsement, EventKind, Kind, PolicyRecord, Revocation, RevocationTarget};
use portcullis_wire::Digest;
use portcullis_wire::hex::hex;

use super::{Authority, Failure, SignedEndorsement};
use crate::clock;
use crate::instance::Refused;

impl Authority {
    /// Puts a revocation into effect: logged first, then told.
    pub(crate) async fn revoke(&self, signed: &[u8]) -> Result<usize, Failure> {
        let refused = |check, why: String| Failure::Refused(Refused::new(check, why));
        let command = Revocation::verify(signed, &self.governance)
            .map_err(|error| refused("governance.signature", error.to_string()))?;
        if command.authority != self.origin() {
            return Err(refused(
                "governance.authority",
                format!("found {}, required {}", command.authority, self.origin()),
            ));
        }
        let now = clock::now();
        if now >= command.expires {
            return Err(refused("governance.expired", format!("found {}, required later than {now}", command.expires)));
        }
        let (sequence, last) = {
            let ledger = self.ledger();
            (ledger.revocations().sequence().saturating_add(1), ledger.revocations().last().copied())
        };
        if command.sequence != sequence {
            return Err(refused("governance.sequence", format!("found {}, required {sequence}", command.sequence)));
        }
        if command.predecessor != last {
            let name = |digest: Option<Digest>| digest.map_or_else(|| "none".to_owned(), |digest| hex(&digest));
            let (found, required) = (name(command.predecessor), name(last));
            return Err(refused("governance.predecessor", format!("found {found}, required {required}")));
        }
        let key = self.signer.key()?;
        let entry = self.sign(Kind::Revocation, "revocation", signed)?;
        self.append(entry, Vec::new(), None).await?;
        let hit = self.ledger().last_hit();
        self.events.send(EventKind::Status, &key, self.origin());
        tracing::info!(sequence = command.sequence, hit, "revocation in effect");
        if let RevocationTarget::Authority(successor) = command.target {
            let successor = successor.unwrap_or_else(|| "nobody".into());
            self.trip("authority.retired", &format!("{}; {successor} takes its place", command.reason)).await;
        }
        Ok(hit)
    }

    /// Activates the next bundle: it follows on the active one, this machine
    /// passes it, and the activation is logged.
    pub(crate) async fn activate_policy(&self, bytes: &[u8]) -> Result<u64, Failure> {
        let refused =
            |error: portcullis_firmware_policy::BundleError| Failure::Refused(Refused::new(error.check(), error));
        let bundle = Arc::new(VerifiedBundle::verify(bytes, &self.governance).map_err(refused)?);
        let now = clock::now();
        bundle.check_authority(self.origin()).map_err(refused)?;
        bundle.check_time(now).map_err(refused)?;
        bundle.check_succession(&self.bundle()).map_err(refused)?;
        self.attestor.self_check(Arc::clone(&bundle), self.origin().to_owned(), now).await.map_err(|error| {
            match error.downcast::<Refused>() {
                Ok(refused) => Failure::Refused(refused),
                Err(error) => Failure::Internal(error.to_string()),
            }
        })?;
        let key = self.signer.key()?;
        let version = bundle.policy().version;
        let payload = PolicyRecord { time: now, version, bundle: *bundle.digest() }.encode();
        let entry = self.sign(Kind::Policy, "policy", &payload)?;
        // On the disk before the log says that it is active.
        let internal = |error: std::io::Error| Failure::Internal(error.to_string());
        fs::write(self.config.state.join("active.pcb"), bytes).map_err(internal)?;
        if let Some(predecessor) = &bundle.policy().predecessor {
            let path = self.successor_path(predecessor);
            fs::create_dir_all(path.parent().unwrap_or(&self.config.state)).map_err(internal)?;
            fs::write(path, bytes).map_err(internal)?;
        }
        self.append(entry, vec![Blob::recurring(bytes.to_vec())], None).await?;
        *self.bundle.write().unwrap_or_else(PoisonError::into_inner) = bundle;
        self.events.send(EventKind::Policy, &key, self.origin());
        tracing::info!(version, "bundle active");
        Ok(version)
    }

    /// The bundle that followed on another one here, for nodes that missed it.
    pub(crate) fn successor(&self, predecessor: &Digest) -> Option<Vec<u8>> {
        fs::read(self.successor_path(predecessor)).ok()
    }

    fn successor_path(&self, predecessor: &Digest) -> PathBuf {
        self.config.state.join("bundles").join(format!("{}.pcb", hex(predecessor)))
    }

    /// Takes a newer endorsement of this instance.
    pub(crate) async fn activate_instance(&self, bytes: &[u8]) -> Result<(), Failure> {
        let refused = |check, why: String| Failure::Refused(Refused::new(check, why));
        let new = Endorsement::verify(bytes, &self.governance)
            .map_err(|error| refused("authority.endorsement", error.to_string()))?;
        let now = clock::now();
        let active = self.endorsement();
        let same =
            Endorsement { expires: new.expires, bundle_version: new.bundle_version, ..active.endorsement.clone() };
        if new != same || new.bundle_version > self.bundle().policy().version {
            return Err(refused("authority.endorsement", "not an endorsement of this instance".into()));
        }
        if now >= new.expires {
            return Err(refused(
                "authority.endorsement.expired",
                format!("found {}, required later than {now}", new.expires),
            ));
        }
        let entry = self.sign(Kind::Instance, "instance", bytes)?;
        fs::write(self.config.state.join("active.pce"), bytes).map_err(|error| Failure::Internal(error.to_string()))?;
        self.append(entry, Vec::new(), None).await?;
        let signed = SignedEndorsement { bytes: bytes.to_vec(), endorsement: new };
        *self.endorsement.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(signed);
        Ok(())
    }
}
