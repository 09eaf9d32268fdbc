//! Places that the user names: behind links, open already, missing, taken, limited.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use super::support::{Client, Served, Server, assert_same, finish};
use crate::support::TestServer;

#[test]
fn a_link_of_ones_own_stays_and_leads_to_the_new_file() {
    let (file, client) = (Served::new(1, 1000), Client::new());
    let server = Server::of(file.clone());
    fs::create_dir(client.path("there")).unwrap();
    fs::write(client.path("there/real"), b"old").unwrap();
    symlink("there/real", client.path("link")).unwrap();
    client
        .get(&["-o", "link", &server.url("/f")])
        .assert_status(6);
    client
        .get(&["-f", "-o", "link", &server.url("/f")])
        .assert_status(0);
    assert!(client.path("link").is_symlink());
    assert_same(&client.path("there/real"), &file.bytes);
    assert_eq!(client.names(), ["link", "there"]);
}

#[test]
fn a_file_that_was_moved_behind_a_link_is_there() {
    let client = Client::new();
    let served = TestServer::start();
    served.put("d/f", b"content");
    let url = format!("http://{}/d/", served.address());
    client.get(&["-r", &url]).assert_status(0);
    fs::rename(client.path("d/f"), client.path("elsewhere")).unwrap();
    symlink("../elsewhere", client.path("d/f")).unwrap();
    client.get(&["-r", &url]).assert_status(0);
    assert!(client.path("d/f").is_symlink());
}

#[test]
fn a_file_that_is_open_already_is_written_and_not_replaced() {
    let (file, client) = (Served::new(1, 100_000), Client::new());
    let server = Server::of(file.clone());
    for place in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/dev/fd/3"] {
        let script = "exec \"$HAUL\" get -f -o \"$PLACE\" \"$URL\" >out 3>>out";
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .current_dir(client.directory.path())
            .env("HAUL", env!("CARGO_BIN_EXE_haul"))
            .env("PLACE", place)
            .env("URL", server.url("/f"))
            .env_remove("http_proxy")
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        finish(command.spawn().unwrap()).assert_status(0);
        client.assert_whole("out", &file.bytes);
    }
}

#[test]
fn a_directory_that_is_missing_is_named_with_what_to_do() {
    let client = Client::new();
    let server = Server::of(Served::new(1, 1000));
    client
        .get(&["-o", "a/b/f", &server.url("/f")])
        .assert_status(6)
        .assert_says("a/b is no directory: make it, or let -d");
}

#[test]
fn a_link_with_the_name_of_a_part_file_is_left_and_named() {
    let client = Client::new();
    let server = Server::of(Served::new(1, 1000));
    symlink("elsewhere", client.path("f.part")).unwrap();
    client
        .get(&[&server.url("/f")])
        .assert_status(6)
        .assert_says("f.part is in the way and haul did not make it");
    assert_eq!(client.names(), ["f.part"]);
}

#[test]
fn a_directory_with_the_name_of_a_part_file_is_left() {
    let (file, client) = (Served::new(1, 1000), Client::new());
    let server = Server::of(file.clone());
    fs::create_dir(client.path("f.part")).unwrap();
    client.get(&[&server.url("/f")]).assert_status(0);
    assert_same(&client.path("f"), &file.bytes);
    assert_eq!(client.names(), ["f", "f.part"]);
    assert!(client.path("f.part").is_dir());
}

#[test]
fn a_limit_of_file_sizes_is_an_error_like_a_full_disk() {
    let server = Server::of(Served::new(1, 1 << 20));
    for option in ["--preallocate", "--no-preallocate"] {
        let client = Client::new();
        let script = "ulimit -f 100; exec \"$HAUL\" get $OPTION \"$URL\"";
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .current_dir(client.directory.path())
            .env("HAUL", env!("CARGO_BIN_EXE_haul"))
            .env(
                "OPTION",
                if option == "--preallocate" {
                    ""
                } else {
                    option
                },
            )
            .env("URL", server.url("/f"))
            .env_remove("http_proxy")
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        finish(command.spawn().unwrap())
            .assert_status(6)
            .assert_says("ulimit -f");
        assert!(client.names().is_empty(), "{:?}", client.names());
    }
}
