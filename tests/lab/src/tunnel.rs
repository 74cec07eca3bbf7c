//! An office network: a proxy that opens tunnels for clients with credentials, and a
//! front that speaks TLS for a plain service.

use std::io::{Read, Write, copy};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use der::pem::LineEnding;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Longest wait for a byte.
const PATIENCE: Duration = Duration::from_secs(20);

/// A listener with a thread that serves each connection in a separate thread. It ends
/// with this value.
struct Listener {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Listener {
    fn start(serve: impl Fn(TcpStream) -> Result<()> + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, serve) = (Arc::clone(&stop), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let serve = Arc::clone(&serve);
                // A client that disconnects is no error of the service.
                std::thread::spawn(move || drop(serve(stream)));
            }
        });
        Ok(Self { address, stop })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect_timeout(&self.address, Duration::from_secs(1)));
    }
}

/// Reads the head of a request or an answer: until the empty line.
fn head(stream: &mut impl Read) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
        ensure!(head.len() < MAX_HEAD, "a head without end");
    }
    Ok(head)
}

/// A proxy that answers `CONNECT`, and sends every tunnel to one address.
pub struct TunnelProxy {
    listener: Listener,
    asked: Arc<Mutex<Vec<String>>>,
}

impl TunnelProxy {
    /// Starts a proxy. `authorization` is what it wants in `Proxy-Authorization`;
    /// `status` is its answer to those who have it, such as `200 OK`.
    ///
    /// # Errors
    /// I/O errors.
    pub fn start(target: SocketAddr, authorization: Option<&str>, status: &str) -> Result<Self> {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (shared, wanted, status) = (Arc::clone(&asked), authorization.map(str::to_owned), status.to_owned());
        let listener = Listener::start(move |mut stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            let head = String::from_utf8(head(&mut stream)?)?;
            let first = head.lines().next().unwrap_or_default().to_owned();
            shared.lock().unwrap_or_else(PoisonError::into_inner).push(first);
            let is_it = |line: &&str| line.to_ascii_lowercase().starts_with("proxy-authorization:");
            let given =
                head.lines().find(is_it).and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_owned());
            if given != wanted {
                stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")?;
                return Ok(());
            }
            stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes())?;
            if !status.starts_with("200") {
                return Ok(());
            }
            let service = TcpStream::connect(target)?;
            let (mut up, mut down) = (stream.try_clone()?, service.try_clone()?);
            std::thread::spawn(move || {
                drop(copy(&mut up, &mut down));
                drop(down.shutdown(Shutdown::Write));
            });
            drop(copy(&mut &service, &mut stream));
            Ok(stream.shutdown(Shutdown::Write)?)
        })?;
        Ok(Self { listener, asked })
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.listener.address.to_string()
    }

    /// First lines of the requests so far.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// TLS in front of a plain service, under a name, with its own certificate.
pub struct TlsFront {
    listener: Listener,
    certificate: String,
}

impl TlsFront {
    /// Starts a front for a name. Requests go to `service`.
    ///
    /// # Errors
    /// I/O errors.
    pub fn start(name: &str, service: SocketAddr, version: &'static SupportedProtocolVersion) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()])?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version])?;
        let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key.into())?;
        let config = Arc::new(config);
        let listener = Listener::start(move |stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(&config))?, stream);
            let request = head(&mut tls)?;
            let mut plain = TcpStream::connect(service)?;
            plain.write_all(&request)?;
            let mut answer = Vec::new();
            plain.read_to_end(&mut answer)?;
            tls.write_all(&answer)?;
            tls.conn.send_close_notify();
            tls.flush().context("TLS")?;
            Ok(())
        })?;
        let certificate = der::pem::encode_string("CERTIFICATE", LineEnding::LF, made.cert.der());
        Ok(Self { listener, certificate: certificate.map_err(|error| anyhow::anyhow!("PEM: {error}"))? })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.listener.address
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }
}
