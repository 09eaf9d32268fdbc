//! An entry of the page.

use maud::html;

use super::view::View;
use crate::diagnostics::shell;
use crate::http::{MediaType, Timestamp, percent_encode_component};
use crate::server::listing::scan::{ItemFacts, ItemKind};
use crate::server::listing::time::{minute, rfc3339};

/// Appends an entry's row; the answer is its size in bytes.
pub(super) fn row(view: &View, name: &[u8], facts: ItemFacts, out: &mut Vec<u8>) -> u64 {
    let shown = String::from_utf8_lossy(name);
    let mut href: String = percent_encode_component(name).collect();
    let markup = match facts.kind {
        ItemKind::Directory => {
            href.push('/');
            href.push_str(&view.link);
            html! {
                tr data-size="0" {
                    td.name { a href=(href) { svg { use href="#d" {} } span { bdi { (shown) } "/" } } }
                    td.size { "–" }
                    (when(facts.modified))
                    td.kind { "folder" }
                    td.get {}
                }
            }
        }
        ItemKind::LinkOut => html! {
            tr data-size="0" {
                td.name { svg { use href="#o" {} } span { bdi { (shown) } } }
                td.size { "–" }
                (when(facts.modified))
                td.kind { "link that leads out" }
                td.get {}
            }
        },
        ItemKind::File { len } => {
            href.push_str(&view.link);
            let url = format!("{}{}{href}", view.origin, view.target.url_path());
            html! {
                tr data-size=(len) {
                    td.name { a href=(href) { svg { use href="#f" {} } bdi { (shown) } } }
                    td.size title={ (grouped(len)) " bytes" } { (size(len)) }
                    (when(facts.modified))
                    td.kind { (MediaType::of(name).essence()) }
                    td.get {
                        details {
                            summary aria-label={ "Ways to fetch " (shown) } { svg { use href="#g" {} } }
                            div.ways {
                                code tabindex="0" { "curl -fC - -o " (shell::quote(name)) " '" (url) "'" }
                                code tabindex="0" { "haul get '" (url) "'" }
                                a href=(href) download { "Save to this device" }
                            }
                        }
                    }
                }
            }
        }
    };
    out.extend_from_slice(markup.into_string().as_bytes());
    match facts.kind {
        ItemKind::Directory | ItemKind::LinkOut => 0,
        ItemKind::File { len } => len,
    }
}

/// `1.5 MiB`.
pub(super) fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn when(modified: Timestamp) -> maud::Markup {
    let full = rfc3339(modified);
    let minute = minute(&full);
    html! { td.time { time datetime=(full) title=(full) { (minute) } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1_536), "1.5 KiB");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
