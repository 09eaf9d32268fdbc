//! Servers that never pause and never end: the user can still stop, and haul ends where the
//! response cannot be a file.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use super::support::{Act, Client, LONGEST, Served, Server, finish, wait, wait_until};

/// A server for one connection that sends `head`, and then `again` until the connection ends; and
/// its thread, which ends with it.
fn endless(head: &'static [u8], again: &[u8]) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let again = again.repeat(64 * 1024 / again.len());
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LONGEST)).unwrap();
        stream.set_write_timeout(Some(LONGEST)).unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        let _ = stream.write_all(head);
        while stream.write_all(&again).is_ok() {}
    });
    (port, thread)
}

#[test]
fn a_stream_that_never_pauses_can_be_interrupted() {
    const CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    for (scheme, head) in [("http", CLOSE), ("name", b"")] {
        let client = Client::new();
        let (port, server) = endless(head, b"on and on ");
        let url = format!("{scheme}://127.0.0.1:{port}/f");
        let mut child = client.command(&["-o", "-", &url]).spawn().unwrap();
        // It has begun once something came.
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0]).unwrap();
        let drain = thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
        finish(child).assert_status(130).assert_says("interrupted");
        drain.join().unwrap().unwrap();
        server.join().unwrap();
    }
}

#[test]
fn trailers_without_end_are_refused() {
    let client = Client::new();
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n";
    let (port, server) = endless(head, b"X-More: of it\r\n");
    client
        .get(&["--retries", "0", &format!("http://127.0.0.1:{port}/f")])
        .assert_status(4)
        .assert_says("chunked body is broken");
    server.join().unwrap();
}

#[test]
fn framing_that_drips_brings_nothing() {
    let server = Server::start(|_| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5;";
        let drip = Act::Drip {
            bytes: vec![b'x'; 4_000],
            piece: 1,
            pause: Duration::from_millis(20),
        };
        vec![Act::Send(head.as_bytes().to_vec()), drip, Act::Stall]
    });
    let client = Client::new();
    let arguments = ["--retries", "0", "--stall-timeout", "300ms"];
    client
        .get(&[&arguments[..], &[&server.url("/f")]].concat())
        .assert_status(4)
        .assert_says("nothing came for 300ms");
}

#[test]
fn a_pipe_without_a_reader_ends_in_time_or_is_interrupted() {
    let (server, client) = (Server::of(Served::new(1, 1 << 20)), Client::new());
    let path = client.path("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let arguments = ["-o", "fifo", "--max-time", "100ms", &server.url("/f")];
    client
        .get(&arguments)
        .assert_status(5)
        .assert_says("the time of --max-time is over");
    // A reader that reads nothing.
    let reader = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let arguments = ["-o", "-", "--max-time", "100ms", &server.url("/f")];
    let mut unread = client.command(&arguments).spawn().unwrap();
    assert_eq!(wait(&mut unread), Some(5));
    let arguments = ["-o", "fifo", &server.url("/f")];
    let child = client.command(&arguments).spawn().unwrap();
    wait_until(|| rustix::io::ioctl_fionread(&reader).unwrap() > 0);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    finish(child).assert_status(130).assert_says("interrupted");
}

/// How many connects to `port` wait for an answer: in state SYN_SENT, 02 in `proc_net_tcp(5)`.
fn unanswered(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let wanted = format!(":{port:04X} 02");
    table.lines().filter(|line| line.contains(&wanted)).count()
}

#[test]
fn a_connect_that_is_not_answered_can_be_interrupted() {
    let (file, client) = (Served::new(1, 1000), Client::new());
    let first = Server::of(file);
    // Nothing is accepted, and the queue is full: further connects get no answer at all.
    let address = SocketAddr::from(([127, 0, 0, 1], 0)).into();
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&address).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let queue: Vec<Socket> = (0..4)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address);
            socket
        })
        .collect();
    let port = address.as_socket().unwrap().port();
    let ours = unanswered(port);
    let deaf = format!("http://127.0.0.1:{port}/deaf");
    let arguments = ["--connect-timeout", "1h", &first.url("/f"), &deaf];
    let child = client.command(&arguments).spawn().unwrap();
    // The first file is there, and one more knocks at the deaf one's door.
    wait_until(|| client.path("f").exists() && unanswered(port) > ours);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    finish(child).assert_status(130).assert_says("interrupted");
    drop(queue);
}
