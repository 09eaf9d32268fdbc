//! Requests and prepared responses: the part that both protocols share.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::http::{BodyLength, ClientFields, Protocol, Refusal, Request, Response, Target};
use crate::name_protocol;
use crate::server::access::{Access, Grant, beneath, is_beneath};
use crate::server::connection::access::AccessCheck;
use crate::server::connection::request_buffer::RequestBuffer;
use crate::server::connection::step::Resolved;
use crate::server::connection::streamed_body::StreamedBody;
use crate::server::files::open_file_cache::OpenFileCache;
use crate::server::files::{Found, LookUp, OpenFile, RealPath};
use crate::server::semaphore::Permit;
use crate::server::shared::Shared;
use crate::server::telemetry::{AccessRecord, CloseReason, Peer, access_log};
use crate::sys::beneath::PathHandle;
use crate::sys::file::Blocking;

/// A request that waits for its response.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) request: RequestKind,
    pub(super) access: AccessCheck,
    /// The rest of an interim response that left in part.
    pub(super) interim: &'static [u8],
    /// When the request was whole.
    pub(super) asked: Instant,
    /// Times that the response was restarted because the file had changed.
    pub(super) restarts: u8,
}

/// The request of a peer.
#[derive(Debug)]
pub(super) enum RequestKind {
    /// By HTTP.
    Http(Box<Request>),
    /// By its bare name; the bytes are kept for the log.
    Name {
        target: Result<Target, Refusal>,
        raw: Box<[u8]>,
    },
    /// In HTTP that breaks a rule or a limit, or too late.
    Malformed { refusal: Refusal, line: Box<[u8]> },
}

/// A response that is ready to be sent.
#[derive(Debug)]
pub(super) struct PreparedResponse {
    pub(super) response: Response,
    /// The file that the response's file segments draw from.
    pub(super) file: Option<Arc<OpenFile>>,
    /// Content that follows the response's body, produced by disk workers.
    pub(super) rest: Option<StreamedBody>,
    /// The outcome if all is sent.
    pub(super) outcome: CloseReason,
    /// Why, for the log.
    pub(super) detail: &'static str,
    /// The right to a large transfer.
    pub(super) bulk: Option<Permit>,
}

impl Pending {
    pub(super) fn http(request: Box<Request>, interim: &'static [u8]) -> Self {
        Self {
            request: RequestKind::Http(request),
            access: AccessCheck::Undecided,
            interim,
            asked: Instant::now(),
            restarts: 0,
        }
    }

    pub(super) fn name(raw: Box<[u8]>) -> Self {
        let target = name_protocol::parse(&raw);
        Self {
            request: RequestKind::Name { target, raw },
            access: AccessCheck::Undecided,
            interim: b"",
            asked: Instant::now(),
            restarts: 0,
        }
    }

    pub(super) fn malformed(refusal: Refusal, line: Box<[u8]>) -> Self {
        Self {
            request: RequestKind::Malformed { refusal, line },
            access: AccessCheck::Undecided,
            interim: b"",
            asked: Instant::now(),
            restarts: 0,
        }
    }

    pub(super) fn protocol(&self) -> Protocol {
        match self.request {
            RequestKind::Http(_) | RequestKind::Malformed { .. } => Protocol::Http,
            RequestKind::Name { .. } => Protocol::Name,
        }
    }

    /// Whether the access is decided; decides, unless that takes a disk worker.
    pub(super) fn is_decided(&mut self, access: &Access, peer: Peer, now: Instant) -> bool {
        match &mut self.request {
            RequestKind::Http(request) if request.refusal.is_none() => {
                self.access.decide(request, access, peer, now)
            }
            _ => true,
        }
    }

    /// Decides the access by password, which may take time.
    pub(super) fn check_password(&mut self, access: &Access, peer: Peer) {
        if let RequestKind::Http(request) = &mut self.request {
            self.access.check_password(request, access, peer);
        }
    }

    /// The path looked up, from the root.
    pub(super) fn path(&self) -> &[u8] {
        match &self.request {
            RequestKind::Http(request) => &request.target.path,
            RequestKind::Name {
                target: Ok(target), ..
            } => &target.path,
            RequestKind::Name { .. } | RequestKind::Malformed { .. } => b"",
        }
    }

    /// Whether the peer has announced that it sends no more, no body either.
    pub(super) fn is_last(&self) -> bool {
        match &self.request {
            RequestKind::Http(request) => request.is_last && request.body == BodyLength::Empty,
            RequestKind::Name { .. } | RequestKind::Malformed { .. } => false,
        }
    }

    /// The raw request line, for observers.
    pub(super) fn line(&self) -> &[u8] {
        match &self.request {
            RequestKind::Http(request) => &request.line,
            RequestKind::Name { raw, .. } => raw,
            RequestKind::Malformed { line, .. } => line,
        }
    }

    /// Takes the log's part of the request.
    pub(super) fn take_logged(&mut self) -> Logged {
        let (line, client_fields) = match &mut self.request {
            RequestKind::Http(request) => (&mut request.line, request.client_fields.take()),
            RequestKind::Name { raw, .. } => (raw, None),
            RequestKind::Malformed { line, .. } => (line, None),
        };
        let mut line = std::mem::take(line).into_vec();
        access_log::cut(&mut line);
        Logged {
            line,
            client_fields,
        }
    }
}

/// The log's part of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Logged {
    /// The raw request line or name; cut if it is long.
    pub(super) line: Vec<u8>,
    pub(super) client_fields: Option<Box<ClientFields>>,
}

/// The cache of look-ups, and where results go.
pub(super) enum Cache<'a> {
    /// A worker's names, and the time of its turn.
    OpenFileCache(&'a mut OpenFileCache, Instant),
    /// A disk worker has no cache of names. It returns a path, and the file under just that path,
    /// for the cache of the worker that gets the connection; it may differ from the requested path.
    Later(&'a mut Option<Resolved>),
}

/// Looks up a target under this grant. `None` means that it takes a disk. A target whose real path
/// the grant does not cover is not found, and does not show why it could not be read either.
pub(super) fn look_up(
    target: &Target,
    grant: &Grant,
    service: &Shared,
    blocking: Blocking,
    cache: &mut Cache<'_>,
) -> Option<LookUp> {
    let found = find(target, service, blocking, cache)?;
    let Some(access) = &service.access else {
        return Some(found);
    };
    if !access.wants_real_path(grant, &target.path) {
        return Some(found);
    }
    let real_path = match &found {
        LookUp::Found(Found::File(file)) => file.real_path.clone(),
        LookUp::Found(Found::Directory(handle)) => service.root.real_path(&target.path, handle),
        LookUp::Found(Found::Names(_)) => RealPath::AsAsked,
        LookUp::Refused(Refusal::NotFound | Refusal::Overloaded) | LookUp::NotCached => {
            return Some(found);
        }
        LookUp::Refused(_) => nearest_real_path(&target.path, service, blocking)?,
    };
    if access.permits(grant, &target.path, &real_path)
        || leads_within(grant, &real_path, service, blocking)?
    {
        return Some(found);
    }
    Some(LookUp::Refused(Refusal::NotFound))
}

/// The real path of what cannot be read, as far as its components can be followed; `None` if only a
/// disk worker can find out.
fn nearest_real_path(path: &[u8], service: &Shared, blocking: Blocking) -> Option<RealPath> {
    let slashes = memchr::memrchr_iter(b'/', path);
    for end in std::iter::once(path.len()).chain(slashes).chain([0]) {
        match service.root.resolve(&path[..end], blocking) {
            Ok(RealPath::Other(real)) => {
                let rest = path[end..].strip_prefix(b"/");
                let whole = rest.map(|rest| beneath(&real, rest).into());
                return Some(RealPath::Other(whole.unwrap_or(real)));
            }
            Ok(other) => return Some(other),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(_) => {}
        }
    }
    Some(RealPath::Unknown)
}

/// Whether a path leads into the granted subtree, even through links; `None` if only a disk worker
/// can find out.
fn leads_within(
    grant: &Grant,
    real_path: &RealPath,
    service: &Shared,
    blocking: Blocking,
) -> Option<bool> {
    let (Grant::Subtree(granted), RealPath::Other(found)) = (grant, real_path) else {
        return Some(false);
    };
    match service.root.resolve(granted, blocking) {
        Ok(RealPath::Other(granted)) => Some(is_beneath(found, &granted)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Ok(_) | Err(_) => Some(false),
    }
}

/// The paths by which a directory's names have to be accessible to be listed: the requested one, and
/// the real one unless that is what is granted.
pub(super) fn listed_paths(
    path: &[u8],
    grant: &Grant,
    directory: &PathHandle,
    access: &Access,
    service: &Shared,
) -> Vec<Vec<u8>> {
    let mut paths = vec![path.to_vec()];
    if access.wants_real_path(grant, path) {
        let found = service.root.real_path(path, directory);
        if let RealPath::Other(real) = &found
            && access.permits(grant, path, &found)
        {
            paths.push(real.to_vec());
        }
    }
    paths
}

/// Looks a target up, in the worker's names first. `None` means that it takes a disk.
fn find(
    target: &Target,
    service: &Shared,
    blocking: Blocking,
    cache: &mut Cache<'_>,
) -> Option<LookUp> {
    if let Cache::OpenFileCache(names, now) = cache
        && !target.trailing_slash
        && let Some(file) = names.find(&target.path, *now, |file, age| {
            service.root.leads_to(&target.path, file, age)
        })
    {
        return Some(LookUp::Found(Found::File(file)));
    }
    let mut found = service.root.look_up(target, blocking);
    if let (LookUp::Refused(Refusal::Overloaded), Cache::OpenFileCache(names, _)) =
        (&found, &mut *cache)
        && !names.is_empty()
    {
        // Files that no response sends take the descriptors.
        names.forget_all();
        found = service.root.look_up(target, blocking);
    }
    match (&found, cache) {
        (LookUp::NotCached, _) => return None,
        (LookUp::Found(Found::File(file)), Cache::OpenFileCache(names, now)) => {
            names.remember(&target.path, file, *now);
        }
        (LookUp::Found(Found::File(file)), Cache::Later(later)) => {
            **later = Some((target.path.clone(), Arc::clone(file)));
        }
        _ => {}
    }
    Some(found)
}

/// Writes the access record of bytes that never made a request.
pub(super) fn record_no_request(
    received: &RequestBuffer,
    why: (CloseReason, &'static str),
    peer: Peer,
    service: &Shared,
) {
    record_request(&received.first_line(), why, peer, service);
}

/// Writes the access record of a request that gets no answer.
pub(super) fn record_request(
    line: &[u8],
    (outcome, why): (CloseReason, &'static str),
    peer: Peer,
    service: &Shared,
) {
    if !service.journal.is_on() {
        return;
    }
    service.journal.record(AccessRecord {
        at: SystemTime::now(),
        peer,
        protocol: None,
        request: line.to_vec(),
        tls: None,
        client_fields: None,
        status: 0,
        sent: 0,
        intended: Some(0),
        duration: Duration::ZERO,
        outcome,
        detail: why,
        user: None,
    });
}

/// A transfer this large counts as bulk.
pub(super) const BULK_BYTES: u64 = 1 << 20;
