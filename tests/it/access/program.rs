//! The programs: `haul serve`, `haul link` and `haul get`, as people use them.

use std::os::unix::fs::PermissionsExt as _;

use nix::sys::signal::Signal;

use super::*;
use crate::process::{Program, haul, run};
use crate::support::PATIENCE;
use crate::support::transport::leaves_out;

/// What `haul` prints, given these arguments.
#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let output = run(haul().args(arguments));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.trim_end().to_owned()
}

/// What `haul` says when it fails, given these arguments.
#[track_caller]
fn complaint(arguments: &[&str]) -> String {
    let output = run(haul().args(arguments));
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn an_empty_variable_opens_nothing() {
    for variable in ["HAUL_HTPASSWD", "HAUL_LINK_KEY", "HAUL_TLS_CLIENT_CA"] {
        let output = run(haul().args(["serve", "--check"]).env(variable, ""));
        assert!(!output.status.success(), "{variable}");
    }
    // Without it the default holds.
    assert!(
        run(haul().args(["serve", "--check"]).env("HAUL_PROTECT", ""))
            .status
            .success()
    );
}

#[test]
fn what_is_wrong_with_a_file_ends_the_start() {
    let secrets = Secrets::new();
    let path = secrets.path("htpasswd");
    fs::write(&path, "anna:$apr1$x$y\n").expect("written");
    let users = text(&path);
    let said = complaint(&["serve", "--listen", "0", "--htpasswd", users]);
    assert!(
        said.contains("htpasswd: line 1: MD5 hashes are too weak"),
        "{said}"
    );
    let keys = secrets.keys(&["# none"]);
    let said = complaint(&["serve", "--listen", "0", "--link-key", text(&keys)]);
    assert!(
        said.contains("it holds no key; `haul link --new-key`"),
        "{said}"
    );
    let said = complaint(&["serve", "--listen", "0", "--htpasswd", "/nowhere"]);
    assert!(said.contains("--htpasswd /nowhere: "), "{said}");
    let said = complaint(&["serve", "--listen", "0", "--protect", "x"]);
    assert!(
        said.contains("--protect needs --htpasswd or --link-key"),
        "{said}"
    );
    let htpasswd = secrets.htpasswd(&[("anna", "s3cret")]);
    let users = ["serve", "--listen", "0", "--htpasswd", text(&htpasswd)];
    let said = complaint(&[&users[..], &["--protect", "a["]].concat());
    assert!(said.contains("--protect a[: "), "{said}");
    let said = complaint(&[&users[..], &["--header", "Cache-Control: public"]].concat());
    assert!(said.contains("use --cache-control"), "{said}");
}

#[test]
fn secrets_in_what_is_served_end_the_start() {
    let root = tempfile::tempdir().expect("a directory");
    let place = |name: &str, content: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().expect("beneath")).expect("directories");
        fs::write(&path, content).expect("written");
        path
    };
    let users = place("d/users", &secrets_of("x"));
    let keys = place("keys", KEY);
    let hidden = place(".users", &secrets_of("x"));
    let elsewhere = tempfile::tempdir().expect("a directory");
    let way = elsewhere.path().join("way");
    symlink(&users, &way).expect("a link");
    let start = ["serve", "--listen", "0", "--root", text(root.path())];
    for (option, path, others) in [
        ("--htpasswd", &users, &[][..]),
        ("--htpasswd", &way, &["--protect", "x"]),
        ("--link-key", &keys, &[]),
        ("--htpasswd", &hidden, &["--hidden"]),
        (
            "--tls-key",
            &keys,
            &["--listen-tls", "0", "--tls-cert", text(&keys)],
        ),
    ] {
        let arguments = [&start[..], &[option, text(path)], others].concat();
        let said = complaint(&arguments);
        let expected = format!("{option} {}: it lies in what is served", path.display());
        assert!(said.contains(&expected), "{arguments:?}: {said}");
    }
    let state = root.path().join("state");
    let own = ["--listen-tls", "0", "--tls-self", "--state", text(&state)];
    let said = complaint(&[&start[..], &own].concat());
    assert!(said.contains("it lies in what is served"), "{said}");
    let named = [
        "serve",
        "--listen",
        "0",
        "--link-key",
        text(&keys),
        text(&keys),
    ];
    let said = complaint(&named);
    assert!(said.contains("it lies in what is served"), "{said}");
    // A name that is not served, and files beside those that are.
    let mut server = Program::serve(["--root", text(root.path()), "--htpasswd", text(&hidden)]);
    server.address();
    let mut server = Program::serve(["--link-key", text(&keys), text(&users)]);
    server.address();
}

#[test]
fn secrets_where_links_may_lead_end_the_start() {
    let root = tempfile::tempdir().expect("a directory");
    let linked = tempfile::tempdir().expect("a directory");
    let state = tempfile::tempdir().expect("a directory");
    fs::create_dir(linked.path().join(".d")).expect("made");
    let keys = linked.path().join(".d/keys");
    fs::write(&keys, KEY).expect("written");
    // The way by which a client would fetch them.
    symlink(linked.path().join(".d"), root.path().join("way")).expect("a link");
    let start = ["serve", "--listen", "0", "--root", text(root.path())];
    let into = ["--links-into", text(linked.path())];
    let own = ["--listen-tls", "0", "--tls-self", "--state"];
    let state_there = linked.path().join("state");
    for (option, others) in [
        ("--link-key", &["--link-key", text(&keys)][..]),
        ("--tls-self", &[&own[..], &[text(&state_there)]].concat()),
    ] {
        for check in [&[][..], &["--check"]] {
            let said = complaint(&[&start[..], &into, others, check].concat());
            let expected = "clients could fetch it; move it elsewhere, or serve another directory \
                            (--links-into)";
            assert!(said.contains(option) && said.contains(expected), "{said}");
        }
    }
    // Without the option no link leads there.
    let mut server = Program::serve(["--root", text(root.path()), "--link-key", text(&keys)]);
    server.address();
    let elsewhere = text(state.path());
    let mut server = Program::serve([&start[3..], &into, &["--state", elsewhere]].concat());
    server.address();
}

#[test]
fn logs_and_digests_in_what_is_served_are_warned_of() {
    let root = tempfile::tempdir().expect("a directory");
    let other = tempfile::tempdir().expect("a directory");
    let (log, state) = (root.path().join("log"), root.path().join("state"));
    let start = ["--root", text(root.path())];
    let bad = ["--access-log", text(&log), "--state", text(&state)];
    let expected = [
        format!(
            "haul: --access-log {}: it lies in what is served",
            text(&log)
        ),
        format!("haul: --state {}: it lies in what is served", text(&state)),
    ];
    let check = run(haul().args([&["serve", "--check"], &start[..], &bad].concat()));
    let checked = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(check.status.success(), "{checked}");
    let mut server = Program::serve([&start[..], &bad].concat());
    server.address();
    for said in [checked, server.said.join("\n")] {
        for expected in &expected {
            assert!(said.contains(expected), "{said}");
        }
    }
    let log = other.path().join("log");
    let hidden = root.path().join(".state");
    let good = ["--access-log", text(&log), "--state", text(&hidden)];
    let mut server = Program::serve([&start[..], &good].concat());
    server.address();
    assert!(!server.said.join("\n").contains("it lies in what is served"));
    // As a shell redirects it.
    let to_file = fs::File::create(root.path().join("errors")).expect("made");
    let mut command = haul();
    let command = command.args([&["serve", "--check"], &start[..]].concat());
    let status = command.stderr(to_file).status().expect("it runs");
    let said = fs::read_to_string(root.path().join("errors")).expect("written");
    assert!(
        status.success() && said.contains("haul: standard error "),
        "{said}"
    );
}

#[test]
fn a_path_to_protect_that_is_not_there_is_told() {
    let secrets = Secrets::new();
    let htpasswd = secrets.htpasswd(&[("anna", "s3cret")]);
    let root = tempfile::tempdir().expect("a directory");
    fs::create_dir(root.path().join("private")).expect("made");
    let absolute = root.path().join("private");
    let start = ["--root", text(root.path()), "--htpasswd", text(&htpasswd)];
    for (glob, is_told) in [
        ("private", false),
        ("./private/", false),
        ("/private", false),
        ("/", false),
        ("none*", false),
        ("prviate", true),
        ("private/none", true),
        (text(&absolute), true),
    ] {
        let mut server = Program::serve([&start[..], &["--protect", glob]].concat());
        server.address();
        let said = server.said.join("\n");
        let expected = format!("haul: --protect {glob}: nothing here has that path now");
        assert_eq!(said.contains(&expected), is_told, "{glob}: {said}");
    }
    for glob in ["../private", "private/../x", "{/private,/x}"] {
        let said = complaint(
            &[
                &["serve", "--listen", "0"],
                &start[..],
                &["--protect", glob],
            ]
            .concat(),
        );
        assert!(said.contains(&format!("--protect {glob}: ")), "{said}");
    }
}

#[test]
fn files_are_read_as_editors_and_other_servers_write_them() {
    let secrets = Secrets::new();
    let htpasswd = secrets.htpasswd(&[("anna", "s3cret")]);
    let line = fs::read_to_string(&htpasswd).expect("read");
    let line = line.trim_end();
    // A byte order mark, CRLF, and a comment in a third field, as in nginx's files.
    fs::write(&htpasswd, format!("\u{feff}{line}:Anna, 1st floor\r\n")).expect("written");
    let keys = secrets.path("keys");
    fs::write(&keys, format!("\u{feff}{KEY}\r\n")).expect("written");
    let server = TestServer::with(|config| {
        config.access.htpasswd = Some(htpasswd.clone());
        config.access.link_keys = Some(keys.clone());
    });
    server.put("f", "content");
    assert_eq!(server.get("/f", &login("anna:s3cret")).body, b"content");
    assert_eq!(server.get("/f", "").status, 401);
    let target = format!("/f?{}", link("f", Scope::Path, 60));
    assert_eq!(server.get(&target, "").body, b"content");
    // A cost that bcrypt does not know fits no password.
    fs::write(&htpasswd, line.replace("$04$", "$03$")).expect("written");
    let said = complaint(&["serve", "--listen", "0", "--htpasswd", text(&htpasswd)]);
    assert!(
        said.contains("line 1: its bcrypt cost is less than 4"),
        "{said}"
    );
}

#[test]
fn plain_text_and_open_files_are_warned_of() {
    let secrets = Secrets::new();
    let keys = secrets.keys(&[KEY]);
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o644)).expect("changed");
    let mut command = haul();
    command.args(["serve", "--listen", "0.0.0.0:0", "--link-key", text(&keys)]);
    let mut server = Program::start(&mut command);
    server.address();
    let said = server.said.join("\n");
    assert!(said.contains("in plain text"), "{said}");
    assert!(said.contains("other users of this host can read"), "{said}");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).expect("changed");
    let mut server = Program::serve(["--link-key", text(&keys)]);
    server.address();
    let said = server.said.join("\n");
    assert!(
        !said.contains("plain text") && !said.contains("other users"),
        "{said}"
    );
}

#[test]
fn sighup_reads_files_anew_within_the_sandbox() {
    let secrets = Secrets::new();
    let root = tempfile::tempdir().expect("a directory");
    fs::write(root.path().join("f"), "content").expect("written");
    let htpasswd = secrets.htpasswd(&[("anna", "old")]);
    let mut server = Program::serve(["--root", text(root.path()), "--htpasswd", text(&htpasswd)]);
    let address = server.address();
    let status = |password: &str| {
        let mut client = Client::connect(address);
        let field = login(&format!("anna:{password}"));
        client.send(format!(
            "GET /f HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{field}\r\n"
        ));
        Answer::parse(&client.rest()).status
    };
    assert_eq!(status("old"), 200);
    // Replaced, as editors and configuration tools do it.
    let kept = fs::read(&htpasswd).expect("read");
    fs::write(secrets.path("next"), secrets_of("new")).expect("written");
    fs::rename(secrets.path("next"), &htpasswd).expect("renamed");
    server.signal(Signal::SIGHUP);
    let begun = std::time::Instant::now();
    while status("old") != 401 {
        assert!(begun.elapsed() < PATIENCE, "the new file is not read");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(status("new"), 200);
    fs::write(&htpasswd, [&kept[..], b"bert:plain\n"].concat()).expect("written");
    server.signal(Signal::SIGHUP);
    let said = server.line("haul: --htpasswd ");
    assert!(
        said.contains("line 2: ") && said.ends_with("what was read before stays"),
        "{said}"
    );
    assert_eq!(status("new"), 200);
}

fn secrets_of(password: &str) -> String {
    format!("anna:{}\n", bcrypt::hash(password, 4).expect("hashed"))
}

#[test]
fn links_are_made_by_haul_link() {
    let secrets = Secrets::new();
    let key = printed(&["link", "--new-key"]);
    assert_eq!(key.len(), 64);
    assert_ne!(printed(&["link", "--new-key"]), key);
    let keys = secrets.keys(&[&key]);
    let server = TestServer::with(|config| config.access.link_keys = Some(keys.clone()));
    server.put("d/a b", "content");
    let make = |more: &[&str]| {
        printed(&[&["link", "--key", text(&keys), "--expires", "1h"], more].concat())
    };
    let target = make(&["d/a b"]);
    assert!(target.starts_with("/d/a%20b?expires="), "{target}");
    assert_eq!(server.get(&target, "").body, b"content");
    let target = make(&["--client", "127.0.0.0/8", "/d//a b"]);
    assert_eq!(server.get(&target, "").body, b"content");
    let target = make(&["--client", "::ffff:127.0.0.0/104", "/d/a b"]);
    assert_eq!(server.get(&target, "").body, b"content");
    let target = make(&["--client", "10.0.0.1", "/d/a b"]);
    assert_eq!(server.get(&target, "").status, 403);
    let target = make(&["--subtree", "--base", "http://files.example/", "d"]);
    let target = target
        .strip_prefix("http://files.example")
        .expect("the base");
    assert!(target.starts_with("/d/?expires="), "{target}");
    assert_eq!(server.get(target, "").status, 200);
    for arguments in [
        &["d/"][..],
        &["d/../x"],
        &["--client", "x", "f"],
        &["--base", "http://files.example/?x", "f"],
    ] {
        complaint(
            &[
                &["link", "--key", text(&keys), "--expires", "1h"],
                arguments,
            ]
            .concat(),
        );
    }
    complaint(&["link", "--key", text(&keys), "f"]);
    complaint(&["link", "f"]);
    complaint(&["link", "--new-key", "f"]);
    let another = run(haul()
        .args(["link", "--new-key"])
        .env("HAUL_LINK_KEY", &keys));
    assert!(another.status.success(), "{another:?}");
}

#[test]
fn haul_get_logs_in_and_follows_links() {
    if leaves_out("`haul get` has tests of TLS of its own") {
        return;
    }
    let secrets = Secrets::new();
    let (htpasswd, keys) = (
        secrets.htpasswd(&[("anna", "s3cret")]),
        secrets.keys(&[KEY]),
    );
    let server = TestServer::with(|config| {
        config.access.htpasswd = Some(htpasswd);
        config.access.link_keys = Some(keys.clone());
    });
    let content = crate::support::noise(3 << 20, 9);
    server.put("d/big", &content);
    server.put("d/e/f", "deep");
    let address = server.address();
    let base = format!("http://{address}");
    let place = tempfile::tempdir().expect("a directory");
    let get = |arguments: &[&str]| {
        let mut command = haul();
        command.arg("get").args(arguments).current_dir(place.path());
        let output = run(command.env("NETRC", secrets.path("netrc")));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!errors.contains("s3cret"), "{errors}");
        (output.status.success(), errors)
    };
    let url = format!("{base}/d/big");
    let is_whole = |name: &str| fs::read(place.path().join(name)).is_ok_and(|it| it == content);
    let (fetched, errors) = get(&["-o", "none", &url]);
    assert!(!fetched && errors.contains("401"), "{errors}");
    let (fetched, errors) = get(&["-u", "anna:s3cret", "-o", "by-user", &url]);
    assert!(fetched && is_whole("by-user"), "{errors}");
    let machine = format!("machine {} login anna password s3cret", address.ip());
    fs::write(secrets.path("netrc"), machine).expect("written");
    let (fetched, errors) = get(&["--netrc", "-o", "by-netrc", &url]);
    assert!(fetched && is_whole("by-netrc"), "{errors}");
    let make = |more: &[&str]| {
        let fixed = [
            "link",
            "--key",
            text(&keys),
            "--expires",
            "1h",
            "--base",
            &base,
        ];
        printed(&[&fixed[..], more].concat())
    };
    let (fetched, errors) = get(&[&make(&["d/big"])]);
    assert!(fetched && is_whole("big"), "{errors}");
    let (fetched, errors) = get(&["--recursive", "-d", "tree", &make(&["--subtree", "d"])]);
    assert!(fetched, "{errors}");
    let found = |name: &str| {
        let tree = place.path().join("tree");
        [tree.join(name), tree.join("d").join(name)]
            .iter()
            .find_map(|path| fs::read(path).ok())
    };
    assert_eq!(found("e/f").as_deref(), Some(&b"deep"[..]), "{errors}");
    assert!(found("big").is_some_and(|it| it == content), "{errors}");
}

#[test]
fn a_signature_in_a_referer_is_not_in_the_log() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let server = TestServer::with(|config| {
        config.access_log = Destination::File(path.clone());
        config.log_format = haul::server::telemetry::log_format::LogFormat::Json;
    });
    server.put("f", "content");
    let link = link("f", Scope::Path, 60);
    server.get("/f", &format!("Referer: http://x/f?{link}\r\n"));
    server.shut_down();
    let log = log_of(&path);
    assert!(log.contains("sig=…") && !log.contains(&link), "{log}");
}
