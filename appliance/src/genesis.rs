//! Genesis: generates keys inside the appliance, seals them, and writes the first log
//! entry.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use portcullis_attest::binding::Role;
use portcullis_attester::OpenMachine;
use portcullis_files::{PRIVATE, create_durably, make_folder, write_durably};
use portcullis_lineage::{Blob, FileStorage, Log, NewEntry};
use portcullis_permit::{Endorsement, GenesisRecord, Kind, Quorum, statement};
use portcullis_wire::hex::hex;
use portcullis_wire::sha256;

use crate::anchor::Anchoring;
use crate::clock;
use crate::config::Config;
use crate::instance::{Refused, log_folder, sealed_keys, trust};
use crate::sealing::{self, Keys};
use crate::selfcheck;
use crate::succession;

/// The output of genesis, for the governors.
pub(crate) struct Genesis {
    pub(crate) endorsement: Endorsement,
    pub(crate) request: PathBuf,
}

/// Days of validity that the request for endorsement asks for.
const ENDORSEMENT_DAYS: u64 = 365;

/// Generates and seals the keys of a new authority, and writes genesis and the document
/// that governors endorse.
pub(crate) fn run(config: &Config, old: &succession::Named, platform: &dyn OpenMachine) -> Result<Genesis> {
    if sealed_keys(config).exists() {
        bail!("{} exists: this authority has had its genesis", sealed_keys(config).display());
    }
    let (governance, bundle) = trust(config)?;
    let at = clock::now();
    let usable = bundle.check_authority(&config.origin).and_then(|()| bundle.check_time(at));
    usable.map_err(|error| Refused::new(error.check(), error))?;
    let old = succession::of(old, &config.origin, &governance, &bundle, at)?;
    let mut machine = platform.open()?;
    let own = selfcheck::appraise_own(&mut machine, &config.origin, &bundle, at)?;
    // Refuse if this machine already has an authority, so that a mistake does not replace
    // its anchor.
    if old.is_none() && machine.tpm().context("a TPM")?.read_anchor()?.is_some() {
        return Err(Refused::new("anchor.present", "the TPM holds the anchor of an authority").into());
    }

    let keys = Keys::generate(config.suite())?;
    let log_keys = keys.log_keys(&config.origin)?;
    let endorsement = Endorsement {
        checkpoint_key: log_keys.checkpoint_key().clone(),
        permit_key: keys.permit.public().clone(),
        receipt_key: log_keys.receipt_key(),
        chip_id: own.chip_id,
        measurement: own.measurement,
        bundle_version: bundle.policy().version,
        expires: at.saturating_add(ENDORSEMENT_DAYS.saturating_mul(86_400)),
        predecessor: old.as_ref().map(|old| old.predecessor.clone()),
    };
    let document = endorsement.encode();
    let record = GenesisRecord {
        time: at,
        endorsement: document.clone(),
        governance: governance.root(),
        bundle: *bundle.digest(),
        result: own.result.digest(),
        evidence: sha256(&[&own.evidence]),
    };
    let genesis = statement::sign(Kind::Genesis, &keys.permit, &config.origin, "genesis", &record.encode())?;

    make_folder(&config.state)?;
    let storage = FileStorage::open(&log_folder(config))?;
    let (mut log, mut publisher) = Log::open(Arc::new(storage), log_keys)?;
    if log.head().is_some() {
        bail!("{} holds a log: a new authority starts with an empty one", log_folder(config).display());
    }
    let sealed = sealing::seal(&keys, &mut machine, bundle.policy())?;
    let selection = bundle.policy().selection(Role::Authority).clone();
    let bundle = Blob::recurring(bundle.bytes().to_vec());
    let blobs = vec![own.result.bytes().to_vec().into(), own.evidence.into(), bundle];
    let mut entries = vec![NewEntry { statement: genesis, blobs, seen: None }];
    if let Some(old) = old {
        let kind = old.predecessor.passage.kind();
        let subject = old.predecessor.checkpoint_key.origin();
        let statement = statement::sign(kind, &keys.permit, &config.origin, subject, &old.record.encode())?;
        entries.push(NewEntry { statement, blobs: vec![old.endorsement.into()], seen: None });
    }
    log.append(entries)?;
    publisher.sync()?;
    let head = log.head().context("the head of a log with a genesis")?;
    let tpm = machine.tpm().context("a TPM")?;
    Anchoring::define(tpm, &selection, keys.checkpoint_seed.expose(), &head)?;
    // The keys last: when they are sealed, their genesis is already in the log.
    create_durably(&sealed_keys(config), &sealed, PRIVATE)?;
    let request = config.state.join("endorsement.request");
    write_durably(&request, &Quorum::unsigned(document).encode())?;
    Ok(Genesis { endorsement, request })
}

/// The values that governors must compare with their expectations before they endorse.
pub(crate) fn describe(genesis: &Genesis) -> String {
    let e = &genesis.endorsement;
    let follows = e.predecessor.as_ref().map(|old| format!("follows on       {old}\n")).unwrap_or_default();
    format!(
        "genesis done; this authority does not serve before governors endorse it\n\n\
         origin           {}\n\
         checkpoint key   {}\n\
         permit key       {} {}\n\
         receipt key      {}\n\
         chip id          {}\n\
         measurement      {}\n\
         bundle version   {} or later\n\
         {follows}\n\
         next: portcullis-policy endorse {} --key GOVERNOR.pem --out endorsement.pce\n",
        e.origin(),
        e.checkpoint_key,
        e.permit_key.suite().name(),
        hex(e.permit_key.thumbprint()),
        hex(e.receipt_key.public()),
        hex(&e.chip_id),
        hex(&e.measurement),
        e.bundle_version,
        genesis.request.display(),
    )
}
