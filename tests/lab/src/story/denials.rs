//! Chapters 3 and 4: everything that is denied, each with its check.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use portcullis_attest::crypto::sha256;
use portcullis_attester::OpenMachine;
use portcullis_lineage::RECEIPTS_LABEL;
use portcullis_permit::{SigningKey, Suite, TransparentPermit, statement};
use portcullis_wire::Sign1;

use super::{Gate, Stage, Teller, audit_log, printed_checks, readiness};
use crate::deployment::{Deployment, NODE_IMAGE, Options, SLEEP, UNKNOWN};
use crate::machine::LabPlatform;
use crate::raw::RawSession;
use crate::tpm::request_extend;

/// Tells both chapters.
pub(crate) fn tell(teller: &mut Teller, stage: &mut Stage) -> Result<()> {
    teller.chapter("3  denied, each with its check, logged and signed");
    machines(teller, stage)?;
    sessions(teller, stage)?;
    second_authority(teller, stage)?;
    expired_bundle(teller, stage)?;
    teller.chapter("4  stolen and forged permits do not run");
    permits(teller, stage)
}

/// Machines that differ from the required state.
fn machines(teller: &mut Teller, stage: &mut Stage) -> Result<()> {
    let deployment = &mut stage.deployment;
    let mut denied = |what: &str, required: &str, deployment: &Deployment, node: &str, program: &str| -> Result<()> {
        let output = deployment.request(node, program)?;
        let first = printed_checks(&output).into_iter().next();
        let found = first.map_or_else(|| "permitted".into(), |check| format!("denied: {check}"));
        teller.expect(what, &format!("denied: {required}"), &found);
        Ok(())
    };
    deployment.describe("node-2", |machine| machine.measured = "node-0.9".into())?;
    denied("wrong measurement", "snp.measurement", deployment, "node-2", SLEEP)?;
    deployment.describe("node-2", |machine| {
        machine.measured = NODE_IMAGE.into();
        machine.snp_svn = 23;
    })?;
    denied("TCB below the floor", "snp.tcb.floor.current", deployment, "node-2", SLEEP)?;
    deployment.describe("node-2", |machine| {
        machine.snp_svn = crate::machine::TCB.snp;
        machine.policy = 0xb_0000;
    })?;
    denied("debug policy", "snp.policy.debug", deployment, "node-2", SLEEP)?;
    let other_root = stage.folder.join("other-root");
    let own_root = deployment.root().to_owned();
    let machine = deployment.machine("node-2");
    crate::root::LabRoot::open(&other_root, portcullis_attest::snp::generation::Generation::Milan)?;
    deployment.describe("node-2", |machine| {
        machine.policy = 0x3_0000;
        machine.root = other_root;
    })?;
    forget_endorsement_keys(&machine)?;
    denied("foreign root", "snp.root", deployment, "node-2", SLEEP)?;
    deployment.describe("node-2", |machine| machine.root = own_root)?;
    forget_endorsement_keys(&machine)?;
    denied("unknown workload", "workload.known", deployment, "node-1", UNKNOWN)?;
    denied("forbidden by policy", "authz.forbid", deployment, "node-3", SLEEP)?;
    request_extend(&deployment.machine("node-3"), 4, &[9; 32])?;
    denied("quote with one PCR extended differently", "tpm.pcr.4", deployment, "node-3", SLEEP)
}

/// A chip under another root has other keys.
fn forget_endorsement_keys(machine: &std::path::Path) -> Result<()> {
    for entry in fs::read_dir(machine)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("vek-") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Good evidence in the wrong place.
fn sessions(teller: &mut Teller, stage: &Stage) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (replayed, relayed, unproven) = runtime.block_on(async {
        let mut machine = LabPlatform { machine: stage.deployment.machine("node-1") }.open()?;
        let address = stage.deployment.nodes_address();
        let digest = sha256(&[&fs::read(SLEEP)?]);
        let key = SigningKey::generate(Suite::Classic)?;

        let mut session = RawSession::open(address).await?;
        let request = session.request("node-1", &key, digest);
        let evidence = session.evidence(&mut machine, &request)?;
        let signed = request.sign(&key, evidence.bytes())?;
        let first = session.ask(signed.clone()).await?;
        anyhow::ensure!(first.status == 201, "good evidence was not accepted: {}", first.status);
        let again = session.ask(signed).await?;
        let replayed = session.denied(&again)?.join(",");

        let other = RawSession::open(address).await?;
        let mut session = RawSession::open(address).await?;
        let request = session.request("node-1", &key, digest);
        let evidence = other.evidence(&mut machine, &request)?;
        let answer = session.ask(request.sign(&key, evidence.bytes())?).await?;
        let relayed = session.denied(&answer)?.join(",");

        let mut machine = LabPlatform { machine: stage.deployment.machine("node-2") }.open()?;
        let mut session = RawSession::open(address).await?;
        let request = session.request("node-2", &key, digest);
        let evidence = session.evidence(&mut machine, &request)?;
        let answer = session.ask(request.sign(&key, evidence.bytes())?).await?;
        let unproven = session.denied(&answer)?.join(",");
        anyhow::Ok((replayed, relayed, unproven))
    })?;
    teller.expect("replayed evidence", "denied: request.nonce", &format!("denied: {replayed}"));
    teller.expect(
        "evidence relayed over another TLS session",
        "denied: evidence.binding",
        &format!("denied: {relayed}"),
    );
    teller.expect(
        "attestation key not activated under the enrolled EK",
        "denied: node.activation",
        &format!("denied: {unproven}"),
    );
    Ok(())
}

/// The same image on another chip, with other governors.
fn second_authority(teller: &mut Teller, stage: &Stage) -> Result<()> {
    let folder = stage.folder.join("second");
    let second = Deployment::create(&folder, &stage.lab, stage.deployment.root(), Options::default())?;
    // It does not serve without a quorum either: one governor of two endorses it.
    let request = second.text("state-authority/endorsement.request");
    let good = fs::read(second.path("authority.pce"))?;
    second.policy(&[
        "endorse",
        &request,
        "--key",
        &second.text("governor-1.pem"),
        "--out",
        &second.text("authority.pce"),
    ])?;
    let refused = second.portcullisd("authority", &["serve"]).output()?;
    let check = String::from_utf8_lossy(&refused.stderr).contains("portcullisd: authority.endorsement:");
    let code = refused.status.code().unwrap_or(-1);
    let found = format!("refused, {code}: {}", if check { "authority.endorsement" } else { "another check" });
    teller.expect("second authority, endorsed by one of two governors", "refused, 3: authority.endorsement", &found);

    fs::write(second.path("authority.pce"), good)?;
    let _daemon = second.serve()?;
    stage.deployment.configure_node("node-1", "node-1", second.nodes_address())?;
    let output = stage.deployment.request("node-1", SLEEP)?;
    stage.deployment.configure_node("node-1", "node-1", stage.deployment.nodes_address())?;
    let checks = printed_checks(&output);
    let found = checks.first().map_or_else(|| "permitted".into(), |check| format!("refused: {check}"));
    teller.expect("node meets an authority of other governors", "refused: authority.governance_root", &found);
    Ok(())
}

/// A bundle runs out while the authority serves.
fn expired_bundle(teller: &mut Teller, stage: &Stage) -> Result<()> {
    let options = Options { bundle_seconds: 6, ..Options::default() };
    let short = Deployment::create(&stage.folder.join("short"), &stage.lab, stage.deployment.root(), options)?;
    let daemon = short.serve()?;
    let started = Instant::now();
    let (mut status, mut body) = daemon.get("/readyz")?;
    while status == 200 && started.elapsed() < Duration::from_secs(15) {
        std::thread::sleep(Duration::from_millis(100));
        (status, body) = daemon.get("/readyz")?;
    }
    let found = readiness(status, &body)?;
    teller.expect("the bundle expires and the authority trips", "tripped, 503: bundle.expired", &found);

    std::thread::sleep(Duration::from_millis(600));
    let report = audit_log(&stage.lab, &short)?;
    let trips = &report["log"]["kinds"]["application/vnd.portcullis.trip+cose"];
    teller.expect("the trip is in the log, the last signature", "1 trip entry", &format!("{trips} trip entry"));
    let end = Gate::start(&short, "node-1", &[SLEEP, "1"])?.wait(Duration::from_secs(10))?;
    teller.expect("the gate refuses locally too", "denied, 77: bundle.expired", &end.words());
    Ok(())
}

/// Permits in the wrong hands, and permits that were never logged.
fn permits(teller: &mut Teller, stage: &Stage) -> Result<()> {
    let deployment = &stage.deployment;
    anyhow::ensure!(deployment.request("node-1", SLEEP)?.status.success(), "a good request was denied");
    let (permit, endorsement) = (deployment.text("node-1.permit"), deployment.text("authority.pce"));
    let own = deployment.text("node-1-gate.pem");
    let thief = deployment.path("thief.pem");
    if !thief.exists() {
        fs::write(&thief, SigningKey::generate(Suite::Classic)?.to_pem()?.as_bytes())?;
    }
    let verify = |node: &str, permit: &str, key: &str, program: &str| -> Result<String> {
        let arguments = ["permit", "verify", permit, "--endorsement", &endorsement, "--key", key, "--", program];
        let output = deployment.portcullis(node, &arguments).output()?;
        let first = printed_checks(&output).into_iter().next();
        Ok(first.map_or_else(|| "valid".into(), |check| format!("refused: {check}")))
    };
    teller.expect("the permit in its own gate", "valid", &verify("node-1", &permit, &own, SLEEP)?);
    teller.expect(
        "stolen: another gate's key",
        "refused: permit.cnf",
        &verify("node-1", &permit, &thief.display().to_string(), SLEEP)?,
    );
    teller.expect("stolen: another node", "refused: permit.subject", &verify("node-2", &permit, &own, SLEEP)?);
    teller.expect("for another program", "refused: permit.workload", &verify("node-1", &permit, &own, UNKNOWN)?);

    // A holder of the permit key who cannot write the log gets this: the signature is
    // real, the receipt is missing, or belongs to another entry.
    let bytes = fs::read(&permit)?;
    let real = Sign1::parse(&bytes, statement::MAX_LENGTH)?;
    let unlogged = deployment.text("unlogged.permit");
    fs::write(&unlogged, real.signed_part())?;
    teller.expect(
        "real signature, never logged",
        "refused: permit.receipt",
        &verify("node-1", &unlogged, &own, SLEEP)?,
    );
    anyhow::ensure!(deployment.request("node-1", SLEEP)?.status.success(), "a good request was denied");
    let newer = Sign1::parse(&fs::read(&permit)?, statement::MAX_LENGTH)?;
    let foreign = newer.unprotected(RECEIPTS_LABEL).cloned().context("a receipt")?;
    fs::write(&unlogged, TransparentPermit::attach(&real.signed_part(), foreign, None)?)?;
    teller.expect(
        "real signature, another entry's receipt",
        "refused: permit.receipt.proof",
        &verify("node-1", &unlogged, &own, SLEEP)?,
    );
    Ok(())
}
