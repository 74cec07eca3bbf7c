//! `portcullisd serve`: starts the authority, or refuses with the check that failed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use portcullis_attest::binding::Role;
use portcullis_attester::OpenMachine;
use portcullis_firmware_policy::{BundleError, VerifiedBundle};
use portcullis_lineage::{FileStorage, Log, Storage, Writer};
use portcullis_permit::{Endorsement, MAX_SKEW};
use portcullis_wire::hex::hex;
use portcullis_wire::rfc3339;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch as flag;

use crate::anchor::Anchoring;
use crate::attestor::Attestor;
use crate::authority::Authority;
use crate::clock;
use crate::config::Config;
use crate::instance::{Refused, bundle_begins, log_folder, read, sealed_keys, trust};
use crate::kept::Folders;
use crate::recover::Source;
use crate::retention;
use crate::sealing::{self, Keys};
use crate::selfcheck::{self, Own};
use crate::serve::{listen_nodes, listen_public};
use crate::threads::Threads;
use crate::watch;

/// Function that opens the storage of a log.
pub type OpenStorage = dyn Fn(&std::path::Path) -> std::io::Result<Arc<dyn Storage>> + Send + Sync;

/// Storage in files, as all shipped binaries use it.
///
/// # Errors
/// I/O errors.
pub fn file_storage(folder: &std::path::Path) -> std::io::Result<Arc<dyn Storage>> {
    Ok(Arc::new(FileStorage::open(folder)?))
}

/// Runs the authority until a signal stops it.
pub(crate) async fn serve(config: Config, platform: &dyn OpenMachine, storage: &OpenStorage) -> Result<()> {
    // 1. Governors and bundle, and whether the bundle is still valid.
    let (governance, configured) = trust(&config)?;
    let folders = Folders::of(&config);
    let bundle = folders.kept(&governance).newest_bundle(configured)?;
    let refused = |error: BundleError| Refused::new(error.check(), error);
    bundle.check_authority(&config.origin).map_err(refused)?;
    let at = bundle_begins(&bundle, Duration::from_secs(MAX_SKEW)).await.map_err(refused)?;

    // 2. This machine, checked by the same code and bundle as any other.
    let mut machine = platform.open()?;
    let own = selfcheck::appraise_own(&mut machine, &config.origin, &bundle, at)?;

    // 3. Keys, which can be unsealed only on this machine in this state.
    let sealed = read("sealed keys (run portcullisd init first)", &sealed_keys(&config))?;
    let keys = sealing::unseal(&sealed, &mut machine, bundle.policy())
        .with_context(|| format!("sealed keys {}", sealed_keys(&config).display()))?;

    // 4. The governors' endorsement of exactly these keys on this machine.
    let endorsement = folders.kept(&governance).endorsement(&config.endorsement)?;
    check_endorsement(&endorsement.endorsement, &keys, &own, &config, &bundle, at)?;

    // 5. The log, recovered by the normal path; the state follows from it.
    let folder = log_folder(&config);
    let storage = storage(&folder).with_context(|| format!("log {}", folder.display()))?;
    let opened = Log::open(Arc::clone(&storage), keys.log_keys(&config.origin)?);
    let (mut log, publisher) = opened.map_err(|error| Refused::new(error.check(), error))?;
    // The TPM shows whether this state is the newest, and records that a new start runs.
    let head = log.head().context("the log has no genesis (run portcullisd init first)")?;
    let tpm = machine.tpm().context("a TPM")?;
    let selection = bundle.policy().selection(Role::Authority);
    let anchoring = Anchoring::begin(tpm, selection, keys.checkpoint_seed.expose(), &head, &log.view())?;
    // The log's signers hold their keys now, so the seeds are overwritten.
    let permit_key = keys.into_permit_key();
    let source = Source {
        storage: Arc::clone(&storage),
        checkpoint_key: log.keys().checkpoint_key(),
        permit_key: permit_key.public(),
        head: &head,
    };
    let ledger = source.ledger()?;
    if let Some(retired) = ledger.revocations().retired() {
        let successor = retired.successor.as_deref().unwrap_or("nobody");
        return Err(Refused::new("authority.retired", format!("{successor} takes its place, as logged")).into());
    }
    watch::check_clock(at, ledger.newest(), bundle.policy().clock_skew)?;
    clock::continue_from(ledger.newest());
    if bundle.policy().version < ledger.bundle_version() {
        let why = format!("found version {}, required {} as logged", bundle.policy().version, ledger.bundle_version());
        return Err(Refused::new("bundle.succession", why).into());
    }
    tracing::info!(
        origin = config.origin,
        log_size = head.size(),
        bundle = bundle.policy().version,
        "self-attestation passed"
    );

    // 6. Serve, and keep watching the own state.
    let pcrs = machine.tpm().context("a TPM")?.read_pcrs(bundle.policy().selection(Role::Authority))?;
    let mut signals = Signals::new()?;
    let ledger = Arc::new(Mutex::new(ledger));
    let follower = Arc::clone(&ledger);
    log.observe(move |_, entry| follower.lock().unwrap_or_else(PoisonError::into_inner).apply(entry));
    let pruner = log.pruner();
    let (writer, log_thread) = Writer::start(log, publisher)?;
    let (attestor, attestor_thread) = Attestor::start(machine, anchoring)?;
    let threads = Threads::new((&writer, log_thread), (&attestor, attestor_thread));
    let nodes = TcpListener::bind(config.listen.nodes).await.with_context(|| config.listen.nodes.to_string())?;
    let public = TcpListener::bind(config.listen.public).await.with_context(|| config.listen.public.to_string())?;
    let authority = Authority::new(
        config,
        governance,
        permit_key,
        attestor,
        writer,
        endorsement,
        bundle,
        ledger,
        Arc::clone(&storage),
    );
    let authority = Arc::new(authority);
    let anchor = tokio::spawn(watch::anchor(Arc::clone(&authority)));
    // Witnesses first: a log that was rolled back must get no further entry.
    tokio::select! {
        quorum = watch::first_quorum(&authority) => quorum?,
        () = signals.wait() => return threads.end(),
    }
    authority.log_boot(own.result.bytes(), own.evidence).await?;

    let (stop, stopped) = flag::channel(false);
    let watcher = tokio::spawn(watch::watch(Arc::clone(&authority), pcrs));
    let heart = tokio::spawn(watch::heartbeat(Arc::clone(&authority)));
    let retaining = tokio::spawn(retention::retain(Arc::clone(&authority), pruner, storage));
    let witnessing = tokio::spawn(watch::stay_witnessed(Arc::clone(&authority)));
    let keeper = tokio::spawn(watch::keep(Arc::clone(&authority)));
    tracing::info!(nodes = %nodes.local_addr()?, public = %public.local_addr()?, "serving");
    let public = tokio::spawn(listen_public(Arc::clone(&authority), public, stopped.clone()));
    let nodes = tokio::spawn(listen_nodes(Arc::clone(&authority), nodes, stopped));
    signals.wait().await;
    tracing::info!("stopping");
    authority.events.close();
    stop.send(true)?;
    nodes.await??;
    public.await??;
    watcher.abort();
    heart.abort();
    keeper.abort();
    witnessing.abort();
    retaining.abort();
    // Log the last counts before the process ends, so that they are not lost.
    if let Err(failure) = authority.log_denial_counts().await {
        tracing::error!(?failure, "denials of strangers were not counted");
    }
    anchor.abort();
    if authority.signer.tripped().is_none()
        && let Err(error) = authority.anchor(true).await
    {
        tracing::error!(error, "the last head is not anchored");
    }
    threads.end()?;
    tracing::info!("stopped");
    Ok(())
}

/// SIGTERM and SIGINT, caught before the first connection is accepted.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// Checks that the endorsement names these keys, this chip and image, and is valid.
fn check_endorsement(
    endorsement: &Endorsement,
    keys: &Keys,
    own: &Own,
    config: &Config,
    bundle: &VerifiedBundle,
    at: u64,
) -> Result<(), Refused> {
    let log_keys = keys.log_keys(&config.origin).map_err(|error| Refused::new("authority.endorsement", error))?;
    let same = |check, found: String, required: String| {
        if found == required {
            Ok(())
        } else {
            Err(Refused::new(check, format!("found {found}, required {required} as endorsed")))
        }
    };
    let id = "authority.endorsement";
    same(id, log_keys.checkpoint_key().to_string(), endorsement.checkpoint_key.to_string())?;
    same(id, hex(log_keys.receipt_key().public()), hex(endorsement.receipt_key.public()))?;
    same(id, hex(keys.permit.public().thumbprint()), hex(endorsement.permit_key.thumbprint()))?;
    same("authority.chip_id", hex(&own.chip_id), hex(&endorsement.chip_id))?;
    same("authority.measurement", hex(&own.measurement), hex(&endorsement.measurement))?;
    if at >= endorsement.expires {
        let why = format!("found {}, required later than {}", rfc3339(endorsement.expires), rfc3339(at));
        return Err(Refused::new("authority.endorsement.expired", why));
    }
    let version = bundle.policy().version;
    if version < endorsement.bundle_version {
        let why = format!("found {version}, required at least {}", endorsement.bundle_version);
        return Err(Refused::new("authority.bundle.version", why));
    }
    Ok(())
}
