//! Listings step by step, of real directories.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use super::*;
use crate::http::parse::{Parsed, parse_request};
use crate::http::policy::{DotNames, HttpLimits};
use crate::http::{Query, SortKey, SortOrder, Timestamp};
use crate::sys::directory::{Directory, EntryFacts, EntryKind};

fn request(query: Query) -> Request {
    let head = b"GET /some/dir/ HTTP/1.1\r\nHost: example.org:7788\r\nAccept: text/html\r\n\r\n";
    match parse_request(head, 0, &HttpLimits::default()) {
        Parsed::Complete { request, .. } => Request { query, ..request },
        other => panic!("{other:?}"),
    }
}

fn json() -> Query {
    Query {
        format: Some(ListingFormat::Json),
        ..Query::default()
    }
}

/// Every link has a target of seven bytes, except one with an outside target.
fn follow(name: &[u8]) -> Followed {
    let modified = Timestamp {
        seconds: 7,
        nanoseconds: 0,
    };
    match name {
        b"out" => Followed::Outside,
        b"broken" => Followed::Nothing,
        _ => Followed::Inside(EntryFacts {
            kind: EntryKind::File,
            len: 7,
            modified,
            inode: (1, 7),
        }),
    }
}

fn list_with(root: &Path, query: Query, policy: ListingPolicy) -> String {
    let descriptor = File::open(root).expect("a directory").into();
    let directory = Directory::new(descriptor).expect("a directory");
    let mut listing = Listing::new(
        NameSource::Directory(directory),
        &request(query),
        policy,
        (None, Semaphore::new(1)),
        (None, &Arc::new(ScanRegistry::new(Arc::default()))),
    );
    let mut out = Vec::new();
    loop {
        let before = out.len();
        let progress = listing.fill(&mut out, &follow).expect("readable");
        assert!(
            out.len() - before < 64 << 10,
            "a step of {} bytes",
            out.len() - before
        );
        if progress == Progress::Done {
            return String::from_utf8(out).expect("whatever the names are");
        }
    }
}

fn list(root: &Path, query: Query) -> String {
    list_with(root, query, ListingPolicy::default())
}

fn names(listing: &str) -> BTreeSet<String> {
    let array: Vec<Value> = serde_json::from_str(listing).expect("JSON");
    array
        .iter()
        .map(|entry| entry["name"].as_str().expect("a string").to_owned())
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn only_what_is_served_is_listed() {
    let root = tempfile::tempdir().expect("a temporary directory");
    fs::write(root.path().join("file"), b"12345").expect("a file");
    fs::write(root.path().join(".hidden"), b"1").expect("a file");
    fs::create_dir(root.path().join("dir")).expect("a directory");
    symlink("file", root.path().join("in")).expect("a link");
    symlink("/etc/passwd", root.path().join("out")).expect("a link");
    symlink("nowhere", root.path().join("broken")).expect("a link");
    std::os::unix::net::UnixListener::bind(root.path().join("socket")).expect("a socket");

    let listing = list(root.path(), json());
    assert_eq!(names(&listing), set(&["dir", "file", "in", "out"]));
    let array: Vec<Value> = serde_json::from_str(&listing).expect("JSON");
    let entry = |name: &str| {
        array
            .iter()
            .find(|entry| entry["name"] == name)
            .expect("listed")
    };
    assert_eq!(entry("dir")["kind"], "directory");
    assert_eq!(entry("dir")["size"], Value::Null);
    assert_eq!(entry("file")["size"], 5);
    assert_eq!(entry("in")["size"], 7);
    assert_eq!(entry("in")["mtime"], "1970-01-01T00:00:07Z");
    assert_eq!(entry("out")["kind"], "link");
    assert_eq!(entry("out")["size"], Value::Null);

    let all = ListingPolicy {
        dot_names: DotNames::Shown,
        ..ListingPolicy::default()
    };
    let listing = list_with(root.path(), json(), all);
    assert_eq!(
        names(&listing),
        set(&[".hidden", "dir", "file", "in", "out"])
    );
    let filtered = Query {
        filter: Some(b"FIL".as_slice().into()),
        ..json()
    };
    assert_eq!(names(&list(root.path(), filtered)), set(&["file"]));
}

#[test]
fn an_empty_directory_is_an_empty_array() {
    let root = tempfile::tempdir().expect("a temporary directory");
    assert_eq!(list(root.path(), json()), "[]\n");
    let lines = Query {
        format: Some(ListingFormat::Ndjson),
        ..Query::default()
    };
    assert_eq!(list(root.path(), lines), "");
    assert!(list(root.path(), Query::default()).contains("This folder is empty."));
}

#[test]
fn names_cannot_escape_from_their_place() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let hurting: [&[u8]; 7] = [
        b"<script>alert(1)<!--",
        b"\" onmouseover=\"x",
        b"new\nline",
        b"a'b;rm -rf $HOME",
        b"\xff\xfe.bin",
        b"#[]{}()@!$&`+,;=? %20.test",
        "\u{202e}gpj.exe".as_bytes(),
    ];
    for name in hurting {
        fs::write(root.path().join(OsStr::from_bytes(name)), b"").expect("a file");
    }
    let page = list(root.path(), Query::default());
    assert_eq!(page.matches("<script>").count(), 1, "the page's own");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;!--"), "{page}");
    assert!(!page.contains("\" onmouseover=\"x"));
    assert!(page.contains("href=\"%FF%FE.bin\""));
    assert!(
        page.contains("href=\"%23%5B%5D%7B%7D%28%29%40%21%24%26%60%2B%2C%3B%3D%3F%20%2520.test\"")
    );
    assert!(
        page.contains("haul get 'http://example.org:7788/some/dir/a%27b%3Brm%20-rf%20%24HOME'")
    );

    let listing = list(root.path(), json());
    let array: Vec<Value> = serde_json::from_str(&listing).expect("JSON");
    assert_eq!(array.len(), hurting.len());
    let foreign: Vec<_> = array
        .iter()
        .filter(|entry| entry.get("href").is_some())
        .collect();
    assert_eq!(foreign.len(), 1);
    assert_eq!(foreign[0]["href"], "%FF%FE.bin");
}

#[test]
fn a_large_directory_comes_in_pages_that_miss_nothing() {
    let root = tempfile::tempdir().expect("a temporary directory");
    for index in 0..2_500 {
        File::create(root.path().join(format!("file {index}"))).expect("a file");
    }
    let lines = Query {
        format: Some(ListingFormat::Ndjson),
        ..Query::default()
    };
    assert_eq!(list(root.path(), lines).lines().count(), 2_500);

    let first = list(root.path(), Query::default());
    assert_eq!(first.matches("<tr data-size").count(), 1_000);
    assert!(first.contains("1–1,000 of 2,500 entries"));
    let link = first
        .split("rel=\"next\" href=\"?")
        .nth(1)
        .expect("a link to the next page");
    assert!(
        link.starts_with("after=f%3Afile%20999\""),
        "{}",
        &link[..60]
    );

    let after = Query {
        after: Some(b"f:file 999".as_slice().into()),
        ..Query::default()
    };
    let second = list(root.path(), after);
    assert!(second.contains("1,001–2,000 of 2,500 entries"));
    let after = Query {
        after: Some(b"f:file 1999".as_slice().into()),
        ..Query::default()
    };
    let third = list(root.path(), after);
    assert!(third.contains("2,001–2,500 of 2,500 entries"));
    assert!(!third.contains("rel=\"next\""));
    assert!(third.contains("First page"));
}

#[test]
fn a_page_whose_names_were_given_back_is_the_same() {
    let root = tempfile::tempdir().expect("a temporary directory");
    for index in 0..2_500 {
        File::create(root.path().join(format!("a long file name {index}"))).expect("a file");
    }
    let expected = list(root.path(), Query::default());
    let descriptor = File::open(root.path()).expect("a directory").into();
    let source = NameSource::Directory(Directory::new(descriptor).expect("a directory"));
    let pages = Semaphore::new(1);
    let policy = ListingPolicy::default();
    let mut listing = Listing::new(
        source,
        &request(Query::default()),
        policy,
        (None, Arc::clone(&pages)),
        (None, &Arc::new(ScanRegistry::new(Arc::default()))),
    );
    let (mut out, mut given_back, mut sent) = (Vec::new(), 0, 0);
    while listing.fill(&mut out, &follow).expect("readable") == Progress::More {
        let has_more_to_send = std::mem::replace(&mut sent, out.len()) < out.len();
        if has_more_to_send && listing.memory() != Memory::Little {
            assert_eq!(pages.taken(), 1);
            listing.give_back();
            given_back += 1;
            assert_eq!((listing.memory(), pages.taken()), (Memory::Little, 0));
        }
    }
    assert!(given_back > 1);
    assert_eq!(pages.taken(), 0);
    assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
}

#[test]
fn a_page_waits_while_others_have_their_names_in_memory() {
    let root = tempfile::tempdir().expect("a temporary directory");
    File::create(root.path().join("file")).expect("a file");
    let descriptor = File::open(root.path()).expect("a directory").into();
    let source = NameSource::Directory(Directory::new(descriptor).expect("a directory"));
    let pages = Semaphore::new(1);
    let other = pages.try_acquire();
    let policy = ListingPolicy::default();
    let mut listing = Listing::new(
        source,
        &request(Query::default()),
        policy,
        (None, Arc::clone(&pages)),
        (None, &Arc::new(ScanRegistry::new(Arc::default()))),
    );
    let mut out = Vec::new();
    for _ in 0..10 {
        let progress = listing.fill(&mut out, &follow).expect("readable");
        assert_eq!(progress, Progress::More);
    }
    assert!(!String::from_utf8_lossy(&out).contains("1 entry"));
    drop(other);
    while listing.fill(&mut out, &follow).expect("readable") == Progress::More {}
    assert!(String::from_utf8_lossy(&out).contains("1 entry"));
}

#[test]
fn a_page_is_sorted_as_asked() {
    let root = tempfile::tempdir().expect("a temporary directory");
    for (name, len) in [("b.txt", 1), ("a.zip", 3), ("c.mp4", 2)] {
        fs::write(root.path().join(name), vec![0; len]).expect("a file");
    }
    fs::create_dir(root.path().join("z")).expect("a directory");
    let cases = [
        (
            SortKey::Name,
            SortOrder::Ascending,
            ["z/", "a.zip", "b.txt", "c.mp4"],
        ),
        (
            SortKey::Name,
            SortOrder::Descending,
            ["z/", "c.mp4", "b.txt", "a.zip"],
        ),
        (
            SortKey::Size,
            SortOrder::Descending,
            ["z/", "a.zip", "c.mp4", "b.txt"],
        ),
        (
            SortKey::Kind,
            SortOrder::Ascending,
            ["z/", "a.zip", "b.txt", "c.mp4"],
        ),
    ];
    for (sort, order, expected) in cases {
        let page = list(
            root.path(),
            Query {
                sort,
                order,
                ..Query::default()
            },
        );
        let places = expected.map(|name| page.find(&format!("<a href=\"{name}\"")));
        assert!(
            places.is_sorted() && places[0].is_some(),
            "{sort:?} {order:?}: {places:?}"
        );
    }
    let by_size = Query {
        sort: SortKey::Size,
        ..Query::default()
    };
    let page = list(root.path(), by_size);
    assert!(page.contains("aria-sort=\"ascending\""));
    assert!(page.contains("4 entries"));
}

#[test]
fn a_name_that_cannot_be_looked_at_is_an_error_and_one_that_has_gone_is_none() {
    let root = tempfile::tempdir().expect("a directory");
    let descriptor = File::open(root.path()).expect("a directory").into();
    let directory = Directory::new(descriptor).expect("a directory");
    let source = NameSource::Directory(directory);
    let scan = Scan::new(source, None, DotNames::Shown, None);
    let no_link = |_: &[u8]| Followed::Nothing;
    let gone = scan.facts(b"gone", &no_link);
    assert!(matches!(gone, Ok(None)), "{gone:?}");
    // ENAMETOOLONG represents an error of the disk.
    let failed = scan.facts(&[b'x'; 1000], &no_link);
    assert!(failed.is_err(), "{failed:?}");
}
