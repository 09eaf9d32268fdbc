//! A connection up to its request: connect, shake hands, send.

use std::io;
use std::time::Instant;

use super::step::{Next, Stepped, fail};
use crate::load::exchange::Exchange;
use crate::load::phase::Phase;
use crate::load::stream::Stream;
use crate::load::tally::{Failure, record};
use crate::load::thread_context::ThreadContext;
use crate::sys::client_socket;
use crate::tls::client::{Channel, Identity};

pub(super) fn connect(exchange: Exchange, context: &mut ThreadContext<'_>) -> Stepped {
    let opened = Instant::now();
    let target = &context.targets[exchange.question.0];
    let name = target.secure.as_deref();
    let begin = |name| context.connector.begin(name, Identity::Presented);
    let channel = match name.map(begin).transpose() {
        Ok(session) => session.map(Channel::new),
        Err(failure) => return fail(Failure::Tls(failure.text), context),
    };
    match client_socket::connect(&target.address) {
        Ok(socket) => {
            let stream = Stream::new(socket, channel, opened);
            (Phase::Connecting(stream, exchange), None)
        }
        Err(error) => fail(Failure::of(&error), context),
    }
}

/// Sends at once: on a fast network the connection is established by now; if it is not, `send`
/// would block.
pub(super) fn finish_connect(
    mut stream: Stream,
    exchange: Exchange,
    context: &mut ThreadContext<'_>,
) -> Stepped {
    let first = match stream.handshake() {
        None => send_rest(&mut stream, &exchange, 0, context),
        Some((channel, socket)) => channel.flush(socket).map(|()| 0),
    };
    match first {
        Ok(sent) => {
            stream.moved = Instant::now();
            context.tally.connects += 1;
            record(&mut context.tally.connect, stream.moved - stream.opened);
            let began = stream.moved;
            let phase = match stream.handshake().is_some() {
                true => Phase::ShakingHands(stream, exchange, began),
                false => Phase::Sending(stream, exchange, sent),
            };
            (phase, None)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            (Phase::Connecting(stream, exchange), Some(Next::Wait))
        }
        Err(error) => fail(Failure::of(&error), context),
    }
}

pub(super) fn shake_hands(
    mut stream: Stream,
    exchange: Exchange,
    began: Instant,
    context: &mut ThreadContext<'_>,
) -> Stepped {
    let Some((channel, socket)) = stream.handshake() else {
        record(&mut context.tally.handshake, Instant::now() - began);
        return (Phase::Sending(stream, exchange, 0), None);
    };
    match channel.shake_hands(socket, &mut context.scratch) {
        Ok(()) => {
            stream.moved = context.now;
            (Phase::ShakingHands(stream, exchange, began), None)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let phase = Phase::ShakingHands(stream, exchange, began);
            (phase, Some(Next::Wait))
        }
        Err(error) => fail(Failure::of(&error), context),
    }
}

pub(super) fn send(
    mut stream: Stream,
    exchange: Exchange,
    sent: usize,
    context: &mut ThreadContext<'_>,
) -> Stepped {
    match send_rest(&mut stream, &exchange, sent, context) {
        Ok(0) => {
            let phase = Phase::Awaiting(stream, exchange, Vec::new());
            (phase, Some(Next::Wait))
        }
        Ok(more) => (Phase::Sending(stream, exchange, sent + more), None),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            (Phase::Sending(stream, exchange, sent), Some(Next::Wait))
        }
        Err(error) => repeat_or_fail(&stream, exchange, Failure::of(&error), context),
    }
}

fn send_rest(
    stream: &mut Stream,
    exchange: &Exchange,
    sent: usize,
    context: &mut ThreadContext<'_>,
) -> io::Result<usize> {
    let (target, range) = exchange.question;
    context.request.clear();
    context.targets[target].write_request(range, &mut context.request);
    stream.send(&context.request, sent)
}

/// A kept-alive connection may be closed just as the next request is sent. The request is sent
/// again then (RFC 9110 section 9.2.2), and that counts as no failure.
pub(super) fn repeat_or_fail(
    stream: &Stream,
    exchange: Exchange,
    failure: Failure,
    context: &mut ThreadContext<'_>,
) -> Stepped {
    if stream.served == 0 {
        return fail(failure, context);
    }
    context.tally.repeats += 1;
    connect(exchange, context)
}
