//! The start of a program that takes over a server's sockets. The server may not start processes
//! (`sandbox`), so a helper process, started beforehand, does.
//!
//! The helper's standard input is a socket. A request is a line of socket names with the sockets
//! (SCM_RIGHTS, unix(7)); the response is a line: `ready PID`, or the failure. The program gets the
//! sockets in the form of sd_listen_fds(3), and as standard input a socket on which it reports
//! readiness.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::sys::inherited::InheritedListener;

/// The process that starts programs; it ends with this.
#[derive(Debug)]
pub struct Launcher {
    control: UnixStream,
}

impl Launcher {
    /// Starts the process: this program, with the arguments for [`launch_all`].
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(arguments: &[OsString]) -> io::Result<Self> {
        let (control, theirs) = UnixStream::pair()?;
        Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { control })
    }

    /// Starts the program on these sockets, and waits until it is ready. Returns its process id.
    ///
    /// # Errors
    /// In words: why it is not ready.
    pub fn launch(&self, sockets: &[InheritedListener]) -> Result<u32, String> {
        let gone = |error: io::Error| format!("{ENDED} ({error})");
        self.send(sockets).map_err(gone)?;
        let mut answer = String::new();
        BufReader::new(&self.control)
            .read_line(&mut answer)
            .map_err(gone)?;
        let answer = answer.trim_end();
        match answer.strip_prefix(READY).map(|id| id.trim().parse()) {
            Some(Ok(id)) => Ok(id),
            _ if answer.is_empty() => Err(ENDED.into()),
            _ => Err(answer.to_owned()),
        }
    }

    fn send(&self, sockets: &[InheritedListener]) -> io::Result<()> {
        let names: Vec<_> = sockets.iter().map(|it| it.name.as_str()).collect();
        let names = format!("{}\n", names.join(":"));
        let descriptors: Vec<_> = sockets.iter().map(|it| it.socket.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !beside.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("there are too many sockets"));
        }
        let bytes = [IoSlice::new(names.as_bytes())];
        sendmsg(&self.control, &bytes, &mut beside, SendFlags::empty())?;
        Ok(())
    }
}

/// Runs `command` for each request on standard input, until a program is ready or the socket
/// closes. For a process without other open descriptors.
///
/// # Errors
/// As recvmsg(2), write(2).
pub fn launch_all(command: impl Fn() -> Command) -> io::Result<()> {
    while let Some((names, sockets)) = receive()? {
        let launched = launch(command(), &names, sockets);
        let is_ready = launched.is_ok();
        let answer = match launched {
            Ok(id) => format!("{READY} {id}\n"),
            Err(error) => format!("{error}\n"),
        };
        nix::unistd::write(io::stdin(), answer.as_bytes())?;
        if is_ready {
            break;
        }
    }
    Ok(())
}

/// The names and sockets of one request; `None` at the end of the requests.
fn receive() -> io::Result<Option<(String, Vec<OwnedFd>)>> {
    let mut names = vec![0; MAX_NAMES_BYTES];
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [IoSliceMut::new(&mut names)];
    // Without `CMSG_CLOEXEC`: the program inherits them.
    let received =
        retry_on_intr(|| recvmsg(io::stdin(), &mut bytes, &mut beside, RecvFlags::empty()))?;
    let mut sockets = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sockets.extend(descriptors);
        }
    }
    names.truncate(received.bytes);
    let names = String::from_utf8_lossy(&names).trim_end().to_owned();
    Ok((received.bytes > 0).then_some((names, sockets)))
}

/// The same sockets under consecutive numbers, as sd_listen_fds(3) has them. Inherited descriptors
/// may lie between the numbers of the sockets.
///
/// # Errors
/// As fcntl(2): no number is left.
fn in_a_row(sockets: Vec<OwnedFd>) -> io::Result<Vec<OwnedFd>> {
    let mut first = sockets.first().map_or(0, AsRawFd::as_raw_fd);
    let is_in_place = |(number, it): (i32, &OwnedFd)| it.as_raw_fd() == number;
    if (first..).zip(&sockets).all(is_in_place) {
        return Ok(sockets);
    }
    'from: loop {
        let mut copies = Vec::with_capacity(sockets.len());
        for (wanted, socket) in (first..).zip(&sockets) {
            let copy = fcntl_dupfd_cloexec(socket, wanted)?;
            if copy.as_raw_fd() != wanted {
                // All numbers below the copy's are taken.
                first = copy.as_raw_fd();
                continue 'from;
            }
            copies.push(copy);
        }
        for copy in &copies {
            fcntl_setfd(copy, FdFlags::empty())?;
        }
        return Ok(copies);
    }
}

fn launch(mut command: Command, names: &str, sockets: Vec<OwnedFd>) -> io::Result<u32> {
    let sockets = in_a_row(sockets)?;
    let first = sockets.first().map_or(0, AsRawFd::as_raw_fd);
    let (mut ready, theirs) = UnixStream::pair()?;
    command
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .env("LISTEN_FDS", sockets.len().to_string())
        .env("LISTEN_FDS_FIRST_FD", first.to_string())
        .env("LISTEN_FDNAMES", names)
        .env(TAKES_OVER, "1")
        // They name the process that is replaced.
        .env_remove("LISTEN_PID")
        .env_remove("WATCHDOG_PID");
    let mut child = command.spawn()?;
    // The other end is the program's alone.
    drop(command);
    ready.set_read_timeout(Some(TIMEOUT))?;
    let answer = loop {
        // A process that is stopped and goes on is interrupted in a read with a time-out (signal(7)).
        match ready.read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => break answer,
        }
    };
    match answer {
        Ok(1) => Ok(child.id()),
        Ok(_) => Err(io::Error::other(ended(&mut child)?)),
        Err(_) => {
            child.kill()?;
            child.wait()?;
            let why = format!("it was not ready within {} s", TIMEOUT.as_secs());
            Err(io::Error::other(why))
        }
    }
}

fn ended(child: &mut Child) -> io::Result<String> {
    Ok(format!("it ended with {}", child.wait()?))
}

/// Says that this process is ready, if another one waits for that.
pub fn tell_ready() {
    if std::env::var_os(TAKES_OVER).is_some() {
        // A requester that does not wait any more has ended.
        let _ = nix::unistd::write(io::stdin(), b"1");
    }
}

const ENDED: &str = "the process that starts it has ended, and a restart alone brings it back";
const READY: &str = "ready";
const TAKES_OVER: &str = "HAUL_TAKES_OVER";
/// A program that opens a root over a slow network has so long.
const TIMEOUT: Duration = Duration::from_secs(60);
/// For as many sockets as one message may have (`SCM_MAX_FD`).
const SPACE: usize = rustix::cmsg_space!(ScmRights(253));
const MAX_NAMES_BYTES: usize = 64 << 10;
