//! Metalinks (RFC 5854): where a file can be had, how long it is, and its digests.
//!
//! Only names, addresses and digests of files are read. Documents with a type declaration are
//! refused, so that no entity but XML's predefined five is expanded.

use std::fmt;
use std::io::Read as _;
use std::path::PathBuf;

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::config::{Downgrade, Job, Target};
use super::document::{self, Wanted};
use super::error::{ErrorKind, GetError};
use super::names;
use super::shared::{Reporter, Shared};
use super::source::{HttpUrl, Source};
use crate::digest::{Algorithm, Checksum};

/// The media type of a metalink.
pub(super) const MEDIA_TYPE: &str = "application/metalink4+xml";

/// Why a document is no metalink that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadMetalink(String);

impl fmt::Display for BadMetalink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the metalink cannot be used: {}",
            names::printable(&self.0)
        )
    }
}

impl std::error::Error for BadMetalink {}

/// A file in the document.
#[derive(Debug, Default)]
struct Described {
    name: String,
    length: Option<u64>,
    checksums: Vec<Checksum>,
    urls: Vec<(u32, HttpUrl)>,
}

/// The element whose text is being read.
#[derive(Debug)]
enum Field {
    Size,
    Hash(String),
    Url(u32),
}

/// The files of a metalink, each with its addresses, the best first, and its strongest digest.
/// Addresses of other protocols than http and https are left out.
///
/// # Errors
/// [`BadMetalink`]: it is no metalink, or a file of it has no usable name or address.
pub fn parse(text: &str) -> Result<Vec<Job>, BadMetalink> {
    if text.len() > MAX_BYTES {
        return Err(BadMetalink(format!("it has more than {MAX_BYTES} bytes")));
    }
    let files = read(text).map_err(BadMetalink)?;
    match files.is_empty() {
        true => Err(BadMetalink("it names no file".to_owned())),
        false => files.into_iter().map(job).collect(),
    }
}

/// The files of the metalink at `url`. One from https names no http addresses, unless a digest
/// proves their content.
///
/// # Errors
/// The metalink cannot be fetched, or used.
pub(super) fn fetch(
    shared: &Shared,
    reporter: &Reporter,
    url: &HttpUrl,
) -> Result<Vec<Job>, GetError> {
    let wanted = Wanted {
        url,
        accept: MEDIA_TYPE,
        max_bytes: MAX_BYTES,
    };
    let mut document = document::fetch(shared, reporter, wanted, |_, _| true)?;
    let (from, mut text) = (document.url.clone(), String::new());
    let read = document.rewind()?.read_to_string(&mut text);
    let jobs = read
        .map_err(|error| error.to_string())
        .and_then(|_| parse(&text).map_err(|error| error.to_string()));
    let jobs =
        jobs.map_err(|why| GetError::new(ErrorKind::Verification, format!("{url}: {why}")))?;
    if !from.is_secure() || shared.config.downgrade == Downgrade::Allowed {
        return Ok(jobs);
    }
    jobs.into_iter().map(|job| secure(job, &from)).collect()
}

/// Leaves out what an attacker on the path could change.
fn secure(mut job: Job, from: &HttpUrl) -> Result<Job, GetError> {
    let (Source::Http(first), true) = (&job.source, job.checksums.is_empty()) else {
        return Ok(job);
    };
    let all = std::iter::once(first.clone()).chain(job.mirrors);
    let mut urls = all.filter(HttpUrl::is_secure);
    let first = urls.next().ok_or_else(|| {
        let text = format!(
            "{from} has only http:// addresses, and no digest: --allow-downgrade takes them"
        );
        GetError::new(ErrorKind::Untrusted, text)
    })?;
    job.mirrors = urls.collect();
    job.source = Source::Http(first);
    Ok(job)
}

fn read(text: &str) -> Result<Vec<Described>, String> {
    let mut reader = Reader::from_str(text);
    let (mut files, mut file) = (Vec::new(), None::<Described>);
    let (mut field, mut content) = (None, String::new());
    let mut has_root = false;
    loop {
        let event = reader.read_event().map_err(|error| error.to_string())?;
        match event {
            Event::DocType(_) => return Err("it has a document type declaration".to_owned()),
            Event::Start(start) | Event::Empty(start) if !has_root => {
                if start.local_name().as_ref() != "metalink" {
                    return Err("its root is no metalink".to_owned());
                }
                has_root = true;
            }
            Event::Start(start) => match (start.local_name().as_ref(), &file) {
                ("file", None) => {
                    let name = attribute(&start, "name")?.ok_or("a file has no name")?;
                    file = Some(Described {
                        name,
                        ..Described::default()
                    });
                }
                (_, Some(_)) => {
                    field = field_of(&start)?;
                    content.clear();
                }
                _ => {}
            },
            Event::Text(text) => content.push_str(&text.xml10_content()),
            Event::CData(text) => content.push_str(&text.xml10_content()),
            Event::GeneralRef(reference) => content.push(resolve(&reference)?),
            Event::End(end) if end.local_name().as_ref() == "file" => files.extend(file.take()),
            Event::End(_) => {
                if let (Some(field), Some(file)) = (field.take(), &mut file) {
                    take(field, content.trim(), file)?;
                }
            }
            Event::Eof => return Ok(files),
            _ => {}
        }
    }
}

/// The value of an element of a file, if it is one that is read. Those of `pieces` have no type.
fn field_of(start: &BytesStart<'_>) -> Result<Option<Field>, String> {
    Ok(match start.local_name().as_ref() {
        "size" => Some(Field::Size),
        "hash" => attribute(start, "type")?.map(Field::Hash),
        "url" => {
            let priority = attribute(start, "priority")?;
            let priority = priority.and_then(|it| it.parse().ok());
            Some(Field::Url(priority.unwrap_or(LAST_PRIORITY)))
        }
        _ => None,
    })
}

fn take(field: Field, text: &str, file: &mut Described) -> Result<(), String> {
    match field {
        Field::Size => {
            let size = text.parse();
            file.length = Some(size.map_err(|_| format!("{text:?} is no size"))?);
        }
        Field::Hash(name) => {
            if let Some(algorithm) = Algorithm::named(&name) {
                let sum = Checksum::parse(algorithm, text).map_err(|error| error.to_string())?;
                file.checksums.push(sum);
            }
        }
        Field::Url(priority) => {
            let is_http = |scheme: &&str| {
                let start = text.get(..scheme.len());
                start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            };
            if ["http://", "https://"].iter().any(is_http)
                && let Ok(Source::Http(url)) = text.parse()
            {
                file.urls.push((priority, url));
            }
        }
    }
    Ok(())
}

fn job(mut file: Described) -> Result<Job, BadMetalink> {
    let name = file.name;
    let path = safe_path(&name).ok_or_else(|| BadMetalink(format!("{name:?} is no file name")))?;
    file.urls.sort_by_key(|(priority, _)| *priority);
    let mut urls = file.urls.into_iter().map(|(_, url)| url);
    let first = urls
        .next()
        .ok_or_else(|| BadMetalink(format!("it has no http:// or https:// address of {name:?}")))?;
    let rank = |sum: &Checksum| Algorithm::ALL.iter().position(|it| *it == sum.algorithm());
    Ok(Job {
        mirrors: urls.take(MAX_MIRRORS).collect(),
        checksums: file
            .checksums
            .into_iter()
            .min_by_key(rank)
            .into_iter()
            .collect(),
        length: file.length,
        ..Job::new(Source::Http(first), Target::Below(path))
    })
}

/// A path that stays below the directory (RFC 5854 section 4.1.2.1).
fn safe_path(name: &str) -> Option<PathBuf> {
    let components = name.split('/');
    components.map(names::safe_file_name).collect()
}

fn attribute(start: &BytesStart<'_>, name: &str) -> Result<Option<String>, String> {
    let found = start
        .try_get_attribute(name)
        .map_err(|error| error.to_string())?;
    let value = found.map(|it| {
        it.normalized_value(XmlVersion::Implicit1_0)
            .map(|it| it.into_owned())
    });
    value.transpose().map_err(|error| error.to_string())
}

fn resolve(reference: &quick_xml::events::BytesRef<'_>) -> Result<char, String> {
    if let Some(found) = reference
        .resolve_char_ref()
        .map_err(|error| error.to_string())?
    {
        return Ok(found);
    }
    match reference.xml10_content().as_ref() {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "apos" => Ok('\''),
        "quot" => Ok('"'),
        other => Err(format!("&{other}; is not expanded")),
    }
}

/// A metalink of some thousand files.
const MAX_BYTES: usize = 4 << 20;
const MAX_MIRRORS: usize = 32;
/// Of an address without one (RFC 5854 section 4.2.16.1: up to 999,999).
const LAST_PRIORITY: u32 = 999_999;

#[cfg(test)]
mod tests {
    use super::*;

    fn document(file: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">{file}</metalink>"
        )
    }

    #[test]
    fn the_example_of_the_standard() {
        let jobs = parse(&document(
            "<published>2009-05-15T12:23:23Z</published><file name=\"example.ext\">\
             <size>14471447</size><identity>Example</identity>\
             <hash type=\"md5\">d41d8cd98f00b204e9800998ecf8427e</hash>\
             <hash type=\"sha-256\">\
             e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855</hash>\
             <pieces length=\"1048576\" type=\"sha-1\"><hash>aa</hash></pieces>\
             <url location=\"de\" priority=\"2\">http://two.example/a?b=1&amp;c=&#50;</url>\
             <url priority=\"1\">ftp://ftp.example.com/example.ext</url>\
             <url location=\"de\" priority=\"1\"> https://one.example/ </url>\
             <metaurl mediatype=\"torrent\">http://example.com/example.torrent</metaurl>\
             </file>",
        ))
        .unwrap();
        let [job] = &jobs[..] else { panic!("one file") };
        assert_eq!(job.source.to_string(), "https://one.example/");
        assert_eq!(job.mirrors[0].to_string(), "http://two.example/a?b=1&c=2");
        assert_eq!((job.mirrors.len(), job.length), (1, Some(14_471_447)));
        assert_eq!(job.checksums[0].algorithm(), Algorithm::Sha256);
        assert_eq!(job.target, Target::Below("example.ext".into()));
    }

    #[test]
    fn names_stay_below_and_documents_cannot_grow() {
        let url = "<url>http://one.example/</url>";
        let named = |name: &str| {
            let jobs = parse(&document(&format!("<file name=\"{name}\">{url}</file>")));
            jobs.map(|jobs| jobs[0].target.clone())
        };
        assert_eq!(named("a/b c"), Ok(Target::Below("a/b c".into())));
        assert_eq!(named("a\\..\\.b"), Ok(Target::Below("_b".into())));
        for bad in ["", "/etc/passwd", "a/../b", "..", "a//b", "a/"] {
            assert!(named(bad).is_err(), "{bad}: {:?}", named(bad));
        }
        let doctype = "<!DOCTYPE m [<!ENTITY a \"aaaa\">]>";
        for bad in [
            "<html/>".to_owned(),
            String::new(),
            document(""),
            document("<file name=\"a\"></file>"),
            document("<file name=\"a\"><size>x</size></file>"),
            document(&format!(
                "<file name=\"a\"><hash type=\"md5\">x</hash>{url}</file>"
            )),
            document("<file name=\"a\"><url>http://one.example/&a;</url></file>"),
            format!(
                "{doctype}{}",
                document(&format!("<file name=\"a\">{url}</file>"))
            ),
            "<metalink><file name=\"a\"><url>".to_owned(),
        ] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }
}
