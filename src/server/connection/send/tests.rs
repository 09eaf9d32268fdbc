//! Turns of a response over a scripted sink.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::TcpStream;

use super::*;
use crate::http::{Persistence, Refusal, Response};
use crate::server::client_share::ClientShares;
use crate::server::config::ServeConfig;
use crate::server::connection::exchange::MAX_RESTARTS;
use crate::server::files::open_file_cache::OpenFileCache;
use crate::server::transmit::sink::{FilePart, More, SendError};
use crate::sys::process::WaitWatch;

const HEAD: &[u8] = b"0123456789";

/// A sink with a scripted outcome for each call.
#[derive(Default)]
struct Script {
    outcomes: RefCell<VecDeque<Result<usize, ErrorKind>>>,
    taken: RefCell<Vec<u8>>,
}

impl Sink for &Script {
    fn send(&mut self, bytes: &[u8], _: More) -> io::Result<usize> {
        let outcome = self.outcomes.borrow_mut().pop_front();
        let count = outcome.expect("the script goes on")?;
        self.taken.borrow_mut().extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn send_file(&mut self, _: FilePart<'_>, _: &mut IoBuffers) -> Result<usize, SendError> {
        unreachable!("no file is sent here")
    }

    fn socket(&self) -> Option<&TcpStream> {
        None
    }

    fn at_once(&self) -> usize {
        usize::MAX
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn push(&self) -> io::Result<()> {
        Ok(())
    }

    fn unacknowledged(&self) -> Option<u64> {
        Some(0)
    }
}

/// The parts that the turns of a response of ten bytes need.
struct Fixture {
    _root: tempfile::TempDir,
    service: Shared,
    clients: ClientShares,
    sink: Script,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let config = ServeConfig {
            root: root.path().to_owned(),
            ..ServeConfig::default()
        };
        Self {
            _root: root,
            service: Shared::without_log(config),
            clients: ClientShares::default(),
            sink: Script::default(),
        }
    }

    fn sending(&self, pending: Pending) -> Box<Sending> {
        let prepared = PreparedResponse {
            response: Response {
                status: 404,
                head: HEAD.to_vec(),
                body: Plan::default(),
                content_length: 0,
                persistence: Persistence::Close,
            },
            file: None,
            rest: None,
            outcome: CloseReason::Refused,
            detail: "",
            bulk: None,
        };
        Box::new(Sending::new(pending, prepared, &self.service))
    }

    /// One turn, with these outcomes of the sink.
    fn turn(&self, sending: &mut Sending, script: &[Result<usize, ErrorKind>]) -> SendStep {
        self.sink.outcomes.borrow_mut().extend(script);
        let mut turn = TurnContext {
            service: &self.service,
            now: Instant::now(),
            names: &mut OpenFileCache::of_one_of(self.service.config.workers),
            tools: &mut IoBuffers::default(),
            watch: &mut WaitWatch::begin(),
            served: 0,
        };
        let client = self.clients.join(std::net::IpAddr::from([127, 0, 0, 1]));
        let pacer = &mut Pacer::new(&self.service, turn.now);
        sending.advance(&mut &self.sink, &mut turn, client.client(), pacer)
    }
}

fn pending() -> Pending {
    Pending::malformed(Refusal::NotFound, (*b"GET /x").into())
}

#[test]
fn short_counts_go_on_where_they_left_off_and_a_full_queue_parks() {
    let fixture = Fixture::new();
    let mut sending = fixture.sending(pending());
    let blocked = fixture.turn(&mut sending, &[Ok(3), Err(ErrorKind::WouldBlock)]);
    assert!(matches!(blocked, SendStep::Blocked(_)));
    assert_eq!(sending.sent(), 3);
    let done = fixture.turn(&mut sending, &[Ok(1), Ok(0), Ok(6)]);
    assert!(matches!(done, SendStep::Done));
    assert_eq!(*fixture.sink.taken.borrow(), HEAD);
}

#[test]
fn a_broken_pipe_aborts_the_response_and_does_not_restart_it() {
    let fixture = Fixture::new();
    let mut sending = fixture.sending(pending());
    let script = [Ok(3), Ok(0), Err(ErrorKind::BrokenPipe)];
    let broken = fixture.turn(&mut sending, &script);
    assert!(matches!(broken, SendStep::Broken(CloseReason::Aborted)));
    assert!(sending.restart_after(CloseReason::Aborted).is_err());
}

#[test]
fn a_response_is_restarted_only_before_its_first_byte_and_a_limited_number_of_times() {
    let fixture = Fixture::new();
    let mut sending = fixture.sending(pending());
    for _ in 0..MAX_RESTARTS {
        let pending = sending.restart_after(CloseReason::Changed);
        sending = fixture.sending(pending.expect("nothing was sent"));
    }
    assert!(sending.restart_after(CloseReason::Changed).is_err());

    // A blocked response keeps no more of its request than the line.
    for script in [
        &[Err(ErrorKind::WouldBlock)][..],
        &[Ok(1), Err(ErrorKind::WouldBlock)],
    ] {
        let mut sending = fixture.sending(pending());
        let blocked = fixture.turn(&mut sending, script);
        assert!(matches!(blocked, SendStep::Blocked(_)));
        assert!(sending.restart_after(CloseReason::Changed).is_err());
    }
}

#[test]
fn the_rest_of_an_interim_response_goes_before_the_head() {
    let fixture = Fixture::new();
    let mut pending = pending();
    pending.interim = b"nue\r\n\r\n";
    let mut sending = fixture.sending(pending);
    let done = fixture.turn(&mut sending, &[Ok(7), Ok(10)]);
    assert!(matches!(done, SendStep::Done));
    assert_eq!(*fixture.sink.taken.borrow(), b"nue\r\n\r\n0123456789");
}
