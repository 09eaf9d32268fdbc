//! The request for a whole file, to each mirror in turn until one has it.

use std::time::SystemTime;

use crate::get::client::refusal;
use crate::get::client::{Method, Request, Response};
use crate::get::download::expected::{Expected, OtherKind};
use crate::get::download::mirrors::Mirrors;
use crate::get::error::{GetError, Retry};
use crate::get::shared::attempts::Attempts;
use crate::get::shared::{Reporter, Shared};
use crate::get::source::HttpUrl;

/// The first response of a version, from the first mirror that gives one, and the mirror's index.
///
/// # Errors
/// The address is a directory or a metalink; or the failure that ended the attempts.
pub(super) fn first_response(
    (shared, reporter): (&Shared, &Reporter),
    url: &HttpUrl,
    expected: &Expected,
    mirrors: &mut Mirrors,
    attempts: &mut Attempts,
) -> Result<(usize, Box<Response>), GetError> {
    let cancellation = shared.cancellation();
    loop {
        let mirror = mirrors
            .pick()
            .cloned()
            .expect("the last mirror is never dropped");
        let request = Request {
            url: &mirror.url,
            method: Method::Get,
            accept: "*/*",
            range: None,
        };
        let error = match shared.client.send(&request, &cancellation) {
            Ok(response) if matches!(response.head.status, 200 | 203) => {
                match expected.other_kind(&mirror.url, &response) {
                    Some(OtherKind::Directory) => {
                        return Err(GetError::directory(url, response.url));
                    }
                    Some(OtherKind::Metalink) => {
                        return Err(GetError::metalink(response.url));
                    }
                    None => {}
                }
                match expected.refuse(url, &response, reporter) {
                    Err(error) => error,
                    Ok(()) => return Ok((mirror.index, Box::new(response))),
                }
            }
            Ok(Response { head, url, .. }) => refusal::of_response(&head, &url, SystemTime::now()),
            Err(error) => error,
        };
        mirrors.failed(mirror.index);
        if error.retry == Retry::Never
            && !error.is_stop()
            && mirrors.drop_mirror(mirror.index).is_ok()
        {
            reporter.note(format!("a mirror is dropped: {error}"));
            continue;
        }
        if error.retry != Retry::Never && mirrors.has_fresh() {
            reporter.note(format!("{error}; a mirror is next"));
            continue;
        }
        reporter.wait(attempts, error, 0, &cancellation)?;
    }
}
