//! The entries of a listing, one by one. Pure: text in, entries out; `tree` decides on them.

use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::time::{Duration, SystemTime};

use html5gum::{IoReader, Token, Tokenizer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

/// The format of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Json,
    Html,
    Xml,
}

/// A link to a file or a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    /// Relative to the listing, or to the page's `<base>`; directories end in a slash.
    pub(crate) reference: String,
    pub(crate) length: Option<u64>,
    pub(crate) modified: Option<SystemTime>,
    /// A server's identifier of a directory, whatever its path.
    pub(crate) identity: Option<String>,
    /// The server marks it as a link with an outside target.
    pub(crate) leads_out: bool,
}

/// The facts in a page about the page itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    /// The `href` of `<base>`.
    pub(crate) base: Option<String>,
    /// Titled as servers title their listings.
    pub(crate) is_titled: bool,
    pub(crate) has_scripts: bool,
}

/// A text that may not go on for long without an entry, which is kept in memory until its end.
struct Bounded<'a, R> {
    text: R,
    bytes_since_entry: &'a Cell<usize>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.text.read(buffer)?;
        let bytes = self.bytes_since_entry.get() + count;
        self.bytes_since_entry.set(bytes);
        match bytes > MAX_ENTRY_BYTES {
            true => Err(io::Error::other("megabytes of it hold no entry")),
            false => Ok(count),
        }
    }
}

/// Passes each link in `text`, with the text before it, to `take`, until that returns `false`.
///
/// # Errors
/// Why this is no listing.
pub(crate) fn read(
    kind: Kind,
    text: impl Read,
    take: &mut dyn FnMut(&Traits, Link) -> bool,
) -> Result<Traits, String> {
    let bytes_since_entry = &Cell::new(0);
    let text = Bounded {
        text,
        bytes_since_entry,
    };
    let take: &mut dyn FnMut(&Traits, Link) -> bool = &mut |traits, link| {
        bytes_since_entry.set(0);
        take(traits, link)
    };
    match kind {
        Kind::Json => in_json(text, take).map(|()| Traits::default()),
        Kind::Html => in_html(text, take),
        Kind::Xml => in_xml(text, take).map(|()| Traits::default()),
    }
}

/// Whether an HTML page is one that a server makes of a directory.
pub(crate) fn is_listing(text: impl Read) -> bool {
    let mut links = 0;
    let traits = read(Kind::Html, text, &mut |_, _| {
        links += 1;
        true
    });
    links > 0 && traits.is_ok_and(|traits| traits.is_titled)
}

/// Besides haul's own fields (`name`, `href`, `kind`) nginx's (`type`) and Caddy's (`is_dir`) are
/// read.
fn in_json(text: impl Read, take: &mut dyn FnMut(&Traits, Link) -> bool) -> Result<(), String> {
    let mut stopped = false;
    let mut each = |entry: Entry| {
        stopped = !take(&Traits::default(), entry.into_link());
        !stopped
    };
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(text));
    match json
        .deserialize_seq(Each(&mut each))
        .and_then(|()| json.end())
    {
        Err(error) if !stopped => Err(format!("its JSON is not a listing: {error}")),
        _ => Ok(()),
    }
}

fn in_html(text: impl Read, take: &mut dyn FnMut(&Traits, Link) -> bool) -> Result<Traits, String> {
    let mut traits = Traits::default();
    let mut in_title = false;
    for token in Tokenizer::new(IoReader::new(text)) {
        match token.map_err(|error| error.to_string())? {
            Token::StartTag(tag) => {
                let href = tag.attributes.get(&b"href"[..]);
                let href = href.map(|it| String::from_utf8_lossy(&it.value).trim().to_owned());
                let name = tag.name.as_slice();
                in_title = matches!(name, b"title" | b"h1");
                traits.has_scripts |=
                    name == b"script" || tag.attributes.contains_key(&b"onclick"[..]);
                match (name, href) {
                    (b"base", Some(base)) if traits.base.is_none() => traits.base = Some(base),
                    (b"a" | b"area", Some(reference)) => {
                        let link = Link {
                            reference,
                            ..Link::default()
                        };
                        if !take(&traits, link) {
                            return Ok(traits);
                        }
                    }
                    _ => {}
                }
            }
            Token::String(words) if in_title => {
                let words = words.trim_ascii().to_ascii_lowercase();
                traits.is_titled |= TITLES.iter().any(|title| words.starts_with(title));
            }
            Token::EndTag(_) => in_title = false,
            _ => {}
        }
    }
    Ok(traits)
}

/// nginx's `autoindex_format xml` and S3's `ListObjects`, whose keys are paths.
fn in_xml(text: impl Read, take: &mut dyn FnMut(&Traits, Link) -> bool) -> Result<(), String> {
    let mut link = Link::default();
    let mut words = Vec::new();
    let (mut is_listing, mut in_prefixes) = (false, false);
    for token in Tokenizer::new(IoReader::new(text)) {
        match token.map_err(|error| error.to_string())? {
            Token::StartTag(tag) => {
                words.clear();
                let attribute = |name: &[u8]| {
                    let found = tag.attributes.get(name);
                    found.map(|it| String::from_utf8_lossy(&it.value).into_owned())
                };
                match tag.name.as_slice() {
                    b"list" | b"listbucketresult" => is_listing = true,
                    b"commonprefixes" => in_prefixes = true,
                    b"file" | b"directory" => {
                        link.length = attribute(b"size").and_then(|it| it.parse().ok());
                        link.modified = attribute(b"mtime").and_then(|it| time(&it));
                    }
                    _ => {}
                }
            }
            Token::String(more) => words.extend_from_slice(&more),
            Token::EndTag(tag) => {
                let said = || String::from_utf8_lossy(&words).trim().to_owned();
                let ends = match tag.name.as_slice() {
                    b"file" => {
                        link.reference = relative(&words, "");
                        true
                    }
                    b"directory" => {
                        link.reference = relative(&words, "/");
                        true
                    }
                    b"prefix" if in_prefixes => {
                        link.reference = relative(&words, "");
                        true
                    }
                    b"commonprefixes" => {
                        in_prefixes = false;
                        false
                    }
                    b"key" => {
                        link.reference = relative(&words, "");
                        false
                    }
                    b"size" => {
                        link.length = said().parse().ok();
                        false
                    }
                    b"lastmodified" => {
                        link.modified = time(&said());
                        false
                    }
                    // A key with a slash behind it only marks a directory of S3's.
                    b"contents" if link.reference.ends_with('/') => {
                        link = Link::default();
                        false
                    }
                    b"contents" => true,
                    b"istruncated" if said() == "true" => {
                        return Err("it lists only a part of the files".to_owned());
                    }
                    _ => false,
                };
                if ends && !take(&Traits::default(), std::mem::take(&mut link)) {
                    return Ok(());
                }
                words.clear();
            }
            _ => {}
        }
    }
    match is_listing {
        true => Ok(()),
        false => Err("its XML is not a listing".to_owned()),
    }
}

/// A path as a relative reference, with any characters.
fn relative(path: &[u8], end: &str) -> String {
    let components: Vec<_> = path
        .split(|&byte| byte == b'/')
        .map(|component| percent_encode(component, COMPONENT).to_string())
        .collect();
    format!("./{}{end}", components.join("/"))
}

/// RFC 3339, as in JSON and S3's XML, or HTTP's dates, as in nginx's JSON.
fn time(text: &str) -> Option<SystemTime> {
    let Ok(stamp) = text.parse::<jiff::Timestamp>() else {
        return httpdate::parse_http_date(text).ok();
    };
    let since = Duration::try_from(stamp.as_duration()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(since)
}

#[derive(Deserialize)]
struct Entry {
    name: Bytes,
    /// The percent-encoded name, where `name` cannot be it.
    href: Option<String>,
    #[serde(alias = "type")]
    kind: Option<String>,
    #[serde(default)]
    is_dir: bool,
    size: Option<serde_json::Value>,
    #[serde(alias = "mod_time")]
    mtime: Option<String>,
    id: Option<String>,
}

impl Entry {
    fn into_link(self) -> Link {
        let slash = self.name.0.ends_with(b"/");
        let name = self.name.0.strip_suffix(b"/").unwrap_or(&self.name.0);
        let mut reference = String::from("./");
        match self.href {
            Some(href) => reference.push_str(href.trim_end_matches('/')),
            None => reference.extend(percent_encode(name, COMPONENT)),
        }
        let directory = matches!(self.kind.as_deref(), Some("directory" | "dir"));
        if slash || self.is_dir || directory {
            reference.push('/');
        }
        Link {
            reference,
            length: self.size.and_then(|size| size.as_u64()),
            modified: self.mtime.and_then(|text| time(&text)),
            identity: self.id,
            leads_out: self.kind.as_deref() == Some("link"),
        }
    }
}

/// A JSON string's bytes: nginx copies names that are not UTF-8 into its listings.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(BytesVisitor).map(Self)
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }
}

/// Passes on the elements of an array while it is parsed.
struct Each<'a>(&'a mut dyn FnMut(Entry) -> bool);

impl<'de> Visitor<'de> for Each<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(entry) = entries.next_element()? {
            if !(self.0)(entry) {
                return Err(A::Error::custom("enough"));
            }
        }
        Ok(())
    }
}

const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// Some times the scripts and pictures that pages hold inline.
const MAX_ENTRY_BYTES: usize = 16 << 20;
/// How nginx, Apache, lighttpd, Python, haul and others title a listing.
const TITLES: [&[u8]; 3] = [b"index of", b"directory listing", b"listing of"];

#[cfg(test)]
mod tests {
    use super::*;

    fn references(kind: Kind, text: &[u8]) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        read(kind, text, &mut |_, link| {
            found.push(link.reference);
            true
        })
        .map(|_| found)
    }

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
        assert_eq!(references(Kind::Json, text).unwrap(), expected);
        let bytes = b"[{\"name\": \"\xff\"}, {\"name\": \"x\"}]";
        assert_eq!(references(Kind::Json, bytes).unwrap(), ["./%FF", "./x"]);
        assert!(references(Kind::Json, b"{\"not\": \"a listing\"}").is_err());
        assert!(references(Kind::Json, b"[{\"name\": \"x\"}, ").is_err());
    }

    #[test]
    fn links_in_html_are_decoded_and_those_in_comments_are_none() {
        let text =
            b"<!-- <a href=no> --><A HREF='a&amp;b'>x</A><a\nname=y href=\"../\">up<a href=c";
        assert_eq!(references(Kind::Html, text).unwrap(), ["a&b", "../"]);
        assert!(references(Kind::Html, b"<p>nothing").unwrap().is_empty());
        let text = b"<base href='/x/'><title>Index of /</title><script>1</script>";
        let traits = read(Kind::Html, &text[..], &mut |_, _| true).unwrap();
        assert_eq!(traits.base.as_deref(), Some("/x/"));
        assert!(traits.is_titled && traits.has_scripts);
    }

    #[test]
    fn listings_in_xml() {
        let nginx = b"<?xml version=\"1.0\"?>\n<list>\n<directory mtime=\"2026-01-01T00:00:00Z\">d e</directory>\n\
            <file mtime=\"2026-01-01T00:00:00Z\" size=\"3\">a&amp;b</file>\n</list>";
        assert_eq!(
            references(Kind::Xml, nginx).unwrap(),
            ["./d%20e/", "./a%26b"]
        );
        let s3 =
            b"<ListBucketResult><Name>b</Name><Prefix></Prefix><IsTruncated>false</IsTruncated>\
            <Contents><Key>x/y z</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
            <Size>3</Size></Contents><Contents><Key>x/</Key><Size>0</Size></Contents><CommonPrefixes><Prefix>sub/</Prefix></CommonPrefixes>\
            </ListBucketResult>";
        assert_eq!(references(Kind::Xml, s3).unwrap(), ["./x/y%20z", "./sub/"]);
        assert!(references(Kind::Xml, b"<rss></rss>").is_err());
        let cut = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
        assert!(references(Kind::Xml, cut).is_err());
    }
}
