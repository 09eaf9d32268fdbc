//! Blocks verified by the server's list as they arrive: which mirror sent bad ones, and what that
//! costs.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use haul::server::config::DigestChoice;
use sha2::Digest as _;

use super::proxy::{Harm, Proxy};
use super::support::{Act, Client, Gate, LONGEST, Request, Served, Server, finish, noise};
use crate::support::TestServer;

const BLOCK: usize = 4 << 20;

/// A server with one file, with its digest and blocks.
fn server_of(content: &[u8]) -> TestServer {
    server_at(None, content)
}

/// A server that gives a client so many bytes a second.
fn server_at(rate: Option<u64>, content: &[u8]) -> TestServer {
    let server = TestServer::with(|config| config.rates.client = rate);
    server.put("file", content);
    list_of(&server);
    server
}

/// The block list that a server gives of its file.
fn list_of(server: &TestServer) -> Vec<u8> {
    let begun = Instant::now();
    loop {
        let answer = server.get("/file?blocks", "");
        if answer.status == 200 {
            return answer.body;
        }
        assert!(begun.elapsed() < LONGEST, "never a list");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/file")
}

#[test]
fn a_flipped_bit_is_known_while_the_rest_is_still_to_come() {
    let content = noise(1, 4 * BLOCK);
    let server = server_of(&content);
    let gate = Gate::default();
    let opened = gate.clone();
    let proxy = Proxy::start(server.address(), move |before, bytes| {
        let at = (BLOCK + 1000) as u64;
        if (before..before + bytes.len() as u64).contains(&at) {
            bytes[(at - before) as usize] ^= 1;
        }
        let begun = Instant::now();
        // The list passes.
        let is_held = before > 3 * BLOCK as u64 && bytes.len() > 4096;
        while is_held && !opened.is_open() && begun.elapsed() < LONGEST {
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let client = Client::new();
    let mut child = client
        .command(&["-s1", &proxy.url("/file")])
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = said.find_map(|line| line.ok().filter(|line| line.contains("damaged")));
    let line = line.expect("it says so before the end");
    assert!(line.contains("block 1, bytes 4194304 to 8388607"), "{line}");
    gate.open();
    let rest = std::thread::spawn(move || said.count());
    finish(child).assert_status(0);
    rest.join().unwrap();
    client.assert_whole("file", &content);
    let passed = proxy.passed() as usize;
    assert!(passed < content.len() + BLOCK + ON_THE_WAY, "{passed}");
}

#[test]
fn a_mirror_that_lies_is_named_and_dropped() {
    let content = noise(2, 6 * BLOCK + 3);
    let server = server_of(&content);
    let liar = Proxy::start(server.address(), |_, bytes| {
        if bytes.len() > 10_000 {
            bytes[9_000] ^= 4;
        }
    });
    let client = Client::new();
    let (named, mirror) = (liar.url("/file"), url(server.address()));
    let ran = client.get(&["-s2", &named, "--mirror", &mirror]);
    ran.assert_status(0).assert_says("that mirror is dropped");
    let line = ran.stderr.lines().find(|line| line.contains("is dropped"));
    assert!(
        line.is_some_and(|line| line.contains(&named)),
        "{}",
        ran.stderr
    );
    client.assert_whole("file", &content);
}

#[test]
fn a_block_that_always_comes_wrong_ends_it_after_three_times() {
    let content = noise(3, 3 * BLOCK);
    let server = server_of(&content);
    // The second block begins as nothing else does.
    let place = content[BLOCK..BLOCK + 8].to_vec();
    let proxy = Proxy::start(server.address(), move |_, bytes| {
        if let Some(at) = bytes.windows(8).position(|it| it == place) {
            bytes[at] ^= 1;
        }
    });
    let client = Client::new();
    let ran = client.get(&["-s1", &proxy.url("/file")]);
    ran.assert_status(7)
        .assert_says("block 1, bytes 4194304 to 8388607, came damaged")
        .assert_says("3 times");
    assert_eq!(client.names(), ["file.part", "file.part.state"]);
    let passed = proxy.passed() as usize;
    assert!(passed < content.len() + 2 * BLOCK + ON_THE_WAY, "{passed}");
    // What is right of it is kept.
    client
        .get(&["-s1", &url(server.address())])
        .assert_status(0);
    client.assert_whole("file", &content);
}

#[test]
fn what_an_earlier_run_left_is_held_against_the_list_too() {
    let content = noise(4, 5 * BLOCK);
    let server = server_of(&content);
    let cut = Mutex::new(false);
    let proxy = Proxy::start(server.address(), move |before, bytes| {
        let mut cut = cut.lock().unwrap();
        *cut |= before > 3 * BLOCK as u64;
        if *cut {
            bytes.clear();
        }
    });
    let client = Client::new();
    let stalled = ["-s1", "--stall-timeout", "1s", "--retries", "0"];
    let url_of_proxy = proxy.url("/file");
    let ran = client.get(&[&stalled[..], &[&*url_of_proxy]].concat());
    assert_ne!(ran.status, Some(0));
    let part = client.path("file.part");
    let mut kept = std::fs::read(&part).unwrap();
    kept[100] ^= 1;
    std::fs::write(&part, kept).unwrap();
    let sent = server.counters().bytes_sent;
    let ran = client.get(&["-s1", &url(server.address())]);
    ran.assert_status(0)
        .assert_says("block 0, bytes 0 to 4194303, was damaged here");
    client.assert_whole("file", &content);
    let sent = (server.counters().bytes_sent - sent) as usize;
    assert!(sent < 4 * BLOCK, "{sent}");
}

#[test]
fn mirrors_with_other_tags_share_a_file_of_equal_blocks() {
    let content = noise(5, 8 * BLOCK);
    // The mirror is wanted: alone, the first one takes a second and a half.
    let rate = Some(20_000_000);
    let (one, other) = (server_at(rate, &content), server_of(&content));
    let set_date = |server: &TestServer, seconds| {
        let date = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        let file = std::fs::File::options()
            .write(true)
            .open(server.root().join("file"));
        file.unwrap().set_modified(date).unwrap();
        list_of(server);
    };
    set_date(&one, 1_000_000_000);
    set_date(&other, 1_100_000_000);
    let client = Client::new();
    let mirror = url(other.address());
    let ran = client.get(&["-s2", "--json", &url(one.address()), "--mirror", &mirror]);
    ran.assert_status(0);
    client.assert_whole("file", &content);
    assert!(other.counters().bytes_sent > BLOCK as u64, "{}", ran.stderr);
    let received = &ran.events("finished")[0]["received"];
    assert_eq!(received.as_u64(), Some(content.len() as u64));
}

/// What a server says of a file, beside its bytes.
#[derive(Clone, Debug, Default)]
struct Says {
    list: Vec<u8>,
    list_tag: Option<&'static str>,
    digest: Option<String>,
}

/// A server that calls itself haul and says what it likes.
fn liar(content: &[u8], says: Says) -> Server {
    let file = Served {
        bytes: Arc::new(content.to_vec()),
        ..Served::new(1, 0)
    };
    Server::start(move |request: &Request| {
        let mut more = "Server: haul\r\n".to_owned();
        if let Some(digest) = &says.digest {
            more.push_str(&format!("Repr-Digest-BLAKE3: {digest}\r\n"));
        }
        if request.target.ends_with("?blocks") {
            let mut served = file.clone();
            served.etag = says.list_tag.map(str::to_owned).or(served.etag);
            more.push_str("Content-Type: application/vnd.haul.blocks\r\n");
            let mut answer = served.head("200 OK", says.list.len() as u64, &more);
            answer.extend_from_slice(&says.list);
            return vec![Act::Send(answer)];
        }
        let answer = file.answer(request);
        let line = answer.iter().position(|it| *it == b'\n').unwrap() + 1;
        let answer = [&answer[..line], more.as_bytes(), &answer[line..]].concat();
        vec![Act::Send(answer)]
    })
}

pub(super) fn blake3_field(content: &[u8]) -> String {
    use base64::Engine as _;
    let digest = blake3::hash(content);
    format!(
        ":{}:",
        base64::engine::general_purpose::STANDARD.encode(digest.as_bytes())
    )
}

/// Whatever a server says of its blocks: it is its file, or no file.
#[test]
fn lists_that_lie() {
    let content = noise(6, 3 * BLOCK);
    let other = noise(7, 3 * BLOCK);
    let (list, others) = (list_of(&server_of(&content)), list_of(&server_of(&other)));
    let digest = Some(blake3_field(&content));
    let mut wrong_root = list.clone();
    wrong_root[40] ^= 1;
    let mut wrong_value = list.clone();
    wrong_value[70] ^= 1;
    let mut wrong_length = list.clone();
    wrong_length[15] ^= 1;
    let huge = [list.clone(), vec![0; 4 << 20]].concat();
    let says = |list: &[u8]| Says {
        list: list.to_vec(),
        digest: digest.clone(),
        ..Says::default()
    };
    // Lists that cannot be the file's are left out, and the digest proves it.
    let unusable = [
        ("wrong root", says(&wrong_root)),
        ("wrong value", says(&wrong_value)),
        ("wrong length", says(&wrong_length)),
        ("huge", says(&huge)),
        ("cut", says(&list[..list.len() - 32])),
        ("none", says(&[])),
        ("another file's", says(&others)),
        (
            "of another version",
            Says {
                list_tag: Some("\"2\""),
                ..says(&others)
            },
        ),
    ];
    for (what, says) in unusable {
        let server = liar(&content, says);
        let client = Client::new();
        let ran = client.get(&["-s1", &server.url("/f")]);
        assert_eq!(ran.status, Some(0), "{what}: {}", ran.stderr);
        client.assert_whole("f", &content);
    }
    // Without other proof the list decides, and the file is refused.
    let says = Says {
        digest: None,
        ..says(&others)
    };
    let server = liar(&content, says.clone());
    let client = Client::new();
    client.get(&["-s1", &server.url("/f")]).assert_status(7);
    assert!(!client.path("f").exists());
    // The user's checksum decides over the list.
    let sum: String = sha2::Sha256::digest(&content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let server = liar(&content, says);
    let client = Client::new();
    let ran = client.get(&["-s1", "--sha256", &sum, &server.url("/f")]);
    ran.assert_status(0).assert_says("the checksum decides");
    client.assert_whole("f", &content);
}

/// A first address without digests, of which the mirror has another file under the same tag.
fn beside_a_lying_mirror(digest: bool) -> (Vec<u8>, Vec<u8>) {
    let (content, other) = (noise(13, 3 * BLOCK), noise(14, 3 * BLOCK));
    let says = Says {
        list: list_of(&server_of(&other)),
        digest: digest.then(|| blake3_field(&other)),
        ..Says::default()
    };
    let mirror = liar(&other, says);
    let file = Served {
        bytes: Arc::new(content.clone()),
        ..Served::new(1, 0)
    };
    let gate = Gate::default();
    let held = gate.clone();
    let first = Server::start(move |request: &Request| {
        let answer = file.answer(request);
        let (begun, rest) = answer.split_at(answer.len().min(2 * BLOCK));
        let (begun, rest) = (Act::Send(begun.to_vec()), Act::Send(rest.to_vec()));
        vec![begun, Act::Hold(held.clone()), rest]
    });
    let client = Client::new();
    let (named, url) = (mirror.url("/f"), first.url("/f"));
    let mut command = client.command(&["-s2", "--json", "--mirror", &named, &url]);
    let child = command.spawn().unwrap();
    let begun = Instant::now();
    while mirror.requests().is_empty() && begun.elapsed() < LONGEST {
        std::thread::sleep(Duration::from_millis(2));
    }
    gate.open();
    let ran = finish(child);
    ran.assert_status(0);
    let asked = |request: &Request| request.target.ends_with("?blocks");
    assert!(!mirror.requests().iter().any(asked), "{}", ran.stderr);
    assert_eq!(ran.events("finished")[0]["verified"], false);
    (content, std::fs::read(client.path("f")).unwrap())
}

/// What a mirror says of its own file says nothing of the first address's.
#[test]
fn the_list_of_a_mirror_alone_is_not_believed() {
    let (content, came) = beside_a_lying_mirror(false);
    assert!(came.starts_with(&content[..BLOCK]));
}

/// It shows that the two have two files.
#[test]
fn a_mirror_with_the_digest_of_another_file_is_found_out() {
    let (content, came) = beside_a_lying_mirror(true);
    assert!(came == content);
}

/// What it said of an older version says nothing of this one.
#[test]
fn the_digest_of_a_mirror_is_that_of_its_version() {
    let file = Served::new(1, 3 * BLOCK);
    let new = Served::new(2, 2 * BLOCK);
    let digest = format!("Repr-Digest-BLAKE3: {}\r\n", blake3_field(&file.bytes));
    let served = file.clone();
    let mirror = Server::start(move |request: &Request| {
        let answer = served.answer(request);
        let line = answer.iter().position(|it| *it == b'\n').unwrap() + 1;
        let answer = [&answer[..line], digest.as_bytes(), &answer[line..BLOCK / 8]].concat();
        match request.number {
            0 => vec![Act::Send(answer), Act::Close],
            _ => vec![Act::Send(served.head("404 Not Found", 0, ""))],
        }
    });
    let gate = Gate::default();
    let (held, replaced) = (gate.clone(), new.clone());
    let first = Server::start(move |request: &Request| match request.number {
        0 => {
            let begun = file.answer(request)[..BLOCK].to_vec();
            vec![Act::Send(begun), Act::Hold(held.clone()), Act::Close]
        }
        _ => vec![Act::Send(replaced.answer(request))],
    });
    let client = Client::new();
    let (named, url) = (mirror.url("/f"), first.url("/f"));
    let arguments = ["-s2", "--restart", "--mirror", &named, &url];
    let child = client.command(&arguments).spawn().unwrap();
    let begun = Instant::now();
    while mirror.requests().is_empty() && begun.elapsed() < LONGEST {
        std::thread::sleep(Duration::from_millis(2));
    }
    gate.open();
    finish(child).assert_status(0);
    client.assert_whole("f", &new.bytes);
    let requests = first.requests();
    let whole = requests.iter().filter(|it| it.range().is_none()).count();
    assert!(whole <= 2, "{requests:?}");
}

/// The first address may be the one that has another file.
#[test]
fn a_list_of_another_file_drops_no_mirror_that_has_the_expected_one() {
    let (content, other) = (noise(15, 3 * BLOCK), noise(16, 3 * BLOCK));
    let says = Says {
        list: list_of(&server_of(&other)),
        ..Says::default()
    };
    let (first, mirror) = (liar(&other, says), server_of(&content));
    let sum: String = sha2::Sha256::digest(&content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let client = Client::new();
    let named = url(mirror.address());
    let arguments = ["-s3", "--sha256", &sum, "--mirror", &named, "-o", "file"];
    client
        .get(&[&arguments[..], &[&first.url("/f")]].concat())
        .assert_status(0);
    client.assert_whole("file", &content);
}

/// The file is here long before its list would be.
#[test]
fn a_list_that_drips_is_not_waited_for() {
    let file = Served::new(12, BLOCK + 1);
    let served = file.clone();
    let server = Server::start(move |request: &Request| {
        let more = "Server: haul\r\nContent-Type: application/vnd.haul.blocks\r\n";
        if request.target.ends_with("?blocks") {
            let list = [&b"HAULBLK\x01"[..], &[0; 120]].concat();
            return vec![
                Act::Send(served.head("200 OK", list.len() as u64, more)),
                Act::Drip {
                    bytes: list,
                    piece: 1,
                    pause: Duration::from_millis(600),
                },
            ];
        }
        let answer = served.answer(request);
        let line = answer.iter().position(|it| *it == b'\n').unwrap() + 1;
        let head = b"Server: haul\r\n";
        vec![Act::Send([&answer[..line], head, &answer[line..]].concat())]
    });
    let client = Client::new();
    client
        .get(&["-s1", "--stall-timeout", "1s", &server.url("/f")])
        .assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn digests_that_lie() {
    let content = noise(8, 2 * BLOCK);
    let list = list_of(&server_of(&content));
    // Of a part, of another coding, of nothing: each is another digest than the file's.
    for digest in [
        blake3_field(&content[..BLOCK]),
        blake3_field(b"packed"),
        blake3_field(b""),
    ] {
        let says = Says {
            list: list.clone(),
            digest: Some(digest),
            ..Says::default()
        };
        let server = liar(&content, says);
        let client = Client::new();
        client.get(&["-s1", &server.url("/f")]).assert_status(7);
        assert!(!client.path("f").exists());
    }
}

#[test]
fn a_list_without_end_is_not_kept_in_memory() {
    let server = Server::start(|request| {
        let length = u64::MAX >> 1;
        let fields = match request.target.as_str() {
            "/file?blocks" => "Content-Type: application/vnd.haul.blocks\r\n",
            _ => "",
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nServer: haul\r\nETag: \"a\"\r\nContent-Length: {length}\r\n{fields}\r\n"
        );
        match request.method.as_str() {
            "HEAD" => vec![Act::Send(head.into_bytes())],
            // It would go on and on.
            _ => vec![Act::Send(head.into_bytes()), Act::Stall],
        }
    });
    let client = Client::new();
    std::fs::write(client.path("file"), "old").unwrap();
    let arguments = ["--repair", "file", "--retries", "0", &server.url("/file")];
    client
        .get(&arguments)
        .assert_status(4)
        .assert_says("the server gives no list of blocks");
}

/// A line that harms bytes of heads, lists and files at random.
fn chaos(seeds: std::ops::Range<u64>) {
    let content = noise(9, 2 * BLOCK + 12_345);
    let server = TestServer::with(|config| config.digests.choice = DigestChoice::All);
    server.put("file", &content);
    list_of(&server);
    for seed in seeds {
        let random = Mutex::new(fastrand::Rng::with_seed(seed));
        let proxy = Proxy::start(server.address(), move |_, bytes| {
            let mut random = random.lock().unwrap();
            if bytes.len() > 1 && random.u32(..40) == 0 {
                let harm = Harm::ALL[random.usize(..Harm::ALL.len())];
                harm.harm(bytes, random.usize(..bytes.len() - 1));
            }
        });
        let client = Client::new();
        let quick = ["--stall-timeout", "300ms", "--retries", "5"];
        let ran = client.get(&[&quick[..], &["--require-digest", &proxy.url("/file")]].concat());
        match ran.status {
            Some(0) => client.assert_whole("file", &content),
            _ => assert!(!client.path("file").exists(), "seed {seed}: {}", ran.stderr),
        }
    }
}

#[test]
fn a_line_that_harms_at_random_never_makes_a_wrong_file() {
    chaos(0..3);
}

#[test]
#[ignore = "takes minutes"]
fn a_line_that_harms_at_random_for_long_never_makes_a_wrong_file() {
    chaos(0..300);
}

/// What sockets hold of a response that is broken off; less than a block.
const ON_THE_WAY: usize = 2 << 20;
