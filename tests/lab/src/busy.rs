//! A TPM that is busy: a proxy in front of swtpm that answers commands with
//! `TPM_RC_RETRY` instead of forwarding them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::Result;

use crate::daemon::free_port_pair;
use crate::tpm::PORT;

/// A response with `TPM_RC_RETRY` and no parameters (TPM 2.0 Part 1, §16; Part 2,
/// §6.6.3).
const RETRY: [u8; 10] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x22];
/// Tag, size and code of commands and responses.
const HEADER: usize = 10;

/// The proxy. It serves until the process ends.
pub struct BusyTpm {
    left: Arc<AtomicU32>,
}

impl BusyTpm {
    /// Puts a proxy before the TPM of a booted machine.
    ///
    /// # Errors
    /// I/O errors.
    pub fn before(machine: &Path) -> Result<Self> {
        let swtpm: u16 = std::fs::read_to_string(machine.join(PORT))?.trim().parse()?;
        let port = free_port_pair()?;
        let left = Arc::new(AtomicU32::new(0));
        for (of_proxy, of_swtpm, counted) in [(port, swtpm, Some(Arc::clone(&left))), (port + 1, swtpm + 1, None)] {
            let listener = TcpListener::bind(("127.0.0.1", of_proxy))?;
            thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    let counted = counted.clone();
                    thread::spawn(move || relay(client, of_swtpm, counted.as_deref()));
                }
            });
        }
        std::fs::write(machine.join(PORT), port.to_string())?;
        Ok(Self { left })
    }

    /// Refuses the next `commands` commands.
    pub fn refuse(&self, commands: u32) {
        self.left.store(commands, Ordering::SeqCst);
    }
}

/// Forwards commands, except those to refuse. The control channel has no such commands
/// and is forwarded byte by byte.
fn relay(mut client: TcpStream, swtpm: u16, left: Option<&AtomicU32>) -> io::Result<()> {
    let mut tpm = TcpStream::connect(("127.0.0.1", swtpm))?;
    let Some(left) = left else {
        let (mut answers, mut to) = (tpm.try_clone()?, client.try_clone()?);
        thread::spawn(move || io::copy(&mut answers, &mut to));
        let copied = io::copy(&mut client, &mut tpm);
        // swtpm serves one connection at a time.
        tpm.shutdown(Shutdown::Both)?;
        return copied.map(drop);
    };
    loop {
        let command = message(&mut client)?;
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            client.write_all(&RETRY)?;
            continue;
        }
        tpm.write_all(&command)?;
        client.write_all(&message(&mut tpm)?)?;
    }
}

/// One command or response, whose length is in its header.
fn message(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; HEADER];
    from.read_exact(&mut bytes)?;
    let length = u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]) as usize;
    bytes.resize(length.max(HEADER), 0);
    from.read_exact(&mut bytes[HEADER..])?;
    Ok(bytes)
}
