//! Files that are called like another one's part file, in every order and at once.

use super::support::{Act, Client, Gate, Request, Served, Server, assert_same, cut, wait_until};

/// The listing of `names`; those with a slash are directories.
fn listing(names: &[&str]) -> Vec<Act> {
    let entry = |name: &&str| match name.strip_suffix('/') {
        Some(name) => format!(r#"{{"name":"{name}","kind":"directory"}}"#),
        None => format!(r#"{{"name":"{name}","kind":"file"}}"#),
    };
    let entries: Vec<_> = names.iter().map(entry).collect();
    let body = format!("[{}]", entries.join(","));
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
    );
    vec![Act::Send(format!("{head}\r\n{body}").into_bytes())]
}

/// The file at `/t/PATH`.
fn file(path: &str) -> Served {
    let seed = path.bytes().fold(7, |seed: u64, byte| {
        seed.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    Served::new(seed, 100_000)
}

fn answer(request: &Request) -> Vec<u8> {
    file(&request.target["/t/".len()..]).answer(request)
}

/// All files beneath `t`, and nothing besides.
#[track_caller]
fn assert_tree(client: &Client, paths: &[&str]) {
    for path in paths {
        assert_same(&client.path("t").join(path), &file(path).bytes);
    }
    let mut found = Vec::new();
    let mut open = vec![client.path("t")];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => found.push(path),
            }
        }
    }
    assert_eq!(found.len(), paths.len(), "{found:?}");
}

#[test]
fn files_called_like_part_files_come_at_once_and_in_any_order() {
    // The answer of f halts until z is asked for, behind all others.
    const PLAIN: [&str; 5] = ["f", "f.part", "f.part.part", "f.part.part.part", "z"];
    const TURNED: [&str; 3] = ["f.part", "f", "z"];
    const DIRECTORIES: [&str; 3] = ["f", "f.part/", "z/"];
    let below = ["f", "f.part/x", "f.part/y.part", "z/z"];
    let cases: [(&str, &'static [&'static str], &[&str]); 3] = [
        ("5", &PLAIN, &PLAIN),
        ("2", &TURNED, &TURNED),
        ("4", &DIRECTORIES, &below),
    ];
    for (parallel, names, files) in cases {
        let [first_asked, last_asked] = [Gate::default(), Gate::default()];
        let server = Server::start(move |request| match request.target.as_str() {
            "/t/?format=json" => listing(names),
            "/t/f.part/?format=json" => listing(&["x", "y.part"]),
            "/t/z/?format=json" => listing(&["z"]),
            "/t/f" => {
                first_asked.open();
                let (whole, gate) = (answer(request), last_asked.clone());
                let (begin, rest) = whole.split_at(whole.len() / 2);
                vec![
                    Act::Send(begin.to_vec()),
                    Act::Hold(gate),
                    Act::Send(rest.to_vec()),
                ]
            }
            "/t/f.part" if names[0] == "f.part" => {
                vec![Act::Hold(first_asked.clone()), Act::Send(answer(request))]
            }
            target => {
                if target.ends_with("/z") {
                    last_asked.open();
                }
                vec![Act::Send(answer(request))]
            }
        });
        let client = Client::new();
        let tree = server.url("/t/");
        let arguments = ["-r", "-s1", "-P", parallel, &tree];
        client.get(&arguments).assert_status(0);
        assert_tree(&client, files);
        client.get(&arguments).assert_status(0);
        assert_tree(&client, files);
        client
            .get(&[&arguments[..], &["-f"]].concat())
            .assert_status(0);
        assert_tree(&client, files);
    }
}

#[test]
fn a_part_file_gives_way_to_a_file_of_that_name_and_is_gone_on_with() {
    for names in [["f", "f.part"], ["f.part", "f"]] {
        for parallel in ["1", "8"] {
            let server = Server::start(move |request| match request.target.as_str() {
                "/t/?format=json" => listing(&names),
                "/t/f" if request.range().is_none() => {
                    vec![Act::Send(cut(&answer(request), 50)), Act::Close]
                }
                _ => vec![Act::Send(answer(request))],
            });
            let client = Client::new();
            let tree = server.url("/t/");
            let arguments = ["-r", "-s1", "-P", parallel, "--retries", "0", &tree];
            let asked = || {
                let requests = server.requests();
                let mut asked = requests.iter().filter(|it| it.target == "/t/f");
                (asked.clone().count(), asked.next_back().unwrap().range())
            };
            client.get(&arguments).assert_status(5);
            assert_same(&client.path("t/f.part"), &file("f.part").bytes);
            assert_eq!(asked(), (1, None));
            client.get(&arguments).assert_status(0);
            let (count, range) = asked();
            assert!(count == 2 && range.unwrap().0 > 0, "{range:?}");
            assert_tree(&client, &names);
        }
    }
}

#[test]
fn what_a_run_for_one_file_left_gives_way_in_a_tree() {
    for names in [&["f", "f.part"][..], &["f.part", "f"], &["f.part/", "f"]] {
        let server = Server::start(move |request| match request.target.as_str() {
            "/t/?format=json" => listing(names),
            "/t/f.part/?format=json" => listing(&["x"]),
            "/t/f" if request.range().is_none() => {
                vec![Act::Send(cut(&answer(request), 50)), Act::Close]
            }
            _ => vec![Act::Send(answer(request))],
        });
        let client = Client::new();
        let single = ["-s1", "--retries", "0", "-d", "t", &server.url("/t/f")];
        client.get(&single).assert_status(5);
        assert!(client.path("t/f.part.state").exists());
        let tree = server.url("/t/");
        client
            .get(&["-r", "-s1", "--retries", "0", &tree])
            .assert_status(0);
        match names.contains(&"f.part") {
            true => assert_tree(&client, &["f", "f.part"]),
            false => assert_tree(&client, &["f", "f.part/x"]),
        }
        let requests = server.requests();
        let whole = requests.iter().filter(|it| it.range().is_none());
        assert_eq!(whole.filter(|it| it.target == "/t/f").count(), 1);
    }
}

#[test]
fn addresses_of_one_command_may_be_called_like_part_files() {
    let (client, asked) = (Client::new(), Gate::default());
    let part = client.path("t/f.part");
    let server = Server::start(move |request| match request.target.as_str() {
        "/t/f" => {
            let (whole, gate) = (answer(request), asked.clone());
            let (begin, rest) = whole.split_at(whole.len() / 2);
            vec![
                Act::Send(begin.to_vec()),
                Act::Hold(gate),
                Act::Send(rest.to_vec()),
            ]
        }
        "/t/a" | "/t/b" => {
            wait_until(|| part.exists());
            vec![Act::Send(answer(request))]
        }
        target => {
            if target == "/t/z" {
                asked.open();
            }
            vec![Act::Send(answer(request))]
        }
    });
    let names = ["f", "a", "b", "f.part", "z"];
    let urls = names.map(|name| server.url(&format!("/t/{name}")));
    let arguments = ["-s1", "-d", "t", "-P", "3"];
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    client
        .get(&[&arguments[..], &urls].concat())
        .assert_status(0);
    assert_tree(&client, &names);
}

#[test]
fn a_version_that_cannot_be_told_goes_beside_both_files() {
    let server = Server::start(move |request| {
        let file = Served {
            etag: None,
            last_modified: None,
            ..file(request.target.rsplit('/').next().unwrap())
        };
        match (request.target.as_str(), request.number) {
            ("/t/?format=json", _) => listing(&["f.part", "f"]),
            ("/t/f", 0..3) => vec![Act::Send(cut(&file.whole(), 50)), Act::Close],
            _ => vec![Act::Send(file.answer(request))],
        }
    });
    let (client, tree) = (Client::new(), server.url("/t/"));
    let arguments = ["-r", "-s1", "--retries", "0", &tree];
    client.get(&arguments).assert_status(5);
    client
        .get(&[&arguments[..], &["-f"]].concat())
        .assert_status(0);
    assert_tree(&client, &["f", "f.part"]);
}
