//! A directory as HTML for programs: an anchor a line with date and size, in the common format, all
//! names in one response. It has directory order, so a million names take no memory.

use std::io;

use maud::{Markup, PreEscaped, html};

use super::json::rfc3339;
use super::scan::{Depth, Item, ItemKind, Scan, Scanned};
use super::step::{Follow, Progress, STEP_BYTES, STEP_ENTRIES};
use crate::http::{Audience, Request, Target, percent_encode_component};

/// A listing without pages.
#[derive(Debug)]
pub(super) struct Index {
    /// Until the top is written.
    target: Option<Target>,
    /// The query of the link that opens the entries, with its question mark.
    link: String,
}

impl Index {
    pub(super) fn new(request: &Request) -> Self {
        Self {
            target: Some(request.target.clone()),
            link: link_query(request),
        }
    }

    pub(super) fn fill(
        &mut self,
        scan: &mut Scan,
        out: &mut Vec<u8>,
        follow: Follow<'_>,
    ) -> io::Result<Progress> {
        let start = out.len();
        if let Some(target) = self.target.take() {
            append(out, &top(&target, &self.link));
        }
        for _ in 0..STEP_ENTRIES {
            if out.len() - start >= STEP_BYTES {
                break;
            }
            match scan.next(Depth::Facts, follow)? {
                Scanned::Item(item) => append(out, &line(&item, &self.link)),
                Scanned::Skipped => {}
                Scanned::End => {
                    out.extend_from_slice(b"</pre></body></html>\n");
                    return Ok(Progress::Done);
                }
            }
        }
        Ok(Progress::More)
    }
}

fn top(target: &Target, link: &str) -> Markup {
    let title = format!("Index of /{}", String::from_utf8_lossy(&target.path));
    html! {
        (PreEscaped("<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\">"))
        title { (title) }
        (PreEscaped("</head><body>"))
        h1 { (title) }
        (PreEscaped("<pre>\n"))
        @if !target.path.is_empty() {
            a href={ "../" (link) } { "../" } "\n"
        }
    }
}

fn line(item: &Item, link: &str) -> Markup {
    let name = String::from_utf8_lossy(&item.name);
    let href: String = percent_encode_component(&item.name).collect();
    let time = rfc3339(item.facts.modified);
    let minute = time.get(..16).unwrap_or(&time).replace('T', " ");
    let (slash, size) = match item.facts.kind {
        ItemKind::Directory => ("/", "-".to_owned()),
        ItemKind::File { len } => ("", len.to_string()),
        ItemKind::LinkOut => {
            return html! { (name) " (a link that leads out)  " (minute) "  -\n" };
        }
    };
    html! {
        a href={ (href) (slash) (link) } { (name) (slash) } "  " (minute) "  " (size) "\n"
    }
}

/// The query that grants access to every entry, for a client with a signed link; else empty.
pub(super) fn link_query(request: &Request) -> String {
    match (request.audience, request.query.link.as_deref()) {
        (Audience::LinkHolder, Some(Ok(link))) if link.depth.is_some() => format!("?{link}"),
        _ => String::new(),
    }
}

fn append(out: &mut Vec<u8>, markup: &Markup) {
    out.extend_from_slice(markup.0.as_bytes());
}
