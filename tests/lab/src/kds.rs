//! A stand-in for AMD's Key Distribution Service, on loopback: it hands out what
//! it was given, and can be as slow to give as the real one.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

/// What a request is answered with before the service gives what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// 429, and how many seconds to wait.
    Throttled(u32),
    /// 503.
    Broken,
    /// The connection ends without an answer.
    Gone,
}

#[derive(Default)]
struct State {
    documents: HashMap<String, Vec<u8>>,
    moods: Vec<Mood>,
    asked: Vec<String>,
}

/// A running service. It ends with this value.
pub struct Kds {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
}

impl Kds {
    /// Starts a service with documents by path.
    ///
    /// # Errors
    /// I/O errors.
    pub fn start(documents: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State { documents: documents.into_iter().collect(), ..State::default() }));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&state), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // A client that goes away is its own affair.
                drop(answer(&stream, &shared));
            }
        });
        Ok(Self { address, state, stop })
    }

    /// Base address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next requests are answered so, one after another.
    pub fn moods(&self, moods: &[Mood]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.moods = moods.iter().rev().copied().collect();
    }

    /// The paths that were asked for, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).asked.clone()
    }
}

impl Drop for Kds {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread, which then sees that it shall stop.
        drop(TcpStream::connect_timeout(&self.address, Duration::from_secs(1)));
    }
}

fn answer(stream: &TcpStream, state: &Mutex<State>) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (status, header, body) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked.push(path.clone());
        match (state.moods.pop(), state.documents.get(&path)) {
            (Some(Mood::Gone), _) => return Ok(()),
            (Some(Mood::Broken), _) => ("503 Service Unavailable", String::new(), Vec::new()),
            (Some(Mood::Throttled(seconds)), _) => {
                ("429 Too Many Requests", format!("Retry-After: {seconds}\r\n"), Vec::new())
            }
            (None, Some(document)) => ("200 OK", String::new(), document.clone()),
            (None, None) => ("404 Not Found", String::new(), Vec::new()),
        }
    };
    let mut stream = stream;
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\n{header}Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(&body)?;
    Ok(())
}
