//! `portcullis-witness`, as a separate process.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use portcullis_firmware_policy::document;
use rustix::process::{Pid, Signal, kill_process};

use crate::daemon::{free_address, get};

/// A witness on a lab machine. It is killed with this value.
pub struct Witness {
    lab: PathBuf,
    folder: PathBuf,
    address: SocketAddr,
    key: String,
    child: Option<Child>,
}

impl Witness {
    /// Makes a witness that does not run yet.
    ///
    /// # Errors
    /// I/O errors.
    pub fn create(lab: &Path, folder: &Path, name: &str) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let init =
            Command::new(lab).args(["portcullis-witness", "init", name, "--key"]).arg(folder.join("key")).output()?;
        if !init.status.success() {
            bail!("portcullis-witness init: {}", String::from_utf8_lossy(&init.stderr));
        }
        let key = String::from_utf8(init.stdout)?.trim().to_owned();
        let address = free_address()?;
        Ok(Self { lab: lab.to_owned(), folder: folder.to_owned(), address, key, child: None })
    }

    /// Its entry in a bundle.
    #[must_use]
    pub fn document(&self) -> document::Witness {
        document::Witness { key: self.key.clone(), url: format!("http://{}", self.address) }
    }

    /// Starts it for one log, and waits until it serves.
    ///
    /// # Errors
    /// It does not.
    pub fn start(&mut self, log_key: &str) -> Result<()> {
        self.start_with(log_key, |_| {})
    }

    /// As [`Self::start`], with a command that was changed, such as by another clock.
    ///
    /// # Errors
    /// It does not serve.
    pub fn start_with(&mut self, log_key: &str, change: impl FnOnce(&mut Command)) -> Result<()> {
        let name = self.key.split('+').next().context("a name")?;
        let (listen, config) = (self.address, self.folder.join("witness.toml"));
        let text = format!(
            "name = \"{name}\"\nkey = \"key\"\nstate = \"state\"\nlisten = \"{listen}\"\n[[log]]\nkey = \"{log_key}\"\n"
        );
        fs::write(&config, text)?;
        let log = File::options().create(true).append(true).open(self.folder.join("log"))?;
        let mut command = Command::new(&self.lab);
        command.args(["portcullis-witness", "serve", "--config"]).arg(&config);
        change(&mut command);
        self.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?);
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            if get(self.address, "/").is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the witness does not serve: {}", fs::read_to_string(self.folder.join("log"))?)
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Errors mean that it has ended already.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }

    /// Sends SIGTERM and waits for an orderly end.
    ///
    /// # Errors
    /// It does not run, or does not end in time.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let child = self.child.as_mut().context("the witness does not run")?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("pid")?;
        kill_process(pid, Signal::TERM)?;
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("the witness does not end")
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Path of its memory, for tests that lose it.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.kill();
    }
}
