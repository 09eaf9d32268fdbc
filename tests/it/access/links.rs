//! Links that expire.

use super::*;
use crate::process::{haul, run};

/// A server with [`KEY`] for everything, or for these globs.
fn with_key(protect: &[&str]) -> (TestServer, Secrets) {
    let secrets = Secrets::new();
    let keys = secrets.keys(&[KEY]);
    let server = TestServer::with(|config| {
        config.access.link_keys = Some(keys);
        config.access.protect = protect.iter().map(|glob| (*glob).to_owned()).collect();
    });
    (server, secrets)
}

#[test]
fn a_link_opens_its_path_until_it_expires() {
    let (server, _secrets) = with_key(&[]);
    server.put("d/a b", "content");
    server.put("d/c", "other");
    let missing = server.get("/d/missing", "");
    assert_eq!(missing.status, 404, "there is nothing to log in with");
    assert_alike(&missing, &server.get("/d/a%20b", ""));
    let good = link("d/a b", Scope::Path, 3_600);
    for target in ["/d/a%20b", "/d//x/../a%20b", "/d/%61%20b"] {
        let answer = server.get(&format!("{target}?{good}"), "");
        assert_eq!(
            (answer.status, &*answer.body),
            (200, &b"content"[..]),
            "{target}"
        );
        assert_eq!(answer.field("cache-control"), Some("private"));
        assert_eq!(answer.field("referrer-policy"), Some("no-referrer"));
    }
    for target in ["/d/c", "/d", "/d/", "/", "/d/a%20b/x", "/d/A%20b"] {
        let answer = server.get(&format!("{target}?{good}"), "");
        assert_eq!(answer.status, 403, "{target}");
    }
    let expired = link("d/a b", Scope::Path, -1);
    let answer = server.get(&format!("/d/a%20b?{expired}"), "Accept: text/html\r\n");
    assert_eq!(answer.status, 410);
    let page = String::from_utf8_lossy(&answer.body);
    assert!(page.contains("The link has expired."), "{page}");
    let forged = good.replace("expires=", "expires=9");
    assert_eq!(server.get(&format!("/d/a%20b?{forged}"), "").status, 403);
    let gone = link("d/missing", Scope::Path, 3_600);
    assert_eq!(server.get(&format!("/d/missing?{gone}"), "").status, 404);
    assert_eq!(server.by_name("d/c"), b"");
}

#[test]
fn a_subtree_can_be_walked_by_the_links_in_its_listings() {
    let (server, _secrets) = with_key(&[]);
    server.put("photos/2026/a.jpg", "content");
    server.put("photos/b.jpg", "content");
    server.put("photos2/c.jpg", "content");
    let good = link("photos", Scope::Subtree, 3_600);
    for fields in ["Accept: text/html\r\n", ""] {
        let answer = server.get(&format!("/photos/?{good}"), fields);
        assert_eq!(answer.status, 200);
        let page = String::from_utf8(answer.body).expect("UTF-8");
        let query = good.replace('&', "&amp;");
        for name in ["2026/", "b.jpg"] {
            assert!(page.contains(&format!("href=\"{name}?{query}\"")), "{page}");
        }
    }
    for (target, status) in [
        ("/photos", 301),
        ("/photos/2026/", 200),
        ("/photos/2026/a.jpg", 200),
        ("/photos/2026/none", 404),
        ("/photos2/c.jpg", 403),
        ("/photos/../photos2/c.jpg", 403),
        ("/", 403),
    ] {
        let answer = server.get(&format!("{target}?{good}"), "");
        assert_eq!(answer.status, status, "{target}");
    }
    let all = link("", Scope::Subtree, 3_600);
    assert_eq!(server.get(&format!("/photos2/c.jpg?{all}"), "").status, 200);
}

#[test]
fn a_subtree_ends_where_links_of_the_file_system_lead_out() {
    let (server, _secrets) = with_key(&[]);
    server.put("builds/42/x.iso", "content");
    server.put("private/f", "secret");
    let root = server.root();
    symlink("builds/42", root.join("current")).expect("a link");
    symlink("x.iso", root.join("builds/42/latest.iso")).expect("a link");
    symlink("../../private", root.join("builds/42/out")).expect("a link");
    let good = link("current", Scope::Subtree, 3_600);
    for (target, status) in [
        ("/current/x.iso", 200),
        ("/current/latest.iso", 200),
        ("/current/", 200),
        ("/current/out/f", 404),
        ("/current/out/", 404),
    ] {
        for _ in 0..2 {
            let answer = server.get(&format!("{target}?{good}"), "");
            assert_eq!(answer.status, status, "{target}");
        }
    }
    // The signature of a name covers its target.
    let one = link("current/out/f", Scope::Path, 3_600);
    assert_eq!(
        server.get(&format!("/current/out/f?{one}"), "").body,
        b"secret"
    );
}

#[test]
fn a_link_of_one_path_covers_no_target_of_another() {
    let secrets = Secrets::new();
    let keys = secrets.keys(&[KEY]);
    let server = TestServer::with(|config| {
        config.access.link_keys = Some(keys);
        config.access.protect = vec!["private".to_owned()];
        config.precompressed = haul::server::config::Precompressed::Serve;
    });
    server.put("private/f", "SECRET");
    server.put("open/x", "plain");
    let root = server.root();
    let old = SystemTime::UNIX_EPOCH;
    let file = fs::File::options().write(true).open(root.join("open/x"));
    file.and_then(|it| it.set_modified(old))
        .expect("an old file");
    symlink("../private/f", root.join("open/x.gz")).expect("a link");
    symlink("../private/f", root.join("open/way")).expect("a link");
    let fields = "Accept-Encoding: gzip\r\n";
    for target in [
        "/open/x".to_owned(),
        format!("/open/x?{}", link("open/x", Scope::Path, 60)),
    ] {
        assert_eq!(server.get(&target, fields).body, b"plain", "{target}");
    }
    let of_directory = link("open", Scope::Path, 60);
    let listing = server.get(&format!("/open/?{of_directory}&format=ndjson"), "");
    let listing = String::from_utf8(listing.body).expect("UTF-8");
    assert!(
        listing.contains("\"x\"") && !listing.contains("way"),
        "{listing}"
    );
    // The target of the path that was signed is covered.
    let signed = link("open/way", Scope::Path, 60);
    assert_eq!(
        server.get(&format!("/open/way?{signed}"), "").body,
        b"SECRET"
    );
}

#[test]
fn a_link_is_for_its_clients_and_its_keys() {
    let (server, secrets) = with_key(&[]);
    server.put("f", "content");
    let status = |query: &str| server.get(&format!("/f?{query}"), "").status;
    let here = link_for("f", Scope::Path, 60, Some("127.0.0.0/8"), KEY);
    let elsewhere = link_for("f", Scope::Path, 60, Some("10.0.0.0/8"), KEY);
    assert_eq!(status(&here), 200);
    assert_eq!(status(&elsewhere), 403);
    let new = "fedcba9876543210fedcba9876543210";
    let newer = link_for("f", Scope::Path, 60, None, new);
    assert_eq!(status(&newer), 403);
    secrets.keys(&[new, KEY]);
    assert_eq!(server.handle().reload_access(), [""; 0]);
    assert_eq!((status(&here), status(&newer)), (200, 200));
    secrets.keys(&[new]);
    assert_eq!(server.handle().reload_access(), [""; 0]);
    assert_eq!((status(&here), status(&newer)), (403, 200));
    secrets.keys(&["short"]);
    let errors = server.handle().reload_access();
    assert!(errors[0].contains("keys: line 1: "), "{errors:?}");
    assert!(!errors[0].contains("short:"), "{errors:?}");
    assert_eq!(status(&newer), 200);
}

#[test]
fn passwords_and_links_go_together_and_what_is_open_stays_so() {
    let secrets = Secrets::new();
    let (htpasswd, keys) = (
        secrets.htpasswd(&[("anna", "s3cret")]),
        secrets.keys(&[KEY]),
    );
    let server = TestServer::with(|config| {
        config.access.htpasswd = Some(htpasswd);
        config.access.link_keys = Some(keys);
        config.access.protect = vec!["private".into()];
    });
    server.put("private/f", "secret");
    server.put("open", "content");
    let good = link("private/f", Scope::Path, 60);
    let bad = good.replace("sig=", "sig=A");
    let user = login("anna:s3cret");
    for (target, fields, status) in [
        ("/private/f".to_owned(), "", 401),
        (format!("/private/f?{good}"), "", 200),
        (format!("/private/f?{bad}"), "", 403),
        (format!("/private/f?{bad}"), &user, 200),
        ("/private/f?sig=".to_owned(), "", 403),
        (format!("/open?{bad}"), "", 200),
        (format!("/open?{}", link("open", Scope::Path, -9)), "", 200),
        ("/open".to_owned(), &login("anna:wrong"), 200),
    ] {
        assert_eq!(server.get(&target, fields).status, status, "{target}");
    }
}

#[test]
fn signatures_are_not_in_the_log() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let secrets = Secrets::new();
    let keys = secrets.keys(&[KEY]);
    let server = TestServer::with(|config| {
        config.access.link_keys = Some(keys);
        config.access_log = Destination::File(path.clone());
    });
    server.put("f", "content");
    let good = link("f", Scope::Path, 60);
    let (_, signature) = good.split_once("sig=").expect("a signature");
    for target in [
        format!("/f?{good}"),
        format!("/g?{good}&sort=size"),
        format!("/g?{good}&{good}"),
    ] {
        server.get(&target, "");
    }
    server.by_name(&format!("f?{good}"));
    server.exchange(format!("GET /f?{good} HTTP/9\r\n\r\n"));
    server.exchange(format!("GET /f?{good}#x HTTP/1.1\r\nHost: x\r\n\r\n"));
    // A redirector has encoded it as a whole, and another one that.
    let twice = good.replace('&', "%2526").replace('=', "%253D");
    server.get(&format!("/f%253F{twice}"), "");
    server.shut_down();
    let log = log_of(&path);
    assert_eq!(log.lines().count(), 7, "{log}");
    assert!(log.contains("sig%253D…"), "{log}");
    assert!(!log.contains(signature), "{log}");
    assert_eq!(log.matches("sig=…").count(), 7, "{log}");
}

#[test]
fn a_download_that_has_begun_may_end_and_goes_on_with_a_newer_link() {
    const LEN: usize = 8 << 20;
    let (server, _secrets) = with_key(&[]);
    let content = crate::support::noise(LEN, 5);
    server.put("big", &content);
    let soon = link("big", Scope::Path, 2);
    let mut client = Client::with_small_window(server.address());
    client.send(format!(
        "GET /big?{soon} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    ));
    let mut begun = client.take(1);
    let mut late;
    loop {
        late = server.get(&format!("/big?{soon}"), "Range: bytes=0-0\r\n");
        if late.status == 410 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    begun.extend(client.rest());
    let answer = Answer::parse(&begun);
    assert!(
        answer.body == content,
        "the download that had begun came to its end"
    );
    let tag = answer.field("etag").expect("a tag");
    let newer = link("big", Scope::Path, 60);
    let rest = server.get(
        &format!("/big?{newer}"),
        &format!("Range: bytes=100-\r\nIf-Range: {tag}\r\n"),
    );
    assert_eq!(rest.status, 206);
    assert!(rest.body == content[100..]);
}

#[test]
fn a_lifetime_that_no_link_can_have_is_refused() {
    let secrets = Secrets::new();
    let keys = secrets.keys(&[KEY]);
    for (lifetime, is_good) in [
        ("7d", true),
        ("36500d", true),
        ("36501d", false),
        ("9223372036854775807s", false),
    ] {
        let output = run(haul()
            .args(["link", "--expires", lifetime, "--key"])
            .arg(&keys)
            .arg("f"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), is_good, "{lifetime}: {said}");
        assert_eq!(said.contains("a century"), !is_good, "{lifetime}: {said}");
    }
}
