//! The guarantees on ext4 hold on file systems with coarse clocks, without `/proc`, and for files
//! under another program's lease.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::cold::Mount;
use crate::process::{Program, haul};
use crate::slowfs::skip;
use crate::support::{Answer, Client, TestServer, noise, own_address};

/// A server of a file system of each kind that can be mounted here: ramfs has the kernel's clock,
/// which ticks every few milliseconds, for all times.
fn each_kind(try_on: impl Fn(&str, &Path, &TestServer)) {
    for kind in ["the usual one", "tmpfs", "ramfs"] {
        let place = tempfile::tempdir().expect("a directory");
        let root = place.path().join("root");
        fs::create_dir(&root).expect("a directory");
        let mount = match kind {
            "the usual one" => None,
            _ => match Mount::new(&root, kind, "size=64m") {
                Some(mount) => Some(mount),
                None => continue,
            },
        };
        let server = TestServer::with(|config| config.root = root.clone());
        try_on(kind, &root, &server);
        // Its files are closed before it is unmounted.
        server.shut_down();
        drop(mount);
    }
}

#[test]
fn no_two_contents_share_a_strong_tag_or_date_where_the_clock_is_coarse() {
    each_kind(|kind, root, server| {
        let path = root.join("f");
        let old = SystemTime::now() - Duration::from_secs(100_000);
        let (mut tag, mut date) = (None::<String>, None::<String>);
        for round in 0..100 {
            fs::write(&path, format!("content {round:03}")).expect("a file");
            let file = OpenOptions::new().write(true).open(&path).expect("a file");
            let times = FileTimes::new().set_modified(old);
            file.set_times(times).expect("the time is set back");
            // What the client has of the last round must not pass for this one.
            if let (Some(tag), Some(date)) = (&tag, &date) {
                for field in [
                    format!("If-None-Match: {tag}\r\n"),
                    format!("Range: bytes=8-\r\nIf-Range: {tag}\r\n"),
                    format!("Range: bytes=8-\r\nIf-Range: {date}\r\n"),
                ] {
                    let answer = server.get("/f", &field);
                    let weak = tag.starts_with("W/") && field.starts_with("If-None");
                    assert!(
                        answer.status == 200 || weak,
                        "{kind}, round {round}: {field}"
                    );
                }
            }
            let answer = server.get("/f", "");
            assert_eq!(answer.body, format!("content {round:03}").as_bytes());
            let new = answer.field("etag").expect("a tag").to_owned();
            assert!(tag != Some(new.clone()) || new.starts_with("W/"), "{kind}");
            tag = Some(new);
            date = answer.field("last-modified").map(str::to_owned);
        }
    });
}

#[test]
fn a_rewrite_within_the_tick_of_the_open_never_passes_for_whole() {
    const LEN: usize = 3 << 20;
    each_kind(|kind, root, server| {
        for round in 0..20 {
            let (old, new) = (noise(LEN, round), noise(LEN, 1_000 + round));
            let path = root.join(format!("f{round}"));
            fs::write(&path, &old).expect("a file");
            let mut client = Client::with_small_window(server.address());
            client.send(format!("f{round}\n"));
            let mut got = client.take(1);
            let file = File::options().write(true).open(&path).expect("a file");
            file.write_all_at(&new[LEN / 2..], (LEN / 2) as u64)
                .expect("rewritten");
            let (rest, end) = client.try_rest();
            got.extend(rest);
            let is_one = got == old || got == [&old[..LEN / 2], &new[LEN / 2..]].concat();
            // All of the old or all of the new file may come whole; nothing in between.
            assert!(end.is_err() || is_one, "{kind}, round {round}");
        }
    });
}

#[test]
fn a_file_under_a_lease_is_waited_for_and_delays_no_other() {
    const HOLD: &str = "
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, lambda *_: None)
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
sys.stdin.readline()
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
";
    let server = TestServer::start();
    server.put("hot", "at hand");
    let content = noise(100_000, 3);
    let path = server.put("leased", &content);
    assert_eq!(server.by_name("hot"), b"at hand");
    let holder = Command::new("python3")
        .args(["-c", HOLD])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut holder) = holder else {
        return skip("there is no python3");
    };
    let mut said = String::new();
    let out = holder.stdout.take().expect("piped");
    BufReader::new(out).read_line(&mut said).expect("readable");
    if said != "held\n" {
        return skip("no leases here");
    }
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let mut client = server.connect();
            client.send("leased\n");
            client
        })
        .collect();
    server.counters_when(|counters| counters.disk_visits >= 4);
    for _ in 0..40 {
        assert_eq!(server.by_name("hot"), b"at hand");
    }
    let mut stdin = holder.stdin.take().expect("piped");
    stdin.write_all(b"go\n").expect("it lives");
    for mut client in waiting {
        assert!(client.rest() == content);
    }
    assert!(holder.wait().expect("our child").success());
    assert_eq!(server.counters().hot_waits, 0);
}

#[test]
fn a_host_without_proc_is_served_as_well() {
    let place = tempfile::tempdir().expect("a directory");
    let root = place.path().join("root");
    fs::create_dir_all(root.join("d")).expect("directories");
    fs::write(place.path().join("secret"), "secret").expect("a file");
    let content = noise(3 << 20, 4);
    fs::write(root.join("d/large"), &content).expect("a file");
    let link = |to: &Path, name: &str| symlink(to, root.join(name)).expect("a link");
    link(Path::new("d/large"), "inside");
    link(&place.path().join("secret"), "out");
    let script = "umount -l /proc && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]);
    let serve = haul();
    command.arg(serve.get_program());
    command.args(["serve", "--listen", &own_address().to_string(), "--root"]);
    let mut program = Program::start(command.arg(&root));
    let Some(address) = program.try_line("listening on ") else {
        return skip(&format!("no /proc to be without: {:?}", program.said));
    };
    assert!(
        program.said.iter().any(|line| line.contains("no /proc")),
        "{:?}",
        program.said
    );
    let address = address.parse().expect("an address");
    let get = |target: &str| {
        let mut client = Client::connect(address);
        client.send(format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        ));
        Answer::parse(&client.rest())
    };
    for _ in 0..3 {
        assert!(get("/d/large").body == content);
        assert!(get("/inside").body == content);
        assert_eq!(get("/out").status, 403);
        assert_eq!(get("/missing").status, 404);
        assert!(String::from_utf8_lossy(&get("/?format=json").body).contains("inside"));
    }
    fs::write(root.join("next"), "replaced").expect("a file");
    fs::rename(root.join("next"), root.join("d/large")).expect("replaced");
    assert_eq!(get("/d/large").body, b"replaced");
}
