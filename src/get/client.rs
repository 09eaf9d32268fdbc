//! An HTTP/1.1 client: connections kept per host, proxies, redirects, one answer a request.

pub(super) mod body;
mod socks;
pub(super) mod wire;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use url::Origin;

use crate::dial::{Dialer, Family};
use crate::http::client_response::{self, Framing, Head};

use super::error::{Again, Blame, GetError};
use super::login::{self, Login};
use super::proxy::{Proxies, Proxy};
use super::source::HttpUrl;
use super::watch::Watch;
use body::{Body, malformed};
use wire::{HEAD_FILL_BYTES, Wire};

/// Sends requests; shared by all threads.
#[derive(Debug)]
pub(super) struct Client {
    proxies: Proxies,
    login: Login,
    /// The servers that the user named: only they get what `login` has.
    named: Vec<Origin>,
    connect_timeout: Duration,
    pub(super) dialer: Dialer,
    /// The hosts and ports that were reached, each with the connections that are kept.
    idle: Mutex<HashMap<(String, u16), Vec<Wire>>>,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Ask<'a> {
    pub(super) url: &'a HttpUrl,
    pub(super) method: Method,
    pub(super) accept: &'a str,
    pub(super) range: Option<AskedRange<'a>>,
}

/// The request's method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
}

/// A range of bytes, and the validator of the file that it is a range of.
#[derive(Clone, Copy, Debug)]
pub(super) struct AskedRange<'a> {
    pub(super) start: u64,
    /// One past the last byte.
    pub(super) end: u64,
    /// `If-Range`; only a mirror that has not been heard yet goes without.
    pub(super) if_range: Option<&'a str>,
}

/// A final answer, after redirects.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: Head,
    pub(super) body: Body,
    /// The address that answered.
    pub(super) url: HttpUrl,
}

/// A connection that a request can be sent over.
#[derive(Debug)]
pub(super) enum Prepared {
    /// It has carried an answer.
    Idle(Wire),
    New(Wire),
}

impl Client {
    pub(super) fn new(
        proxies: Proxies,
        login: Login,
        named: Vec<Origin>,
        connect_timeout: Duration,
        family: Family,
    ) -> Self {
        Self {
            proxies,
            login,
            named,
            connect_timeout,
            dialer: Dialer::new(family),
            idle: Mutex::default(),
        }
    }

    /// Asks, and follows redirects; whatever the status of the last answer.
    ///
    /// # Errors
    /// Network: the host cannot be reached, breaks the protocol, or leads in circles.
    pub(super) fn ask(&self, ask: &Ask<'_>, watch: &Watch) -> Result<Answer, GetError> {
        let prepared = self.prepare(ask.url, watch)?;
        self.ask_on(prepared, ask, watch)
    }

    /// Asks over a connection that stands.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(super) fn ask_on(
        &self,
        mut prepared: Prepared,
        ask: &Ask<'_>,
        watch: &Watch,
    ) -> Result<Answer, GetError> {
        let mut url = ask.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let hop = Ask {
                url: &url,
                ..ask.clone()
            };
            let answer = self.ask_once(prepared, &hop, watch)?;
            let redirects = matches!(answer.head.status, 301 | 302 | 303 | 307 | 308);
            let Some(location) = answer.head.location.clone().filter(|_| redirects) else {
                check_coding(&answer)?;
                return Ok(answer);
            };
            url = url
                .join(&location)
                .map_err(|why| GetError::new(Blame::Network, why.to_string()))?;
            prepared = self.prepare(&url, watch)?;
        }
        let text = format!("{} redirects more than {MAX_REDIRECTS} times", ask.url);
        Err(GetError::new(Blame::Network, text))
    }

    /// A connection for `url`, idle or new.
    ///
    /// # Errors
    /// Network: the host cannot be reached.
    pub(super) fn prepare(&self, url: &HttpUrl, watch: &Watch) -> Result<Prepared, GetError> {
        if let Some(wire) = self.take_idle(url) {
            return Ok(Prepared::Idle(wire));
        }
        let proxy = self.proxies.for_url(url);
        let proxy = proxy.map_err(|why| GetError::new(Blame::Usage, why))?;
        self.connect(url, proxy, watch).map(Prepared::New)
    }

    /// Gives back a connection that nothing was asked over.
    pub(super) fn put_back(&self, url: &HttpUrl, prepared: Prepared) {
        let (Prepared::Idle(wire) | Prepared::New(wire)) = prepared;
        self.keep(url, wire);
    }

    /// Gives back a connection that can carry another request.
    pub(super) fn keep(&self, url: &HttpUrl, wire: Wire) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.entry(self.hop(url)).or_default();
        if kept.len() < MAX_IDLE {
            kept.push(wire);
        }
    }

    fn ask_once(
        &self,
        mut prepared: Prepared,
        ask: &Ask<'_>,
        watch: &Watch,
    ) -> Result<Answer, GetError> {
        let proxy = self.proxies.for_url(ask.url);
        let proxy = proxy.map_err(|why| GetError::new(Blame::Usage, why))?;
        let request = self.request_bytes(ask, proxy);
        // A kept connection may have been closed under our hands; that says nothing about the
        // server, so the next one is tried at once, and in the end a new one.
        loop {
            let wire = match prepared {
                Prepared::New(wire) => return Self::exchange(wire, &request, ask, watch),
                Prepared::Idle(wire) => wire,
            };
            match Self::exchange(wire, &request, ask, watch) {
                Err(error) if !error.is_stop() => prepared = self.prepare(ask.url, watch)?,
                result => return result,
            }
        }
    }

    fn connect(
        &self,
        url: &HttpUrl,
        proxy: Option<&Proxy>,
        watch: &Watch,
    ) -> Result<Wire, GetError> {
        let next = proxy.map_or(url, Proxy::url);
        let (host, port) = (host(next), next.port());
        let wire = Wire::connect(&self.dialer, &host, port, self.connect_timeout, watch);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let error = match wire {
            Ok(mut wire) => {
                idle.entry((host, port)).or_default();
                drop(idle);
                if let Some(Proxy::Socks(proxy)) = proxy {
                    let target = (&*self::host(url), url.port());
                    socks::connect(&mut wire, target, proxy.credentials().as_deref(), watch)?;
                }
                return Ok(wire);
            }
            Err(error) if error.blame != Blame::Network => return Err(error),
            // Its address is right, so it will be back.
            Err(error) if idle.contains_key(&(host, port)) => error.with_again(Again::Later),
            Err(error) => error,
        };
        Err(match proxy {
            Some(_) => error.and("that is the proxy of http_proxy, all_proxy or --proxy"),
            None => error,
        })
    }

    fn exchange(
        mut wire: Wire,
        request: &[u8],
        ask: &Ask<'_>,
        watch: &Watch,
    ) -> Result<Answer, GetError> {
        wire.send(request)?;
        let patience = watch.patience();
        let mut interim = 0;
        loop {
            let input = wire.input.unused();
            let parsed = client_response::parse_head(input).map_err(|why| {
                let error = malformed(&why);
                match other_protocol(input) {
                    Some(protocol) => error.and(format!("this port seems to speak {protocol}")),
                    None => error,
                }
            })?;
            if let Some((head, used)) = parsed {
                wire.input.consume(used);
                // 100 Continue, 103 Early Hints: not the answer yet. 101 was not asked for.
                if (100..200).contains(&head.status) && interim < MAX_INTERIM {
                    interim += 1;
                    continue;
                }
                let framing = match ask.method {
                    Method::Head => Framing::Length(0),
                    Method::Get => head.framing(),
                };
                let body = Body::new(wire, framing, head.closes);
                return Ok(Answer {
                    head,
                    body,
                    url: ask.url.clone(),
                });
            }
            // A head that drips in, byte by byte, is bounded as a whole.
            patience.check()?;
            if wire.fill(HEAD_FILL_BYTES, watch)? == 0 {
                let text = "the server closed the connection without an answer";
                return Err(GetError::passing(Blame::Network, text));
            }
        }
    }

    fn take_idle(&self, url: &HttpUrl) -> Option<Wire> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(&self.hop(url))?;
        loop {
            let wire = kept.pop()?;
            if wire.is_quiet() {
                return Some(wire);
            }
        }
    }

    /// Whose idle connections can carry a request for `url`: an HTTP proxy's carry any, those
    /// through SOCKS lead to one server.
    fn hop(&self, url: &HttpUrl) -> (String, u16) {
        let next = match self.proxies.for_url(url) {
            Ok(Some(Proxy::Http(proxy))) => proxy,
            _ => url,
        };
        (host(next), next.port())
    }

    /// The request; a validator's characters stand for one byte each.
    fn request_bytes(&self, ask: &Ask<'_>, proxy: Option<&Proxy>) -> Vec<u8> {
        let Ask { url, accept, .. } = ask;
        let method = match ask.method {
            Method::Get => "GET",
            Method::Head => "HEAD",
        };
        let proxy = match proxy {
            Some(Proxy::Http(proxy)) => Some(proxy),
            _ => None,
        };
        let target = proxy.map_or_else(|| url.path_and_query(), |_| url.to_string());
        let mut text = format!("{method} {target} HTTP/1.1\r\n");
        let named = self.named.contains(&url.url().origin());
        self.login.write(url, accept, named, &mut text);
        let mut field = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{name}: {value}\r\n");
        };
        field("Accept-Encoding", "identity");
        if let Some(credentials) = proxy.and_then(HttpUrl::credentials) {
            field("Proxy-Authorization", &login::basic(&credentials));
        }
        if let Some(AskedRange {
            start,
            end,
            if_range,
        }) = ask.range
        {
            field("Range", &format!("bytes={start}-{}", end - 1));
            if let Some(validator) = if_range {
                field("If-Range", validator);
            }
        }
        text.push_str("\r\n");
        text.chars().map(|character| character as u8).collect()
    }
}

fn host(url: &HttpUrl) -> String {
    url.url().host_str().unwrap_or_default().to_owned()
}

/// What a port speaks whose first bytes are no HTTP.
fn other_protocol(input: &[u8]) -> Option<&'static str> {
    const GREETINGS: [(&[u8], &str); 8] = [
        (b"\x15\x03", "TLS: try https"),
        (b"\x16\x03", "TLS: try https"),
        (b"SSH-", "SSH"),
        (b"220", "SMTP or FTP"),
        (b"* OK", "IMAP"),
        (b"+OK", "POP3"),
        (b"RFB ", "VNC"),
        (b"\0\0", "HTTP/2"),
    ];
    let known = GREETINGS
        .iter()
        .find(|(greeting, _)| input.starts_with(greeting));
    known.map(|&(_, protocol)| protocol)
}

/// Refuses bytes in a coding that nobody asked for, unless the file is called as if they were it.
fn check_coding(answer: &Answer) -> Result<(), GetError> {
    let coding = answer.head.content_encoding.as_deref().unwrap_or_default();
    let coding = coding.to_ascii_lowercase();
    let extensions: &[&str] = match coding.as_str() {
        "" | "identity" => return Ok(()),
        "gzip" | "x-gzip" => &["gz", "tgz", "svgz"],
        "compress" | "x-compress" => &["z"],
        "br" => &["br"],
        "zstd" => &["zst", "tzst"],
        "xz" | "x-xz" => &["xz", "txz"],
        "bzip2" | "x-bzip2" => &["bz2", "tbz2"],
        _ => &[],
    };
    let path = answer.url.url().path().to_ascii_lowercase();
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    if extensions.contains(&extension) || !matches!(answer.head.status, 200 | 203 | 206) {
        return Ok(());
    }
    let text = format!(
        "{}: the server sends the file in a coding that was not asked for ({coding}): what came \
         would be another file",
        answer.url
    );
    Err(GetError::new(Blame::Network, text))
}

const MAX_REDIRECTS: usize = 10;
const MAX_INTERIM: usize = 10;
const MAX_IDLE: usize = 16;
