//! The links in a listing. Pure: bytes in, references out; what they are worth is `tree`'s matter.

use html5gum::{Token, Tokenizer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

/// The entries of a JSON listing as relative references, directories with a slash.
///
/// Besides haul's own (`name`, `href`, `kind`) nginx's (`type`) and Caddy's (`is_dir`) are read.
pub(super) fn in_json(text: &[u8]) -> Result<Vec<String>, String> {
    // nginx copies names that are not UTF-8 into its JSON: those files are lost, the others not.
    let entries: Vec<Entry> = serde_json::from_str(&String::from_utf8_lossy(text))
        .map_err(|error| format!("its JSON is not a listing: {error}"))?;
    Ok(entries.into_iter().map(Entry::into_reference).collect())
}

/// The targets of all links of an HTML page, as they stand there.
pub(super) fn in_html(text: &[u8]) -> Vec<String> {
    let mut links = Vec::new();
    for Ok(token) in Tokenizer::new(text) {
        if let Token::StartTag(tag) = token
            && tag.name.as_slice() == b"a"
            && let Some(href) = tag.attributes.get(&b"href"[..])
        {
            links.push(String::from_utf8_lossy(&href.value).trim().to_owned());
        }
    }
    links
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    /// The percent-encoded name, where `name` cannot be it.
    href: Option<String>,
    #[serde(alias = "type")]
    kind: Option<String>,
    #[serde(default)]
    is_dir: bool,
}

impl Entry {
    fn into_reference(self) -> String {
        let slash = self.name.ends_with('/');
        let name = self.name.trim_end_matches('/');
        let mut reference = String::from("./");
        match self.href {
            Some(href) => reference.push_str(href.trim_end_matches('/')),
            None => reference.extend(utf8_percent_encode(name, COMPONENT)),
        }
        let directory = matches!(self.kind.as_deref(), Some("directory" | "dir"));
        if slash || self.is_dir || directory {
            reference.push('/');
        }
        reference
    }
}

const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_of_three_servers() {
        let text = br##"[
            {"name": "a b#?.iso", "kind": "file", "size": 3, "mtime": "2026-01-01T00:00:00Z"},
            {"name": "\ufffd", "href": "%ff", "kind": "file"},
            {"name": "haul", "kind": "directory", "size": null},
            {"name": "nginx", "type": "directory", "mtime": "x"},
            {"name": "caddy/", "is_dir": true}
        ]"##;
        let expected = [
            "./a%20b%23%3F.iso",
            "./%ff",
            "./haul/",
            "./nginx/",
            "./caddy/",
        ];
        assert_eq!(in_json(text).unwrap(), expected);
        let bytes = b"[{\"name\": \"\xff\"}, {\"name\": \"x\"}]";
        assert_eq!(in_json(bytes).unwrap(), ["./%EF%BF%BD", "./x"]);
        assert!(in_json(b"{\"not\": \"a listing\"}").is_err());
    }

    #[test]
    fn links_in_html_are_decoded_and_those_in_comments_are_none() {
        let text =
            b"<!-- <a href=no> --><A HREF='a&amp;b'>x</A><a\nname=y href=\"../\">up<a href=c";
        assert_eq!(in_html(text), ["a&b", "../"]);
        assert_eq!(in_html(b"<p>nothing"), [""; 0]);
    }
}
