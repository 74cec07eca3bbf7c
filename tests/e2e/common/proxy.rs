//! A connection to an authority that can be cut: in silence, as firewalls do, or with a
//! reset. New connections get through.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A proxy on the loopback. Its threads end with the test.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    accepted: AtomicU64,
    /// Connections before this one are swallowed.
    cut: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), shared: Arc::default() };
        let shared = Arc::clone(&proxy.shared);
        std::thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
                let Ok(server) = TcpStream::connect(target) else { continue };
                shared.open.lock().unwrap().push(client.try_clone().unwrap());
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let shared = Arc::clone(&shared);
                    std::thread::spawn(move || pump(from, to, number, &shared));
                }
            }
        });
        proxy
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, blocks all traffic of the existing connections.
    pub(crate) fn swallow(&self) {
        self.shared.cut.store(self.shared.accepted.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Resets the existing connections.
    pub(crate) fn reset(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, number: u64, shared: &Shared) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length) = from.read(&mut buffer) {
        let swallowed = number < shared.cut.load(Ordering::SeqCst);
        if !swallowed && (length == 0 || to.write_all(&buffer[..length]).is_err()) {
            break;
        }
        if length == 0 {
            // The other side does not notice.
            std::thread::park();
        }
    }
    drop(to.shutdown(Shutdown::Both));
}
