//! Links of the file system that lead from open places into protected ones.

use super::*;

#[test]
fn a_link_from_an_open_place_into_a_protected_one_leads_nowhere() {
    let (server, _secrets) = with_user(&["private/**"]);
    server.put("private/f", "content");
    server.put("private/d/g", "content");
    server.put("open/f", "open");
    let root = server.root();
    symlink("../private/f", root.join("open/file")).expect("a link");
    symlink("../private", root.join("open/folder")).expect("a link");
    symlink("folder/d", root.join("open/far")).expect("a link");
    symlink("f", root.join("open/near")).expect("a link");
    symlink("../open/f", root.join("private/back")).expect("a link");
    let missing = server.get("/open/missing", "");
    for target in [
        "file",
        "folder",
        "folder/",
        "folder/f",
        "far/g",
        "far/",
        "folder/none",
    ] {
        // Twice, since what is looked up is remembered.
        for _ in 0..2 {
            let answer = server.get(&format!("/open/{target}"), "");
            assert_eq!(answer.status, 404, "{target}");
            assert_alike(&answer, &missing);
        }
        assert_eq!(server.by_name(&format!("open/{target}")), b"");
    }
    assert_eq!(server.get("/open/near", "").body, b"open");
    assert_eq!(server.by_name("open/near"), b"open");
    assert_eq!(server.get("/private/back", "").status, 401);
    let user = login("anna:s3cret");
    assert_eq!(server.get("/open/file", &user).body, b"content");
    assert_eq!(server.get("/open/far/g", &user).body, b"content");
    assert_eq!(server.get("/private/back", &user).body, b"open");
    // And again without, now that it is open.
    assert_eq!(server.get("/open/file", "").status, 404);
}

#[test]
fn a_listing_through_a_link_shows_no_protected_name() {
    let (server, _secrets) = with_user(&["shared/secret", "private"]);
    server.put("shared/secret/f", "content");
    server.put("shared/plain", "");
    server.put("private/f", "");
    server.put("open/f", "");
    let root = server.root();
    symlink("../shared", root.join("open/way")).expect("a link");
    symlink("..", root.join("open/up")).expect("a link");
    let user = login("anna:s3cret");
    for target in ["way/", "up/shared/", "up/open/way/", "up/"] {
        for (query, accept) in [
            ("", ""),
            ("", "Accept: text/html\r\n"),
            ("?format=json", ""),
            ("?format=ndjson", ""),
            ("?format=html&sort=size", ""),
            ("?format=html&q=r", ""),
        ] {
            let target = format!("/open/{target}{query}");
            let listing = |fields: &str| {
                let answer = server.get(&target, &format!("{accept}{fields}"));
                assert_eq!(answer.status, 200, "{target}");
                let text = String::from_utf8(answer.body).expect("UTF-8");
                // The page has words of its own.
                let names = [
                    "href=\"secret",
                    "href=\"private",
                    "\"name\":\"secret",
                    "\"name\":\"private",
                ];
                names.iter().any(|name| text.contains(name))
            };
            assert!(!listing(""), "{target} {accept} shows it");
            assert!(listing(&user), "{target} {accept} hides it from a user");
        }
    }
}

#[test]
fn what_cannot_be_read_behind_a_link_is_not_told_from_what_is_missing() {
    let (server, _secrets) = with_user(&["private"]);
    server.put("private/f", "");
    server.put("open/f", "");
    let root = server.root();
    nix::unistd::mkfifo(&root.join("private/fifo"), nix::sys::stat::Mode::S_IRUSR).expect("a FIFO");
    nix::unistd::mkfifo(&root.join("open/fifo"), nix::sys::stat::Mode::S_IRUSR).expect("a FIFO");
    symlink("/etc", root.join("private/out")).expect("a link");
    symlink("/etc", root.join("open/out")).expect("a link");
    symlink("around", root.join("private/around")).expect("a link");
    symlink("../private", root.join("open/folder")).expect("a link");
    symlink("../private/fifo", root.join("open/file")).expect("a link");
    let missing = server.get("/open/folder/missing", "");
    assert_eq!(missing.status, 404);
    for target in [
        "folder/fifo",
        "folder/out",
        "folder/out/",
        "folder/out/passwd",
        "folder/around",
        "file",
    ] {
        assert_alike(&server.get(&format!("/open/{target}"), ""), &missing);
    }
    // What is open says why, and a user learns it everywhere.
    let user = login("anna:s3cret");
    for (target, fields) in [
        ("/open/fifo", ""),
        ("/open/out", ""),
        ("/open/out/passwd", ""),
        ("/open/folder/fifo", &user),
        ("/open/folder/out/passwd", &user),
    ] {
        assert_eq!(server.get(target, fields).status, 403, "{target}");
    }
}
