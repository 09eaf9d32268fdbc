//! `haul serve FILE...`: just these files, by their names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::process::{Program, haul, run};
use crate::support::transport::leaves_out;
use crate::support::{Answer, Client, PATIENCE, TestServer, noise};

/// A directory with files that are named and files that are not.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a directory"));
        for name in ["a/one", "a/beside", "b/two", "b/.hidden"] {
            let path = place.path(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(path, name).expect("a file");
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn serve(&self, names: &[&str]) -> TestServer {
        TestServer::with(|config| {
            config.files = names.iter().map(|name| self.path(name)).collect();
        })
    }
}

#[test]
fn named_files_are_served_and_nothing_beside_them() {
    let place = Place::new();
    let server = place.serve(&["a/one", "b/two", "b/.hidden"]);
    for (name, content) in [("one", "a/one"), ("two", "b/two"), (".hidden", "b/.hidden")] {
        let answer = server.get(&format!("/{name}"), "");
        assert_eq!((answer.status, &answer.body[..]), (200, content.as_bytes()));
        assert!(answer.field("etag").is_some_and(|tag| tag.starts_with('"')));
        assert_eq!(server.by_name(name), content.as_bytes());
    }
    let part = server.get("/one", "Range: bytes=2-\r\n");
    assert_eq!((part.status, &part.body[..]), (206, &b"one"[..]));
    for absent in [
        "/beside",
        "/a/one",
        "/one/",
        "/../a/beside",
        "/%2e%2e/a/beside",
        "/a",
        "/.",
        "/one/../beside",
    ] {
        let status = server.get(absent, "").status;
        assert!(matches!(status, 400 | 404 | 200), "{absent}: {status}");
        let body = server.get(absent, "").body;
        assert!(!body.ends_with(b"beside"), "{absent}");
    }
    assert_eq!(server.by_name("beside"), b"");
    assert_eq!(server.by_name(""), b"");
    let listing = server.exchange("GET /?format=json HTTP/1.0\r\n\r\n");
    let listing = Answer::parse(&listing).body;
    let listing: Vec<Value> = serde_json::from_slice(&listing).expect("JSON");
    let listed: Vec<_> = listing
        .iter()
        .map(|entry| (&entry["name"], &entry["size"]))
        .collect();
    let names = [".hidden", "one", "two"];
    assert_eq!(listed.iter().map(|it| it.0).collect::<Vec<_>>(), names);
    assert_eq!(listed[1].1, 5);
    let page = server.get("/", "Accept: text/html\r\n").body;
    let page = String::from_utf8_lossy(&page).into_owned();
    assert!(
        page.contains("3 entries") && !page.contains("beside"),
        "{page}"
    );
}

#[test]
fn a_named_file_that_is_replaced_is_served_anew_and_a_directory_in_its_place_is_not() {
    let place = Place::new();
    let server = place.serve(&["a/one", "b/two"]);
    assert_eq!(server.by_name("one"), b"a/one");
    fs::write(place.path("a/next"), "replaced").expect("a file");
    fs::rename(place.path("a/next"), place.path("a/one")).expect("replaced");
    assert_eq!(server.by_name("one"), b"replaced");
    // The directory that holds it may be made anew as well.
    fs::rename(place.path("a"), place.path("gone")).expect("moved away");
    fs::create_dir(place.path("a")).expect("a directory");
    fs::write(place.path("a/one"), "anew").expect("a file");
    let begun = Instant::now();
    while server.by_name("one") != b"anew" {
        assert!(begun.elapsed() < PATIENCE, "never seen");
    }
    fs::remove_file(place.path("b/two")).expect("removed");
    fs::create_dir(place.path("b/two")).expect("a directory");
    fs::write(place.path("b/two/inner"), "").expect("a file");
    for target in ["/two", "/two/", "/two/inner"] {
        let begun = Instant::now();
        while server.get(target, "").status != 404 {
            assert!(begun.elapsed() < PATIENCE, "{target}");
        }
    }
    let listing = server.get("/?format=json", "").body;
    assert!(!String::from_utf8_lossy(&listing).contains("two"));
}

#[test]
fn a_named_link_leads_where_it_led_and_to_what_lies_beside_that() {
    let place = Place::new();
    symlink("../b/two", place.path("a/latest")).expect("a link");
    let server = place.serve(&["a/latest"]);
    assert_eq!(server.by_name("latest"), b"b/two");
    let switch = |to: PathBuf| {
        symlink(to, place.path("a/next")).expect("a link");
        fs::rename(place.path("a/next"), place.path("a/latest")).expect("switched");
    };
    fs::write(place.path("b/three"), "b/three").expect("a file");
    switch("../b/three".into());
    let begun = Instant::now();
    while server.by_name("latest") != b"b/three" {
        assert!(begun.elapsed() < PATIENCE, "never seen");
    }
    let outside = tempfile::NamedTempFile::new().expect("a file");
    fs::write(outside.path(), "secret").expect("a file");
    switch(outside.path().to_owned());
    let begun = Instant::now();
    while server.get("/latest", "").status != 403 {
        assert!(begun.elapsed() < PATIENCE, "it leads out");
    }
}

#[test]
fn large_named_files_come_whole_by_both_protocols() {
    let place = Place::new();
    let content = noise(8 << 20, 5);
    fs::write(place.path("a/large"), &content).expect("a file");
    let server = place.serve(&["a/large"]);
    assert!(server.by_name("large") == content);
    assert!(server.get("/large", "").body == content);
}

#[test]
fn what_cannot_be_served_by_name_is_said_with_a_way_out() {
    let place = Place::new();
    fs::write(place.path("b/one"), "another").expect("a file");
    fs::hard_link(place.path("a/one"), place.path("b/two-of-one")).expect("a link");
    nix::unistd::mkfifo(&place.path("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let cases: [(&[&str], &str); 5] = [
        (&["a/one", "b/one"], "would have the same name; rename one"),
        (
            &["a", "b"],
            "name either one directory or nothing but files",
        ),
        (
            &["a/one", "b"],
            "name either one directory or nothing but files",
        ),
        (&["fifo"], "it is no regular file"),
        (&["missing"], "No such file"),
    ];
    for (names, expected) in cases {
        let paths = names.iter().map(|name| place.path(name));
        let output = run(haul().args(["serve", "--listen", "0"]).args(paths));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected), "{names:?}: {said}");
    }
    // The same file twice is one.
    let mut twice = Program::serve([place.path("a/one"), place.path("a/one")]);
    let mut client = Client::connect(twice.address());
    client.send("one\n");
    assert_eq!(client.rest(), b"a/one");
}

#[test]
fn the_commands_that_it_prints_fetch_the_files_whatever_their_names() {
    if leaves_out("the commands do not say whom to trust") {
        return;
    }
    let place = Place::new();
    let names: [&[u8]; 6] = [
        b"plain.txt",
        b"a space",
        b"100%25.txt",
        b"it's $(touch x)",
        b"line\nend",
        b"-rf",
    ];
    let paths: Vec<_> = names
        .iter()
        .map(|name| place.path("a").join(OsStr::from_bytes(name)))
        .collect();
    for (path, name) in paths.iter().zip(names) {
        fs::write(path, name).expect("a file");
    }
    let mut program = Program::serve(&paths);
    program.address();
    let said = program.said.clone();
    let commands = |start: &str| -> Vec<String> {
        let lines = said.iter().filter_map(|line| line.strip_prefix("  "));
        let lines = lines.filter(|line| line.starts_with(start));
        lines.map(str::to_owned).collect()
    };
    let (gets, curls) = (commands("haul get "), commands("curl "));
    assert_eq!(
        (gets.len(), curls.len()),
        (names.len(), names.len()),
        "{said:#?}"
    );
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_haul"));
    let binaries = binary
        .parent()
        .expect("a directory")
        .to_str()
        .expect("UTF-8");
    let path = format!("{binaries}:{}", std::env::var("PATH").unwrap_or_default());
    for commands in [gets, curls] {
        let into = tempfile::tempdir().expect("a directory");
        for command in &commands {
            let mut shell = Command::new("sh");
            let output = run(shell
                .args(["-c", command])
                .current_dir(into.path())
                .env("PATH", &path)
                .env("no_proxy", "*"));
            if output.status.code() == Some(127) {
                eprintln!("skipped: {command} needs a program that is not here");
                continue;
            }
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command}: {said}");
        }
        let fetched = fs::read_dir(into.path()).expect("a directory");
        let mut contents: Vec<_> = fetched
            .map(|entry| fs::read(entry.expect("an entry").path()).expect("a file"))
            .collect();
        contents.sort();
        let mut expected: Vec<_> = names.iter().map(|name| name.to_vec()).collect();
        expected.sort();
        if !contents.is_empty() {
            assert_eq!(contents, expected, "{commands:?}");
        }
    }
}
