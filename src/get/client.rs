//! An HTTP/1.1 client: connections kept per host, proxies, redirects, one response a request.

pub(super) mod body;
pub(super) mod cancellation;
pub(super) mod connection;
pub(super) mod refusal;
mod request;
mod socks;
mod tunnel;

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use url::Origin;

use crate::dial::Dialer;
use crate::http::client_response::{self, Framing, Head};
use crate::tls::client::{Connector, Identity};

use super::config::login::Login;
use super::config::proxy::{Proxies, Proxy};
use super::config::{Downgrade, GetConfig};
use super::error::{ErrorKind, GetError, Retry};
use super::source::HttpUrl;
use body::{Body, malformed};
use cancellation::Cancellation;
use connection::{Connection, HEAD_FILL_BYTES};
pub(super) use request::{Method, RangeRequest, Request};

/// Sends requests; shared by all threads.
#[derive(Debug)]
pub(super) struct Client {
    proxies: Proxies,
    login: Login,
    /// The servers that the user named: only they get what `login` has, and the certificate.
    named: Vec<Origin>,
    connect_timeout: Duration,
    pub(super) dialer: Dialer,
    connector: Connector,
    downgrade: Downgrade,
    /// The hosts and ports that were reached.
    reached: Mutex<HashSet<(String, u16)>>,
    idle: Mutex<HashMap<Hop, Vec<Connection>>>,
}

/// The next host of a connection, and whether it is reached through TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Hop {
    host: String,
    port: u16,
    is_secure: bool,
}

/// A final response, after redirects.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) head: Head,
    pub(super) body: Body,
    /// The address that answered.
    pub(super) url: HttpUrl,
}

/// A connection that a request can be sent over.
#[derive(Debug)]
pub(super) enum PreparedConnection {
    /// The connection has carried a response.
    Idle(Connection),
    New(Connection),
}

impl Client {
    pub(super) fn new(config: &GetConfig, named: Vec<Origin>) -> Self {
        Self {
            proxies: config.proxies.clone(),
            login: config.login.clone(),
            named,
            connect_timeout: config.connect_timeout,
            dialer: Dialer::new(config.family),
            connector: Connector::new(config.tls.clone()),
            downgrade: config.downgrade,
            reached: Mutex::default(),
            idle: Mutex::default(),
        }
    }

    /// Sends a request, and follows redirects; the last response may have any status.
    ///
    /// # Errors
    /// Network: the host cannot be reached, breaks the protocol, or redirects in circles.
    pub(super) fn send(
        &self,
        request: &Request<'_>,
        cancellation: &Cancellation,
    ) -> Result<Response, GetError> {
        let prepared = self.prepare(request.url, cancellation)?;
        self.send_on(prepared, request, cancellation)
    }

    /// Sends a request over an established connection.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub(super) fn send_on(
        &self,
        mut prepared: PreparedConnection,
        request: &Request<'_>,
        cancellation: &Cancellation,
    ) -> Result<Response, GetError> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let hop = Request {
                url: &url,
                ..request.clone()
            };
            let response = self.send_once(prepared, &hop, cancellation)?;
            let redirects = matches!(response.head.status, 301 | 302 | 303 | 307 | 308);
            let Some(location) = response.head.location.clone().filter(|_| redirects) else {
                check_coding(&response)?;
                return Ok(response);
            };
            let next = url
                .join(&location)
                .map_err(|why| GetError::new(ErrorKind::Network, why.to_string()))?;
            if url.is_secure() && !next.is_secure() && self.downgrade == Downgrade::Refused {
                let text = format!(
                    "{url} leads to {next}: without https anybody on the way could change what \
                     comes; --allow-downgrade goes there all the same"
                );
                return Err(GetError::new(ErrorKind::Untrusted, text));
            }
            self.release(response);
            url = next;
            prepared = self.prepare(&url, cancellation)?;
        }
        let text = format!("{} redirects more than {MAX_REDIRECTS} times", request.url);
        Err(GetError::new(ErrorKind::Network, text))
    }

    /// A connection for `url`, idle or new.
    ///
    /// # Errors
    /// Network: the host cannot be reached.
    pub(super) fn prepare(
        &self,
        url: &HttpUrl,
        cancellation: &Cancellation,
    ) -> Result<PreparedConnection, GetError> {
        if let Some(connection) = self.take_idle(url) {
            return Ok(PreparedConnection::Idle(connection));
        }
        let proxy = self.proxies.for_url(url);
        let proxy = proxy.map_err(|why| GetError::new(ErrorKind::Usage, why))?;
        self.connect(url, proxy, cancellation)
            .map(PreparedConnection::New)
    }

    /// Puts back a connection that carried no request.
    pub(super) fn put_back(&self, url: &HttpUrl, prepared: PreparedConnection) {
        let (PreparedConnection::Idle(connection) | PreparedConnection::New(connection)) = prepared;
        self.keep(url, connection);
    }

    /// Gives back a connection that can carry another request.
    pub(super) fn keep(&self, url: &HttpUrl, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.entry(self.hop(url)).or_default();
        if kept.len() < MAX_IDLE {
            kept.push(connection);
        }
    }

    /// Gives back the connection of a response whose body is not needed; returns its head.
    pub(super) fn release(&self, response: Response) -> Head {
        let Response { head, body, url } = response;
        if let Some(connection) = body.into_connection() {
            self.keep(&url, connection);
        }
        head
    }

    fn send_once(
        &self,
        mut prepared: PreparedConnection,
        request: &Request<'_>,
        cancellation: &Cancellation,
    ) -> Result<Response, GetError> {
        let proxy = self.proxies.for_url(request.url);
        let proxy = proxy.map_err(|why| GetError::new(ErrorKind::Usage, why))?;
        let bytes = request.bytes(&self.login, self.is_named(request.url), proxy);
        // A kept connection may have been closed meanwhile, which is no fault of the server: the
        // next one is tried at once, and in the end a new one.
        loop {
            let connection = match prepared {
                PreparedConnection::New(connection) => {
                    return Self::exchange(connection, &bytes, request, cancellation);
                }
                PreparedConnection::Idle(connection) => connection,
            };
            match Self::exchange(connection, &bytes, request, cancellation) {
                Err(error) if !error.is_stop() => {
                    prepared = self.prepare(request.url, cancellation)?
                }
                result => return result,
            }
        }
    }

    fn connect(
        &self,
        url: &HttpUrl,
        proxy: Option<&Proxy>,
        cancellation: &Cancellation,
    ) -> Result<Connection, GetError> {
        let mut connection = self.reach(proxy.map_or(url, Proxy::url), cancellation);
        if proxy.is_some() {
            connection = connection.map_err(|error| match error.kind {
                ErrorKind::Network => {
                    error.and("that is the proxy of the environment or of --proxy")
                }
                _ => error,
            });
        }
        let mut connection = connection?;
        let (host, port) = (host(url), url.port());
        match proxy {
            Some(Proxy::Socks(proxy)) => {
                let credentials = proxy.credentials();
                socks::connect(
                    &mut connection,
                    (&host, port),
                    credentials.as_deref(),
                    cancellation,
                )?;
            }
            Some(Proxy::Http(proxy)) if url.is_secure() => {
                let credentials = proxy.credentials();
                let authority = format!("{host}:{port}");
                tunnel::connect(
                    &mut connection,
                    &authority,
                    credentials.as_deref(),
                    cancellation,
                )?;
            }
            _ => {}
        }
        if url.is_secure() {
            let identity = match self.is_named(url) {
                true => Identity::Presented,
                false => Identity::Withheld,
            };
            let session = self.connector.begin(&host, identity);
            let session = session.map_err(|failure| connection::insecure(&failure))?;
            connection.secure(session, &host, self.connect_timeout, cancellation)?;
        }
        Ok(connection)
    }

    /// A connection to the host and port of `next`.
    fn reach(&self, next: &HttpUrl, cancellation: &Cancellation) -> Result<Connection, GetError> {
        let (host, port) = (next.host(), next.port());
        let connection = Connection::connect(
            &self.dialer,
            &host,
            port,
            self.connect_timeout,
            cancellation,
        );
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        match connection {
            Ok(connection) => {
                reached.insert((host, port));
                Ok(connection)
            }
            // Its address is right, so it will be back.
            Err(error) if error.kind == ErrorKind::Network && reached.contains(&(host, port)) => {
                Err(error.with_retry(Retry::Later))
            }
            Err(error) => Err(error),
        }
    }

    fn exchange(
        mut connection: Connection,
        bytes: &[u8],
        request: &Request<'_>,
        cancellation: &Cancellation,
    ) -> Result<Response, GetError> {
        connection.send(bytes)?;
        let stall_timer = cancellation.stall_timer();
        let mut interim = 0;
        loop {
            let input = connection.input.unused();
            let parsed = client_response::parse_head(input).map_err(|why| {
                let error = malformed(&why);
                match other_protocol(input) {
                    Some(protocol) => error.and(format!("this port seems to speak {protocol}")),
                    None => error,
                }
            })?;
            if let Some((head, used)) = parsed {
                connection.input.consume(used);
                // 100 Continue and 103 Early Hints precede the response. 101 was not requested, and
                // no HTTP follows it.
                let is_interim = (100..200).contains(&head.status) && head.status != 101;
                if is_interim && interim < MAX_INTERIM {
                    interim += 1;
                    continue;
                }
                let framing = match request.method {
                    Method::Head => Framing::Length(0),
                    Method::Get => head.framing(),
                };
                let body = Body::new(connection, framing, head.closes);
                return Ok(Response {
                    head,
                    body,
                    url: request.url.clone(),
                });
            }
            // A head that drips in, byte by byte, is bounded as a whole.
            stall_timer.check()?;
            if connection.fill(HEAD_FILL_BYTES, cancellation)? == 0 {
                let text = "the server closed the connection without an answer";
                return Err(GetError::passing(ErrorKind::Network, text));
            }
        }
    }

    fn is_named(&self, url: &HttpUrl) -> bool {
        self.named.contains(&url.url().origin())
    }

    fn take_idle(&self, url: &HttpUrl) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(&self.hop(url))?;
        loop {
            let mut connection = kept.pop()?;
            if connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    /// The key of the idle connections that can carry a request for `url`: those to an HTTP proxy
    /// carry any plain one, those through SOCKS or a tunnel lead to one server.
    fn hop(&self, url: &HttpUrl) -> Hop {
        let next = match self.proxies.for_url(url) {
            Ok(Some(Proxy::Http(proxy))) if !url.is_secure() => proxy,
            _ => url,
        };
        Hop {
            host: next.host(),
            port: next.port(),
            is_secure: url.is_secure(),
        }
    }
}

fn host(url: &HttpUrl) -> String {
    url.url().host_str().unwrap_or_default().to_owned()
}

/// The protocol of a port whose first bytes are no HTTP.
fn other_protocol(input: &[u8]) -> Option<&'static str> {
    const GREETINGS: [(&[u8], &str); 8] = [
        (b"\x15\x03", "TLS: try https:// in front of the address"),
        (b"\x16\x03", "TLS: try https:// in front of the address"),
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

/// Refuses a content coding that the request did not accept, unless the file's name has the
/// coding's extension.
fn check_coding(response: &Response) -> Result<(), GetError> {
    let codings = response.head.content_encoding.as_deref();
    let codings = codings.unwrap_or_default().to_ascii_lowercase();
    let codings: Vec<_> = codings.split(',').map(str::trim).collect();
    let is_coding = |it: &&str| !matches!(*it, "" | "identity");
    let coding = codings.into_iter().filter(is_coding).collect::<Vec<_>>();
    let coding = coding.join(", ");
    let extensions: &[&str] = match coding.as_str() {
        "" => return Ok(()),
        "gzip" | "x-gzip" => &["gz", "tgz", "svgz"],
        "compress" | "x-compress" => &["z"],
        "br" => &["br"],
        "zstd" => &["zst", "tzst"],
        "xz" | "x-xz" => &["xz", "txz"],
        "bzip2" | "x-bzip2" => &["bz2", "tbz2"],
        _ => &[],
    };
    let path = response.url.url().path().to_ascii_lowercase();
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    if extensions.contains(&extension) || !matches!(response.head.status, 200 | 203 | 206) {
        return Ok(());
    }
    let text = format!(
        "{}: the server sends the file in a coding that was not asked for ({coding}): what came \
         would be another file",
        response.url
    );
    Err(GetError::new(ErrorKind::Network, text))
}

const MAX_REDIRECTS: usize = 10;
const MAX_INTERIM: usize = 10;
const MAX_IDLE: usize = 16;
