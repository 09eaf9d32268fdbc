//! What the root's path and the links beneath it lead to.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Instant;

use crate::support::{PATIENCE, TestServer, noise};

#[test]
fn a_root_that_is_switched_made_anew_or_removed_is_seen() {
    let place = tempfile::tempdir().expect("a directory");
    let path = |name: &str| place.path().join(name);
    for name in ["1", "2"] {
        fs::create_dir(path(name)).expect("a directory");
        fs::write(path(name).join("version"), name).expect("a file");
    }
    let large = noise(32 << 20, 3);
    fs::write(path("1/large"), &large).expect("a file");
    symlink("1", path("current")).expect("a link");
    let server = TestServer::with(|config| config.root = path("current"));
    assert_eq!(server.by_name("version"), b"1");
    let mut under_way = server.connect();
    under_way.send("large\n");
    let begun = under_way.take(1 << 10);

    symlink("2", path("next")).expect("a link");
    fs::rename(path("next"), path("current")).expect("switched");
    wait_for(&server, b"2");
    assert!([begun, under_way.rest()].concat() == large);

    for round in [b"3", b"4", b"5"] {
        fs::remove_dir_all(path("2")).expect("removed");
        fs::create_dir(path("2")).expect("made anew");
        fs::write(path("2/version"), round).expect("a file");
        wait_for(&server, round);
    }
}

#[track_caller]
fn wait_for(server: &TestServer, content: &[u8]) {
    let begun = Instant::now();
    while server.by_name("version") != content {
        assert!(begun.elapsed() < PATIENCE, "never seen");
    }
}

#[test]
fn links_lead_beneath_the_root_and_beneath_what_was_named_and_nowhere_else() {
    let place = tempfile::tempdir().expect("a directory");
    let path = |name: &str| place.path().join(name);
    for name in ["root/d", "disk/d", "other"] {
        fs::create_dir_all(path(name)).expect("directories");
        fs::write(path(name).join("f"), name).expect("a file");
    }
    symlink("root", path("alias")).expect("a link");
    for (to, name) in [
        (path("root/d"), "in"),
        (path("alias/d"), "in-by-alias"),
        ("../root/d".into(), "back-in"),
        (path("root/in"), "twice"),
        (path("disk/d"), "disk"),
        ("../disk/d/../d".into(), "disk-relative"),
        (path("other"), "out"),
        (path("disk/../other"), "out-by-disk"),
        (path("root/../other"), "out-by-root"),
    ] {
        symlink(to, path("root").join(name)).expect("a link");
    }
    symlink("../../other", path("disk/d/out")).expect("a link");
    let plain = TestServer::with(|config| config.root = path("root"));
    let wide = TestServer::with(|config| {
        config.root = path("root");
        config.links_into = vec![path("disk")];
    });
    for (name, with, without) in [
        ("in", 200, 200),
        ("in-by-alias", 200, 200),
        ("back-in", 200, 200),
        ("twice", 200, 200),
        ("disk", 200, 403),
        ("disk-relative", 200, 403),
        ("out", 403, 403),
        ("out-by-disk", 403, 403),
        ("out-by-root", 403, 403),
        ("disk/out", 403, 403),
    ] {
        for (server, status) in [(&wide, with), (&plain, without)] {
            let answer = server.get(&format!("/{name}/f"), "");
            assert_eq!(answer.status, status, "{name}");
        }
    }
    assert_eq!(wide.get("/disk/f", "").body, b"disk/d");
    assert_eq!(wide.get("/disk-relative/f", "").body, b"disk/d");
    assert_eq!(plain.get("/twice/f", "").body, b"root/d");
}

#[test]
fn files_of_proc_and_sys_are_not_said_to_be_complete() {
    let server = TestServer::with(|config| config.root = "/".into());
    for name in [
        "/proc/version",
        "/proc/self/status",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ] {
        if fs::metadata(name).is_ok() {
            assert_eq!(server.get(name, "").status, 500, "{name}");
        }
    }
}
