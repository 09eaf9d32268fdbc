//! A directory as HTML for programs, as nginx's `autoindex` writes it: an anchor a line with date
//! and size, all names in one response. It has directory order, so a million names take no memory.

use std::io;

use maud::{Markup, PreEscaped, html};

use super::scan::{Depth, Item, ItemKind, Scan, Scanned};
use super::step::{Follow, Progress, STEP_BYTES, STEP_ENTRIES};
use super::time::{minute, rfc3339};
use crate::http::{Request, Target, percent_encode_component};

/// A listing without pages.
#[derive(Debug)]
pub(super) struct Autoindex {
    /// Until the top is written.
    target: Option<Target>,
    /// The query of the link that opens the entries, with its question mark.
    link: String,
}

impl Autoindex {
    pub(super) fn new(request: &Request) -> Self {
        Self {
            target: Some(request.target.clone()),
            link: request.link_query(),
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
    let minute = minute(&rfc3339(item.facts.modified));
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

fn append(out: &mut Vec<u8>, markup: &Markup) {
    out.extend_from_slice(markup.0.as_bytes());
}
