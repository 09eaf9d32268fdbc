//! The file system's side: full, read-only, in the way. Nothing is lost and nothing overwritten.

use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::support::{Act, Client, Ran, Request, Served, Server, assert_same, cut, finish};

/// Runs a shell script in a separate mount namespace, with `$HAUL`, `$URL` and `$DIR`, an empty
/// directory to mount on. `None`, and a message, where there are no such namespaces.
fn with_mounts(client: &Client, url: &str, script: &str) -> Option<Ran> {
    let mount = client.path("mount");
    std::fs::create_dir(&mount).unwrap();
    let spawn = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", script]);
        command
            .env("HAUL", env!("CARGO_BIN_EXE_haul"))
            .env("URL", url)
            .env("DIR", &mount);
        command.env_remove("http_proxy").stdin(Stdio::null());
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    };
    let probe = spawn("mount -t tmpfs -o size=64k none \"$DIR\"")
        .ok()
        .map(finish);
    if probe.is_none_or(|ran| ran.status != Some(0)) {
        // Past the test harness, which would swallow it.
        let _ = writeln!(
            io::stderr(),
            "SKIPPED: a test of full disks: no mount name spaces here"
        );
        return None;
    }
    Some(finish(spawn(script).unwrap()))
}

#[test]
fn a_full_disk_is_told_at_once_and_the_download_goes_on_later() {
    let (file, client) = (Served::new(1, 3 << 20), Client::new());
    let server = Server::of(file.clone());
    std::fs::write(client.path("whole"), file.bytes.as_slice()).unwrap();
    let script = "
        mount -t tmpfs -o size=4m none \"$DIR\"
        whole=$PWD/whole
        cd \"$DIR\"
        head -c 2097152 /dev/zero > filler
        status=0; $HAUL get \"$URL\" || status=$?
        test $status = 6
        test ! -e f
        rm filler
        $HAUL get \"$URL\"
        cmp f \"$whole\"
        test ! -e f.part
        test ! -e f.part.state";
    let Some(ran) = with_mounts(
        &client,
        &server.url("/f"),
        &script.replace("$PWD", &here(&client)),
    ) else {
        return;
    };
    ran.assert_status(0)
        .assert_says("make room and run the same command again");
}

#[test]
fn a_disk_that_fills_up_meanwhile_keeps_the_part() {
    let file = Served::new(1, 3 << 20);
    // Without a length nothing can be reserved: the end of the disk comes in the middle.
    let server = Server::start(move |_| {
        let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
        vec![Act::Send(head), Act::Send(file.bytes.to_vec()), Act::Close]
    });
    for receive in ["splice", "copy"] {
        let script = "
            mount -t tmpfs -o size=2m none \"$DIR\"
            cd \"$DIR\"
            status=0; $HAUL get --receive RECEIVE \"$URL\" || status=$?
            test $status = 6
            test ! -e f
            test -s f.part";
        let client = Client::new();
        let script = script.replace("RECEIVE", receive);
        let Some(ran) = with_mounts(&client, &server.url("/f"), &script) else {
            return;
        };
        ran.assert_status(0).assert_says("make room");
    }
}

#[test]
fn what_came_before_the_disk_was_full_is_not_fetched_again() {
    for receive in ["splice", "copy"] {
        let (file, client) = (Served::new(1, 3 << 20), Client::new());
        let served = file.clone();
        // Two thirds, and then a break.
        let server = Server::start(move |request| match request.range() {
            None => vec![Act::Send(cut(&served.whole(), 67)), Act::Close],
            Some(_) => vec![Act::Send(served.answer(request))],
        });
        std::fs::write(client.path("whole"), file.bytes.as_slice()).unwrap();
        // The room that was reserved for the last third is taken away, as on a file system that
        // cannot reserve any, and filled with another file.
        let script = "
            mount -t tmpfs -o size=4m none \"$DIR\"
            whole=$PWD/whole
            cd \"$DIR\"
            get='get --receive RECEIVE --segments 1'
            status=0; $HAUL $get --retries 0 \"$URL\" || status=$?
            test $status = 5
            fallocate --punch-hole --offset 2113536 --length 1032192 f.part
            cat /dev/zero > filler || true
            status=0; $HAUL $get \"$URL\" || status=$?
            test $status = 6
            test ! -e f
            test \"$(stat -c %s f.part)\" = 3145728
            rm filler
            $HAUL $get \"$URL\"
            cmp f \"$whole\"
            test ! -e f.part
            test ! -e f.part.state";
        let script = script
            .replace("$PWD", &here(&client))
            .replace("RECEIVE", receive);
        let Some(ran) = with_mounts(&client, &server.url("/f"), &script) else {
            return;
        };
        ran.assert_status(0)
            .assert_says("make room and run the same command again");
        let requests = server.requests();
        let starts: Vec<_> = requests.iter().map(Request::range).collect();
        assert_eq!(starts.len(), 3, "{starts:?}");
        for range in &starts[1..] {
            assert!(
                range.is_some_and(|(start, _)| start >= 2 << 20),
                "{starts:?}"
            );
        }
    }
}

#[test]
fn a_disk_that_is_full_to_the_last_byte_still_keeps_what_came() {
    let (file, client) = (Served::new(1, 3 << 20), Client::new());
    let server = Server::of(file.clone());
    std::fs::write(client.path("whole"), file.bytes.as_slice()).unwrap();
    let script = "
        mount -t tmpfs -o size=2m none \"$DIR\"
        whole=$PWD/whole
        cd \"$DIR\"
        status=0; $HAUL get --no-preallocate --segments 1 \"$URL\" || status=$?
        test $status = 6
        mount -o remount,size=4m none \"$DIR\"
        $HAUL get \"$URL\"
        cmp f \"$whole\"";
    let script = script.replace("$PWD", &here(&client));
    let Some(ran) = with_mounts(&client, &server.url("/f"), &script) else {
        return;
    };
    ran.assert_status(0);
    let start = server.requests()[1].range().map(|(start, _)| start);
    assert!(start >= Some((2 << 20) - (256 << 10)), "{start:?}");
}

#[test]
fn a_read_only_directory_is_told() {
    let (file, client) = (Served::new(1, 1000), Client::new());
    let server = Server::of(file);
    let script = "
        mount -t tmpfs -o ro none \"$DIR\"
        status=0; $HAUL get -d \"$DIR\" \"$URL\" || status=$?
        test $status = 6";
    let Some(ran) = with_mounts(&client, &server.url("/f"), script) else {
        return;
    };
    ran.assert_status(0).assert_says("choose another place");
}

fn here(client: &Client) -> String {
    client.directory.path().display().to_string()
}

#[test]
fn a_name_that_is_too_long_is_told() {
    let client = Client::new();
    let server = Server::of(Served::new(1, 1000));
    client
        .get(&["-o", &"n".repeat(300), &server.url("/f")])
        .assert_status(6)
        .assert_says("too long");
    assert!(client.names().is_empty());
}

#[test]
fn a_name_that_just_fits_is_no_problem() {
    let (file, client) = (Served::new(1, 1000), Client::new());
    let server = Server::of(file.clone());
    // Two bytes a letter, and one: the cut must not go through a letter.
    for name in ["n".repeat(255), format!("n{}", "ö".repeat(127))] {
        client
            .get(&["-o", &name, &server.url("/f")])
            .assert_status(0);
        client.assert_whole(&name, &file.bytes);
        std::fs::remove_file(client.path(&name)).unwrap();
    }
}

#[test]
fn what_is_there_is_not_overwritten_unless_told_to() {
    let (file, client) = (Served::new(1, 1000), Client::new());
    let server = Server::of(file.clone());
    std::fs::write(client.path("f"), b"precious").unwrap();
    client
        .get(&[&server.url("/f")])
        .assert_status(6)
        .assert_says("--force");
    assert!(server.requests().is_empty());
    assert_same(&client.path("f"), b"precious");
    client.get(&["--force", &server.url("/f")]).assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn a_file_that_appears_meanwhile_is_not_overwritten() {
    let (file, client) = (Served::new(1, 1000), Client::new());
    let target = client.path("f");
    let server = Server::start(move |request| {
        std::fs::write(&target, b"precious").unwrap();
        vec![Act::Send(file.answer(request))]
    });
    client.get(&[&server.url("/f")]).assert_status(6);
    assert_same(&client.path("f"), b"precious");
}

#[test]
fn a_directory_in_the_way_is_told() {
    let client = Client::new();
    let server = Server::of(Served::new(1, 1000));
    std::fs::create_dir(client.path("f")).unwrap();
    for more in [&[][..], &["--force"], &["--skip-existing"]] {
        let url = server.url("/f");
        let arguments: Vec<&str> = more.iter().copied().chain([url.as_str()]).collect();
        client
            .get(&arguments)
            .assert_status(6)
            .assert_says("is a directory");
    }
    assert_eq!(client.names(), ["f"]);
}

#[test]
fn a_part_that_is_not_ours_is_not_touched() {
    let client = Client::new();
    let server = Server::of(Served::new(1, 1000));
    std::fs::write(client.path("f.part"), b"precious").unwrap();
    client.get(&[&server.url("/f")]).assert_status(0);
    assert_same(&client.path("f.part"), b"precious");
    assert_same(&client.path("f"), &Served::new(1, 1000).bytes);
    assert_eq!(client.names(), ["f", "f.part"]);
}

#[test]
fn a_download_beside_a_foreign_part_file_is_resumed_there() {
    let (file, client) = (Served::new(1, 1 << 20), Client::new());
    let served = file.clone();
    let server = Server::start(move |request| match request.number {
        0 => vec![Act::Send(cut(&served.whole(), 50)), Act::Close],
        _ => vec![Act::Send(served.answer(request))],
    });
    std::fs::write(client.path("f.part"), b"precious").unwrap();
    client
        .get(&["--retries", "0", &server.url("/f")])
        .assert_status(5);
    client.get(&[&server.url("/f")]).assert_status(0);
    assert!(server.requests()[1].range().is_some_and(|it| it.0 > 0));
    assert_same(&client.path("f.part"), b"precious");
    assert_same(&client.path("f"), &file.bytes);
    assert_eq!(client.names(), ["f", "f.part"]);
}

/// On ext4 fallocate(2) takes all there is before it says that there is not enough.
#[test]
fn room_that_does_not_suffice_is_given_back() {
    let (file, client) = (Served::new(1, 8 << 20), Client::new());
    let server = Server::of(file);
    let image = client.path("image");
    std::fs::File::create(&image)
        .and_then(|made| made.set_len(6 << 20))
        .unwrap();
    std::fs::create_dir(client.path("mount")).unwrap();
    let script = "
        mke2fs -q -F -t ext4 image || exit 77
        mount -o loop image mount 2>/dev/null || exit 77
        place=$PWD/mount
        trap 'cd /; umount $place' EXIT
        cd mount
        before=$(stat -f -c %a .)
        status=0; $HAUL get --segments=1 \"$URL\" || status=$?
        test $status = 6
        test ! -e f
        test ! -e f.part
        test $(stat -f -c %a .) = $before";
    let mut command = Command::new("sh");
    command
        .args(["-ec", script])
        .current_dir(client.directory.path())
        .env("HAUL", env!("CARGO_BIN_EXE_haul"))
        .env("URL", server.url("/f"))
        .env_remove("http_proxy")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let ran = finish(command.spawn().unwrap());
    if ran.status == Some(77) {
        // Past the test harness, which would swallow it.
        let _ = writeln!(io::stderr(), "SKIPPED: a full ext4: no loop mounts here");
        return;
    }
    ran.assert_status(0).assert_says("make room");
}

/// A link has the effect of a case-insensitive file system.
#[test]
fn two_names_of_servers_that_are_one_file_here_never_overwrite_each_other() {
    for option in ["--force", "--existing=update", "--existing=skip"] {
        let client = Client::new();
        let server = Server::start(|request| match request.target.as_str() {
            "/t/?format=json" => {
                let body = r#"[{"name":"a","kind":"directory"},{"name":"b","kind":"directory"}]"#;
                vec![Act::Send(json(body))]
            }
            "/t/a/?format=json" | "/t/b/?format=json" => {
                vec![Act::Send(json(r#"[{"name":"f","kind":"file"}]"#))]
            }
            "/t/a/f" => vec![Act::Send(Served::new(1, 1000).answer(request))],
            _ => vec![Act::Send(Served::new(2, 1001).answer(request))],
        });
        std::fs::create_dir_all(client.path("t/a")).unwrap();
        std::os::unix::fs::symlink("a", client.path("t/b")).unwrap();
        let ran = client.get(&["-r", "-P", "1", option, &server.url("/t/")]);
        ran.assert_status(6);
        assert_same(&client.path("t/a/f"), &Served::new(1, 1000).bytes);
        // And again, with the first one here already.
        client
            .get(&["-r", "-P", "1", option, &server.url("/t/")])
            .assert_status(6);
        assert_same(&client.path("t/a/f"), &Served::new(1, 1000).bytes);
    }
}

fn json(body: &str) -> Vec<u8> {
    let length = body.len();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json";
    format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

#[test]
fn a_directory_that_is_not_there_is_told() {
    let client = Client::new();
    let server = Server::of(Served::new(1, 1000));
    client
        .get(&["-o", "no/such/f", &server.url("/f")])
        .assert_status(6);
    assert!(client.names().is_empty());
}

#[test]
fn devices_are_written_to_and_never_replaced() {
    let client = Client::new();
    let server = Server::of(Served::new(1, 1000));
    client
        .get(&["--force", "-o", "/dev/null", &server.url("/f")])
        .assert_status(0);
    assert!(
        Path::new("/dev/null")
            .metadata()
            .unwrap()
            .file_type()
            .is_char_device()
    );
}
