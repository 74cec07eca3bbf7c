//! A substitute for AMD's Key Distribution Service, on loopback. It serves the given
//! documents, and can answer as slowly as the real service.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

const TOO_MANY: &str = "429 Too Many Requests";
const LOGIN: &[u8] = b"<!DOCTYPE html><html><head><title>Sign in to the network</title></head></html>";

/// The answer to a request before the service returns its document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// 429, and how many seconds to wait.
    Throttled(u32),
    /// 429, and a date that many seconds from now.
    ThrottledUntil(i64),
    /// 429 without `Retry-After`.
    Busy,
    /// A redirect to AMD's own address.
    Moved,
    /// 200 with a login page.
    LoginPage,
    /// 200 with an empty body.
    Empty,
    /// Only the first hundred bytes of the announced length.
    Truncated,
    /// A hundred bytes of the document, announced as its full length.
    Cut,
    /// The connection stays open, without an answer.
    Silent,
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
                // A client that disconnects is no error of the service.
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || drop(answer(&stream, &shared)));
            }
        });
        Ok(Self { address, state, stop })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Base address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers the next requests with these moods, in order.
    pub fn moods(&self, moods: &[Mood]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.moods = moods.iter().rev().copied().collect();
    }

    /// The requested paths, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).asked.clone()
    }
}

impl Drop for Kds {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread, which then sees that it must stop.
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
    let (mood, document) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked.push(path.clone());
        (state.moods.pop(), state.documents.get(&path).cloned())
    };
    let whole = document.clone().unwrap_or_default();
    let part = whole.get(..100).unwrap_or_default().to_vec();
    let (none, mut length) = (String::new(), None);
    let (status, header, body) = match (mood, document) {
        (Some(Mood::Gone), _) => return Ok(()),
        (Some(Mood::Silent), _) => {
            std::thread::sleep(Duration::from_secs(60));
            return Ok(());
        }
        (Some(Mood::Broken), _) => ("503 Service Unavailable", none, Vec::new()),
        (Some(Mood::Throttled(seconds)), _) => (TOO_MANY, format!("Retry-After: {seconds}\r\n"), Vec::new()),
        (Some(Mood::ThrottledUntil(seconds)), _) => {
            let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
            let until = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&until)?;
            (TOO_MANY, format!("Retry-After: {until}\r\n"), Vec::new())
        }
        (Some(Mood::Busy), _) => (TOO_MANY, none, Vec::new()),
        (Some(Mood::Moved), _) => ("302 Found", "Location: https://kdsintf.amd.com/\r\n".to_owned(), Vec::new()),
        (Some(Mood::LoginPage), _) => ("200 OK", "Content-Type: text/html\r\n".to_owned(), LOGIN.to_vec()),
        (Some(Mood::Empty), _) => ("200 OK", none, Vec::new()),
        (Some(Mood::Truncated), _) => {
            length = Some(whole.len());
            ("200 OK", none, part)
        }
        (Some(Mood::Cut), _) => ("200 OK", none, part),
        (None, Some(_)) => ("200 OK", none, whole),
        (None, None) => ("404 Not Found", none, Vec::new()),
    };
    let mut stream = stream;
    let length = length.unwrap_or(body.len());
    write!(stream, "HTTP/1.1 {status}\r\n{header}Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(&body)?;
    Ok(())
}
