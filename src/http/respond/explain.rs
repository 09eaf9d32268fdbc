//! Refusals in words: one line for a program, a small page for a person.

use maud::{DOCTYPE, PreEscaped, html};

use super::head::Head;
use super::respond;
use crate::http::{
    ContentKind, Explanation, Method, Persistence, Plan, Refusal, Request, Response, Segment,
    Version,
};

/// A refusal in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Explained {
    pub(super) status: u16,
    title: &'static str,
    /// What is the matter with this request.
    reason: &'static str,
    /// What the person or program can do.
    advice: &'static str,
    after: After,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// What the request asked for.
    AsAsked,
    /// It ends.
    Close,
}

/// The answer to ranges that lie behind the end of the file.
pub(super) const UNSATISFIABLE: Explained = Explained {
    status: 416,
    title: "Range not satisfiable",
    reason: "The file ends before the range that was asked for begins.",
    advice: "Content-Range says how long the file is now.",
    after: After::AsAsked,
};

impl Explained {
    pub(super) fn of(refusal: &Refusal) -> Self {
        let (status, title, reason, advice, after) = match *refusal {
            Refusal::BadRequest(reason) => (
                400,
                "Bad request",
                reason,
                "Check the address; if it was not typed by hand, the client has a fault.",
                After::AsAsked,
            ),
            Refusal::Forbidden(reason) => (
                403,
                "Forbidden",
                reason,
                "Ask the operator of this server whether it is meant to be served.",
                After::AsAsked,
            ),
            Refusal::NotFound => (
                404,
                "Not found",
                "Nothing is served under this name.",
                "Check the spelling, upper and lower case included, or look one directory up.",
                After::AsAsked,
            ),
            Refusal::MethodNotAllowed => (
                405,
                "Method not allowed",
                "Files can be fetched here, and nothing else.",
                "Use GET or HEAD.",
                After::AsAsked,
            ),
            Refusal::RequestTimeout => (
                408,
                "Request timeout",
                "The request did not arrive in time.",
                "Send it again, in one go.",
                After::Close,
            ),
            Refusal::PreconditionFailed => (
                412,
                "Precondition failed",
                "The file is not, or is no longer, the one that the request means.",
                "Fetch it anew, without If-Match and If-Unmodified-Since.",
                After::AsAsked,
            ),
            Refusal::BodyTooLarge => (
                413,
                "Content too large",
                "The request's body is longer than this server is willing to throw away.",
                "Send the request without a body.",
                After::Close,
            ),
            Refusal::TargetTooLong => (
                414,
                "URI too long",
                "The request line is longer than this server reads.",
                "Use a shorter address.",
                After::Close,
            ),
            Refusal::ExpectationFailed => (
                417,
                "Expectation failed",
                "Expect holds something other than 100-continue.",
                "Send the request without it.",
                After::AsAsked,
            ),
            Refusal::HeadTooLarge => (
                431,
                "Request header fields too large",
                "The header fields are too large, or there are too many of them.",
                "Delete this site's cookies, or send fewer fields.",
                After::Close,
            ),
            Refusal::Internal(reason) => (
                500,
                "Internal server error",
                reason,
                "Try again; if it stays, the server's log says more.",
                After::AsAsked,
            ),
            Refusal::NotImplemented => (
                501,
                "Not implemented",
                "The request's method or transfer coding is not known here.",
                "Use GET or HEAD.",
                After::AsAsked,
            ),
            Refusal::Overloaded => (
                503,
                "Service unavailable",
                "The server has as many transfers as it can carry.",
                "Try again after the seconds that Retry-After says.",
                After::Close,
            ),
            Refusal::VersionNotSupported => (
                505,
                "HTTP version not supported",
                "The request's version of HTTP is not spoken here.",
                "Use HTTP/1.1.",
                After::Close,
            ),
        };
        Self {
            status,
            title,
            reason,
            advice,
            after,
        }
    }

    fn line(&self) -> Vec<u8> {
        let Self {
            status,
            title,
            reason,
            advice,
            ..
        } = self;
        let reason = reason.trim_end_matches('.');
        format!("{status} {title}: {reason}. {advice}\n").into_bytes()
    }

    fn page(&self) -> Vec<u8> {
        let mut reason = self.reason.trim_end_matches('.').to_owned();
        // Reasons that come with a refusal begin in lower case, for the log.
        if let Some(first) = reason.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.status) " " (self.title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    main {
                        p.status { (self.status) }
                        h1 { (self.title) }
                        p { (reason) "." }
                        p { (self.advice) }
                    }
                }
            }
        };
        page.into_string().into_bytes()
    }
}

/// Ends a response with its explanation, in the form that the client likes.
pub(super) fn finish(request: Option<&Request>, explained: Explained, mut head: Head) -> Response {
    let form = request.map_or(Explanation::Line, |request| request.accept.explanation);
    let (kind, body) = match form {
        Explanation::Line => (LINE, explained.line()),
        Explanation::Page => (PAGE, explained.page()),
    };
    head.content_kind(kind);
    head.field("Cache-Control", b"no-cache");
    let len = body.len() as u64;
    head.number("Content-Length", len);
    let body = Segment::Memory(body);
    match request {
        Some(request) if explained.after == After::AsAsked => {
            respond(request, explained.status, head, [body], len)
        }
        _ => {
            let is_head = request.is_some_and(|request| request.method == Method::Head);
            let segments: Vec<_> = if is_head { Vec::new() } else { vec![body] };
            Response {
                status: explained.status,
                head: head.finish(Persistence::Close, Version::Http11),
                content_length: if is_head { 0 } else { len },
                body: Plan {
                    segments: segments.into(),
                },
                persistence: Persistence::Close,
            }
        }
    }
}

const LINE: ContentKind = ContentKind {
    content_type: "text/plain; charset=utf-8",
    security_policy: None,
};

const PAGE: ContentKind = ContentKind {
    content_type: "text/html; charset=utf-8",
    security_policy: Some(SECURITY_POLICY),
};

const STYLE: &str = ":root{color-scheme:light dark}\
body{margin:0;min-height:100vh;display:grid;place-items:center;\
font:1rem/1.6 system-ui,sans-serif;background:light-dark(#fafafa,#16181c);color:light-dark(#1c1f24,#e6e8ec)}\
main{max-width:34rem;padding:2rem}\
.status{margin:0;font-size:3.5rem;font-weight:700;line-height:1;color:light-dark(#0b63ce,#7db4ff)}\
h1{margin:.25rem 0 1rem;font-size:1.4rem}p{margin:.5rem 0}";

/// The hash is the style's; a test keeps it so.
const SECURITY_POLICY: &str = "default-src 'none'; \
style-src 'sha256-5aQg8p0LkhyJk5pPacgB0Kawsgs69x63D9ZrlpKnJlM='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn the_policy_allows_the_page_its_style() {
        let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(STYLE));
        assert!(
            SECURITY_POLICY.contains(&format!("'sha256-{hash}'")),
            "the hash is {hash}"
        );
    }

    #[test]
    fn a_person_reads_sentences_and_a_program_one_line() {
        let explained = Explained::of(&Refusal::BadRequest("more than one Host"));
        let line = String::from_utf8(explained.line()).expect("UTF-8");
        assert_eq!(line.lines().count(), 1);
        assert!(
            line.starts_with("400 Bad request: more than one Host. Check "),
            "{line}"
        );
        let page = String::from_utf8(explained.page()).expect("UTF-8");
        assert!(page.contains("<p>More than one Host.</p>"), "{page}");
    }
}
