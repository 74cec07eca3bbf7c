//! The story: a permit from start to finish, everything that is denied, and what
//! happens when trust lapses. Each line says what must happen, and the story
//! fails if anything else does.

mod denials;
mod lapses;

use std::fs;
use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use portcullis_cli::say;
use serde_json::Value;

use crate::daemon::Daemon;
use crate::deployment::{Deployment, NODE_IMAGE, Options, SLEEP};

/// Tells the story and returns the exit code: 0 if all happened as it must.
///
/// # Errors
/// The lab itself failed: swtpm is missing, or I/O.
pub fn run(lab: &Path, folder: Option<&Path>) -> Result<u8> {
    say!("making keys and booting machines, some seconds");
    let temporary = tempfile::tempdir()?;
    let folder = folder.unwrap_or(temporary.path());
    let mut teller = Teller::new();
    let started = Instant::now();
    let mut stage = Stage::set(lab, folder)?;
    say!("Portcullis lab, {} set up in {:.1} s\n", folder.display(), started.elapsed().as_secs_f64());
    boot(&mut teller, &stage)?;
    permit(&mut teller, &stage)?;
    denials::tell(&mut teller, &mut stage)?;
    lapses::tell(&mut teller, stage)?;
    Ok(teller.finish())
}

/// A deployment with a running authority and two good nodes.
pub(crate) struct Stage {
    pub(crate) deployment: Deployment,
    pub(crate) authority: Daemon,
    pub(crate) lab: PathBuf,
    pub(crate) folder: PathBuf,
}

impl Stage {
    /// Sets the stage in a folder.
    pub(crate) fn set(lab: &Path, folder: &Path) -> Result<Self> {
        let mut deployment = Deployment::create(&folder.join("main"), lab, &folder.join("root"), Options::default())?;
        for (name, tags) in [("node-2", "lab"), ("node-3", "quarantined")] {
            deployment.boot(name, NODE_IMAGE)?;
            deployment.enrol(name, &["lab", tags])?;
        }
        deployment.sign_bundle()?;
        let authority = deployment.serve()?;
        Ok(Self { deployment, authority, lab: lab.to_owned(), folder: folder.to_owned() })
    }

    /// Starts a program under the gate of a node.
    pub(crate) fn gate(&self, node: &str, command: &[&str]) -> Result<Gate> {
        Gate::start(&self.deployment, node, command)
    }
}

/// A program under a gate, as a separate process.
pub(crate) struct Gate {
    child: Child,
    result: PathBuf,
    started: Instant,
}

/// How a gate ended.
pub(crate) struct GateEnd {
    pub(crate) code: i32,
    pub(crate) check: String,
    pub(crate) renewals: u64,
    pub(crate) kill_milliseconds: Option<f64>,
    pub(crate) elapsed: Duration,
}

impl GateEnd {
    /// In words, with the exit code and the check that decided.
    pub(crate) fn words(&self) -> String {
        let code = self.code;
        let outcome = match code {
            75 => "authority unreachable, 75".to_owned(),
            77 => "denied, 77".to_owned(),
            124 => "killed, 124".to_owned(),
            code => format!("exit code {code}"),
        };
        if self.check == "none" { outcome } else { format!("{outcome}: {}", self.check) }
    }
}

impl Gate {
    pub(crate) fn start(deployment: &Deployment, node: &str, command: &[&str]) -> Result<Self> {
        let result = deployment.path(&format!("{node}-result.json"));
        drop(fs::remove_file(&result));
        let text = result.display().to_string();
        let mut arguments = vec!["run", "--result", &text, "--"];
        arguments.extend(command);
        let mut gate = deployment.portcullis(node, &arguments);
        let child = gate.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Self { child, result, started: Instant::now() })
    }

    /// Waits until a program with exactly this command line runs.
    pub(crate) fn wait_running(&self, command: &[&str]) -> Result<()> {
        let wanted: Vec<u8> = command.iter().flat_map(|part| [part.as_bytes(), &[0]].concat()).collect();
        let runs = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == wanted);
        while self.started.elapsed() < Duration::from_secs(10) {
            if fs::read_dir("/proc")?.filter_map(Result::ok).any(runs) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("the program does not run")
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self, patience: Duration) -> Result<GateEnd> {
        while self.started.elapsed() < patience {
            if let Some(status) = self.child.try_wait()? {
                return self.end(status.code().unwrap_or(-1));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(self.child.kill());
        bail!("the gate did not end within {patience:?}")
    }

    fn end(&self, code: i32) -> Result<GateEnd> {
        let elapsed = self.started.elapsed();
        let text = fs::read_to_string(&self.result).context("result of the gate")?;
        let json: Value = serde_json::from_str(&text)?;
        Ok(GateEnd {
            code,
            check: json["check"].as_str().unwrap_or("none").to_owned(),
            renewals: json["renewals"].as_u64().unwrap_or(0),
            kill_milliseconds: json["kill_milliseconds"].as_f64(),
            elapsed,
        })
    }
}

/// The check ids that a program printed, one a line, indented by two blanks.
pub(crate) fn printed_checks(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    let ids = text.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    ids.map(str::to_owned).collect()
}

/// Verifies the log of a deployment offline, as an auditor does.
pub(crate) fn audit_log(lab: &Path, deployment: &Deployment) -> Result<Value> {
    let output = Command::new(lab)
        .args(["portcullis-audit", "log", "verify", &deployment.text("state-authority/log")])
        .args(["--endorsement", &deployment.text("authority.pce")])
        .args(["--governance-root", &deployment.text("governance.cbor"), "--json"])
        .output()?;
    serde_json::from_slice(&output.stdout).context("portcullis-audit printed no JSON")
}

/// Waits until the readers' files of the log have at least this many entries.
pub(crate) fn wait_for_log(stage: &Stage, size: u64) -> Result<Value> {
    let started = Instant::now();
    loop {
        let report = audit_log(&stage.lab, &stage.deployment)?;
        if report["log"]["size"].as_u64() >= Some(size) || started.elapsed() > Duration::from_secs(5) {
            return Ok(report);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn boot(teller: &mut Teller, stage: &Stage) -> Result<()> {
    teller.chapter("1  the authority boots, attests itself, and logs it");
    let (status, body) = stage.authority.get("/readyz")?;
    teller.expect("authority serves after self-attestation", "serving, 200", &readiness(status, &body)?);
    let report = wait_for_log(stage, 2)?;
    teller.expect("genesis and boot are in the log", "pass", &text(&report["verdict"]));
    Ok(())
}

fn permit(teller: &mut Teller, stage: &Stage) -> Result<()> {
    teller.chapter("2  a good node gets a permit; a program runs and is renewed");
    let end = stage.gate("node-1", &[SLEEP, "7"])?.wait(Duration::from_secs(30))?;
    let renewed = if end.renewals >= 2 { "at least 2".to_owned() } else { end.renewals.to_string() };
    teller.timed("the program ends by itself", "exit code 0", &end.words(), end.elapsed);
    teller.expect("renewals", "at least 2", &renewed);
    let output = stage.deployment.request("node-1", SLEEP)?;
    teller.expect("permit request", "granted", granted(&output));
    let audit = Command::new(&stage.lab)
        .args(["portcullis-audit", "permit", &stage.deployment.text("node-1.permit")])
        .args(["--endorsement", &stage.deployment.text("authority.pce")])
        .args(["--governance-root", &stage.deployment.text("governance.cbor"), "--json"])
        .output()?;
    let audit: Value = serde_json::from_slice(&audit.stdout).context("portcullis-audit printed no JSON")?;
    teller.expect("permit and receipt verify offline", "pass", &text(&audit["verdict"]));
    let output = stage.deployment.request("node-2", SLEEP)?;
    teller.expect("a TPM activates a key under its enrolled EK", "granted", granted(&output));
    let report = wait_for_log(stage, audit["permit"]["log_index"].as_u64().unwrap_or(0) + 1)?;
    teller.expect("the whole log verifies offline", "pass", &text(&report["verdict"]));
    Ok(())
}

/// The result of a permit request.
fn granted(output: &Output) -> &'static str {
    if output.status.success() { "granted" } else { "denied" }
}

/// The state that `/readyz` reports, in words, with the HTTP status.
pub(crate) fn readiness(status: u16, body: &str) -> Result<String> {
    let ready: Value = serde_json::from_str(body)?;
    let check = ready["check"].as_str().map(|check| format!(": {check}")).unwrap_or_default();
    Ok(format!("{}, {status}{check}", text(&ready["state"])))
}

/// A JSON string without quotes, anything else as JSON.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Prints each result beside the required one.
pub(crate) struct Teller {
    colour: bool,
    told: u32,
    differing: u32,
    last: Instant,
}

impl Teller {
    fn new() -> Self {
        Self { colour: stdout().is_terminal(), told: 0, differing: 0, last: Instant::now() }
    }

    pub(crate) fn chapter(&mut self, title: &str) {
        say!("\n{title}");
        self.last = Instant::now();
    }

    /// One line, with the time since the last.
    pub(crate) fn expect(&mut self, what: &str, required: &str, found: &str) {
        self.timed(what, required, found, self.last.elapsed());
    }

    /// One line with an explicit time.
    pub(crate) fn timed(&mut self, what: &str, required: &str, found: &str, time: Duration) {
        let same = required == found;
        self.told += 1;
        self.differing += u32::from(!same);
        let (mark, code) = if same { ("✓", "32") } else { ("✗", "31") };
        let mark = if self.colour { format!("\x1b[{code}m{mark}\x1b[0m") } else { mark.to_owned() };
        let outcome = if same { found.to_owned() } else { format!("{found}   REQUIRED {required}") };
        say!("  {mark} {what:<52} {:>8.0} ms  {outcome}", time.as_secs_f64() * 1000.0);
        self.last = Instant::now();
    }

    fn finish(&self) -> u8 {
        say!("\n{} of {} as they must be", self.told - self.differing, self.told);
        u8::from(self.differing != 0)
    }
}
