//! The Key Distribution Service (KDS specification 57230). It answers GET requests with
//! documents that AMD signed, so they need no trust in the connection. TLS hides the
//! requests.

use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::{StatusCode, Uri};
use jiff::fmt::rfc2822;
use portcullis_attest::snp::collateral::Collateral;
use portcullis_attest::snp::fields::SigningKey;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::report::Report;
use portcullis_cli::rfc3339;
use portcullis_wire::hex::hex;
use rustls::pki_types::CertificateDer;
use tokio::time::{Instant, sleep, timeout_at};

use super::error::FetchError;
use super::proxy::Proxy;
use super::transport::{Failure, Reply, Transport};
use crate::clock;
use crate::waiting::{doing, say};

/// AMD's service.
pub const AMD: &str = "https://kdsintf.amd.com";
/// Requests for one document while the service asks to retry later.
const ATTEMPTS: u32 = 6;
/// Requests for one document while the service is unreachable.
const TRIES: u32 = 4;
/// Longest part of an answer that a message repeats, in characters.
const SHOWN: usize = 80;

/// Pauses and time limit for requests to a service.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Pause after the service first asks to retry later; it doubles each time. The pause
    /// after the first failed connection is a tenth of it.
    pub pause: Duration,
    /// Time limit for the whole fetch.
    pub total: Duration,
}

/// Fetches from one service.
pub struct Fetcher {
    base: String,
    transport: Transport,
    patience: Patience,
    deadline: Instant,
}

impl Fetcher {
    /// A fetcher for a base address; its time limit starts now. `roots` are trusted for TLS
    /// in addition to the public ones.
    ///
    /// # Errors
    /// [`FetchError::Address`].
    pub fn new(
        base: &str,
        proxy: Option<Proxy>,
        roots: &[CertificateDer<'static>],
        patience: Patience,
    ) -> Result<Self, FetchError> {
        let uri = address(base)?;
        let refused = |why: String| FetchError::Address(base.to_owned(), why);
        let transport = Transport::new(&uri, proxy, roots).map_err(refused)?;
        let now = Instant::now();
        let deadline = now.checked_add(patience.total).unwrap_or(now);
        Ok(Self { base: base.trim_end_matches('/').to_owned(), transport, patience, deadline })
    }

    /// The chain above VCEKs of a generation: ASK and ARK.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn vcek_chain(&self, generation: Generation) -> Result<Vec<u8>, FetchError> {
        self.certificates(&format!("/vcek/v1/{generation}/cert_chain")).await
    }

    /// The chain above VLEKs of a generation: ASVK and ARK.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn vlek_chain(&self, generation: Generation) -> Result<Vec<u8>, FetchError> {
        self.certificates(&format!("/vlek/v1/{generation}/cert_chain")).await
    }

    /// The revocation list of a generation's root.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn crl(&self, generation: Generation) -> Result<Vec<u8>, FetchError> {
        let path = format!("/vcek/v1/{generation}/crl");
        let fits = |found: &Collateral| !found.crls.is_empty() && found.certificates.is_empty();
        self.get(&path, "a revocation list", fits).await
    }

    /// The certificate of the key that signed a report.
    ///
    /// # Errors
    /// [`FetchError`]: for example for a VLEK, which only the provider issues.
    pub async fn vcek(&self, report: &Report, generation: Generation) -> Result<Vec<u8>, FetchError> {
        let wanted = report.reported_tcb.decode(generation);
        let fits = |found: &Collateral| match found.certificates.as_slice() {
            [one] => {
                let hwid = one.amd.hwid.as_deref();
                one.amd.tcb() == Some(wanted) && hwid.is_some_and(|hwid| report.chip_id.starts_with(hwid))
            }
            _ => false,
        };
        self.get(&vcek_path(report, generation)?, "the certificate of this chip at these patch levels", fits).await
    }

    async fn certificates(&self, path: &str) -> Result<Vec<u8>, FetchError> {
        let fits = |found: &Collateral| !found.certificates.is_empty() && found.crls.is_empty();
        self.get(path, "certificates", fits).await
    }

    /// Fetches one document. It retries after pauses until the service answers, refuses, or
    /// the time limit is reached.
    async fn get(
        &self,
        path: &str,
        required: &'static str,
        fits: impl Fn(&Collateral) -> bool,
    ) -> Result<Vec<u8>, FetchError> {
        let url = format!("{}{path}", self.base);
        let (mut later, mut unreached, mut why) = (0_u32, 0_u32, "not asked yet".to_owned());
        while later < ATTEMPTS && unreached < TRIES {
            let asked = timeout_at(self.deadline, self.transport.get(path)).await;
            let pause = match asked {
                Err(_) => return Err(self.unreachable(url, later.saturating_add(unreached), why)),
                Ok(Err(Failure::Lasting(why))) => return Err(FetchError::Blocked { url, why }),
                Ok(Err(Failure::Passing(failure))) => {
                    why = failure;
                    unreached = unreached.saturating_add(1);
                    doubled(self.patience.pause.checked_div(10).unwrap_or_default(), unreached)
                }
                Ok(Ok(reply)) if is_later(reply.status) => {
                    later = later.saturating_add(1);
                    let asked = reply.headers.get(RETRY_AFTER).and_then(|value| retry_after(value, clock::now()));
                    why = format!("status {}", reply.status);
                    match asked {
                        Some(pause) => {
                            why = format!("{why}, Retry-After {} s", pause.as_secs());
                            pause
                        }
                        None => doubled(self.patience.pause, later),
                    }
                }
                Ok(Ok(reply)) => return judge(&url, reply, required, &fits),
            };
            if later < ATTEMPTS && unreached < TRIES {
                self.wait(&url, pause, &why, later.saturating_add(unreached)).await?;
            }
        }
        Err(self.unreachable(url, later.saturating_add(unreached), why))
    }

    /// Waits before the next request and reports that; it does not wait beyond the time
    /// limit.
    async fn wait(&self, url: &str, pause: Duration, why: &str, attempts: u32) -> Result<(), FetchError> {
        let until = Instant::now().checked_add(pause).filter(|until| *until < self.deadline);
        if until.is_none() {
            let why =
                format!("{why}: the next attempt is due at {}", rfc3339(clock::now().saturating_add(pause.as_secs())));
            return Err(self.unreachable(url.to_owned(), attempts, why));
        }
        say(format!("{why}; again in {} s", pause.as_secs_f32().ceil()));
        doing(format!("waiting {} s before asking again", pause.as_secs_f32().ceil()));
        sleep(pause).await;
        Ok(())
    }

    fn unreachable(&self, url: String, attempts: u32, why: String) -> FetchError {
        FetchError::Unreachable { url, attempts: attempts.max(1), limit: self.patience.total.as_secs(), why }
    }
}

/// The first pause, doubled for each failure after the first.
fn doubled(first: Duration, failures: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)))
}

fn is_later(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

/// Parses the base address: https, or http on this machine.
pub(super) fn address(base: &str) -> Result<Uri, FetchError> {
    let refused = || FetchError::Address(base.to_owned(), "an https address, or http on this machine".into());
    let uri: Uri = base.parse().map_err(|_| refused())?;
    let local = matches!(uri.host(), Some("127.0.0.1" | "localhost" | "[::1]"));
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if local => Ok(uri),
        _ => Err(refused()),
    }
}

/// `Retry-After`, in seconds or as a date (RFC 9110 §10.2.3); `None` for a time in the
/// past or any other value.
fn retry_after(value: &HeaderValue, now: u64) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            u64::try_from(date.as_second()).ok()?.saturating_sub(now)
        }
    };
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// Checks that an answer is the requested document.
fn judge(
    url: &str,
    reply: Reply,
    required: &'static str,
    fits: &impl Fn(&Collateral) -> bool,
) -> Result<Vec<u8>, FetchError> {
    let url = url.to_owned();
    let header = |name| reply.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    if reply.status.is_redirection() {
        let target = header(LOCATION).unwrap_or_else(|| "nowhere".into());
        return Err(FetchError::Redirect { url, target: shown(&target) });
    }
    if reply.status != StatusCode::OK {
        return Err(FetchError::Refused { url, status: reply.status });
    }
    let answer = |what: String| Err(FetchError::Answer { url: url.clone(), what, required });
    if reply.body.is_empty() {
        return answer("an empty answer".into());
    }
    if header(CONTENT_TYPE).is_some_and(|kind| kind.contains("html")) || looks_like_html(&reply.body) {
        let title = title(&reply.body).map_or_else(String::new, |title| format!(" ({title:?})"));
        return Err(FetchError::WebPage { url, title });
    }
    match Collateral::parse(&reply.body).and_then(Collateral::strict) {
        Ok(found) if fits(&found) => Ok(reply.body),
        Ok(_) => answer("another object".into()),
        Err(error) => answer(format!("{} bytes that cannot be read ({error})", reply.body.len())),
    }
}

fn looks_like_html(body: &[u8]) -> bool {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    text.first() == Some(&b'<')
}

/// The title of a web page, so that people recognise it.
fn title(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let lower = text.to_ascii_lowercase();
    let start = lower.find("<title>")?.checked_add("<title>".len())?;
    let end = lower.get(start..)?.find("</title>")?.checked_add(start)?;
    Some(shown(text.get(start..end)?.trim()))
}

/// Text from a server, shortened and without control characters.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

/// Path of the certificate for a report: hardware id, and patch levels as a query.
pub(super) fn vcek_path(report: &Report, generation: Generation) -> Result<String, FetchError> {
    if report.key_info.signing_key() != SigningKey::Vcek {
        return Err(FetchError::Report("the report is not signed by a VCEK: a VLEK comes from the provider's host"));
    }
    if report.chip_id == [0; 64] {
        return Err(FetchError::Report(
            "the host hides the chip id (MASK_CHIP_ID), so nobody can ask for its certificate: take it from the host",
        ));
    }
    let tcb = report.reported_tcb.decode(generation);
    // Turin's certificates name eight bytes of the chip id (57230, table 11).
    let length = if generation == Generation::Turin { 8 } else { 64 };
    let hwid = hex(report.chip_id.get(..length).unwrap_or_default());
    let fmc = tcb.fmc.map(|fmc| format!("fmcSPL={fmc:02}&")).unwrap_or_default();
    Ok(format!(
        "/vcek/v1/{generation}/{hwid}?{fmc}blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}",
        tcb.boot_loader, tcb.tee, tcb.snp, tcb.microcode
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::header::HeaderValue;

    use super::{doubled, looks_like_html, retry_after, title};

    /// RFC 9110 §10.2.3 has both examples: `Fri, 31 Dec 1999 23:59:59 GMT` and `120`.
    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let of = |text: &'static str, now| retry_after(&HeaderValue::from_static(text), now);
        assert_eq!(of("120", 0), Some(Duration::from_secs(120)));
        assert_eq!(of("Fri, 31 Dec 1999 23:59:59 GMT", 946_684_799 - 30), Some(Duration::from_secs(30)));
        for past in ["Fri, 31 Dec 1999 23:59:59 GMT", "0", "soon", "-5", ""] {
            assert_eq!(of(past, 946_684_799), None, "{past}");
        }
    }

    #[test]
    fn pauses_double_from_the_first() {
        let seconds = [1, 2, 3, 4].map(|n| doubled(Duration::from_secs(10), n).as_secs());
        assert_eq!(seconds, [10, 20, 40, 80]);
        assert!(doubled(Duration::MAX, u32::MAX) == Duration::MAX);
    }

    #[test]
    fn a_web_page_is_recognised_by_its_text_too() {
        assert!(looks_like_html(b"\xef\xbb\xbf\r\n <!DOCTYPE html>"));
        assert!(!looks_like_html(b"-----BEGIN CERTIFICATE-----"));
        assert_eq!(title(b"<html><TITLE> Sign\x07 in </TITLE>").as_deref(), Some("Sign in"));
        assert_eq!(title(b"<html><title>\xff"), None);
    }

    /// AMD copies the values of an address into the certificate that it returns (KDS
    /// specification 57230, §3.1 and §4.1): for reports of real machines, the address
    /// contains the values in their certificates.
    #[test]
    fn the_address_of_a_vcek_names_what_the_certificate_has() {
        use portcullis_attest::check::Checks;
        use portcullis_attest::snp::collateral::Collateral;
        use portcullis_attest::snp::generation::Generation;
        use portcullis_attest::snp::report::Report;
        use portcullis_wire::hex::hex;

        let Some(root) = portcullis_vectors::vectors("snp") else { return };
        let read = |file: &str| std::fs::read(root.join(file)).unwrap();
        for (generation, report, certificate) in [
            (Generation::Milan, "milan-v2-gsg/report.bin", "milan-v2-gsg/vcek.der"),
            (Generation::Genoa, "genoa-v3-ms-aci/report.bin", "genoa-v3-ms-aci/vcek.pem"),
            (Generation::Turin, "turin-v5-ms-aci/report.bin", "turin-v5-ms-aci/vcek.pem"),
        ] {
            let report = Report::parse(&read(report), &mut Checks::all()).unwrap();
            let amd = Collateral::parse(&read(certificate)).unwrap().certificates[0].amd.clone();
            let path = super::vcek_path(&report, generation).unwrap();
            let (place, query) = path.split_once('?').unwrap();
            assert_eq!(place, format!("/vcek/v1/{generation}/{}", hex(amd.hwid.as_ref().unwrap())));
            let levels: Vec<(&str, Option<u8>)> = query
                .split('&')
                .filter_map(|part| part.split_once('='))
                .map(|(name, n)| (name, n.parse().ok()))
                .collect();
            let mut expected =
                vec![("blSPL", amd.boot_loader), ("teeSPL", amd.tee), ("snpSPL", amd.snp), ("ucodeSPL", amd.microcode)];
            if generation == Generation::Turin {
                expected.insert(0, ("fmcSPL", amd.fmc));
            }
            assert_eq!(levels, expected, "{path}");
            assert!(levels.iter().all(|(_, level)| level.is_some()));
        }
    }
}
