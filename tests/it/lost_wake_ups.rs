//! The calls by which one thread wakes another fail: requests are answered all the same, and a
//! signal ends the program.

use nix::libc;
use nix::sys::signal::Signal;

use crate::old_kernels::filter_if;
use crate::process::{Program, haul};
use crate::support::{Answer, own_address};

#[test]
fn an_eventfd_that_takes_nothing_loses_no_request_and_no_end() {
    for errno in [libc::EAGAIN, libc::EINTR, libc::EBADF, libc::EIO] {
        // What an eventfd is written (eventfd(2)); no line is so short.
        outlives_nothing(libc::SYS_write, (2, 8), errno);
    }
}

#[test]
fn a_signal_is_heard_though_its_handler_can_tell_nobody() {
    for errno in [libc::EAGAIN, libc::EINTR, libc::ENOBUFS, libc::ENOMEM] {
        outlives_nothing(libc::SYS_sendto, (2, 1), errno);
    }
}

/// A server of which these calls fail answers, and ends once it is told to.
#[track_caller]
fn outlives_nothing(call: libc::c_long, argument: (u8, u64), errno: i32) {
    let root = tempfile::tempdir().expect("a directory");
    std::fs::write(root.path().join("f"), "content").expect("a file");
    let mut command = haul();
    command.args(["serve", "--listen", &own_address().to_string(), "--root"]);
    command.arg(root.path());
    filter_if(&mut command, call, argument, errno);
    let mut server = Program::start(&mut command);
    let address = server.address();
    for _ in 0..8 {
        let mut client = server.connect(address);
        client.send("GET /f HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert_eq!(Answer::parse(&client.rest()).body, b"content");
    }
    // Idle threads have nothing but the message to wake them.
    server.signal(Signal::SIGTERM);
    assert!(server.end().success(), "{:?}", server.said);
}
