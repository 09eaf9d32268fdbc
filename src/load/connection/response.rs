//! A connection from the first byte of a response to the next request.

use std::io;
use std::time::Instant;

use super::request::repeat_or_fail;
use super::step::{Next, Stepped, fail};
use crate::http::Persistence;
use crate::http::chunked::Piece;
use crate::load::exchange::{Chunks, Exchange, Left, parse_head};
use crate::load::phase::Phase;
use crate::load::stream::Stream;
use crate::load::tally::{Failure, Tally, record};
use crate::load::target::Wire;
use crate::load::thread_context::ThreadContext;

/// Receives the first bytes, which hold the head and, of a small file, all of the content.
pub(super) fn read_head(
    token: usize,
    mut stream: Stream,
    mut exchange: Exchange,
    mut head: Vec<u8>,
    context: &mut ThreadContext<'_>,
) -> Stepped {
    let room = &mut context.room[..HEAD_ROOM];
    let received = match stream.receive(room, &mut context.scratch) {
        Ok(0) if head.is_empty() && exchange.wire(context.targets) == Wire::Name => {
            return fail(Failure::Empty, context);
        }
        Ok(0) if head.is_empty() => {
            return repeat_or_fail(&stream, exchange, Failure::Short, context);
        }
        Ok(0) => return fail(Failure::Short, context),
        Ok(received) => received,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return (Phase::Awaiting(stream, exchange, head), Some(Next::Wait));
        }
        Err(error) if head.is_empty() => {
            return repeat_or_fail(&stream, exchange, Failure::of(&error), context);
        }
        Err(error) => return fail(Failure::of(&error), context),
    };
    stream.moved = context.now;
    if head.is_empty() {
        record(
            &mut context.tally.first_byte,
            Instant::now() - exchange.intended,
        );
    }
    if exchange.wire(context.targets) == Wire::Name {
        count(
            token,
            &mut exchange,
            &context.room[..received],
            &mut context.tally,
        );
        return (Phase::Receiving(stream, exchange, Left::UntilClose), None);
    }
    let before = head.len();
    let parsed = if before == 0 {
        parse_head(&context.room[..received])
    } else {
        head.extend_from_slice(&context.room[..received]);
        parse_head(&head)
    };
    match parsed {
        Ok(Some((answer, length))) => {
            let left = exchange.accept(&answer, context.config.persistence, &mut context.lengths);
            // `parse_head` found the head incomplete before, so its end is among the new bytes.
            let content = &context.room[length - before..received];
            let (content, left) = match left {
                Left::Chunked(mut chunks) => {
                    chunks.input.extend_from_slice(content);
                    return decode(token, stream, exchange, chunks, None, context);
                }
                Left::Bytes(left) => {
                    let most = usize::try_from(left).unwrap_or(usize::MAX);
                    let content = &content[..content.len().min(most)];
                    (content, Left::Bytes(left - content.len() as u64))
                }
                Left::UntilClose => (content, Left::UntilClose),
            };
            count(token, &mut exchange, content, &mut context.tally);
            (Phase::Receiving(stream, exchange, left), None)
        }
        Ok(None) if before + received > MAX_HEAD_BYTES => fail(Failure::BadHead, context),
        Ok(None) => {
            if before == 0 {
                head.extend_from_slice(&context.room[..received]);
            }
            (Phase::Awaiting(stream, exchange, head), None)
        }
        Err(failure) => fail(failure, context),
    }
}

pub(super) fn receive(
    token: usize,
    mut stream: Stream,
    mut exchange: Exchange,
    left: Left,
    context: &mut ThreadContext<'_>,
) -> Stepped {
    let room = context.room.len();
    let most = match &left {
        Left::Bytes(0) => return finish(stream, exchange, context),
        Left::Bytes(left) => room.min(usize::try_from(*left).unwrap_or(usize::MAX)),
        Left::Chunked(_) | Left::UntilClose => room,
    };
    let room = &mut context.room[..most];
    let received = match (&exchange.hasher, &left) {
        (None, Left::Bytes(_) | Left::UntilClose) => stream.discard(room, &mut context.scratch),
        _ => stream.receive(room, &mut context.scratch),
    };
    let received = match received {
        Ok(received) => received,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return (Phase::Receiving(stream, exchange, left), Some(Next::Wait));
        }
        Err(error) => return fail(Failure::of(&error), context),
    };
    stream.moved = context.now;
    let content = &context.room[..received];
    let next = Some(
        match received == most || stream.hung_up || stream.is_secure() {
            true => Next::Turn,
            false => Next::Wait,
        },
    );
    match left {
        Left::UntilClose if received == 0 => finish(stream, exchange, context),
        _ if received == 0 => fail(Failure::Short, context),
        Left::Chunked(mut chunks) => {
            chunks.input.extend_from_slice(content);
            decode(token, stream, exchange, chunks, next, context)
        }
        Left::UntilClose => {
            count(token, &mut exchange, content, &mut context.tally);
            (Phase::Receiving(stream, exchange, left), next)
        }
        Left::Bytes(left) => {
            count(token, &mut exchange, content, &mut context.tally);
            let left = left - received as u64;
            let next = next.filter(|_| left > 0);
            (Phase::Receiving(stream, exchange, Left::Bytes(left)), next)
        }
    }
}

/// Counts the decoded part of a chunked body; `next` is the result of the step while the body is
/// incomplete.
fn decode(
    token: usize,
    stream: Stream,
    mut exchange: Exchange,
    mut chunks: Box<Chunks>,
    next: Option<Next>,
    context: &mut ThreadContext<'_>,
) -> Stepped {
    let mut used = 0;
    loop {
        let input = &chunks.input[used..];
        match chunks.decoder.next(input, usize::MAX) {
            Ok(Piece::Framing(length)) => used += length,
            Ok(Piece::Data(length)) => {
                count(token, &mut exchange, &input[..length], &mut context.tally);
                used += length;
            }
            Ok(Piece::Partial) => {
                chunks.input.drain(..used);
                let left = Left::Chunked(chunks);
                return (Phase::Receiving(stream, exchange, left), next);
            }
            Ok(Piece::End) => {
                if !input.is_empty() {
                    exchange.persistence = Persistence::Close;
                }
                return finish(stream, exchange, context);
            }
            Err(_) => return fail(Failure::BadChunks, context),
        }
    }
}

fn finish(mut stream: Stream, exchange: Exchange, context: &mut ThreadContext<'_>) -> Stepped {
    let verdict = match (exchange.verdict, exchange.hasher) {
        (Ok(()), Some(hasher)) => context.tally.compare(exchange.question, hasher.finalize()),
        (verdict, _) => verdict,
    };
    match verdict {
        Ok(()) => {
            context.tally.requests += 1;
            record(
                &mut context.tally.latency,
                Instant::now() - exchange.intended,
            );
        }
        Err(failure) => context.tally.fail(failure),
    }
    stream.served += 1;
    match exchange.persistence {
        Persistence::KeepAlive => (Phase::Idle(stream), Some(Next::Ready)),
        Persistence::Close => (Phase::Closing(stream), None),
    }
}

pub(super) fn close(mut stream: Stream, context: &mut ThreadContext<'_>) -> Stepped {
    let room = &mut context.room[..HEAD_ROOM];
    match stream.receive(room, &mut context.scratch) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            (Phase::Closing(stream), Some(Next::Wait))
        }
        // The end of the stream, a reset behind a whole response, or stray bytes.
        Ok(_) | Err(_) => (Phase::Down, Some(Next::Ready)),
    }
}

/// Counts content; without a hasher it may have been discarded unread.
fn count(token: usize, exchange: &mut Exchange, content: &[u8], tally: &mut Tally) {
    let bytes = content.len() as u64;
    exchange.received += bytes;
    if exchange.verdict.is_ok() {
        tally.bytes += bytes;
        tally.shares[token] += bytes;
    }
    if let Some(hasher) = &mut exchange.hasher {
        hasher.update(content);
    }
}

/// Whether the server has closed an idle connection; the next request connects again then.
pub(super) fn check_idle(mut stream: Stream, context: &mut ThreadContext<'_>) -> Stepped {
    match stream.receive(&mut context.room[..1], &mut context.scratch) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            (Phase::Idle(stream), Some(Next::Wait))
        }
        Ok(_) | Err(_) => (Phase::Down, Some(Next::Wait)),
    }
}

/// Enough for the head and a kibibyte of content in one call.
pub(crate) const HEAD_ROOM: usize = 4_096;
const MAX_HEAD_BYTES: usize = 64 * 1_024;
