//! `portcullisd` on a lab machine, as a separate process.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A running authority. It is killed with this value.
pub struct Daemon {
    child: Child,
    public: SocketAddr,
    log: PathBuf,
}

impl Daemon {
    /// Starts a daemon and waits until it serves.
    ///
    /// # Errors
    /// It ends, or is not ready in time; the error has its log.
    pub fn start(mut command: Command, public: SocketAddr, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).spawn()?;
        let mut daemon = Self { child, public, log: log.to_owned() };
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(30) {
            if get(public, "/healthz").is_ok() {
                return Ok(daemon);
            }
            if let Some(status) = daemon.child.try_wait()? {
                bail!("portcullisd ended with {status}:\n{}", daemon.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("portcullisd does not serve:\n{}", daemon.log())
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its log output so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Reads from its public listener: status code and body.
    ///
    /// # Errors
    /// It does not answer.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        get(self.public, path)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends SIGKILL and waits.
    ///
    /// # Errors
    /// It was gone already.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends SIGTERM and waits for an orderly end.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("pid")?;
        kill_process(pid, Signal::TERM)?;
        self.wait(Duration::from_secs(20))
    }

    /// Waits for it to end.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let started = Instant::now();
        while started.elapsed() < patience {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("portcullisd does not end:\n{}", self.log())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A plain GET over a new connection.
///
/// # Errors
/// No answer, or no HTTP.
pub fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: lab\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no HTTP status")?;
    Ok((status, body.to_owned()))
}

/// A loopback address with an unused port.
///
/// # Errors
/// No port is free.
pub fn free_address() -> Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], free_port_pair()?)))
}

/// Returns a port that is free together with the next one. It lies below the range from
/// which the kernel assigns ports, so no other process gets it before it is bound. Labs
/// that run side by side start at different places.
pub(crate) fn free_port_pair() -> Result<u16> {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let place = std::process::id().wrapping_mul(2_654_435_761).wrapping_add(serial.wrapping_mul(2)) % COUNT;
        let port = u16::try_from(FIRST + place)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port")
}
