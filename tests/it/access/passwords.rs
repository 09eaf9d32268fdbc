//! Users and passwords.

use super::*;

#[test]
fn everything_takes_a_password_where_no_glob_says_otherwise() {
    let (server, _secrets) = with_user(&[]);
    server.put("d/f", "content");
    for target in [
        "/",
        "/d",
        "/d/",
        "/d/f",
        "/missing",
        "/d/f?download",
        "/d/?format=json",
    ] {
        let answer = server.get(target, "");
        assert_eq!(answer.status, 401, "{target}");
        assert_eq!(
            answer.field("www-authenticate"),
            Some("Basic realm=\"haul\", charset=\"UTF-8\"")
        );
        for wrong in ["anna:wrong", "bert:s3cret", ":", "anna:"] {
            let answer = server.get(target, &login(wrong));
            assert!(matches!(answer.status, 401 | 429), "{target} with {wrong}");
        }
    }
    let (server, _secrets) = with_user(&[]);
    server.put("d/f", "content");
    for (target, status) in [("/d/f", 200), ("/missing", 404), ("/d/", 200), ("/d", 301)] {
        assert_eq!(server.get(target, &login("anna:s3cret")).status, status);
    }
    assert_eq!(server.counters().passwords_checked, 1, "it is remembered");
}

#[test]
fn what_is_there_and_what_is_not_are_refused_alike() {
    let (server, _secrets) = with_user(&["private/**"]);
    server.put("private/f", "content");
    let fields = [
        String::new(),
        "Range: bytes=0-1\r\n".into(),
        "If-None-Match: *\r\n".into(),
        "If-Match: \"x\"\r\n".into(),
        "Accept: text/html\r\n".into(),
    ];
    for fields in fields {
        let here = server.get("/private/f", &fields);
        assert_eq!(here.status, 401, "{fields}");
        assert_alike(&here, &server.get("/private/g", &fields));
        assert_alike(&here, &server.get("/private/", &fields));
    }
    for method in ["HEAD", "OPTIONS"] {
        let ask = |name: &str| {
            let request = format!(
                "{method} /private/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            );
            Answer::parse(&server.exchange(request))
        };
        let here = ask("f");
        assert_eq!(here.status, 401, "{method}");
        assert_alike(&here, &ask("g"));
    }
    assert_eq!(server.by_name("private/f"), b"");
    assert_eq!(server.by_name("private/g"), b"");
    assert_eq!(server.counters().passwords_checked, 0);
}

#[test]
fn a_connection_goes_on_after_a_refusal() {
    let (server, _secrets) = with_user(&["private/**"]);
    server.put("private/f", "content");
    server.put("open", "here");
    let mut client = server.connect();
    client.send("GET /private/f HTTP/1.1\r\nHost: x\r\n\r\nGET /open HTTP/1.1\r\nHost: x\r\n\r\n");
    client.send(format!(
        "GET /private/f HTTP/1.1\r\nHost: x\r\n{}\r\nHEAD /private/f HTTP/1.1\r\nHost: x\r\n\r\n",
        login("anna:s3cret")
    ));
    assert_eq!(client.answer().status, 401);
    assert_eq!(client.answer().body, b"here");
    assert_eq!(client.answer().body, b"content");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(client.take(1));
    }
    assert_eq!(Answer::parse(&head).status, 401, "each request has its own");
}

#[test]
fn sixteen_connections_of_a_client_cost_one_look_at_its_password() {
    let (server, _secrets) = with_user(&[]);
    server.put("f", "content");
    let mut clients: Vec<Client> = (0..16).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(format!(
            "GET /f HTTP/1.1\r\nHost: x\r\n{}\r\n",
            login("anna:s3cret")
        ));
    }
    for client in &mut clients {
        assert_eq!(client.answer().body, b"content");
    }
    let counters = server.counters();
    assert_eq!(
        (counters.passwords_checked, counters.passwords_wrong),
        (1, 0)
    );
}

#[test]
fn credentials_that_are_no_pair_are_none() {
    let (server, _secrets) = with_user(&[]);
    server.put("f", "content");
    let right = login("anna:s3cret");
    for fields in [
        "Authorization: Bearer abc\r\n".to_owned(),
        "Authorization: Basic\r\n".to_owned(),
        "Authorization: Basic ####\r\n".to_owned(),
        format!("{right}{right}"),
        format!("Authorization: Basic {}\r\n", "YTpi".repeat(500)),
    ] {
        assert_eq!(server.get("/f", &fields).status, 401, "{fields}");
    }
    assert_eq!(server.counters().passwords_checked, 0);
}

#[test]
fn listings_show_what_the_requester_may_have() {
    let (server, _secrets) = with_user(&["private", "*.key", "d/secret*"]);
    server.put("private/f", "");
    server.put("open", "");
    server.put("my.key", "");
    server.put("d/secret", "");
    server.put("d/plain", "");
    symlink("private/f", server.root().join("secret-way")).expect("a link");
    symlink("private", server.root().join("secret-door")).expect("a link");
    symlink("d/plain", server.root().join("plain")).expect("a link");
    let secrets = ["private", "my.key", "secret"];
    for (format, accept) in [
        ("?format=html", ""),
        ("?format=json", ""),
        ("?format=ndjson", ""),
        ("?format=html&sort=size", ""),
        ("", "Accept: text/html\r\n"),
        ("", "Accept: */*\r\n"),
    ] {
        for (directory, shown) in [("/", ["open", "plain"]), ("/d/", ["plain", "plain"])] {
            let target = format!("{directory}{format}");
            let listing = |fields: &str| {
                let answer = server.get(&target, fields);
                assert_eq!(answer.status, 200, "{target}");
                (answer.head, String::from_utf8(answer.body).expect("UTF-8"))
            };
            let (head, text) = listing(accept);
            assert!(!head.contains("private"), "{head}");
            for name in secrets {
                assert!(
                    !text.contains(name),
                    "{target} {accept} shows {name}: {text}"
                );
            }
            for name in shown {
                assert!(
                    text.contains(name),
                    "{target} {accept} hides {name}: {text}"
                );
            }
            let (head, text) = listing(&format!("{accept}{}", login("anna:s3cret")));
            assert!(head.contains("Cache-Control: private, no-cache"), "{head}");
            let there = match directory {
                "/" => &["private", "my.key", "secret-way", "secret-door"][..],
                _ => &["secret"],
            };
            for name in there {
                assert!(
                    text.contains(name),
                    "{target} {accept} hides {name} from a user"
                );
            }
        }
    }
    assert!(
        server
            .get("/?format=html", "")
            .body
            .windows(9)
            .any(|it| it == b"3 entries")
    );
}

#[test]
fn a_directory_counts_as_its_index() {
    let (server, _secrets) = with_user(&["d/index.html"]);
    server.put("d/index.html", "<p>secret");
    server.put("d/f", "open");
    assert_eq!(server.get("/d/", "").status, 401);
    assert_eq!(server.get("/d/index.html", "").status, 401);
    assert_eq!(server.get("/d/f", "").status, 200);
    // Programs list what they may have.
    for (target, fields) in [
        ("/d/?format=ndjson", ""),
        ("/d/", "Accept: application/json\r\n"),
    ] {
        let listing = server.get(target, fields);
        let text = String::from_utf8_lossy(&listing.body);
        assert_eq!(listing.status, 200, "{target}");
        assert!(text.contains("\"f\"") && !text.contains("index"), "{text}");
    }
    let user = login("anna:s3cret");
    assert_eq!(server.get("/d/", &user).body, b"<p>secret");
    let (server, _secrets) = with_user_and(&["d/f.gz"], |config| {
        config.precompressed = haul::server::config::Precompressed::Serve;
    });
    server.put("d/f", "open");
    server.put("d/f.gz", "secret");
    let answer = server.get("/d/f", "Accept-Encoding: gzip\r\n");
    assert_eq!(answer.body, b"open", "a sibling is a file of its own");
    let answer = server.get("/d/f", &format!("Accept-Encoding: gzip\r\n{user}"));
    assert_eq!(answer.body, b"secret");
}

#[test]
fn what_a_password_opened_is_for_no_shared_cache() {
    let (server, _secrets) = with_user_and(&["private/**"], |config| {
        let rule = haul::server::config::CacheRule::parse("*=public, max-age=60");
        config.http.cache_control.push(rule.expect("a rule"));
    });
    server.put("private/f", "content");
    server.put("open", "content");
    let user = login("anna:s3cret");
    let open = server.get("/open", "");
    assert_eq!(open.field("cache-control"), Some("public, max-age=60"));
    assert_eq!(open.field("vary"), None);
    let tag = server.get("/private/f", &user);
    let tag = tag.field("etag").expect("a tag").to_owned();
    for (fields, status) in [
        (String::new(), 200),
        ("Range: bytes=0-1\r\n".into(), 206),
        (format!("If-None-Match: {tag}\r\n"), 304),
    ] {
        let answer = server.get("/private/f", &format!("{fields}{user}"));
        assert_eq!(answer.status, status);
        assert_eq!(answer.field("cache-control"), Some("private, max-age=60"));
        assert_eq!(answer.field("vary"), Some("Authorization"));
    }
}

#[test]
fn a_file_of_passwords_is_read_again_and_a_bad_one_is_not_taken() {
    let (server, secrets) = with_user(&[]);
    server.put("f", "content");
    let status = |pair: &str| server.get("/f", &login(pair)).status;
    assert_eq!(status("anna:s3cret"), 200);
    secrets.htpasswd(&[("anna", "new"), ("bert", "s3cret")]);
    assert_eq!(status("anna:s3cret"), 200, "not yet");
    assert_eq!(server.handle().reload_access(), [""; 0]);
    assert_eq!(
        status("anna:s3cret"),
        401,
        "what was remembered is forgotten"
    );
    assert_eq!(status("anna:new"), 200);
    assert_eq!(status("bert:s3cret"), 200);
    fs::write(secrets.path("htpasswd"), "cara:plain\n").expect("written");
    let errors = server.handle().reload_access();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("htpasswd: line 1: "), "{errors:?}");
    assert!(!errors[0].contains("plain"), "{errors:?}");
    assert_eq!(status("anna:new"), 200);
    fs::remove_file(secrets.path("htpasswd")).expect("removed");
    assert_eq!(server.handle().reload_access().len(), 1);
    assert_eq!(status("anna:new"), 200);
}

#[test]
fn the_log_names_the_user_and_no_password() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let (server, _secrets) = with_user_and(&[], |config| {
        config.access_log = Destination::File(path.clone())
    });
    server.put("f", "content");
    server.get("/f", &login("anna:s3cret"));
    server.get("/f", &login("anna:wr0ng"));
    server.get("/f", "");
    server.exchange("GET http://anna:s3cret@x/f HTTP/1.1\r\nHost: x\r\n\r\n");
    server.shut_down();
    let log = log_of(&path);
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 4, "{log}");
    assert!(lines[0].ends_with("s user=\"anna\" complete"), "{log}");
    assert!(
        lines[1].ends_with("s refused: the user or the password is wrong"),
        "{log}"
    );
    assert!(
        lines[2].ends_with("s refused: it takes a user and a password"),
        "{log}"
    );
    assert!(
        lines[3].contains("\"GET http://…@x/f HTTP/1.1\" 400 "),
        "{log}"
    );
    for secret in ["s3cret", "wr0ng", &STANDARD.encode("anna:s3cret")] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn what_answers_for_a_protected_file_is_protected_as_well() {
    let (server, _secrets) = with_user_and(&["*.iso"], |config| {
        config.precompressed = haul::server::config::Precompressed::Serve;
    });
    server.put("x.iso", "content");
    server.put("x.iso.gz", "coded");
    server.put("y.gz", "open");
    let user = login("anna:s3cret");
    for target in ["/x.iso", "/x.iso.gz"] {
        assert_eq!(server.get(target, "").status, 401, "{target}");
        assert_eq!(server.get(target, &user).status, 200, "{target}");
    }
    let coded = server.get("/x.iso", &format!("{user}Accept-Encoding: gzip\r\n"));
    assert_eq!(coded.body, b"coded");
    assert_eq!(server.get("/y.gz", "").body, b"open");
    let listing = server.get("/?format=ndjson", "").body;
    let listing = String::from_utf8(listing).expect("UTF-8");
    assert!(
        listing.contains("y.gz") && !listing.contains("x.iso"),
        "{listing}"
    );
}
