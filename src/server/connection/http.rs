//! Resolve → respond for HTTP: files, their precompressed siblings, directories.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use crate::digest::{Wanted, blocks};
use crate::http::policy::{DotNames, ListingPolicy};
use crate::http::respond::{self, Negotiation, Now, StreamFraming, Subject};
use crate::http::{
    DigestAnswer, ListingFormat, Meta, Method, Refusal, Request, Response, Target, Validators,
};
use crate::server::access::{Access, Grant, INDEX, beneath};
use crate::server::config::{IndexChoice, ListingChoice};
use crate::server::connection::access::AccessCheck;
use crate::server::connection::prepare::{
    BULK_BYTES, Cache, PreparedResponse, listed_paths, look_up,
};
use crate::server::connection::streamed_body::StreamedBody;
use crate::server::digests::DigestLookUp;
use crate::server::files::{Found, LookUp, NAMES_DEVICE, Names, OpenFile};
use crate::server::listing::{self, ListedDirectory, Listing, NameSource, Visible};
use crate::server::shared::Shared;
use crate::server::telemetry::CloseReason;
use crate::sys::beneath::PathHandle;
use crate::sys::directory::Directory;
use crate::sys::file::Blocking;
use crate::sys::resources;

/// Answers a request; `None` if that takes a disk.
pub(super) fn prepare(
    request: &Request,
    access: &AccessCheck,
    service: &Shared,
    blocking: Blocking,
    cache: &mut Cache<'_>,
) -> Option<PreparedResponse> {
    if let Some(refusal) = &request.refusal {
        return Some(refuse(Some(request), refusal, service));
    }
    if let AccessCheck::Refused(refusal) = access {
        return Some(refuse_access(request, refusal, service));
    }
    let grant = access.grant();
    if request.method == Method::Options {
        let response = respond::to_options(request, &service.config.http, &Now::current());
        return Some(whole(response));
    }
    match look_up(&request.target, grant, service, blocking, cache)? {
        LookUp::NotCached => None,
        LookUp::Refused(refusal) => Some(refuse(Some(request), &refusal, service)),
        LookUp::Found(Found::File(file)) if request.query.blocks => {
            answer_with_blocks(request, &file, service, blocking)
        }
        LookUp::Found(Found::File(file)) => answer_with_file(
            (request, grant),
            &request.target.path,
            file,
            service,
            blocking,
            cache,
        ),
        LookUp::Found(Found::Directory(directory)) => {
            let listed = Listed::Directory(&directory);
            answer_for_directory((request, grant), listed, service, blocking, cache)
        }
        LookUp::Found(Found::Names(names)) => {
            let listed = Listed::Names(names);
            answer_for_directory((request, grant), listed, service, blocking, cache)
        }
    }
}

/// The answer that refuses; without a request, because none could be parsed, it ends the
/// connection.
pub(super) fn refuse(
    request: Option<&Request>,
    refusal: &Refusal,
    service: &Shared,
) -> PreparedResponse {
    let response = respond::to_refusal(request, refusal, &service.config.http, &Now::current());
    let outcome = match refusal {
        Refusal::Overloaded => CloseReason::Overloaded,
        Refusal::RequestTimeout => CloseReason::HeadTimeout,
        _ if request.is_none() => CloseReason::Malformed,
        _ => CloseReason::Refused,
    };
    PreparedResponse {
        outcome,
        detail: refusal.reason(),
        ..whole(response)
    }
}

/// The response to a request without access; it does not depend on the existence of the file, which
/// only the log notes.
fn refuse_access(request: &Request, refusal: &Refusal, service: &Shared) -> PreparedResponse {
    let refused = refuse(Some(request), refusal, service);
    let detail = match refusal {
        Refusal::NotFound => "it takes a link",
        _ => refused.detail,
    };
    PreparedResponse { detail, ..refused }
}

/// Says which names in a directory are shown.
fn shown(
    access: &Arc<Access>,
    grant: &Grant,
    (path, listed): (&[u8], &Listed<'_>),
    service: &Shared,
) -> Visible {
    let paths = match listed {
        Listed::Directory(directory) => listed_paths(path, grant, directory, access, service),
        Listed::Names(_) => vec![path.to_vec()],
    };
    let (access, grant) = (Arc::clone(access), grant.clone());
    Visible::new(move |name| {
        let mut paths = paths.iter().map(|path| beneath(path, name));
        paths.all(|path| access.may_see(&grant, &path))
    })
}

fn answer_with_file(
    (request, grant): (&Request, &Grant),
    path: &[u8],
    file: Arc<OpenFile>,
    service: &Shared,
    blocking: Blocking,
    cache: &mut Cache<'_>,
) -> Option<PreparedResponse> {
    let selection = if file.siblings.is_empty() {
        Negotiation::None
    } else {
        Negotiation::ByCoding
    };
    let (file, coding) =
        match select_sibling((request, grant), path, &file, service, blocking, cache)? {
            Some((sibling, coding)) => (sibling, Some(coding)),
            None => (file, None),
        };
    let (policy, now) = (&service.config.http, Now::current());
    let make = || Validators::of(&file.meta, policy.etag, file.has_settled(), &now);
    let validators = match (file.validators(make), coding) {
        (validators, None) => validators,
        (validators, Some(coding)) => Cow::Owned(validators.into_owned().in_coding(coding)),
    };
    let digests = match &request.digests {
        None => DigestAnswer::None,
        Some(wishes) => match service.digests.find(&file, wishes.wanted(), blocking) {
            DigestLookUp::Off => DigestAnswer::None,
            DigestLookUp::Known(digests) => DigestAnswer::Known(digests),
            DigestLookUp::Pending(digests, seconds) => DigestAnswer::Pending(digests, seconds),
            DigestLookUp::NotCached => return None,
        },
    };
    let subject = Subject {
        meta: &file.meta,
        validators: &validators,
        path,
        coding,
        media_type: None,
        digests,
        selection,
    };
    let response = respond::to_file(request, &subject, policy, &now);
    drop(validators);
    let mut bulk = None;
    if response.content_length >= BULK_BYTES {
        bulk = service.bulk.try_acquire();
        if bulk.is_none() {
            return Some(refuse(Some(request), &Refusal::Overloaded, service));
        }
    }
    Some(PreparedResponse {
        file: Some(file),
        bulk,
        ..whole(response)
    })
}

/// The answer with a file's block list, which has the validators of the file: the address differs.
fn answer_with_blocks(
    request: &Request,
    file: &Arc<OpenFile>,
    service: &Shared,
    blocking: Blocking,
) -> Option<PreparedResponse> {
    let refused = |refusal| Some(refuse(Some(request), &refusal, service));
    match service.digests.find(file, Wanted::BLOCKS, blocking) {
        DigestLookUp::Off => return refused(Refusal::NotFound),
        DigestLookUp::NotCached => return None,
        DigestLookUp::Pending(_, seconds) => return refused(Refusal::NotYet { seconds }),
        DigestLookUp::Known(_) if blocking == Blocking::Forbidden => return None,
        DigestLookUp::Known(_) => {}
    }
    let Some(permit) = service.digests.lists.try_acquire() else {
        return refused(Refusal::NotYet { seconds: 1 });
    };
    let Some(list) = service.digests.blocks(file) else {
        return refused(Refusal::NotYet { seconds: 1 });
    };
    let content = list.encode();
    let (policy, now) = (&service.config.http, Now::current());
    let meta = Meta {
        len: content.len() as u64,
        ..file.meta
    };
    let validators =
        file.validators(|| Validators::of(&file.meta, policy.etag, file.has_settled(), &now));
    let subject = Subject {
        meta: &meta,
        validators: &validators,
        path: &request.target.path,
        media_type: Some(blocks::MEDIA_TYPE),
        coding: None,
        digests: DigestAnswer::None,
        selection: Negotiation::None,
    };
    Some(PreparedResponse {
        bulk: Some(permit),
        ..whole(respond::to_content(
            request, &subject, &content, policy, &now,
        ))
    })
}

/// The precompressed sibling that the client likes best.
fn select_sibling(
    (request, grant): (&Request, &Grant),
    path: &[u8],
    file: &OpenFile,
    service: &Shared,
    blocking: Blocking,
    cache: &mut Cache<'_>,
) -> Option<Option<(Arc<OpenFile>, crate::http::Coding)>> {
    if request.ranges.is_some() {
        // A range is of the file that the client has part of, which it wrote decoded.
        return Some(None);
    }
    for coding in request.accept_encoding.iter() {
        if !file.siblings.contains(coding) {
            continue;
        }
        let path = [path, coding.suffix().as_bytes()].concat();
        if !may_see(grant, &path, service) {
            continue;
        }
        let target = Target {
            path,
            trailing_slash: false,
        };
        match look_up(&target, grant, service, blocking, cache)? {
            // An older one was made of another content.
            LookUp::Found(Found::File(sibling)) if sibling.meta.modified < file.meta.modified => {}
            LookUp::Found(Found::File(sibling)) => return Some(Some((sibling, coding))),
            LookUp::NotCached => return None,
            // The index was removed meanwhile, or is not readable: the listing is the response.
            LookUp::Found(Found::Directory(_) | Found::Names(_)) | LookUp::Refused(_) => {}
        }
    }
    Some(None)
}

/// The subject of a listing.
enum Listed<'a> {
    Directory(&'a PathHandle),
    Names(Names),
}

/// The response for a directory, which disk workers read.
fn answer_for_directory(
    (request, grant): (&Request, &Grant),
    listed: Listed<'_>,
    service: &Shared,
    blocking: Blocking,
    cache: &mut Cache<'_>,
) -> Option<PreparedResponse> {
    let policy = &service.config.http;
    if !request.target.trailing_slash {
        let redirect = respond::to_redirect(request, policy, &Now::current());
        return Some(whole(redirect));
    }
    if service.config.index == IndexChoice::Serve
        && request.listing_format() == ListingFormat::Html
        && let Some(answer) = answer_with_index((request, grant), service, blocking, cache)?
    {
        return Some(answer);
    }
    if service.config.listing == ListingChoice::Refuse {
        return Some(refuse(Some(request), &Refusal::NotFound, service));
    }
    if blocking == Blocking::Forbidden {
        return None;
    }
    let answer = list((request, grant), listed, service).unwrap_or_else(|error| {
        let refusal = match resources::is_exhaustion(&error) {
            true => Refusal::Overloaded,
            false => Refusal::Internal("the directory cannot be read"),
        };
        refuse(Some(request), &refusal, service)
    });
    Some(answer)
}

/// The head of a listing; disk workers produce its content.
fn list(
    (request, grant): (&Request, &Grant),
    listed: Listed<'_>,
    service: &Shared,
) -> io::Result<PreparedResponse> {
    let kind = listing::content_kind(request.listing_format());
    let stream = respond::to_stream(request, kind, &service.config.http, &Now::current());
    let mut answer = whole(stream.response);
    if stream.framing == StreamFraming::Bodiless {
        return Ok(answer);
    }
    let path = request.target.path.clone();
    let access = service.access.as_ref();
    let visible = access.map(|access| shown(access, grant, (&path, &listed), service));
    let directory = match &listed {
        Listed::Directory(directory) => Some(ListedDirectory {
            path: &path,
            grant,
            meta: directory.meta,
            shows_changes: service.root.shows_changes(directory),
        }),
        Listed::Names(_) => None,
    };
    let (source, device, dot_names) = match listed {
        Listed::Directory(directory) => {
            let entries = Directory::new(directory.open(Blocking::Allowed)?.into())?;
            let device = directory.meta.device;
            (
                NameSource::Directory(entries),
                device,
                service.config.dot_names,
            )
        }
        Listed::Names(names) => (
            NameSource::Names { names, at: 0 },
            NAMES_DEVICE,
            DotNames::Shown,
        ),
    };
    let policy = ListingPolicy {
        dot_names,
        ..ListingPolicy::default()
    };
    let permitted = (visible, service.pages(device));
    let shared = (directory.as_ref(), &service.scans);
    let listing = Listing::new(source, request, policy, permitted, shared);
    let body = StreamedBody::new(listing, stream.framing, (path, grant.clone()), device);
    answer.rest = Some(body);
    Ok(answer)
}

/// The response with the directory's index, if there is one; `None` if only a disk worker can find
/// out.
fn answer_with_index(
    (request, grant): (&Request, &Grant),
    service: &Shared,
    blocking: Blocking,
    cache: &mut Cache<'_>,
) -> Option<Option<PreparedResponse>> {
    let path = beneath(&request.target.path, INDEX);
    if !may_see(grant, &path, service) {
        return Some(None);
    }
    let target = Target {
        path,
        trailing_slash: false,
    };
    match look_up(&target, grant, service, blocking, cache)? {
        LookUp::Found(Found::File(file)) => answer_with_file(
            (request, grant),
            &target.path,
            file,
            service,
            blocking,
            cache,
        )
        .map(Some),
        LookUp::NotCached => None,
        LookUp::Found(Found::Directory(_) | Found::Names(_)) | LookUp::Refused(_) => Some(None),
    }
}

/// An answer that its response holds whole.
fn whole(response: Response) -> PreparedResponse {
    let outcome = CloseReason::Complete;
    PreparedResponse {
        response,
        file: None,
        rest: None,
        outcome,
        detail: "",
        bulk: None,
    }
}

fn may_see(grant: &Grant, path: &[u8], service: &Shared) -> bool {
    let access = service.access.as_ref();
    access.is_none_or(|access| access.may_see(grant, path))
}
