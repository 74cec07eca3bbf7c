//! Watches a running lab until its user ends it, and reports each part that ends by
//! itself.

use std::io::{Read, stdin};
use std::time::{Duration, Instant};

use anyhow::Result;
use portcullis_cli::say;
use rustix::fs::{FileType, fstat};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::daemon::Daemon;
use crate::deployment::Deployment;

/// Pause between two checks.
const PAUSE: Duration = Duration::from_millis(200);
/// Pause between two readiness requests to the authority.
const ASK: Duration = Duration::from_secs(2);
/// Lines of the authority's log that are shown when it has ended.
const LINES: usize = 12;

/// Waits for the request to end, then ends everything that the lab started.
pub(super) fn until_told(deployment: &mut Deployment, daemon: Daemon) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut watched = Watched { daemon: Some(daemon), state: "serving".into(), asked: Instant::now(), dead: None };
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut input = end_of_input();
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = hangup.recv() => break,
                _ = input.recv() => break,
                () = tokio::time::sleep(PAUSE) => watched.look(deployment)?,
            }
        }
        anyhow::Ok(())
    })?;
    say!("\nending the authority and {} machines", deployment.machines().count());
    if let Some(mut daemon) = watched.daemon {
        daemon.stop()?;
    }
    Ok(())
}

/// Reports once that standard input has ended, if it is a pipe: a script holds the
/// other end as long as it wants the lab. For other inputs it never reports.
fn end_of_input() -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel(1);
    let is_pipe = fstat(stdin()).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    std::thread::spawn(move || {
        if !is_pipe {
            // Never dropped, so that the receiver waits.
            std::mem::forget(sender);
            return;
        }
        let mut byte = [0];
        while stdin().read(&mut byte).is_ok_and(|read| read > 0) {}
        let _gone = sender.blocking_send(());
    });
    receiver
}

/// The parts that may end by themselves.
struct Watched {
    /// `None` once its end was reported.
    daemon: Option<Daemon>,
    /// The last answer of `/readyz`.
    state: String,
    asked: Instant,
    /// The machine whose end was reported.
    dead: Option<String>,
}

impl Watched {
    fn look(&mut self, deployment: &mut Deployment) -> Result<()> {
        if let Some(name) = deployment.dead_machine().map(str::to_owned)
            && self.dead.as_ref() != Some(&name)
        {
            say!("\nthe TPM of {name} (swtpm) has ended: end this lab, and take it up again");
            self.dead = Some(name);
        }
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        if let Some(status) = daemon.ended()? {
            let log = daemon.log();
            let lines: Vec<&str> = log.lines().collect();
            say!("\nthe authority has ended, {status}. The last lines of {}:", deployment.text("authority.log"));
            lines.iter().skip(lines.len().saturating_sub(LINES)).for_each(|line| say!("  {line}"));
            say!("start it again with\n  {}", deployment.serve_command());
            say!("machines and nodes are up still; Ctrl-C ends them");
            self.daemon = None;
            return Ok(());
        }
        if self.asked.elapsed() >= ASK {
            self.asked = Instant::now();
            self.ask();
        }
        Ok(())
    }

    /// Reports changes of the authority's state, such as a trip.
    fn ask(&mut self) {
        let Some((status, body)) = self.daemon.as_ref().and_then(|daemon| daemon.get("/readyz").ok()) else { return };
        let Ok(ready) = serde_json::from_str::<Value>(&body) else { return };
        let state = ready["state"].as_str().unwrap_or_default().to_owned();
        if state != self.state {
            let why = ready["check"].as_str().map(|check| format!(", {check}")).unwrap_or_default();
            say!("\nthe authority is {state} (HTTP {status}{why})");
            self.state = state;
        }
    }
}
