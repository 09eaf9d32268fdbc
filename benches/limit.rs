//! The limit that a file server is measured against: a thread for each connection, which blocks in
//! `sendfile(2)` or `splice(2)`, and nothing around it. No safety either: for the loopback only.
//!
//! `cargo bench --bench limit -- sendfile|splice ROOT [ADDRESS]` serves the files beneath ROOT over
//! HTTP until it is killed.

#![allow(clippy::print_stderr)]

use std::env;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::sys::sendfile::sendfile64;
use nix::sys::socket::{setsockopt, sockopt::TcpCork};
use nix::unistd::pipe2;

fn main() -> ExitCode {
    // `cargo bench` adds an argument of its own.
    let arguments: Vec<String> = env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (call, root, address) = match words[..] {
        // Run with all other benches, it has nothing to do.
        [] => return ExitCode::SUCCESS,
        [call, root] => (call, root, "127.0.0.1:0"),
        [call, root, address] => (call, root, address),
        _ => ("", "", ""),
    };
    let send = match call {
        "sendfile" => send_by_sendfile,
        "splice" => send_by_splice,
        _ => {
            eprintln!("usage: limit sendfile|splice ROOT [ADDRESS]");
            return ExitCode::from(2);
        }
    };
    match serve(Path::new(root), address, send) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("limit: cannot serve {root} on {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

type Send = fn(&TcpStream, &File, u64, u64) -> io::Result<()>;

enum Never {}

fn serve(root: &Path, address: &str, send: Send) -> io::Result<Never> {
    let listener = TcpListener::bind(address)?;
    eprintln!("listening on {}", listener.local_addr()?);
    let root: Arc<PathBuf> = Arc::new(root.to_owned());
    loop {
        let (stream, _) = listener.accept()?;
        let root = Arc::clone(&root);
        // A client that goes ends its thread.
        thread::spawn(move || converse(&stream, &root, send));
    }
}

fn converse(mut stream: &TcpStream, root: &Path, send: Send) -> io::Result<()> {
    // Else the last segment of a response waits for the acknowledgement of those before it.
    stream.set_nodelay(true)?;
    let mut request = [0; 4_096];
    loop {
        let mut length = 0;
        while !request[..length].ends_with(b"\r\n\r\n") {
            match stream.read(&mut request[length..])? {
                0 => return Ok(()),
                received => length += received,
            }
        }
        let text = String::from_utf8_lossy(&request[..length]);
        let path = text
            .split(' ')
            .nth(1)
            .unwrap_or_default()
            .trim_start_matches('/');
        let file = File::open(root.join(path))?;
        let whole = file.metadata()?.len();
        let (first, length) = extent(&text, whole);
        let mut head = String::new();
        // Writing to a `String` cannot fail.
        let _ = if length == whole {
            write!(head, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")
        } else {
            let last = first + length - 1;
            write!(
                head,
                "HTTP/1.1 206 Partial Content\r\nContent-Length: {length}\r\n\
                 Content-Range: bytes {first}-{last}/{whole}\r\n\r\n"
            )
        };
        setsockopt(stream, TcpCork, &true)?;
        stream.write_all(head.as_bytes())?;
        send(stream, &file, first, length)?;
        setsockopt(stream, TcpCork, &false)?;
        if text.contains("Connection: close") {
            return Ok(());
        }
    }
}

/// The offset and length that a request asks for.
fn extent(request: &str, whole: u64) -> (u64, u64) {
    request
        .split_once("Range: bytes=")
        .and_then(|(_, range)| range.lines().next()?.split_once('-'))
        .and_then(|(first, last)| Some((first.parse().ok()?, last.parse::<u64>().ok()?)))
        .map_or((0, whole), |(first, last)| {
            (first, last.min(whole - 1) + 1 - first)
        })
}

fn send_by_sendfile(stream: &TcpStream, file: &File, offset: u64, length: u64) -> io::Result<()> {
    let (mut at, end) = (offset as i64, (offset + length) as i64);
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(usize::MAX);
        if sendfile64(stream, file, Some(&mut at), most)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

fn send_by_splice(stream: &TcpStream, file: &File, offset: u64, length: u64) -> io::Result<()> {
    let (outlet, inlet) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&inlet, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES as i32))?;
    let (mut at, end) = (offset as i64, (offset + length) as i64);
    while at < end {
        let most = PIPE_BYTES.min(usize::try_from(end - at).unwrap_or(usize::MAX));
        let flags = SpliceFFlags::SPLICE_F_MOVE;
        let mut inside = splice(file, Some(&mut at), &inlet, None, most, flags)?;
        if inside == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while inside > 0 {
            let flags = flags | SpliceFFlags::SPLICE_F_MORE;
            inside -= splice(&outlet, None, stream, None, inside, flags)?;
        }
    }
    Ok(())
}

const PIPE_BYTES: usize = 1 << 20;
