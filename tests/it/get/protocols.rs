//! Bodies of all framings, streams, other people's servers, and the name protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::support::{Act, Client, LONGEST, Served, Server, assert_same, cut, finish, noise};

fn chunked(bytes: &[u8], end: &[u8]) -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in bytes.chunks(70_001) {
        answer.extend_from_slice(format!("{:x};ext=1\r\n", chunk.len()).as_bytes());
        answer.extend_from_slice(chunk);
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(end);
    answer
}

#[test]
fn chunked_bodies() {
    for receive in ["splice", "copy"] {
        let (bytes, client) = (noise(1, 1 << 20), Client::new());
        let answer = chunked(&bytes, b"0\r\nTrailer: x\r\n\r\n");
        let server = Server::start(move |_| {
            vec![Act::Drip {
                bytes: answer.clone(),
                piece: 100_003,
                pause: Duration::from_millis(1),
            }]
        });
        client
            .get(&["--receive", receive, &server.url("/f")])
            .assert_status(0);
        client.assert_whole("f", &bytes);
    }
}

#[test]
fn a_chunked_body_that_breaks_off_is_fetched_anew() {
    let (bytes, client) = (noise(1, 1 << 20), Client::new());
    let (broken, whole) = (chunked(&bytes, b""), chunked(&bytes, b"0\r\n\r\n"));
    let server = Server::start(move |request| match request.number {
        0 => vec![Act::Send(broken.clone()), Act::Close],
        _ => vec![Act::Send(whole.clone())],
    });
    client.get(&[&server.url("/f")]).assert_status(0);
    client.assert_whole("f", &bytes);
}

#[test]
fn a_chunked_body_that_always_breaks_off_is_an_error() {
    let client = Client::new();
    let broken = chunked(&noise(1, 1 << 20), b"");
    let server = Server::start(move |_| vec![Act::Send(broken.clone()), Act::Close]);
    client
        .get(&["--retries", "2", &server.url("/f")])
        .assert_status(5);
    assert!(!client.path("f").exists());
}

#[test]
fn bodies_that_end_with_the_connection() {
    for receive in ["splice", "copy"] {
        let (bytes, client) = (noise(1, 1 << 20), Client::new());
        let sent = bytes.clone();
        let server = Server::start(move |_| {
            vec![
                Act::Send(b"HTTP/1.0 200 OK\r\n\r\n".to_vec()),
                Act::Send(sent.clone()),
                Act::Close,
            ]
        });
        client
            .get(&["--receive", receive, &server.url("/f")])
            .assert_status(0);
        client.assert_whole("f", &bytes);
    }
}

#[test]
fn empty_files_and_empty_answers() {
    let (file, client) = (Served::new(1, 0), Client::new());
    let server = Server::of(file);
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    client
        .get(&["--sha256", empty, &server.url("/f")])
        .assert_status(0);
    client.assert_whole("f", b"");
}

#[test]
fn interim_answers_are_not_the_answer() {
    let (file, client) = (Served::new(1, 1000), Client::new());
    let served = file.clone();
    let server = Server::start(move |request| {
        let early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
        vec![Act::Send(early.to_vec()), Act::Send(served.answer(request))]
    });
    client.get(&[&server.url("/f")]).assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn standard_output_gets_the_bytes_and_goes_on_after_a_break() {
    let (file, client) = (Served::new(1, 1 << 20), Client::new());
    let served = file.clone();
    let server = Server::start(move |request| {
        let answer = served.answer(request);
        match request.number {
            0 => vec![Act::Send(answer[..answer.len() / 2].to_vec()), Act::Close],
            _ => vec![Act::Send(answer)],
        }
    });
    let sum = blake3::hash(&file.bytes).to_hex().to_string();
    let ran = client.get(&["-o", "-", "--blake3", &sum, &server.url("/f")]);
    ran.assert_status(0).assert_says("verified");
    assert!(ran.stdout == *file.bytes);
    assert!(client.names().is_empty());
    assert!(server.requests()[1].range().is_some());
}

#[test]
fn ranges_that_come_short_or_long_never_make_a_wrong_stream() {
    type Answer = fn(&Served, u64, u64) -> Vec<u8>;
    const PIECE: u64 = 100_000;
    let long =
        |file: &Served, start: u64, end: u64| chunked_part(file, (start, end), (start, end + 9));
    let short = |file: &Served, start: u64, end: u64| {
        chunked_part(file, (start, end), (start, end.min(start + PIECE)))
    };
    let capped = |file: &Served, start: u64, end: u64| file.part(start, end.min(start + PIECE));
    for answer in [long as Answer, short, capped] {
        let (file, client) = (Served::new(1, 1 << 20), Client::new());
        let served = file.clone();
        let server = Server::start(move |request| match request.range() {
            None => vec![Act::Send(cut(&served.whole(), 50)), Act::Close],
            Some((start, end)) => vec![Act::Send(answer(&served, start, end.unwrap()))],
        });
        let ran = client.get(&["-o", "-", &server.url("/f")]);
        ran.assert_status(0);
        assert!(ran.stdout == *file.bytes, "{} bytes", ran.stdout.len());
        let ran = client.get(&["-s", "1", &server.url("/f")]);
        ran.assert_status(0);
        client.assert_whole("f", &file.bytes);
    }
}

/// A range that its head calls `said`, with the bytes of `sent`, in one chunk.
fn chunked_part(file: &Served, said: (u64, u64), sent: (u64, u64)) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nETag: {}\r\nTransfer-Encoding: chunked\r\n\
         Content-Range: bytes {}-{}/{}\r\n\r\n{:x}\r\n",
        file.etag.as_deref().unwrap(),
        said.0,
        said.1 - 1,
        file.len(),
        sent.1 - sent.0
    );
    let mut bytes = file.bytes.to_vec();
    bytes.resize(bytes.len() + 100, b'x');
    let body = &bytes[sent.0 as usize..sent.1 as usize];
    [head.as_bytes(), body, b"\r\n0\r\n\r\n"].concat()
}

#[test]
fn standard_output_cannot_start_over() {
    let (old, new, client) = (
        Served::new(1, 1 << 20),
        Served::new(2, 1 << 20),
        Client::new(),
    );
    let server = Server::start(move |request| match request.number {
        0 => {
            let answer = old.answer(request);
            vec![Act::Send(answer[..answer.len() / 2].to_vec()), Act::Close]
        }
        _ => vec![Act::Send(new.answer(request))],
    });
    client.get(&["-o", "-", &server.url("/f")]).assert_status(5);
}

/// The status says whether the file is whole, whoever wanted less of it.
#[test]
fn a_reader_that_ends_first_has_not_got_the_file() {
    let (file, client) = (Served::new(1, 8 << 20), Client::new());
    let server = Server::of(file.clone());
    let (port, names) = name_server(file.bytes.to_vec(), End::Close);
    let fifo = client.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let fifo = fifo.to_str().unwrap();
    for (url, to) in [
        (server.url("/f"), "-"),
        (format!("name://127.0.0.1:{port}/f"), "-"),
        (server.url("/f"), fifo),
    ] {
        let mut child = client.command(&["--json", "-o", to, &url]).spawn().unwrap();
        let mut first = [0; 10];
        match to {
            "-" => child.stdout.take().unwrap().read_exact(&mut first).unwrap(),
            fifo => std::fs::File::open(fifo)
                .unwrap()
                .read_exact(&mut first)
                .unwrap(),
        }
        finish(child)
            .assert_status(5)
            .assert_says("its reader ended first");
        assert_eq!(first, file.bytes[..10]);
    }
    names.join().unwrap();
}

#[test]
fn python_without_ranges() {
    let (bytes, client, root) = (noise(1, 1 << 20), Client::new(), Client::new());
    std::fs::create_dir(root.path("sub")).unwrap();
    std::fs::write(root.path("f"), &bytes).unwrap();
    std::fs::write(root.path("sub/g h"), &bytes).unwrap();
    let serve = "import http.server as s; h = s.ThreadingHTTPServer(('127.0.0.1', 0), \
        s.SimpleHTTPRequestHandler); print(h.server_port, flush=True); h.serve_forever()";
    let mut python = Command::new("python3");
    python
        .args(["-c", serve])
        .current_dir(root.directory.path());
    let Ok(mut python) = python.stdout(Stdio::piped()).stderr(Stdio::null()).spawn() else {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: a test of Python's server: no python3 here"
        );
        return;
    };
    let mut port = String::new();
    BufReader::new(python.stdout.take().unwrap())
        .read_line(&mut port)
        .unwrap();
    let url = format!("http://127.0.0.1:{}", port.trim());
    let whole = client.get(&["--segments", "4", &format!("{url}/f")]);
    let tree = client.get(&["-r", "-d", "all", &url]);
    python.kill().unwrap();
    python.wait().unwrap();
    whole.assert_status(0);
    assert_same(&client.path("f"), &bytes);
    tree.assert_status(0);
    assert_same(&client.path("all/f"), &bytes);
    assert_same(&client.path("all/sub/g h"), &bytes);
}

/// How a server of the name protocol ends.
#[derive(Clone, Copy)]
enum End {
    Close,
    Reset,
}

/// Takes one name and answers it; the thread gives the name.
fn name_server(answer: Vec<u8>, end: End) -> (u16, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LONGEST)).unwrap();
        let mut name = Vec::new();
        stream.read_to_end(&mut name).unwrap();
        // The client may leave before the end.
        let _ = stream.write_all(&answer);
        if matches!(end, End::Reset) {
            let socket = socket2::SockRef::from(&stream);
            socket.set_linger(Some(Duration::ZERO)).unwrap();
        }
        name
    });
    (port, thread)
}

#[test]
fn a_file_by_its_bare_name() {
    let (bytes, client) = (noise(1, 1 << 20), Client::new());
    let (port, server) = name_server(bytes.clone(), End::Close);
    let ran = client.get(&[&format!("name://127.0.0.1:{port}/sub/a%20b.bin")]);
    ran.assert_status(0).assert_says("neither resume");
    assert_eq!(server.join().unwrap(), b"sub/a b.bin");
    client.assert_whole("a b.bin", &bytes);
}

#[test]
fn a_name_that_brings_nothing_leaves_nothing() {
    let client = Client::new();
    let (port, server) = name_server(Vec::new(), End::Close);
    let ran = client.get(&[&format!("name://127.0.0.1:{port}/f")]);
    ran.assert_status(3).assert_says("missing or empty");
    server.join().unwrap();
    assert!(client.names().is_empty());
}

#[test]
fn a_name_whose_answer_is_reset_leaves_nothing() {
    let client = Client::new();
    let (port, server) = name_server(noise(1, 1 << 20), End::Reset);
    client
        .get(&["--retries", "0", &format!("name://127.0.0.1:{port}/f")])
        .assert_status(4);
    server.join().unwrap();
    assert!(client.names().is_empty());
}

#[test]
fn a_name_to_standard_output() {
    let (bytes, client) = (noise(1, 100_000), Client::new());
    let (port, server) = name_server(bytes.clone(), End::Close);
    let ran = client.get(&["-o", "-", &format!("name://127.0.0.1:{port}/f")]);
    ran.assert_status(0);
    server.join().unwrap();
    assert!(ran.stdout == bytes);
}

#[test]
fn a_name_that_brings_nothing_leaves_what_an_earlier_run_left() {
    let client = Client::new();
    let file = Served::new(1, 100_000);
    let server = Server::start(move |_| vec![Act::Send(cut(&file.whole(), 50)), Act::Close]);
    client
        .get(&["--retries", "0", &server.url("/f")])
        .assert_status(5);
    assert_eq!(client.names(), ["f.part", "f.part.state"]);
    let (port, server) = name_server(Vec::new(), End::Close);
    client
        .get(&[&format!("name://127.0.0.1:{port}/f")])
        .assert_status(3);
    server.join().unwrap();
    assert_eq!(client.names(), ["f.part", "f.part.state"]);
}

#[test]
fn a_name_goes_as_it_is() {
    let (bytes, client) = (noise(1, 1000), Client::new());
    let (port, server) = name_server(bytes.clone(), End::Close);
    client
        .get(&[&format!("name://127.0.0.1:{port}/a#1/../b?c.txt")])
        .assert_status(0);
    assert_eq!(server.join().unwrap(), b"a#1/../b?c.txt");
    client.assert_whole("b?c.txt", &bytes);
}
