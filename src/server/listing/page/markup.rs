//! The parts of the page above and below the rows.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use super::row::{grouped, size};
use super::style::{SCRIPT, STYLE};
use super::view::{Summary, View};
use crate::http::{SortKey, SortOrder, percent_encode_component};

/// The part of the page that does not depend on the directory's content.
pub(super) fn top(view: &View, out: &mut Vec<u8>) {
    let path = String::from_utf8_lossy(&view.target.path);
    let filter = String::from_utf8_lossy(view.query.filter.as_deref().unwrap_or_default());
    let head = html! {
        (DOCTYPE)
        (PreEscaped("<html lang=\"en\">"))
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { "/" (path) }
            style { (PreEscaped(STYLE)) }
        }
        (PreEscaped("<body><main>"))
        (sprite())
        (crumbs(view))
        form role="search" {
            (link_fields(view))
            @if view.query.sort != SortKey::Name {
                input type="hidden" name="sort" value=(view.query.sort.name());
            }
            @if view.query.order != SortOrder::Ascending {
                input type="hidden" name="order" value="desc";
            }
            input type="search" name="q" value=(filter) placeholder="Filter by name" aria-label="Filter by name" autocomplete="off";
            button { "Filter" }
        }
    };
    append(out, head);
}

/// The total, and the head of the table.
pub(super) fn table_top(view: &View, summary: &Summary, out: &mut Vec<u8>) {
    let columns = [
        ("name", "Name", SortKey::Name),
        ("size", "Size", SortKey::Size),
        ("time", "Modified (UTC)", SortKey::Time),
        ("kind", "Kind", SortKey::Kind),
    ];
    let markup = html! {
        // Buttons, since what follows every link would fetch the directory in every order.
        form id="order" {
            (link_fields(view))
            @if let Some(filter) = &view.query.filter {
                input type="hidden" name="q" value=(String::from_utf8_lossy(filter));
            }
        }
        p.total aria-live="polite" { (total(view, summary)) }
        (PreEscaped("<table>"))
        thead {
            tr {
                @for (class, label, sort) in columns {
                    (column(view, class, label, sort))
                }
                th.get { }
            }
        }
        (PreEscaped("<tbody>"))
        @if !view.target.path.is_empty() {
            tr {
                td.name { a href={ "../" (view.link) } { svg { use href="#u" {} } ".." } }
                td.size {} td.time {} td.kind { "parent folder" } td.get {}
            }
        }
    };
    append(out, markup);
}

/// The part below the rows, from facts that are known once the last row is written.
pub(super) fn bottom(view: &View, summary: &Summary, out: &mut Vec<u8>) {
    let markup = html! {
        (PreEscaped("</tbody></table>"))
        @if summary.total == 0 {
            p.empty {
                @if view.query.filter.is_some() { "No name here matches the filter." }
                @else { "This folder is empty." }
            }
        }
        @if summary.before > 0 || summary.next.is_some() {
            nav.more aria-label="Pages" {
                @if summary.before > 0 {
                    button form="order" name="sort" value=(order_value(view.query.sort, view.query.order)) { "First page" }
                }
                @if let Some(next) = &summary.next {
                    a rel="next" href=(address(view, next)) { "Next page" }
                }
            }
        }
        footer {
            (size(summary.bytes)) " in the files on this page · "
            button form="order" name="format" value="json" { "JSON" } " · "
            button form="order" name="format" value="ndjson" { "NDJSON" }
        }
        script { (PreEscaped(SCRIPT)) }
        (PreEscaped("</main></body></html>\n"))
    };
    append(out, markup);
}

fn total(view: &View, summary: &Summary) -> String {
    let Summary {
        total,
        before,
        here,
        ..
    } = summary;
    let things = match (view.query.filter.is_some(), total) {
        (false, 1) => "entry",
        (false, _) => "entries",
        (true, 1) => "matching entry",
        (true, _) => "matching entries",
    };
    let all = format!("{} {things}", grouped(*total));
    if here == total {
        return all;
    }
    format!(
        "{}–{} of {all}",
        grouped(before + 1),
        grouped(before + here)
    )
}

fn crumbs(view: &View) -> Markup {
    let names: Vec<&[u8]> = view
        .target
        .path
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
        .collect();
    let depth = names.len();
    html! {
        nav.crumbs aria-label="Path" {
            @if depth == 0 { b { "Files" } } @else { a href={ ("../".repeat(depth)) (view.link) } { "Files" } }
            @for (index, name) in names.iter().enumerate() {
                i { "/" }
                @if index + 1 == depth {
                    b aria-current="page" { bdi { (String::from_utf8_lossy(name)) } }
                } @else {
                    a href={ ("../".repeat(depth - index - 1)) (view.link) } { bdi { (String::from_utf8_lossy(name)) } }
                }
            }
        }
    }
}

fn column(view: &View, class: &str, label: &str, sort: SortKey) -> Markup {
    let current = view.query.sort == sort;
    let (arrow, state) = match view.query.order {
        _ if !current => ("", None),
        SortOrder::Ascending => (" ↑", Some("ascending")),
        SortOrder::Descending => (" ↓", Some("descending")),
    };
    // The largest and the latest are what people look for first.
    let first = match sort {
        SortKey::Name | SortKey::Kind => SortOrder::Ascending,
        SortKey::Size | SortKey::Time => SortOrder::Descending,
    };
    let order = match (current, view.query.order) {
        (false, _) => first,
        (true, SortOrder::Ascending) => SortOrder::Descending,
        (true, SortOrder::Descending) => SortOrder::Ascending,
    };
    html! {
        th class=(class) aria-sort=[state] scope="col" {
            button form="order" name="sort" value=(order_value(sort, order)) { (label) (arrow) }
        }
    }
}

/// The address of the page behind the place `after`. Where the order is the usual one it is a
/// single parameter: wget2 takes the `&amp;` between two for text.
fn address(view: &View, after: &[u8]) -> String {
    let mut address = match &*view.link {
        "" => "?".to_owned(),
        link => format!("{link}&"),
    };
    address.push_str("after=");
    address.extend(percent_encode(after, NON_ALPHANUMERIC));
    if let Some(filter) = &view.query.filter {
        address.push_str("&q=");
        address.extend(percent_encode_component(filter));
    }
    let (sort, order) = (view.query.sort, view.query.order);
    if (sort, order) != (SortKey::default(), SortOrder::default()) {
        address.push_str("&sort=");
        address.push_str(&order_value(sort, order));
    }
    address
}

/// The value of a button for this order.
fn order_value(sort: SortKey, order: SortOrder) -> String {
    let mark = match order {
        SortOrder::Ascending => "",
        SortOrder::Descending => "-",
    };
    format!("{mark}{}", sort.name())
}

/// The hidden fields of a form that keep a signed link's access.
fn link_fields(view: &View) -> Markup {
    let pairs = view.link.strip_prefix('?').into_iter();
    let pairs = pairs.flat_map(|link| link.split('&'));
    html! {
        @for (name, value) in pairs.filter_map(|pair| pair.split_once('=')) {
            input type="hidden" name=(name) value=(value);
        }
    }
}

/// The icons, once for all rows.
fn sprite() -> Markup {
    html! {
        svg.sprite aria-hidden="true" {
            symbol id="d" viewBox="0 0 24 24" { path d="M3 6.5A1.5 1.5 0 0 1 4.500 5H9l2.500 2.500h8A1.500 1.500 0 0 1 21 9v8.500a1.500 1.500 0 0 1-1.500 1.500h-15A1.500 1.500 0 0 1 3 17.500z" {} }
            symbol id="f" viewBox="0 0 24 24" { path d="M6 3h8l4.500 4.500V21H6zM14 3v4.500h4.500" {} }
            symbol id="u" viewBox="0 0 24 24" { path d="M5 11l7-7 7 7M12 4v16" {} }
            symbol id="o" viewBox="0 0 24 24" { path d="M10 14L20 4M13 4h7v7M17 14v6H4V7h6" {} }
            symbol id="g" viewBox="0 0 24 24" { path d="M12 4v11M7 11l5 5 5-5M5 20h14" {} }
        }
    }
}

fn append(out: &mut Vec<u8>, markup: Markup) {
    out.extend_from_slice(markup.into_string().as_bytes());
}
