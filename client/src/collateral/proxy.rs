//! The proxy from the environment, read as curl does: `HTTPS_PROXY` or `ALL_PROXY`, and
//! `NO_PROXY` for hosts that are reached directly.

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_util::client::proxy::matcher::Matcher;

use super::FetchError;

/// Variables that may hold the proxy's address; the first one that is set applies.
const NAMES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const EXCEPT: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// An HTTP proxy that provides a tunnel (`CONNECT`, RFC 9110 §9.3.6).
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Variable that names it.
    pub(super) variable: &'static str,
    /// Address, without credentials.
    pub(super) address: Uri,
    /// `Proxy-Authorization`, if the variable has credentials.
    pub(super) authorization: Option<HeaderValue>,
}

impl Proxy {
    /// The proxy for an https address; `None` if no proxy is set or the address is reached
    /// directly. `variable` reads the environment.
    ///
    /// # Errors
    /// [`FetchError::Proxy`]: the variable names an unusable proxy. Connecting directly
    /// instead would not be what the administrator configured.
    pub fn of(target: &Uri, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, FetchError> {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()).map(|value| (*name, value)))
        };
        let Some((name, address)) = first(&NAMES) else { return Ok(None) };
        let refused = || FetchError::Proxy(name);
        let any = Matcher::builder().all(address.clone()).build().intercept(target).ok_or_else(refused)?;
        if !matches!(any.uri().scheme_str(), Some("http" | "https")) {
            return Err(refused());
        }
        let except = first(&EXCEPT).map(|(_, list)| list).unwrap_or_default();
        let used = Matcher::builder().all(address).no(except).build().intercept(target);
        Ok(used.map(|proxy| Self {
            variable: name,
            address: proxy.uri().clone(),
            authorization: proxy.basic_auth().cloned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::Proxy;

    fn of(variables: &[(&str, &str)]) -> Option<Proxy> {
        let read = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Proxy::of(&"https://kdsintf.amd.com/vcek".parse().unwrap(), read).unwrap()
    }

    #[test]
    fn the_environment_names_a_proxy_as_for_curl() {
        let address = |variables: &[(&str, &str)]| of(variables).map(|proxy| proxy.address.to_string());
        assert_eq!(address(&[]), None);
        assert_eq!(address(&[("HTTPS_PROXY", "")]), None);
        assert_eq!(address(&[("HTTP_PROXY", "http://plain:1")]), None, "for http alone");
        assert_eq!(address(&[("https_proxy", "proxy:3128")]).as_deref(), Some("http://proxy:3128/"));
        assert_eq!(address(&[("ALL_PROXY", "https://p:443/x")]).as_deref(), Some("https://p:443/"));
        assert_eq!(
            address(&[("HTTPS_PROXY", "http://one:1"), ("ALL_PROXY", "http://two:2")]).as_deref(),
            Some("http://one:1/")
        );
        for except in ["amd.com", ".amd.com", "x, kdsintf.amd.com", "*"] {
            assert_eq!(address(&[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", except)]), None, "{except}");
        }
        assert!(address(&[("HTTPS_PROXY", "http://p:1"), ("no_proxy", "otheramd.com")]).is_some());
    }

    #[test]
    fn credentials_go_into_a_header_and_out_of_every_message() {
        let proxy = of(&[("HTTPS_PROXY", "http://alice:p%40ss@proxy:3128")]).unwrap();
        assert_eq!(proxy.address, "http://proxy:3128/");
        // RFC 7617: base64 of "alice:p@ss".
        assert_eq!(proxy.authorization.clone().unwrap(), "Basic YWxpY2U6cEBzcw==");
        assert!(!format!("{proxy:?}").contains("YWxpY2U6"), "{proxy:?}");
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_not_gone_around() {
        for value in ["socks5://p:1080", "ftp://p", "http://", "ht tp://p"] {
            let read = |name: &str| (name == "HTTPS_PROXY").then(|| value.to_owned());
            let refused = Proxy::of(&"https://kdsintf.amd.com".parse().unwrap(), read).unwrap_err();
            assert!(refused.to_string().contains("HTTPS_PROXY"), "{value}: {refused}");
        }
    }
}
