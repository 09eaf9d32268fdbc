//! Nothing leaves the root, however it is spelt, and whatever is swapped while it is looked up.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use haul::server::telemetry::CloseReason;
use tempfile::TempDir;

use crate::support::{Client, TestServer};

const SECRET: &[u8] = b"the secret that stays outside";

/// A root with a secret beside it, and a server for the root alone.
fn beside_a_secret() -> (TempDir, TestServer) {
    let base = tempfile::tempdir().expect("a directory");
    let root = base.path().join("root");
    fs::create_dir_all(root.join("dir/sub")).expect("directories");
    fs::create_dir(base.path().join("root-too")).expect("a directory");
    for path in ["secret", "root-too/secret"] {
        fs::write(base.path().join(path), SECRET).expect("written");
    }
    fs::write(root.join("file"), "inside").expect("written");
    fs::write(root.join("dir/file"), "inside").expect("written");
    let server = TestServer::with(|config| config.root = root);
    (base, server)
}

/// Ways to spell the way out; `@` stands for the secret's absolute path, `#` for its directory's.
const SPELLINGS: &[&[u8]] = &[
    b"../secret",
    b"/../secret",
    b"./../secret",
    b".//../secret",
    b"dir/../../secret",
    b"dir/sub/../../../secret",
    b"dir/./../../secret",
    b"dir//..//..//secret",
    b"file/../../secret",
    b"missing/../../secret",
    b"../root-too/secret",
    b"../root/../secret",
    b"../../../../../../../../../../../../etc/passwd",
    b"..",
    b"../",
    b"../.",
    b"dir/../..",
    b"@",
    b"/@",
    b"//@",
    b"///@",
    b"./@",
    b"dir/@",
    b"#/secret",
    b"#/root/../secret",
    b"/etc/passwd",
    b"//etc/passwd",
    b"\\etc\\passwd",
    b"..\\secret",
    b"dir\\..\\..\\secret",
    b"..\\/secret",
    b"../\\secret",
    b".\\..\\secret",
    b"%2e%2e/secret",
    b"%2E%2E/secret",
    b".%2e/secret",
    b"%2e./secret",
    b"%2e%2e%2fsecret",
    b"..%2fsecret",
    b"..%2Fsecret",
    b"dir%2f..%2f..%2fsecret",
    b"dir/..%2f../secret",
    b"%2f@",
    b"%2f%2e%2e%2fsecret",
    b"%252e%252e/secret",
    b"%252e%252e%252fsecret",
    b"..%252fsecret",
    b"%25252e%25252e/secret",
    b"..%5csecret",
    b"%2e%2e%5csecret",
    b"..%255csecret",
    b"..%c0%afsecret",
    b"%c0%ae%c0%ae/secret",
    b"%c0%ae%c0%ae%c0%afsecret",
    b"..%c1%9csecret",
    b"%e0%80%ae%e0%80%ae/secret",
    b"%f0%80%80%ae%f0%80%80%ae/secret",
    b"..\xc0\xafsecret",
    b"\xc0\xae\xc0\xae/secret",
    b"\xe0\x80\xae\xe0\x80\xae/secret",
    b"..%ef%bc%8fsecret",
    b"\xef\xbc\x8e\xef\xbc\x8e/secret",
    b"\xe2\x80\xa5/secret",
    b"..\xe2\x88\x95secret",
    b"%u002e%u002e/secret",
    b"%u2216..%u2216secret",
    b"..%00/secret",
    b"file%00/../../secret",
    b"../secret%00",
    b"../secret%00.html",
    b"%00../secret",
    b"..;/secret",
    b"..;x=y/secret",
    b"dir/..;/..;/secret",
    b"..%3b/secret",
    b"....//secret",
    b"....\\\\secret",
    b".../secret",
    b"..././secret",
    b". ./secret",
    b".. /secret",
    b" ../secret",
    b"..%20/secret",
    b"..%09/secret",
    b"..%0a/secret",
    b"%0a../secret",
    b"~/secret",
    b"~root/.bashrc",
    b"$HOME/../secret",
    b"C:/../secret",
    b"file:///etc/passwd",
    b"file:@",
    b"/proc/self/root/etc/passwd",
    b"proc/self/root/etc/passwd",
    b"/dev/stdin",
    b"/proc/self/fd/3/../secret",
    b"dir/sub/..%2f..%2f..%2fsecret",
    b"?/../../secret",
    b"x?/../secret",
    b"#frag/../../secret",
    b"..%23/secret",
    b"..%3f/secret",
    b"dir/%2e%2e/%2e%2e/secret",
    b"./.././secret",
    b"..//secret",
    b"../secret/",
    b"../secret/.",
    b"../secret/..",
    b"../secret/../secret",
    b"..%2f%2e%2e%2fetc%2fpasswd",
    b"%%32%65%%32%65/secret",
    b"%2/../secret",
    b"..%/secret",
    b"..%2/secret",
    b"..%zz/secret",
];

#[test]
fn no_spelling_leads_out_by_name() {
    let (base, server) = beside_a_secret();
    let spellings = spellings(&base);
    assert!(spellings.len() >= 60);
    for spelling in &spellings {
        for mark in [b"\n".as_slice(), b"\r\n", b"\0"] {
            let bytes = Client::connect(server.address()).ask([spelling.as_slice(), mark].concat());
            assert_eq!(bytes, b"", "{}", spelling.escape_ascii());
        }
    }
    assert_eq!(server.by_name("file"), b"inside");
    let counters = server.counters_when(|counters| counters.open == 0);
    assert_eq!(counters.closed(CloseReason::Complete), 1, "{counters:#?}");
    assert_eq!(counters.bytes_sent, 6);
}

#[test]
fn no_spelling_leads_out_by_http() {
    let (base, server) = beside_a_secret();
    let mut spellings = spellings(&base);
    let authority = format!("http://{}/../secret", server.address());
    spellings.push(authority.into_bytes());
    spellings.push(b"http://x/%2e%2e/secret".into());
    spellings.push(b"http://x/../../secret".into());
    for spelling in &spellings {
        for slash in [b"/".as_slice(), b"", b"/dir/"] {
            let target = [slash, spelling].concat();
            let request = [
                b"GET ",
                target.as_slice(),
                b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            ]
            .concat();
            let bytes = Client::connect(server.address()).ask(request);
            let shown = target.escape_ascii();
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains("the secret"), "{shown}");
            assert!(!text.contains("root:"), "{shown}");
            // Some of them are fine names of nothing, and some mean the root.
            let status = text.get(..12).unwrap_or_default();
            let fine = ["HTTP/1.1 400", "HTTP/1.1 403", "HTTP/1.1 404"];
            let of_the_root = ["HTTP/1.1 200", "HTTP/1.1 301"];
            assert!(
                fine.contains(&status) || of_the_root.contains(&status),
                "{shown}: {text:.200}"
            );
        }
    }
    assert_eq!(server.get("/file", "").body, b"inside");
}

/// A server whose root has a directory and a link with an outside target, which are exchanged all
/// the time while clients request both.
#[test]
fn a_link_that_races_with_the_look_up_leads_nowhere() {
    const SWAPS: u32 = 100_000;
    const FILES: u64 = 2_000;
    let (base, server) = beside_a_secret();
    let root = base.path().join("root");
    let outside = base.path().join("outside");
    for directory in [&outside, &root.join("swap")] {
        fs::create_dir(directory).expect("a directory");
    }
    for number in 0..FILES {
        fs::write(outside.join(number.to_string()), SECRET).expect("written");
        fs::write(root.join("swap").join(number.to_string()), "inside").expect("written");
    }
    symlink(&outside, root.join("link")).expect("a link");
    symlink("../outside", root.join("relative")).expect("a link");
    let ended = AtomicBool::new(false);
    let (answered, inside) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..SWAPS {
                let link = if number / 2 % 2 == 0 {
                    "link"
                } else {
                    "relative"
                };
                exchange(&root.join("swap"), &root.join(link));
            }
            ended.store(true, Ordering::SeqCst);
        });
        for seed in 0..3 {
            let (server, ended) = (&server, &ended);
            let (answered, inside) = (&answered, &inside);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut client = server.connect();
                while !ended.load(Ordering::SeqCst) {
                    // Names that no worker remembers, so that each is looked up.
                    let name = format!("swap/{}", random.u64(..FILES));
                    let body = if random.u8(..8) == 0 {
                        server.by_name(&name)
                    } else {
                        client.send(format!("GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n"));
                        client.answer().body
                    };
                    assert!(!body.starts_with(b"the secret"), "{name} led out");
                    answered.fetch_add(1, Ordering::Relaxed);
                    inside.fetch_add(u64::from(body == b"inside"), Ordering::Relaxed);
                }
            });
        }
    });
    // An even number of exchanges: the directory is back in its place.
    assert_eq!(server.by_name("swap/7"), b"inside");
    let (answered, inside) = (answered.into_inner(), inside.into_inner());
    assert!(answered > 0);
    eprintln!("{answered} requests raced with {SWAPS} exchanges; {inside} got the file");
}

/// Has two names change places, at once where the system can do that.
fn exchange(one: &std::path::Path, other: &std::path::Path) {
    #[cfg(target_os = "linux")]
    rustix::fs::renameat_with(
        rustix::fs::CWD,
        one,
        rustix::fs::CWD,
        other,
        rustix::fs::RenameFlags::EXCHANGE,
    )
    .expect("they change places");
    #[cfg(not(target_os = "linux"))]
    {
        let aside = one.with_file_name("aside");
        fs::rename(one, &aside).expect("renamed");
        fs::rename(other, one).expect("renamed");
        fs::rename(&aside, other).expect("renamed");
    }
}

fn spellings(base: &TempDir) -> Vec<Vec<u8>> {
    let directory = base.path().to_str().expect("UTF-8");
    let secret = format!("{directory}/secret");
    let put = |spelling: &[u8]| match spelling {
        [b'#', b'/', rest @ ..] => [directory.as_bytes(), b"/", rest].concat(),
        _ => {
            let mut spelt = Vec::new();
            for byte in spelling {
                match byte {
                    b'@' => spelt.extend(secret.bytes()),
                    _ => spelt.push(*byte),
                }
            }
            spelt
        }
    };
    SPELLINGS.iter().map(|spelling| put(spelling)).collect()
}
