//! Cases as data: bytes in, what has to come out, and whether the connection goes on.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::site::{ETAG, Judge, Site};
use crate::support::Stream;

/// One rule, shown once.
#[derive(Clone, Debug)]
pub struct Case {
    /// The section that it follows, and what it shows.
    pub rule: &'static str,
    /// The bytes that are sent. [`ETAG`] stands for the entity tag of `ten.txt`.
    pub request: Vec<u8>,
    /// The answers, in order, to what `request` holds.
    pub answers: Vec<Expected>,
    /// Whether a request that follows is answered as well.
    pub after: After,
    /// The servers that it applies to.
    pub scope: Scope,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    GoesOn,
    Closes,
}

/// The servers that a case applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// For every server of files, by the RFCs.
    Anyone,
    /// For haul, which had a choice.
    Haul,
}

/// What one answer has to be.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Any of these.
    pub statuses: Vec<u16>,
    /// What the RFCs let other servers say as well, in their own way.
    elsewhere: Vec<u16>,
    fields: Vec<(&'static str, &'static str)>,
    absent: Vec<&'static str>,
    body: Option<Vec<u8>>,
    parts: Option<Vec<(&'static str, &'static str)>>,
}

/// How the bytes are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieces {
    Whole,
    OneByte,
}

/// `GET` on HTTP/1.1 with further field lines.
pub fn get(rule: &'static str, target: &str, fields: &str) -> Case {
    request(rule, "GET", target, fields)
}

/// `HEAD` on HTTP/1.1 with further field lines.
pub fn head(rule: &'static str, target: &str, fields: &str) -> Case {
    request(rule, "HEAD", target, fields)
}

/// Any method on HTTP/1.1 with further field lines.
pub fn request(rule: &'static str, method: &str, target: &str, fields: &str) -> Case {
    raw(
        rule,
        format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"),
    )
}

/// Bytes as they are.
pub fn raw(rule: &'static str, bytes: impl AsRef<[u8]>) -> Case {
    Case {
        rule,
        request: bytes.as_ref().to_vec(),
        answers: Vec::new(),
        after: After::GoesOn,
        scope: Scope::Anyone,
    }
}

/// Bytes behind a good request, where nothing but HTTP can be meant.
pub fn second(rule: &'static str, bytes: impl AsRef<[u8]>) -> Case {
    let first = b"GET /ten.txt HTTP/1.1\r\nHost: x\r\n\r\n";
    raw(rule, [first, bytes.as_ref()].concat())
        .is(200)
        .text("0123456789")
}

impl Case {
    /// More bytes: a body.
    pub fn with(mut self, body: impl AsRef<[u8]>) -> Self {
        self.request.extend_from_slice(body.as_ref());
        self
    }

    /// One more answer, with this status.
    pub fn is(self, status: u16) -> Self {
        self.any(&[status])
    }

    /// One more answer, with one of these statuses.
    pub fn any(mut self, statuses: &[u16]) -> Self {
        self.answers.push(Expected {
            statuses: statuses.to_vec(),
            ..Expected::default()
        });
        self
    }

    /// What other servers may say instead of the last answer.
    pub fn or_elsewhere(mut self, statuses: &[u16]) -> Self {
        self.last().elsewhere.extend_from_slice(statuses);
        self
    }

    /// One more answer, 400, and the end of the connection.
    pub fn refused(self) -> Self {
        self.is(400).closes()
    }

    /// The last answer has a field with this value.
    pub fn has(mut self, name: &'static str, value: &'static str) -> Self {
        self.last().fields.push((name, value));
        self
    }

    /// The last answer has no such field.
    pub fn lacks(mut self, name: &'static str) -> Self {
        self.last().absent.push(name);
        self
    }

    /// The last answer's content.
    pub fn text(mut self, body: impl AsRef<[u8]>) -> Self {
        self.last().body = Some(body.as_ref().to_vec());
        self
    }

    /// The last answer's content is these parts: `Content-Range` and bytes.
    pub fn parts(mut self, parts: &[(&'static str, &'static str)]) -> Self {
        self.last().parts = Some(parts.to_vec());
        self
    }

    /// The connection ends behind the last answer.
    pub fn closes(mut self) -> Self {
        self.after = After::Closes;
        self
    }

    /// haul's own choice, where the RFCs leave one.
    pub fn own(mut self) -> Self {
        self.scope = Scope::Haul;
        self
    }

    fn last(&mut self) -> &mut Expected {
        self.answers.last_mut().expect("after `is` or `any`")
    }

    /// Runs the case; what is wrong, if anything.
    pub fn run(&self, address: SocketAddr, site: &Site, pieces: Pieces) -> Result<(), String> {
        let mut bytes = replace(&self.request, ETAG.as_bytes(), site.etag.as_bytes());
        let mut heads = methods(&self.request, self.answers.len());
        bytes.extend_from_slice(PROBE);
        heads.push(false);
        let received = exchange(address, &bytes, pieces, site)?;
        let mut ends = false;
        let mut rest = received.as_slice();
        // Whether it comes depends on how fast the body follows.
        if find(&bytes, b"100-continue").is_some() && find(&bytes, b"HTTP/1.1").unwrap_or(99) < 30 {
            rest = rest.strip_prefix(CONTINUE).unwrap_or(rest);
        }
        for (expected, is_head) in self.answers.iter().zip(&heads) {
            let answer;
            (answer, rest) = take_answer(rest, *is_head)
                .map_err(|why| format!("{why} in {:?}", show(&received)))?;
            expected.check(&answer, site)?;
            // A server may end a connection at any time, as long as it says so.
            ends = site.judge == Judge::OfOthers && answer.values("connection") == ["close"];
        }
        match self.after {
            After::Closes if rest.is_empty() => Ok(()),
            After::Closes => Err(format!("it goes on with {:?}", show(rest))),
            After::GoesOn if ends && rest.is_empty() => Ok(()),
            After::GoesOn => {
                let (answer, rest) = take_answer(rest, false).map_err(|why| {
                    format!("the request that follows: {why} in {:?}", show(&received))
                })?;
                if answer.status == 200 && answer.body == PROBE_BODY && rest.is_empty() {
                    Ok(())
                } else {
                    Err(format!(
                        "the request that follows is answered by {:?}",
                        answer.head
                    ))
                }
            }
        }
    }
}

impl Expected {
    fn check(&self, answer: &Taken, site: &Site) -> Result<(), String> {
        if site.judge == Judge::OfOthers && self.elsewhere.contains(&answer.status) {
            return Ok(());
        }
        if !self.statuses.contains(&answer.status) {
            return Err(format!("{} instead of {:?}", answer.status, self.statuses));
        }
        for (name, value) in &self.fields {
            let value = value.replace(ETAG, &site.etag);
            let found = answer.values(name);
            if found != [value.as_str()] {
                return Err(format!("{name} is {found:?} instead of {value:?}"));
            }
        }
        for name in &self.absent {
            if !answer.values(name).is_empty() {
                return Err(format!("{name} is {:?}", answer.values(name)));
            }
        }
        if let Some(body) = &self.body
            && answer.body != *body
        {
            return Err(format!(
                "the content is {:?} instead of {:?}",
                show(&answer.body),
                show(body)
            ));
        }
        match &self.parts {
            Some(parts) => check_parts(answer, parts),
            None => Ok(()),
        }
    }
}

/// One answer, taken off the bytes received.
pub struct Taken {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Taken {
    /// All values of a field.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1);
        lines
            .filter_map(|line| line.split_once(':'))
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }
}

/// Sends the bytes, and returns all that comes until the end.
pub fn exchange(
    address: SocketAddr,
    bytes: &[u8],
    pieces: Pieces,
    site: &Site,
) -> Result<Vec<u8>, String> {
    let patience = site.patience;
    let socket = TcpStream::connect_timeout(&address, patience).map_err(|e| e.to_string())?;
    socket.set_nodelay(true).map_err(|e| e.to_string())?;
    for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
        set(&socket, Some(patience)).map_err(|e| e.to_string())?;
    }
    let mut stream = Stream::over(socket);
    let size = match pieces {
        Pieces::Whole => bytes.len(),
        Pieces::OneByte => 1,
    };
    // A server may refuse before it has all, and close: what it said is still to be read.
    for piece in bytes.chunks(size) {
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Ok(_) => Ok(received),
        Err(error) if received.is_empty() => Err(format!("no answer: {error}")),
        // It is waiting for the rest of something that it has refused already.
        Err(_) if site.judge == Judge::OfOthers => Ok(received),
        Err(error) => Err(format!("{error} behind {:?}", show(&received))),
    }
}

/// Takes one answer off the front.
pub fn take_answer(bytes: &[u8], is_head: bool) -> Result<(Taken, &[u8]), String> {
    let end = find(bytes, b"\r\n\r\n").ok_or("no head")? + 4;
    let head = str::from_utf8(&bytes[..end - 2]).map_err(|_| "a head that is no UTF-8")?;
    let status = ["HTTP/1.1 ", "HTTP/1.0 "]
        .into_iter()
        .find_map(|version| head.strip_prefix(version))
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or("no status line")?;
    let mut taken = Taken {
        status,
        head: head.into(),
        body: Vec::new(),
    };
    let rest = &bytes[end..];
    if is_head || status < 200 || status == 204 || status == 304 {
        return Ok((taken, rest));
    }
    if taken.values("transfer-encoding") == ["chunked"] {
        let len = take_chunks(rest, &mut taken.body)?;
        return Ok((taken, &rest[len..]));
    }
    let len = match taken.values("content-length").as_slice() {
        [] => rest.len(),
        [len] => len.parse().map_err(|_| "no Content-Length")?,
        _ => return Err("more than one Content-Length".into()),
    };
    let body = rest.get(..len).ok_or("the content is cut short")?;
    taken.body = body.to_vec();
    Ok((taken, &rest[len..]))
}

fn take_chunks(bytes: &[u8], body: &mut Vec<u8>) -> Result<usize, String> {
    let mut at = 0;
    loop {
        let line = find(&bytes[at..], b"\r\n").ok_or("a chunk's size is cut short")?;
        let size = str::from_utf8(&bytes[at..at + line]).map_err(|_| "no size")?;
        let size = usize::from_str_radix(size, 16).map_err(|_| "no chunk size")?;
        at += line + 2;
        let data = bytes.get(at..at + size + 2).ok_or("a chunk is cut short")?;
        body.extend_from_slice(&data[..size]);
        at += size + 2;
        if size == 0 {
            return Ok(at);
        }
    }
}

fn check_parts(answer: &Taken, parts: &[(&str, &str)]) -> Result<(), String> {
    let media = answer.values("content-type");
    let [media] = media.as_slice() else {
        return Err(format!("Content-Type is {media:?}"));
    };
    let boundary = media
        .strip_prefix("multipart/byteranges; boundary=")
        .ok_or_else(|| format!("Content-Type is {media:?}"))?
        .trim_matches('"');
    let body = String::from_utf8_lossy(&answer.body);
    let delimiter = format!("--{boundary}");
    let mut pieces = body.split(delimiter.as_str());
    // What stands before the first part (RFC 2046 section 5.1.1): nothing, or a line end.
    let preamble = pieces.next().unwrap_or_default();
    if !preamble.trim().is_empty() {
        return Err(format!("a preamble {preamble:?}"));
    }
    let found: Vec<_> = pieces.collect();
    let Some((last, found)) = found.split_last() else {
        return Err("no parts".into());
    };
    if last.trim_end() != "--" {
        return Err(format!("the end is {last:?}"));
    }
    let mut seen = Vec::new();
    for piece in found {
        let (head, content) = piece.split_once("\r\n\r\n").ok_or("a part without head")?;
        let range = head
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-range: ")
                    .map(str::to_owned)
            })
            .unwrap_or_default();
        let content = content.strip_suffix("\r\n").unwrap_or(content);
        seen.push((range, content.to_owned()));
    }
    let wanted: Vec<_> = parts
        .iter()
        .map(|(range, content)| ((*range).to_owned(), (*content).to_owned()))
        .collect();
    if seen == wanted {
        Ok(())
    } else {
        Err(format!("the parts are {seen:?}"))
    }
}

/// Which of the requests that begin in `bytes` are HEAD, as far as it matters: all or none.
fn methods(bytes: &[u8], answers: usize) -> Vec<bool> {
    vec![bytes.starts_with(b"HEAD "); answers]
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = find(rest, from) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn show(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(600)].escape_ascii().to_string()
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Follows every case, to see whether the connection goes on and where the next request began.
const PROBE: &[u8] = b"GET /probe.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
pub const PROBE_BODY: &[u8] = b"the probe";
