//! Untrusted values from servers: names, redirects, proxies, credentials.

use std::time::Duration;

use super::support::{Act, Client, Request, Served, Server, assert_same, cut, finish};

fn named(disposition: &str) -> (Client, Server) {
    let disposition = format!("Content-Disposition: {disposition}\r\n");
    let file = Served::new(1, 100);
    let server = Server::start(move |request| {
        let mut answer = file.head("200 OK", file.len(), &disposition);
        if request.method == "GET" {
            answer.extend_from_slice(&file.bytes);
        }
        vec![Act::Send(answer)]
    });
    (Client::new(), server)
}

#[test]
fn names_from_servers_are_made_safe() {
    let cases = [
        ("attachment; filename=\"plain.bin\"", "plain.bin"),
        ("attachment; filename=\"../../outside\"", "outside"),
        ("attachment; filename=\"/etc/outside\"", "outside"),
        ("attachment; filename=\"..\\\\..\\\\outside\"", "outside"),
        ("attachment; filename=\"-rf\"", "_rf"),
        ("attachment; filename=\".bashrc\"", "_bashrc"),
        (
            "attachment; filename*=UTF-8''%1b%5d0%3bevil%07.txt",
            "_]0;evil_.txt",
        ),
        ("attachment; filename*=UTF-8''..%2f..%2foutside", "outside"),
        ("attachment; filename=\"..\"", "fallback"),
        ("attachment", "fallback"),
    ];
    for (disposition, expected) in cases {
        let (client, server) = named(disposition);
        client
            .get(&["-d", "in", "-J", &server.url("/fallback")])
            .assert_status(0);
        assert_eq!(client.names(), ["in"], "{disposition}");
        let names: Vec<_> = std::fs::read_dir(client.path("in")).unwrap().collect();
        assert_eq!(names.len(), 1, "{disposition}");
        assert_eq!(
            names[0].as_ref().unwrap().file_name(),
            expected,
            "{disposition}"
        );
    }
}

#[test]
fn names_from_servers_are_cut_where_the_file_system_takes_no_more() {
    let (n, e) = ("n".repeat(300), "%C3%A9".repeat(300));
    let cases = [
        (
            format!("attachment; filename=\"{n}.tar.gz\""),
            "/f".to_owned(),
            "n.tar.gz",
        ),
        (
            format!("attachment; filename*=UTF-8''n{e}.iso"),
            "/f".to_owned(),
            "é.iso",
        ),
        ("attachment".to_owned(), format!("/{n}.part"), "n.part"),
        ("attachment".to_owned(), format!("/{n}"), "nnn"),
    ];
    for (disposition, path, end) in cases {
        let (client, server) = named(&disposition);
        client.get(&["-J", &server.url(&path)]).assert_status(0);
        let names = client.names();
        let [name] = &names[..] else {
            panic!("one file: {names:?}")
        };
        assert!(name.starts_with('n') && name.ends_with(end), "{name}");
        assert!((250..=255).contains(&name.len()), "{name}");
        assert_same(&client.path(name), &Served::new(1, 100).bytes);
    }
}

#[test]
fn names_from_servers_count_only_when_asked_for_and_overwrite_nothing() {
    let (client, server) = named("attachment; filename=other");
    client.get(&[&server.url("/mine")]).assert_status(0);
    assert_eq!(client.names(), ["mine"]);
    std::fs::write(client.path("other"), b"precious").unwrap();
    client.get(&["-J", &server.url("/mine")]).assert_status(6);
    assert_same(&client.path("other"), b"precious");
}

#[test]
fn names_in_addresses_are_made_safe_too() {
    for (path, expected) in [
        ("/a/..%2f..%2fx", "x"),
        ("/-o", "_o"),
        ("/a%1bb", "a_b"),
        ("/x%00y", "x_y"),
    ] {
        let client = Client::new();
        let server = Server::of(Served::new(1, 10));
        client.get(&[&server.url(path)]).assert_status(0);
        assert_eq!(client.names(), [expected], "{path}");
    }
}

#[test]
fn nothing_a_server_says_reaches_the_terminal_raw() {
    let client = Client::new();
    let server = Server::start(|request| match request.target.as_str() {
        "/start" => redirect("http://127.0.0.1:1/%1b\u{9b}31m"),
        _ => vec![Act::Close],
    });
    let ran = client.get(&["--retries", "0", &server.url("/start")]);
    ran.assert_status(4);
    assert!(
        !ran.stderr
            .trim_end()
            .contains(|c: char| c.is_control() && c != '\n'),
        "{:?}",
        ran.stderr
    );
}

fn redirect(location: &str) -> Vec<Act> {
    let answer = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
    vec![Act::Send(answer.into_bytes())]
}

#[test]
fn redirects_are_followed_and_segments_go_straight_there() {
    let (file, client) = (Served::new(1, 4 << 20), Client::new());
    let served = file.clone();
    let server = Server::start(move |request| {
        vec![Act::Drip {
            bytes: served.answer(request),
            piece: 256 * 1024,
            pause: Duration::from_millis(20),
        }]
    });
    let target = server.url("/there");
    let first = Server::start(move |_| redirect(&target));
    client
        .get(&["--segments", "2", &first.url("/f")])
        .assert_status(0);
    client.assert_whole("f", &file.bytes);
    assert_eq!(first.requests().len(), 1);
    assert!(server.requests().len() >= 2);
}

#[test]
fn redirects_in_a_circle_end() {
    let client = Client::new();
    let server = Server::start(|_| redirect("/f"));
    client
        .get(&[&server.url("/f")])
        .assert_status(4)
        .assert_says("redirects");
    assert!(server.requests().len() <= 12);
    assert!(client.names().is_empty());
}

#[test]
fn redirects_to_what_haul_cannot_do_say_so() {
    let client = Client::new();
    let server = Server::start(|_| redirect("file:///etc/passwd"));
    client
        .get(&[&server.url("/f")])
        .assert_status(4)
        .assert_says("http");
    assert!(client.names().is_empty());
}

#[test]
fn credentials_stay_with_their_host() {
    let (file, client) = (Served::new(1, 1000), Client::new());
    let server = Server::of(file.clone());
    let target = server.url("/f");
    let first = Server::start(move |request| match request.target.as_str() {
        "/f" => redirect("/same-host"),
        _ => redirect(&target),
    });
    let url = first.url("/f").replace("http://", "http://me:secret@");
    client.get(&[&url]).assert_status(0);
    client.assert_whole("f", &file.bytes);
    let expected = Some("Basic bWU6c2VjcmV0");
    assert!(
        first
            .requests()
            .iter()
            .all(|request| request.field("authorization") == expected)
    );
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.field("authorization").is_none())
    );
}

#[test]
fn credentials_are_not_shown_and_not_kept() {
    let (file, client) = (Served::new(1, 1 << 20), Client::new());
    let server = Server::start(move |request| {
        let answer = file.answer(request);
        vec![Act::Send(answer[..answer.len() / 2].to_vec()), Act::Close]
    });
    let url = server.url("/f").replace("http://", "http://me:secret@");
    let ran = client.get(&["--retries", "0", "--segments", "1", &url]);
    ran.assert_status(5);
    assert!(!ran.stderr.contains("secret"));
    let state = std::fs::read_to_string(client.path("f.part.state")).unwrap();
    assert!(!state.contains("secret"));
}

fn through_proxy(no_proxy: &str) -> (Vec<Request>, Vec<Request>) {
    let (file, client) = (Served::new(1, 1000), Client::new());
    let (proxy, server) = (Server::of(file.clone()), Server::of(file.clone()));
    let mut command = client.command(&[&server.url("/f?x=1")]);
    command.env(
        "http_proxy",
        proxy.url("").replace("http://", "http://user:word@"),
    );
    let ran = finish(command.env("no_proxy", no_proxy).spawn().unwrap());
    ran.assert_status(0);
    client.assert_whole("f", &file.bytes);
    let target = server.url("/f?x=1");
    assert!(
        proxy
            .requests()
            .iter()
            .all(|request| request.target == target)
    );
    (proxy.requests(), server.requests())
}

#[test]
fn proxies_of_the_environment_are_used() {
    let (proxied, direct) = through_proxy("example.org");
    assert_eq!((proxied.len(), direct.len()), (1, 0));
    assert_eq!(
        proxied[0].field("proxy-authorization"),
        Some("Basic dXNlcjp3b3Jk")
    );
    assert!(proxied[0].field("host").unwrap().starts_with("127.0.0.1:"));
}

#[test]
fn hosts_without_proxy_are_asked_directly() {
    let (proxied, direct) = through_proxy("example.org, 127.0.0.1");
    assert_eq!((proxied.len(), direct.len()), (0, 1));
    assert_eq!(direct[0].target, "/f?x=1");
    assert!(direct[0].field("proxy-authorization").is_none());
}

#[test]
fn no_server_can_vouch_for_the_bytes_of_another_file() {
    let client = Client::new();
    let good = Server::of(Served::new(1, 1000));
    // As an interrupted run of haul would have left it.
    let state = serde_json::json!({
        "version": 1,
        "url": good.url("/f"),
        "identity": {"length": 1000, "validator": {"etag": "\"1\""}, "last_modified": null},
        "done": [[0, 1000]],
    });
    let bad = Server::start(move |request| {
        let (kind, body) = match request.target.as_str() {
            "/in/" => (
                "text/html",
                b"<a href='f.part'>1</a><a href='f.part.state'>2</a>".to_vec(),
            ),
            "/in/f.part.state" => ("application/json", state.to_string().into_bytes()),
            _ => ("text/plain", vec![b'x'; 1000]),
        };
        let length = body.len();
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
        vec![Act::Send([head.into_bytes(), body].concat())]
    });
    client.get(&["-r", &bad.url("/in/")]).assert_status(0);
    assert!(client.path("in/f.part").exists());
    assert!(client.path("in/f.part.state_").exists());
    client.get(&["-d", "in", &good.url("/f")]).assert_status(0);
    assert_same(&client.path("in/f"), &Served::new(1, 1000).bytes);
    assert_same(&client.path("in/f.part"), &[b'x'; 1000]);
}

#[test]
fn an_address_that_expired_is_asked_for_again_where_it_came_from() {
    let (file, client) = (Served::new(1, 1 << 20), Client::new());
    let served = file.clone();
    let tokens = std::sync::Mutex::new((0, std::collections::BTreeSet::new()));
    let server = Server::start(move |request| {
        let mut tokens = tokens.lock().unwrap();
        if request.target == "/f" {
            tokens.0 += 1;
            let head = format!(
                "HTTP/1.1 302 Found\r\nLocation: /token{}\r\nContent-Length: 0\r\n\r\n",
                tokens.0
            );
            return vec![Act::Send(head.into_bytes())];
        }
        // Every token is good for one answer, and no answer has more than a quarter of the file.
        if !tokens.1.insert(request.target.clone()) {
            return vec![Act::Send(served.head("403 Forbidden", 0, ""))];
        }
        match request.range() {
            Some((start, _)) => {
                let end = (start + (256 << 10)).min(served.len());
                vec![Act::Send(served.part(start, end))]
            }
            None => vec![Act::Send(cut(&served.whole(), 25)), Act::Close],
        }
    });
    client
        .get(&["--segments", "1", &server.url("/f")])
        .assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn a_proxy_that_is_not_there_is_called_one() {
    let client = Client::new();
    let mut command = client.command(&["--retries", "0", "http://files.example/f"]);
    command.env("http_proxy", "http://127.0.0.1:1");
    finish(command.spawn().unwrap())
        .assert_status(4)
        .assert_says("the proxy of the environment");
}
