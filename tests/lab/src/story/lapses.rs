//! Chapters 5 to 7: trust lapses while a program runs.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use super::{Stage, Teller, readiness, text, wait_for_log};
use crate::deployment::SLEEP;
use crate::raw::RawSession;
use crate::tpm::request_extend;

/// Programs that no other test runs, so that /proc identifies them.
const REVOKED: [&str; 2] = [SLEEP, "61.05"];
const ORPHANED: [&str; 2] = [SLEEP, "61.06"];

/// Tells the three chapters.
pub(crate) fn tell(teller: &mut Teller, mut stage: Stage) -> Result<()> {
    teller.chapter("5  governors revoke: the running program is killed");
    revocation(teller, &stage)?;
    teller.chapter("6  the authority is killed: the program dies at lease end, the log is intact");
    killed_authority(teller, &mut stage)?;
    teller.chapter("7  the authority's own PCR changes: it trips");
    changed_authority(teller, &stage)
}

fn revocation(teller: &mut Teller, stage: &Stage) -> Result<()> {
    let gate = stage.gate("node-2", &REVOKED)?;
    gate.wait_running(&REVOKED)?;
    let command = stage.deployment.revocation(1, &["--node", "node-2"])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let address = stage.deployment.nodes_address();
    let (accepted, again) = runtime.block_on(async {
        let mut governor = RawSession::open(address).await?;
        let accepted = governor.post("/v1/revocations", command.clone()).await?;
        let again = governor.post("/v1/revocations", command).await?;
        anyhow::Ok((accepted.status, (again.status, String::from_utf8_lossy(&again.body).into_owned())))
    })?;
    let posted = Instant::now();
    let end = gate.wait(Duration::from_secs(20))?;
    let words = |status: u16| if status == 200 { "accepted" } else { "refused" };
    teller.expect("the command is accepted once", "accepted, 200", &format!("{}, {accepted}", words(accepted)));
    let problem: Value = serde_json::from_str(&again.1)?;
    let found = format!("{}, {}: {}", words(again.0), again.0, text(&problem["title"]));
    teller.expect("and not a second time", "refused, 403: governance.sequence", &found);
    teller.timed(
        "from the command to the program's death",
        "killed, 124: permit.revoked",
        &end.words(),
        posted.elapsed(),
    );
    let kill = Duration::from_secs_f64(end.kill_milliseconds.unwrap_or(f64::from(u16::MAX)) / 1000.0);
    teller.timed(
        "time to kill the whole tree",
        "below 1 s",
        if kill < Duration::from_secs(1) { "below 1 s" } else { "more" },
        kill,
    );
    let end = stage.gate("node-2", &[SLEEP, "1"])?.wait(Duration::from_secs(10))?;
    teller.expect("the node gets no permit any more", "denied, 77: node.revoked", &end.words());
    Ok(())
}

const fn yes(condition: bool) -> &'static str {
    if condition { "yes" } else { "no" }
}

fn killed_authority(teller: &mut Teller, stage: &mut Stage) -> Result<()> {
    let before = wait_for_log(stage, 0)?["log"]["size"].as_u64().unwrap_or(0);
    let gate = stage.gate("node-1", &ORPHANED)?;
    gate.wait_running(&ORPHANED)?;
    stage.authority.kill()?;
    let killed = Instant::now();
    let end = gate.wait(Duration::from_secs(20))?;
    teller.timed("the program dies", "killed, 124: lease.expired", &end.words(), killed.elapsed());
    let in_time = killed.elapsed() <= Duration::from_secs(5);
    teller.expect("no later than its lease of 4 s allows", "yes", yes(in_time));
    stage.authority = stage.deployment.serve()?;
    let report = wait_for_log(stage, before + 1)?;
    teller.expect("on restart the log is intact", "pass", &text(&report["verdict"]));
    let grown = report["log"]["size"].as_u64().unwrap_or(0) > before;
    teller.expect("and has lost nothing", "yes", yes(grown));
    let end = stage.gate("node-1", &[SLEEP, "1"])?.wait(Duration::from_secs(10))?;
    teller.expect("and permits go on", "exit code 0", &end.words());
    Ok(())
}

fn changed_authority(teller: &mut Teller, stage: &Stage) -> Result<()> {
    request_extend(&stage.deployment.machine("authority"), 4, &[3; 32])?;
    let started = Instant::now();
    let (mut status, mut body) = stage.authority.get("/readyz")?;
    while status == 200 && started.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(50));
        (status, body) = stage.authority.get("/readyz")?;
    }
    teller.expect("it trips and says why", "tripped, 503: watch.pcr", &readiness(status, &body)?);
    let end = stage.gate("node-1", &[SLEEP, "1"])?.wait(Duration::from_secs(10))?;
    teller.expect("it signs nothing any more: the gate cannot run", "authority unreachable, 75", &end.words());
    let (status, _) = stage.authority.get("/v1/status/0")?;
    let found =
        if status == 503 { "no status list either, 503".to_owned() } else { format!("a status list, {status}") };
    teller.expect("status list", "no status list either, 503", &found);
    Ok(())
}
