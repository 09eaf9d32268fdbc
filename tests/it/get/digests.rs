//! Files proved by the server's digest, damaged blocks fetched again, and `--repair`.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::sync::Arc;

use haul::server::config::DigestChoice;

use super::proxy::{Harm, Proxy};
use super::support::{Act, Client, Request, Served, Server, noise};
use crate::support::TestServer;

const BLOCK: usize = 4 << 20;
const WRONG_DIGEST: &[u8] =
    b"\r\nRepr-Digest: sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";

#[test]
fn a_harmed_byte_costs_its_block_again_and_never_a_wrong_file() {
    let server = TestServer::start();
    let content = noise(1, 5 * BLOCK + 77);
    server.put("file", &content);
    // From here on the server has the digest.
    let url = format!("http://{}/file", server.address());
    Client::new()
        .get(&["--require-digest", &url])
        .assert_status(0);
    for harm in [Harm::Flip, Harm::Swap, Harm::Double, Harm::Drop] {
        let liar = Proxy::harming(server.address(), harm, 9 << 20);
        let client = Client::new();
        let ran = client.get(&["-s1", "--stall-timeout", "1s", &liar.url("/file")]);
        if ran.status == Some(0) {
            client.assert_whole("file", &content);
        } else {
            assert!(!client.path("file").exists(), "{harm:?}: {}", ran.stderr);
        }
        if matches!(harm, Harm::Flip | Harm::Swap) {
            ran.assert_status(0);
            let passed = liar.passed();
            let most = (content.len() + BLOCK + (64 << 10)) as u64;
            assert!(
                passed <= most,
                "{harm:?}: {passed} bytes, {most} at the most"
            );
        }
    }
}

#[test]
fn a_tree_with_digests_takes_two_connections() {
    let server = TestServer::start();
    for name in ["a", "b", "c", "d", "e"] {
        server.put(name, noise(1, 1000));
    }
    let url = format!("http://{}/", server.address());
    let client = Client::new();
    client.get(&["-r", &url]).assert_status(0);
    assert_eq!(client.names(), ["a", "b", "c", "d", "e"]);
    // One connection walks, the other one fetches, and requests the digests: often they are one.
    let accepted = server.counters().accepted;
    assert!(accepted <= 2, "{accepted}");
}

#[test]
fn a_required_digest_is_waited_for_or_missed() {
    let server = TestServer::start();
    let content = noise(2, 3 << 20);
    server.put("file", &content);
    let url = format!("http://{}/file", server.address());
    let client = Client::new();
    client.get(&["--require-digest", &url]).assert_status(0);
    client.assert_whole("file", &content);

    let without = TestServer::with(|config| config.digests.choice = DigestChoice::Off);
    without.put("file", &content);
    let url = format!("http://{}/file", without.address());
    let client = Client::new();
    let ran = client.get(&["--require-digest", &url]);
    ran.assert_status(7).assert_says("no digest");
    assert!(!ran.stderr.contains("what the server says"));
    assert!(client.path("file.part").exists());
    client.get(&[&url]).assert_status(0);
}

#[test]
fn a_server_that_gives_a_wrong_digest_is_not_believed() {
    let file = Served::new(3, 100_000);
    let server = Server::start(move |request| {
        let answer = file.answer(request);
        let end = answer.windows(2).position(|it| it == b"\r\n").unwrap();
        let answer = [&answer[..end], WRONG_DIGEST, &answer[end..]].concat();
        vec![Act::Send(answer)]
    });
    let client = Client::new();
    // Nor does the same command finish later what it has kept.
    for more in [&[][..], &[], &["--restart"], &[]] {
        let url = server.url("/f");
        let ran = client.get(&[&["-s1", &url][..], more].concat());
        ran.assert_status(7);
        assert!(!client.path("f").exists());
    }
}

/// Answers as `file` does, with these lines in the head.
fn with_lines(file: &Served, request: &Request, lines: &[u8]) -> Vec<Act> {
    let answer = file.answer(request);
    let end = answer.windows(2).position(|it| it == b"\r\n").unwrap();
    let body = match request.method.as_str() {
        "HEAD" => answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4,
        _ => answer.len(),
    };
    vec![Act::Send(
        [&answer[..end], lines, &answer[end..body]].concat(),
    )]
}

/// Lines of one field are one list (RFC 9110 section 5.3): an unknown algorithm hides no other.
#[test]
fn a_digest_counts_on_whichever_line_it_comes() {
    let old = b"\r\nDigest: SHA-256=RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=";
    for (wrong, other) in [
        (WRONG_DIGEST, &b"\r\nRepr-Digest: unixsum=:AAAA:"[..]),
        (old, b"\r\nDigest: adler32=03da0195"),
    ] {
        for lines in [[wrong, other].concat(), [other, wrong].concat()] {
            let file = Served::new(3, 100_000);
            let server = Server::start(move |request| with_lines(&file, request, &lines));
            let client = Client::new();
            client.get(&["-s1", &server.url("/f")]).assert_status(7);
            assert!(!client.path("f").exists());
        }
    }
}

#[test]
fn a_stream_is_held_against_the_digest_too() {
    let file = Served::new(3, 100_000);
    let served = file.clone();
    let server = Server::start(move |request| with_lines(&served, request, WRONG_DIGEST));
    let client = Client::new();
    for more in [&[][..], &["--require-digest"]] {
        let ran = client.get(&[&["-o", "-", &server.url("/f")][..], more].concat());
        ran.assert_status(7)
            .assert_says("the bytes are not the expected ones");
        assert_eq!(ran.stdout, *file.bytes);
    }

    // Computed while the server sends.
    let server = Server::start(move |request| {
        let wrong = super::blocks::blake3_field(b"another");
        let digest = match request.method.as_str() {
            "HEAD" => format!("\r\nServer: haul\r\nRepr-Digest-BLAKE3: {wrong}"),
            _ => "\r\nServer: haul".to_owned(),
        };
        with_lines(&file, request, digest.as_bytes())
    });
    client
        .get(&["-o", "-", &server.url("/f")])
        .assert_status(7)
        .assert_says("the bytes are not the expected ones");
}

#[test]
fn a_stream_whose_digest_is_required_waits_for_it_or_brings_nothing() {
    let server = TestServer::start();
    let content = noise(2, 3 << 20);
    server.put("file", &content);
    let url = format!("http://{}/file", server.address());
    let client = Client::new();
    let ran = client.get(&["--require-digest", "-o", "-", &url]);
    ran.assert_status(0).assert_says("verified");
    assert_eq!(ran.stdout, content);

    let without = Server::of(Served::new(3, 100_000));
    let ran = client.get(&["--require-digest", "-o", "-", &without.url("/f")]);
    ran.assert_status(7).assert_says("no digest");
    assert_eq!(ran.stdout, b"");
}

#[test]
fn what_the_name_protocol_does_not_have_is_not_passed_over() {
    let server = TestServer::start();
    server.put("file", b"theirs");
    let url = format!("name://{}/file", server.address());
    let client = Client::new();
    let path = client.path("file");
    let name = path.to_str().unwrap();
    fs::write(name, b"mine").unwrap();
    for options in [&[][..], &["--dry-run"], &["--in-place"]] {
        let ran = client.get(&[options, &["--repair", name, &url]].concat());
        ran.assert_status(2).assert_says("--repair needs");
        client.assert_whole("file", b"mine");
    }
    for place in ["other", "-"] {
        let ran = client.get(&["--require-digest", "-o", place, &url]);
        ran.assert_status(7).assert_says("no digest");
        assert_eq!(ran.stdout, b"");
    }
    client.assert_whole("file", b"mine");
    let sum = blake3::hash(b"theirs").to_hex().to_string();
    let ran = client.get(&["--require-digest", "--blake3", &sum, "-o", "other", &url]);
    ran.assert_status(0);
}

/// The digest is that of the address that the file came from, not of one that has no such file.
#[test]
fn a_required_digest_comes_from_the_mirror_that_has_the_file() {
    let (dead, server) = (TestServer::start(), TestServer::start());
    let content = noise(2, 3 << 20);
    server.put("file", &content);
    let url = |server: &TestServer| format!("http://{}/file", server.address());
    let client = Client::new();
    let ran = client.get(&["--require-digest", &url(&dead), "--mirror", &url(&server)]);
    ran.assert_status(0).assert_says("verified");
    client.assert_whole("file", &content);
}

/// A server whose first answer is of one version, with a digest that its bytes do not have, and
/// which has another version from then on.
fn changing(old: Served, new: Served) -> Server {
    Server::start(move |request| {
        let answer = match request {
            Request { number: 0, .. } => {
                let answer = old.answer(request);
                let end = answer.windows(2).position(|it| it == b"\r\n").unwrap();
                [&answer[..end], WRONG_DIGEST, &answer[end..]].concat()
            }
            Request { method, .. } if method == "HEAD" => new.head("200 OK", new.len(), ""),
            _ => new.answer(request),
        };
        vec![Act::Send(answer)]
    })
}

/// What waits in the server's kernel is cut off with the file, and comes as zeros.
#[test]
fn a_file_that_missed_its_digest_since_it_changed_is_fetched_anew() {
    let (old, new) = (Served::new(3, 100_000), Served::new(4, 150_000));
    let expected = Arc::clone(&new.bytes);
    let server = changing(old, new);
    let client = Client::new();
    let ran = client.get(&["-s1", &server.url("/f")]);
    ran.assert_status(0)
        .assert_says("the file has changed on the server");
    client.assert_whole("f", &expected);
}

#[test]
fn a_file_that_changed_and_is_shorter_is_not_called_a_wrong_one() {
    let (old, new) = (Served::new(3, 100_000), Served::new(4, 50_000));
    let expected = Arc::clone(&new.bytes);
    let server = changing(old, new);
    let client = Client::new();
    let ran = client.get(&["-s1", &server.url("/f")]);
    ran.assert_status(5).assert_says("--restart");
    assert!(client.path("f.part").exists());
    let again = client.get(&["-s1", "--restart", &server.url("/f")]);
    again.assert_status(0);
    client.assert_whole("f", &expected);
}

#[test]
fn a_repair_fetches_only_the_blocks_that_differ() {
    let server = TestServer::start();
    let new = noise(4, 16 * BLOCK + 5);
    server.put("disk.img", &new);
    let url = format!("http://{}/disk.img", server.address());
    let mut old = new.clone();
    for place in [3 * BLOCK + 9, 11 * BLOCK] {
        old[place] ^= 1;
    }
    // The file has grown since.
    old.truncate(16 * BLOCK);
    let changed = (2 * BLOCK + 5) as u64;

    let client = Client::new();
    fs::write(client.path("disk.img"), &old).unwrap();
    let name = client.path("disk.img");
    let name = name.to_str().unwrap();
    let ran = client.get(&["--repair", name, "--dry-run", &url]);
    ran.assert_status(0)
        .assert_says(&format!("{changed} of {} bytes", new.len()));
    client.assert_whole("disk.img", &old);

    let before = server.counters().bytes_sent;
    client.get(&["--repair", name, &url]).assert_status(0);
    client.assert_whole("disk.img", &new);
    let sent = server.counters().bytes_sent - before;
    assert!(sent <= changed + (64 << 10), "{sent} bytes for {changed}");
    // Nothing is left to do.
    let before = server.counters().bytes_sent;
    client.get(&["--repair", name, &url]).assert_status(0);
    assert!(server.counters().bytes_sent - before < 8 << 10);
}

#[test]
fn a_repair_whose_copy_breaks_off_goes_on() {
    let server = TestServer::start();
    let new = noise(5, 3 * BLOCK);
    server.put("disk.img", &new);
    let url = format!("http://{}/disk.img", server.address());
    let client = Client::new();
    let name = client.path("disk.img");
    let mut old = new.clone();
    old[9] ^= 1;
    fs::write(&name, &old).unwrap();
    // In units of 512 or 1024 bytes: either is less than the copy.
    let mut command = std::process::Command::new("sh");
    command
        .args([
            "-c",
            "ulimit -f 9000; exec \"$0\" get -q --repair \"$1\" \"$2\"",
        ])
        .arg(env!("CARGO_BIN_EXE_haul"))
        .arg(&name)
        .arg(&url)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let ran = super::support::finish(command.spawn().unwrap());
    assert_ne!(ran.status, Some(0));
    super::support::assert_same(&name, &old);
    // The copy would only take the room that is missing.
    assert_eq!(client.names(), ["disk.img"]);
    let name = name.to_str().unwrap();
    let before = server.counters().bytes_sent;
    client.get(&["--repair", name, &url]).assert_status(0);
    client.assert_whole("disk.img", &new);
    let sent = server.counters().bytes_sent - before;
    assert!(sent < 2 * BLOCK as u64, "{sent} bytes for one block");
}

/// A sum decides, even where nothing differs, and a wrong BLAKE3 before a byte is written.
#[test]
fn a_repair_to_another_file_than_the_expected_one_is_refused() {
    let server = TestServer::start();
    let content = noise(9, BLOCK + 5);
    server.put("disk.img", &content);
    let url = format!("http://{}/disk.img", server.address());
    let client = Client::new();
    let path = client.path("disk.img");
    let name = path.to_str().unwrap();
    let (wrong, mut other) = ("5".repeat(64), content.clone());
    other[7] ^= 1;
    for (here, sum, options) in [
        (&content, "--sha256", &[][..]),
        (&content, "--sha256", &["--dry-run"]),
        (&content, "--blake3", &["--in-place"]),
        (&other, "--blake3", &["--in-place"]),
        (&other, "--blake3", &[]),
    ] {
        fs::write(name, here).unwrap();
        let ran = client.get(&[options, &[sum, &wrong, "--repair", name, &url]].concat());
        ran.assert_status(7);
        client.assert_whole("disk.img", here);
    }
    let right = blake3::hash(&content).to_hex().to_string();
    client
        .get(&["--blake3", &right, "--repair", name, &url])
        .assert_status(0);
    client.assert_whole("disk.img", &content);
}

#[test]
fn a_repair_takes_the_list_of_the_first_address_that_has_one() {
    let (dead, server) = (TestServer::start(), TestServer::start());
    let plain = Server::of(Served::new(12, 100_000));
    let content = noise(11, BLOCK + 5);
    server.put("f", &content);
    let url = |server: &TestServer| format!("http://{}/f", server.address());
    for first in [url(&dead), plain.url("/f")] {
        for options in [&[][..], &["--in-place"]] {
            let client = Client::new();
            fs::write(client.path("f"), &content[..BLOCK]).unwrap();
            let name = client.path("f");
            let mirror = url(&server);
            let more = ["--repair", name.to_str().unwrap(), "--mirror", &mirror];
            let ran = client.get(&[options, &more, &[&*first]].concat());
            ran.assert_status(0).assert_says("a mirror is next");
            client.assert_whole("f", &content);
        }
    }
}

#[test]
fn a_repair_that_broke_off_goes_on_to_the_next_version() {
    let server = TestServer::start();
    let mut new = noise(10, 6 * BLOCK);
    server.put("disk.img", &new);
    let client = Client::new();
    let path = client.path("disk.img");
    let name = path.to_str().unwrap();
    // Two blocks are right.
    let mut old = new.clone();
    (0..4).for_each(|block| old[block * BLOCK] ^= 1);
    fs::write(name, &old).unwrap();
    // The list and two blocks pass.
    let broken = Proxy::start(server.address(), |before, bytes| {
        if before > (2 * BLOCK + (1 << 20)) as u64 {
            bytes.clear();
        }
    });
    let options = ["-s1", "--repair", name];
    let quick = ["--stall-timeout", "1s", "--retries", "0"];
    let ran = client.get(&[&options[..], &quick, &[&broken.url("/disk.img")]].concat());
    assert_ne!(ran.status, Some(0));
    assert!(client.path("disk.img.part").exists());

    new[5 * BLOCK] ^= 1;
    server.put("disk.img", &new);
    let before = server.counters().bytes_sent;
    let url = format!("http://{}/disk.img", server.address());
    client
        .get(&[&options[..], &[&url]].concat())
        .assert_status(0);
    client.assert_whole("disk.img", &new);
    let sent = server.counters().bytes_sent - before;
    assert!(sent < 3 * BLOCK as u64 + (64 << 10), "{sent}");
}

#[test]
fn a_repaired_file_keeps_its_mode() {
    let server = TestServer::start();
    let new = noise(8, BLOCK + 5);
    server.put("secret", &new);
    let url = format!("http://{}/secret", server.address());
    for (mode, options) in [(0o600, &["--repair"][..]), (0o755, &["--force", "-o"])] {
        let client = Client::new();
        let name = client.path("secret");
        fs::write(&name, b"old").unwrap();
        fs::set_permissions(&name, fs::Permissions::from_mode(mode)).unwrap();
        let ran = client.get(&[options, &[name.to_str().unwrap(), &url]].concat());
        ran.assert_status(0);
        client.assert_whole("secret", &new);
        let found = fs::metadata(&name).unwrap().mode() & 0o7777;
        assert_eq!(found, mode, "{found:o}");
    }
}

#[test]
fn a_repaired_file_keeps_its_holes() {
    let server = TestServer::start();
    let changed = noise(10, BLOCK);
    let new = [&changed[..], &[0; 8 * BLOCK]].concat();
    server.put("image", &new);
    let client = Client::new();
    let name = client.path("image");
    let file = fs::File::create(&name).unwrap();
    file.set_len(new.len() as u64).unwrap();
    file.write_all_at(&changed[..BLOCK - 1], 0).unwrap();
    file.write_all_at(&[1], 5 * BLOCK as u64).unwrap();
    let url = format!("http://{}/image", server.address());
    let ran = client.get(&["--repair", name.to_str().unwrap(), &url]);
    ran.assert_status(0);
    client.assert_whole("image", &new);
    let room = fs::metadata(&name).unwrap().blocks() * 512;
    // lseek(2) with SEEK_DATA is Linux's.
    let most = if cfg!(feature = "portable") { 10 } else { 3 };
    assert!(room <= most * BLOCK as u64, "{room} bytes of room");
}

#[test]
fn a_link_to_a_repaired_file_stays() {
    let server = TestServer::start();
    let new = noise(11, BLOCK + 5);
    server.put("image", &new);
    let url = format!("http://{}/image", server.address());
    let client = Client::new();
    fs::create_dir(client.path("elsewhere")).unwrap();
    fs::write(client.path("elsewhere/image"), b"old").unwrap();
    let link = client.path("link");
    std::os::unix::fs::symlink("elsewhere/image", &link).unwrap();
    let ran = client.get(&["--repair", link.to_str().unwrap(), &url]);
    ran.assert_status(0);
    super::support::assert_same(&client.path("elsewhere/image"), &new);
    assert!(link.is_symlink());
}

#[test]
fn what_is_no_regular_file_is_not_repaired_nor_waited_for() {
    let server = TestServer::start();
    server.put("f", noise(9, 5));
    let url = format!("http://{}/f", server.address());
    let client = Client::new();
    nix::unistd::mkfifo(&client.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(client.path("directory")).unwrap();
    std::os::unix::fs::symlink("fifo", client.path("link")).unwrap();
    for name in ["fifo", "link", "directory", "/dev/null"] {
        let place = client.path(name);
        let ran = client.get(&["--repair", place.to_str().unwrap(), &url]);
        ran.assert_status(6).assert_says(name);
    }
}

#[test]
fn a_repair_takes_a_file_of_any_length_in_place_or_not() {
    let server = TestServer::start();
    let new = noise(6, 2 * BLOCK + 5);
    server.put("disk.img", &new);
    let url = format!("http://{}/disk.img", server.address());
    let mut older = new.clone();
    older[BLOCK] ^= 1;
    let longer = [&older[..], &[7; BLOCK]].concat();
    let olds = [&older[..], &older[..BLOCK + 9], &longer, b"", &longer[7..]];
    for (number, old) in olds.iter().enumerate() {
        for options in [&[][..], &["--in-place"]] {
            let client = Client::new();
            let name = client.path("disk.img");
            fs::write(&name, old).unwrap();
            let inode = fs::metadata(&name).unwrap().ino();
            let before = server.counters().bytes_sent;
            let name = name.to_str().unwrap();
            let ran = client.get(&[options, &["-s1", "--repair", name, &url]].concat());
            ran.assert_status(0);
            client.assert_whole("disk.img", &new);
            let is_same = fs::metadata(client.path("disk.img")).unwrap().ino() == inode;
            assert_eq!(is_same, !options.is_empty());
            let sent = server.counters().bytes_sent - before;
            let missing = [1, 2, 1, 3, 3][number] * BLOCK + (64 << 10);
            assert!(
                sent <= missing as u64,
                "{number}: {sent} bytes for {missing}"
            );
        }
    }
}

#[test]
fn a_repair_in_place_that_breaks_off_goes_on() {
    let server = TestServer::start();
    let new = noise(7, 4 * BLOCK);
    server.put("disk.img", &new);
    let client = Client::new();
    let name = client.path("disk.img");
    fs::write(&name, vec![1; 4 * BLOCK]).unwrap();
    // The list and one block pass.
    let broken = Proxy::start(server.address(), |before, bytes| {
        if before > (BLOCK + (1 << 20)) as u64 {
            bytes.clear();
        }
    });
    let options = ["-s1", "--in-place", "--repair", name.to_str().unwrap()];
    let quick = ["--stall-timeout", "1s", "--retries", "0"];
    let ran = client.get(&[&options[..], &quick, &[&broken.url("/disk.img")]].concat());
    assert_ne!(ran.status, Some(0));
    let before = server.counters().bytes_sent;
    let url = format!("http://{}/disk.img", server.address());
    client
        .get(&[&options[..], &[&url]].concat())
        .assert_status(0);
    client.assert_whole("disk.img", &new);
    let sent = server.counters().bytes_sent - before;
    assert!(sent < 3 * BLOCK as u64 + (64 << 10), "{sent}");
}

#[test]
fn a_repair_needs_a_server_with_blocks_and_leaves_the_file_alone_without() {
    let file = Served::new(5, 100_000);
    let server = Server::of(file);
    let client = Client::new();
    fs::write(client.path("f"), b"mine").unwrap();
    let name = client.path("f");
    let ran = client.get(&["--repair", name.to_str().unwrap(), &server.url("/f")]);
    assert_ne!(ran.status, Some(0));
    client.assert_whole("f", b"mine");
}
