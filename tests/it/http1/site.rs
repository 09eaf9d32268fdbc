//! The files of the cases.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::case::{PROBE_BODY, Pieces, exchange, take_answer};
use crate::support::{PATIENCE, noise};

/// What has to be known about a server beforehand.
pub struct Site {
    /// The entity tag of `ten.txt`.
    pub etag: String,
    /// How long to wait for an answer.
    pub patience: Duration,
    /// How strictly responses are checked.
    pub judge: Judge,
}

/// How strictly responses are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// haul has to answer as it has chosen.
    OfHaul,
    /// Others may answer in every way that the RFCs allow.
    OfOthers,
}

impl Site {
    /// Asks the server.
    pub fn ask(address: SocketAddr, patience: Duration, judge: Judge) -> Self {
        let mut site = Self {
            etag: String::new(),
            patience,
            judge,
        };
        let request = b"HEAD /ten.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let received = exchange(address, request, Pieces::Whole, &site).expect("an answer");
        let (answer, _) = take_answer(&received, true).expect("an answer");
        let etag = answer.values("etag").first().map(|tag| (*tag).to_owned());
        site.etag = etag.expect("an entity tag");
        site
    }

    /// Asks a server of the tests.
    pub fn of(address: SocketAddr) -> Self {
        Self::ask(address, PATIENCE, Judge::OfHaul)
    }
}

/// Writes the files. All were last changed at `Sun, 09 Sep 2001 01:46:40 GMT`.
pub fn furnish(root: &Path) {
    let files: [(&str, &[u8]); 25] = [
        ("ten.txt", b"0123456789"),
        ("empty.txt", b""),
        ("probe.txt", PROBE_BODY),
        ("page.html", b"<p>a page"),
        ("style.css", b"p{}"),
        ("script.js", b"1"),
        ("data.json", b"{}"),
        ("image.png", b"\x89PNG"),
        ("film.mp4", b"film"),
        ("song.wav", b"RIFF"),
        ("archive.tar.gz", b"\x1f\x8b"),
        ("noext", b"?"),
        ("folder/index.html", b"<p>an index"),
        ("plain/a.txt", b"a"),
        ("a b.txt", b"a space"),
        ("\u{fc}.txt", b"an umlaut"),
        ("100%.txt", b"a percent sign"),
        ("a+b.txt", b"a plus"),
        ("a;b,c=d&e.txt", b"marks"),
        ("what?.txt", b"a question"),
        ("#1.txt", b"a number sign"),
        (".hidden", b"hidden"),
        ("packed.js", b"0123456789abcdef"),
        ("packed.js.gz", b"GZIP-bytes"),
        ("packed.js.br", b"BROTLI-bytes"),
    ];
    for (name, content) in files {
        put(root, name, content);
    }
    put(root, "packed.js.zst", b"ZSTD-bytes");
    put(root, "big.bin", &noise(100_000, 7));
    let future = put(root, "future.txt", b"from the future");
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    future.set_modified(tomorrow).expect("a time");
}

fn put(root: &Path, name: &str, content: &[u8]) -> File {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("beneath the root")).expect("directories");
    fs::write(&path, content).expect("the file is written");
    let file = File::options().write(true).open(&path).expect("the file");
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000))
        .expect("a time");
    file
}

/// Stands for the entity tag of `ten.txt` in requests and expectations.
pub const ETAG: &str = "$ETAG";
