//! The addresses of a listing's links: which of them lie beneath the directory, and their names
//! here.

use std::ffi::OsString;
use std::path::PathBuf;

use super::links::{Link, Traits};
use crate::get::names;
use crate::get::source::HttpUrl;
use crate::signed_link::Presented;

/// The address of a link in `directory`'s listing, and its path's components below that
/// directory's; `None` if it is not beneath. Addresses with a query are other views of the same.
pub(super) fn below(
    directory: &HttpUrl,
    traits: &Traits,
    link: &Link,
) -> Option<(HttpUrl, Vec<Vec<u8>>)> {
    let base = match &traits.base {
        Some(base) => &directory.join(base).ok()?,
        None => directory,
    };
    let mut url = base.join(&link.reference).ok()?;
    if url.url().origin() != directory.url().origin() {
        return None;
    }
    match (url.url().query(), directory.url().query()) {
        // The link that opened the directory opens the entries beneath it.
        (None, Some(link)) => url = url.with_query(Some(link)),
        (query, link) if query == link => {}
        _ => return None,
    }
    let mut components = url.components();
    for above in directory.components() {
        // The directory's last component is the empty one behind its slash.
        if !above.is_empty() && components.next()? != above {
            return None;
        }
    }
    let components: Vec<_> = components
        .filter(|component| !component.is_empty())
        .collect();
    (!components.is_empty()).then_some((url, components))
}

/// The query of an address whose signature covers the tree beneath it.
pub(super) fn signed_link_of(url: &HttpUrl) -> Option<String> {
    let link = Presented::parse(url.url().query()?.as_bytes())?.ok()?;
    link.depth.map(|_| link.to_string())
}

/// Whether a link leads to a directory above, or to another order of this one.
pub(super) fn leads_up(directory: &HttpUrl, reference: &str) -> bool {
    let Ok(url) = directory.join(reference) else {
        return false;
    };
    let (here, there) = (directory.url().path(), url.url().path());
    (url.url().query().is_some() && here == there)
        || (here != there && there.ends_with('/') && here.starts_with(there))
}

/// The listing's `<base>` is on another server: none of its links count.
pub(super) fn leads_elsewhere(directory: &HttpUrl, traits: &Traits) -> bool {
    traits.base.as_ref().is_some_and(|base| {
        let base = directory.join(base);
        base.map_or(true, |base| base.url().origin() != directory.url().origin())
    })
}

/// The local path for components of an address; `None` if one of them cannot be a name.
pub(super) fn local_names(components: &[Vec<u8>]) -> Option<PathBuf> {
    let names = components.iter().map(|it| names::local_name(it));
    names
        .collect::<Option<Vec<OsString>>>()
        .map(PathBuf::from_iter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::get::source::Source;

    fn http(text: &str) -> HttpUrl {
        match text.parse() {
            Ok(Source::Http(url)) => url,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn place(directory: &str, reference: &str) -> Option<PathBuf> {
        let link = Link {
            reference: reference.to_owned(),
            ..Link::default()
        };
        let (_, components) = below(&http(directory), &Traits::default(), &link)?;
        local_names(&components)
    }

    #[test]
    fn only_what_is_beneath_counts() {
        let expected = [
            ("x.iso", "x.iso"),
            ("/a/b/c/", "c"),
            ("/%61/b/c", "c"),
            ("//h/a/b/c", "c"),
        ];
        for (reference, path) in expected {
            assert_eq!(place("http://h/a/b/", reference), Some(path.into()));
        }
        assert_eq!(place("http://h/~u/", "/%7Eu/x"), Some("x".into()));
        for outside in [
            "../",
            "/",
            "?C=N;O=D",
            "http://other/a/b/x",
            "//h:81/a/b/x",
            "./",
            "../b2/x",
            "mailto:x@y",
            "%2e%2e/x",
        ] {
            assert_eq!(place("http://h/a/b/", outside), None, "{outside}");
        }
    }

    #[test]
    fn no_component_leads_out() {
        for (reference, path) in [
            ("a/b%20c", "a/b c"),
            ("..%2f..%2fetc/x", "..%2F..%2Fetc/x"),
            ("./-rf/.hidden", "-rf/.hidden"),
            ("%00/x", "%00/x"),
        ] {
            assert_eq!(
                place("http://h/", reference),
                Some(path.into()),
                "{reference}"
            );
        }
    }
}
