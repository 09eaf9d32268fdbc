//! Refusals in words: one line for a program, a small page for a person.

use maud::{DOCTYPE, PreEscaped, html};

use super::head::{Exchange, Head};
use crate::http::exchange::{ContentKind, Persistence, Response, Segment};
use crate::http::negotiate::Explanation;
use crate::http::refusal::{After, Explained, Refusal};
use crate::http::request::Request;

fn line(explained: &Explained) -> Vec<u8> {
    let Explained {
        status,
        title,
        reason,
        advice,
        ..
    } = explained;
    format!("{status} {title}: {reason}. {advice}\n").into_bytes()
}

fn page(explained: &Explained) -> Vec<u8> {
    let mut reason = explained.reason.to_owned();
    // Reasons begin in lower case, for the log.
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
                title { (explained.status) " " (explained.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    p.status { (explained.status) }
                    h1 { (explained.title) }
                    p { (reason) "." }
                    p { (explained.advice) }
                }
            }
        }
    };
    page.into_string().into_bytes()
}

/// Ends a response with its explanation, in the form that the client prefers; without a parsed
/// request it ends the connection.
pub(super) fn finish(request: Option<&Request>, refusal: &Refusal, mut head: Head) -> Response {
    let explained = refusal.explained();
    let form = request.map_or(Explanation::Line, |request| request.accept.explanation);
    let (kind, body) = match form {
        Explanation::Line => (LINE, line(&explained)),
        Explanation::Page => (PAGE, page(&explained)),
    };
    head.content_kind(kind);
    head.field("Cache-Control", b"no-cache");
    head.field("Vary", b"Accept");
    let len = body.len() as u64;
    head.number("Content-Length", len);
    let mut exchange = request.map_or(Exchange::UNKNOWN, Exchange::of);
    if explained.after == After::Close {
        exchange.persistence = Persistence::Close;
    }
    head.respond(exchange, [Segment::Memory(body)], len)
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
        let explained = Refusal::BadRequest("more than one Host").explained();
        let line = String::from_utf8(line(&explained)).expect("UTF-8");
        assert_eq!(line.lines().count(), 1);
        assert!(
            line.starts_with("400 Bad request: more than one Host. Check "),
            "{line}"
        );
        let page = String::from_utf8(page(&explained)).expect("UTF-8");
        assert!(page.contains("<p>More than one Host.</p>"), "{page}");
    }
}
