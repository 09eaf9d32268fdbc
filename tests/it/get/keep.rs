//! Bytes that are here already: nothing that a server says, and no wrong sum, makes them fewer
//! without `--restart`.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use sha2::{Digest, Sha256};

use super::support::{Act, Client, Request, Served, Server, cut};

const LENGTH: usize = 2 << 20;

/// A server that breaks off its first answer in the middle; `then` gives the others.
fn broken_once(
    file: &Served,
    then: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static,
) -> Server {
    let file = file.clone();
    Server::start(move |request| match request.number {
        0 => vec![Act::Send(cut(&file.whole(), 50)), Act::Close],
        _ => vec![Act::Send(then(request)), Act::Close],
    })
}

/// A client whose directory has half of the file.
fn with_half(file: &Served) -> Client {
    let client = Client::new();
    let server = broken_once(file, |_| Vec::new());
    client
        .get(&["--retries", "0", "--segments", "1", &server.url("/f")])
        .assert_status(5);
    assert_kept(&client, file);
    client
}

/// A good part of the file is in its part file.
#[track_caller]
fn assert_kept(client: &Client, file: &Served) {
    let kept = std::fs::read(client.path("f.part")).unwrap();
    assert!(
        kept.starts_with(&file.bytes[..LENGTH / 3]),
        "the part is gone"
    );
    assert!(!client.path("f").exists());
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn another_node_with_a_tag_of_its_own_is_asked_again() {
    let file = Served::new(1, LENGTH);
    let served = file.clone();
    let server = Server::start(move |request| {
        let other = Served {
            etag: Some("\"of another node\"".to_owned()),
            ..served.clone()
        };
        match request.number {
            0 => vec![Act::Send(cut(&served.whole(), 50)), Act::Close],
            1 => vec![Act::Send(other.answer(request)), Act::Close],
            _ => vec![Act::Send(served.answer(request)), Act::Close],
        }
    });
    let client = Client::new();
    client.get(&["-s", "1", &server.url("/f")]).assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn a_page_in_place_of_the_file_is_retried_and_never_taken_for_it() {
    let page = b"<html>Down for maintenance</html>";
    let heads = [
        format!("Content-Length: {}\r\n", page.len()),
        "Transfer-Encoding: chunked\r\n".to_owned(),
        "Connection: close\r\n".to_owned(),
        format!("ETag: \"1\"\r\nContent-Length: {}\r\n", page.len()),
    ];
    for head in heads {
        let file = Served::new(1, LENGTH);
        let client = with_half(&file);
        let chunked = head.contains("chunked");
        let server = Server::start(move |_| {
            let mut answer =
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{head}\r\n").into_bytes();
            if chunked {
                answer.extend_from_slice(format!("{:x}\r\n", page.len()).as_bytes());
            }
            answer.extend_from_slice(page);
            if chunked {
                answer.extend_from_slice(b"\r\n0\r\n\r\n");
            }
            vec![Act::Send(answer), Act::Close]
        });
        client
            .get(&[&server.url("/f")])
            .assert_status(5)
            .assert_says("text/html")
            .assert_says("--restart");
        assert!(server.requests().len() > 1, "it was not retried");
        assert_kept(&client, &file);
    }
}

#[test]
fn an_update_does_not_put_a_page_in_the_place_of_a_file() {
    let (file, client) = (Served::new(1, 100_000), Client::new());
    let page = |bytes: &'static [u8]| {
        Server::start(move |_| {
            let length = bytes.len();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8";
            let head = format!("{head}\r\nContent-Length: {length}\r\n\r\n");
            vec![Act::Send([head.as_bytes(), bytes].concat())]
        })
    };
    let (portal, news) = (page(b"<html>Log in</html>"), page(b"<html>News</html>"));
    std::fs::write(client.path("f"), file.bytes.as_slice()).unwrap();
    let arguments = |server: &Server| ["-N".to_owned(), server.url("/f")];
    let run = |server: &Server, more: &[&str]| {
        let [update, url] = arguments(server);
        client.get(&[&[&*update, &*url], more].concat())
    };
    let ran = run(&portal, &["--retries", "1"]);
    ran.assert_status(5).assert_says("--restart");
    client.assert_whole("f", &file.bytes);
    run(&portal, &["--restart"]).assert_status(0);
    // A page is replaced by a page as ever.
    run(&news, &[]).assert_status(0);
    client.assert_whole("f", b"<html>News</html>");
}

#[test]
fn a_page_that_goes_away_again_does_no_harm() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    let served = file.clone();
    let server = broken_once(&file, move |request| match request.number {
        1 | 2 => {
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nlate".to_vec()
        }
        _ => served.answer(request),
    });
    client
        .get(&["--segments", "1", &server.url("/f")])
        .assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn a_restart_that_breaks_off_keeps_the_old_part_and_goes_on_with_the_new_one() {
    let (old, new) = (Served::new(1, LENGTH), Served::new(2, LENGTH));
    let client = with_half(&old);
    let broken = broken_once(&new, |_| Vec::new());
    client
        .get(&[
            "--restart",
            "--retries",
            "0",
            "--segments",
            "1",
            &broken.url("/f"),
        ])
        .assert_status(5);
    assert_kept(&client, &old);
    let server = Server::of(new.clone());
    client.get(&[&server.url("/f")]).assert_status(0);
    client.assert_whole("f", &new.bytes);
    assert!(server.requests()[0].range().is_some(), "it began anew");
}

#[test]
fn a_server_that_has_lost_its_ranges_gives_only_what_is_missing() {
    let file = Served::new(1, LENGTH);
    let client = with_half(&file);
    let served = file.clone();
    // The front of what it sends now is garbage under the same tag.
    let server = Server::start(move |_| {
        let mut answer = served.whole();
        let front = answer.len() - LENGTH;
        answer[front..front + 1000].fill(0);
        vec![Act::Send(answer)]
    });
    client.get(&[&server.url("/f")]).assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn a_wrong_sum_keeps_the_file_and_the_right_one_finishes_it_without_the_network() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    let (right, wrong) = (sum(&file.bytes), sum(b"something else"));
    for chunked in [false, true] {
        let served = file.clone();
        let server = Server::start(move |request| {
            if !chunked {
                return vec![Act::Send(served.answer(request))];
            }
            let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
            vec![
                Act::Send(head),
                Act::Send(served.bytes.to_vec()),
                Act::Close,
            ]
        });
        let url = server.url("/f");
        client
            .get(&["--sha256", &wrong, &url])
            .assert_status(7)
            .assert_says(&wrong)
            .assert_says(&right);
        assert_kept(&client, &file);
        drop(server);
        client.get(&["--sha256", &wrong, &url]).assert_status(7);
        assert_kept(&client, &file);
        client
            .get(&["--sha256", &right, &url])
            .assert_status(0)
            .assert_says("verified");
        client.assert_whole("f", &file.bytes);
        std::fs::remove_file(client.path("f")).unwrap();
    }
}

#[test]
fn a_wrong_sum_is_fetched_anew_by_restart() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    let served = file.clone();
    let server = Server::start(move |request| {
        let mut answer = served.answer(request);
        if request.number == 0 {
            *answer.last_mut().unwrap() ^= 1;
        }
        vec![Act::Send(answer)]
    });
    let (right, url) = (sum(&file.bytes), server.url("/f"));
    client
        .get(&["--segments", "1", "--sha256", &right, &url])
        .assert_status(7);
    client
        .get(&["--restart", "--sha256", &right, &url])
        .assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn skip_existing_hashes_what_is_there() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    let server = Server::of(file.clone());
    let (right, url) = (sum(&file.bytes), server.url("/f"));
    client.get(&[&url]).assert_status(0);
    let asked = server.requests().len();
    let skip = ["--skip-existing", "--sha256", &right, &url];
    client.get(&skip).assert_status(0);
    assert_eq!(server.requests().len(), asked, "the sum is enough");
    // One byte changes, and the time stays.
    let modified = std::fs::metadata(client.path("f"))
        .unwrap()
        .modified()
        .unwrap();
    let mut bytes = file.bytes.to_vec();
    bytes[5] ^= 1;
    std::fs::write(client.path("f"), &bytes).unwrap();
    let changed = std::fs::File::options()
        .write(true)
        .open(client.path("f"))
        .unwrap();
    changed.set_modified(modified).unwrap();
    client.get(&skip).assert_status(6);
    client.get(&[&["-f"][..], &skip].concat()).assert_status(0);
    client.assert_whole("f", &file.bytes);
}

/// Half of a file is here from `/f`; the rest comes from another address.
fn goes_on_elsewhere(file: &Served, arguments: &[&str]) -> Vec<Request> {
    let client = with_half(file);
    let server = Server::of(file.clone());
    let url = server.url("/f?signature=other");
    client
        .get(&[arguments, &["-o", "f", &url]].concat())
        .assert_status(0);
    client.assert_whole("f", &file.bytes);
    server.requests()
}

#[test]
fn a_part_belongs_to_a_tag_and_not_to_an_address() {
    let requests = goes_on_elsewhere(&Served::new(1, LENGTH), &[]);
    assert!(
        requests.iter().all(|request| request.range().is_some()),
        "{requests:?}"
    );
}

/// Files of one build have one time.
#[test]
fn a_part_that_is_known_by_its_time_is_not_gone_on_with_from_another_server() {
    let untagged = |seed| Served {
        etag: None,
        ..Served::new(seed, LENGTH)
    };
    let client = with_half(&untagged(1));
    let part = std::fs::read(client.path("f.part")).unwrap();
    let other = Server::of(untagged(2));
    let ran = client.get(&[&other.url("/f")]);
    ran.assert_status(5);
    assert!(!client.path("f").exists());
    // Nothing of it is lost.
    assert!(std::fs::read(client.path("f.part")).unwrap() == part);
}

#[test]
fn weak_and_missing_tags_do_with_a_sum_or_loosely() {
    let weak = Served {
        etag: Some("W/\"1\"".to_owned()),
        ..Served::new(1, LENGTH)
    };
    let none = Served {
        etag: None,
        last_modified: None,
        ..Served::new(1, LENGTH)
    };
    let sum = sum(&weak.bytes);
    for (file, arguments) in [
        (&weak, &["--sha256", &sum][..]),
        (&weak, &["--resume", "loose"][..]),
        (&none, &["--sha256", &sum][..]),
    ] {
        let requests = goes_on_elsewhere(file, arguments);
        let asked = requests.iter().all(|request| request.range().is_some());
        assert!(asked, "{arguments:?}: {requests:?}");
    }
}

#[test]
fn a_loose_part_of_another_version_is_not_gone_on_with() {
    let weak = |seed: u64| Served {
        etag: Some(format!("W/\"{seed}\"")),
        ..Served::new(seed, LENGTH)
    };
    let (old, new) = (weak(1), weak(2));
    let client = with_half(&old);
    let server = Server::of(new);
    client
        .get(&["--resume", "loose", &server.url("/f")])
        .assert_status(5);
    assert_kept(&client, &old);
}

#[test]
fn tags_that_are_no_text_are_told_apart() {
    let (old, new) = (Served::new(1, LENGTH), Served::new(2, LENGTH));
    let tagged = |file: &Served, status: &str, bytes: &[u8], more: &str, tag: u8| {
        let mut answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{more}ETag: \"",
            bytes.len()
        )
        .into_bytes();
        answer.push(tag);
        answer.extend_from_slice(b"\"\r\n\r\n");
        answer.extend_from_slice(bytes);
        let _ = file;
        answer
    };
    let (client, before) = (Client::new(), old.clone());
    let server = Server::start(move |request| match request.range() {
        None if request.number == 0 => {
            let whole = tagged(&before, "200 OK", &before.bytes, "", 0xff);
            vec![Act::Send(cut(&whole, 50)), Act::Close]
        }
        // If-Range is ignored.
        Some((start, _)) => {
            let range = format!("Content-Range: bytes {start}-{}/{LENGTH}\r\n", LENGTH - 1);
            let rest = &new.bytes[start as usize..];
            vec![Act::Send(tagged(
                &new,
                "206 Partial Content",
                rest,
                &range,
                0xfe,
            ))]
        }
        None => vec![Act::Send(tagged(&new, "200 OK", &new.bytes, "", 0xfe))],
    });
    client
        .get(&["--segments", "1", &server.url("/f")])
        .assert_status(5);
    assert_kept(&client, &old);
}

#[test]
fn parts_that_others_can_write_to_or_name_are_refused() {
    let file = Served::new(1, LENGTH);
    let server = Server::of(file.clone());
    for victim in ["f.part", "f.part.state"] {
        let client = with_half(&file);
        let path = client.path(victim);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        client
            .get(&[&server.url("/f")])
            .assert_status(6)
            .assert_says("written by others");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::hard_link(&path, client.path("other")).unwrap();
        client
            .get(&[&server.url("/f")])
            .assert_status(6)
            .assert_says("second name");
        if nix::unistd::geteuid().is_root() {
            std::fs::remove_file(client.path("other")).unwrap();
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
            client
                .get(&[&server.url("/f")])
                .assert_status(6)
                .assert_says("another user");
        }
        assert!(!client.path("f").exists());
    }
    assert!(server.requests().is_empty(), "no byte of it was asked for");
}

/// Somebody puts a file into a directory like /tmp to own what comes in its place.
#[test]
fn a_strangers_file_where_anybody_may_write_gives_no_rights() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let file = Served::new(1, LENGTH);
    let server = Server::of(file.clone());
    for (mode, owner) in [(0o1777, 0), (0o777, 0), (0o1775, 0), (0o755, 65534)] {
        let client = Client::new();
        let (path, directory) = (client.path("f"), client.directory.path());
        std::fs::write(&path, "mine").unwrap();
        std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        std::fs::set_permissions(directory, PermissionsExt::from_mode(mode)).unwrap();
        client.get(&["-f", &server.url("/f")]).assert_status(0);
        client.assert_whole("f", &file.bytes);
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.gid()), (owner, owner), "{mode:o}");
        let others_write = found.mode() & 0o002 != 0;
        assert_eq!(others_write, owner != 0, "{mode:o}");
    }
}

#[test]
fn a_file_called_like_a_state_on_its_way_is_kept() {
    let (state, file) = (Served::new(1, 29), Served::new(2, LENGTH));
    let client = Client::new();
    let (one, two) = (Server::of(state), Server::of(file.clone()));
    client.get(&[&one.url("/f.part.state~")]).assert_status(0);
    client.get(&[&two.url("/f")]).assert_status(0);
    assert_eq!(client.names().len(), 2, "{:?}", client.names());
    super::support::assert_same(&client.path("f"), &file.bytes);
}

#[test]
fn without_preallocation_the_file_grows_with_what_comes() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    let server = Server::of(file.clone());
    client
        .get(&["--no-preallocate", &server.url("/f")])
        .assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn retries_hold_without_a_validator_and_the_longest_attempt_stays() {
    let (client, file) = (Client::new(), Served::new(1, LENGTH));
    let served = file.clone();
    let server = Server::start(move |request| {
        let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
        let bytes = match request.number {
            12 => &served.bytes[..],
            3 => &served.bytes[..LENGTH / 2],
            _ => &served.bytes[..LENGTH / 8],
        };
        let mut answer = head.to_vec();
        answer.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
        answer.extend_from_slice(bytes);
        answer.extend_from_slice(b"\r\n");
        if request.number == 12 {
            answer.extend_from_slice(b"0\r\n\r\n");
        }
        vec![Act::Send(answer), Act::Close]
    });
    client
        .get(&["--retries", "5", &server.url("/f")])
        .assert_status(5);
    assert_eq!(server.requests().len(), 6);
    let kept = std::fs::read(client.path("f.part")).unwrap();
    assert_eq!(kept, &file.bytes[..LENGTH / 2]);
    assert_eq!(client.names(), ["f.part", "f.part.state"]);
    client
        .get(&["--retries", "20", &server.url("/f")])
        .assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn a_wrong_sum_of_a_name_keeps_the_file_and_the_right_one_finishes_it() {
    let (server, client) = (crate::support::TestServer::start(), Client::new());
    let file = Served::new(1, 100_000);
    server.put("f", &*file.bytes);
    let url = format!("name://{}/f", server.address());
    client
        .get(&["--sha256", &sum(b"other"), &url])
        .assert_status(7)
        .assert_says("what came is kept");
    let accepted = server.counters().accepted;
    client
        .get(&["--sha256", &sum(&file.bytes), &url])
        .assert_status(0);
    client.assert_whole("f", &file.bytes);
    assert_eq!(server.counters().accepted, accepted);
}

#[test]
fn what_cannot_be_compared_is_not_said_to_differ() {
    let client = Client::new();
    let file = Served {
        last_modified: None,
        ..Served::new(1, 1000)
    };
    let server = Server::of(file);
    client.get(&[&server.url("/f")]).assert_status(0);
    client
        .get(&["--skip-existing", &server.url("/f")])
        .assert_status(6)
        .assert_says("does not say both its size and its time");
}

#[test]
fn a_state_that_makes_no_sense_vouches_for_nothing() {
    let file = Served::new(1, LENGTH);
    for done in [
        "[[2000,1000]]",
        "[[0,1000],[2000,1000]]",
        "[[9000,0],[0,9000]]",
    ] {
        let client = with_half(&file);
        let path = client.path("f.part.state");
        let state = std::fs::read_to_string(&path).unwrap();
        let (before, after) = state.split_once("\"done\":").unwrap();
        let after = &after[after.find("]]").unwrap() + 2..];
        std::fs::write(&path, format!("{before}\"done\":{done}{after}")).unwrap();
        client
            .get(&[&Server::of(file.clone()).url("/f")])
            .assert_status(0);
        client.assert_whole("f", &file.bytes);
    }
}

#[test]
fn a_name_whose_answer_is_shorter_than_what_is_here_changes_nothing() {
    let file = Served::new(1, LENGTH);
    let client = with_half(&file);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 100]);
        stream.write_all(b"short").unwrap();
    });
    client
        .get(&[&format!("name://127.0.0.1:{port}/f")])
        .assert_status(5)
        .assert_says("--restart");
    server.join().unwrap();
    assert_kept(&client, &file);
    assert_eq!(client.names(), ["f.part", "f.part.state"]);
}
