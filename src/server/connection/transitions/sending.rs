//! From a response's first byte to its record, and on to the next request or to the end.

use std::time::Instant;

use crate::http::Persistence;
use crate::server::connection::common_state::CommonState;
use crate::server::connection::deferred_record::DeferredRecord;
use crate::server::connection::prepare::{Pending, PreparedResponse};
use crate::server::connection::receive::Receiving;
use crate::server::connection::send::{LEAST_CHARGE, SendStep, Sending};
use crate::server::connection::state::{Flow, State};
use crate::server::connection::step::{DiskAction, Step, TurnContext};
use crate::server::connection::transitions::lingering;
use crate::server::rate_limit::Allowance;
use crate::server::shared::Shared;
use crate::server::telemetry::{CloseReason, Counters};
use crate::server::transmit::sink::IoBuffers;
use crate::server::transmit::tls::{TlsSink, TlsStream};
use crate::sys::poller::Interest;
use crate::sys::socket;

/// The state in which a response is sent.
pub(super) fn begin(
    pending: Pending,
    response: PreparedResponse,
    common: &mut CommonState,
    service: &Shared,
) -> State {
    if let Some(record) = common.unconfirmed.take() {
        // The next request means that the last response arrived, or that its bytes cannot be told
        // from the new one's: the record is written now.
        record.flush(service);
    }
    let mut sending = Sending::new(pending, response, service);
    sending.set_prefill(common.prefill);
    common.pacer.smooth(&common.stream, service);
    if sending.ends_by_close() {
        // Until the last byte is out even the death of the process must look like a break.
        let _ = socket::reset_on_close(&common.stream);
    }
    let large = sending.large();
    if large.is_some() {
        common.send_queue.begin_large(&common.stream);
    }
    if let Some(tls) = &mut common.tls {
        tls.announce_body(&common.stream, large);
    }
    State::Sending(Box::new(sending))
}

pub(super) fn advance(
    mut sending: Box<Sending>,
    common: &mut CommonState,
    turn: &mut TurnContext<'_>,
) -> Flow {
    common.pacer.smooth(&common.stream, turn.service);
    let client = common.share.client();
    let sent = match &mut common.tls {
        None => sending.advance(&mut &common.stream, turn, client, &mut common.pacer),
        Some(tls) => {
            let was_in_kernel = tls.is_in_kernel();
            let mut buffers = turn.tools.sealing.take().unwrap_or_default();
            let mut sink = TlsSink::new(&common.stream, tls, &mut buffers);
            let sent = sending.advance(&mut sink, turn, client, &mut common.pacer);
            turn.tools.sealing = Some(buffers);
            count_handover(was_in_kernel, tls, turn.service);
            sent
        }
    };
    let whose = (common.number, common.peer);
    (common.observed).note_step(&sent, &sending, whose, &common.stream, turn.service);
    let step = match sent {
        SendStep::Done => return finish(sending, common, turn),
        SendStep::Blocked(deadline) => {
            let so_far = (sending.sent(), turn.service.rates().lowest());
            let long_queues = &turn.service.long_queues;
            (common.send_queue).note_full(&common.stream, so_far, long_queues);
            common.received.shrink();
            // A full record of requests cannot be left in the socket, as it can without a session.
            let session = common.tls.as_ref().map_or(0, |tls| tls.held_bytes());
            let permits = &turn.service.long_requests;
            if !common.received.may_wait(session, permits) {
                let step = Step::Close(CloseReason::Overloaded);
                return Flow::Stop(State::Sending(sending), step);
            }
            common.deadline = deadline;
            Step::Park(Interest::Write)
        }
        SendStep::Throttled(due) => {
            common.deadline = due;
            Step::Delay
        }
        // The connection waits for the file system as those in its queue do.
        SendStep::Paused(due, file_system) => {
            common.disk_wait = Some(turn.service.disk_waits.begin(file_system));
            common.deadline = due;
            match common.has_left() {
                true => Step::Close(CloseReason::Aborted),
                false => Step::Delay,
            }
        }
        SendStep::Spent => Step::Yield,
        SendStep::Disk(job) => {
            common.disk_wait = Some(turn.service.disk_waits.begin(job.file_system));
            Step::Disk(job)
        }
        SendStep::Broken(reason) => return restart_or_close(sending, reason, common, turn),
    };
    Flow::Stop(State::Sending(sending), step)
}

/// Answers with what the file is now, if it changed before the first byte left.
fn restart_or_close(
    sending: Box<Sending>,
    reason: CloseReason,
    common: &mut CommonState,
    turn: &mut TurnContext<'_>,
) -> Flow {
    let ends_by_close = sending.ends_by_close();
    match sending.restart_after(reason) {
        Ok(pending) => {
            common.observed.note_end(0);
            turn.now = Instant::now();
            common.reset_socket(ends_by_close);
            Flow::Continue(State::Preparing(Box::new(pending)))
        }
        Err(sending) => Flow::Stop(State::Sending(sending), Step::Close(reason)),
    }
}

/// Records a sent response; the next request or the end follows.
fn finish(sending: Box<Sending>, common: &mut CommonState, turn: &mut TurnContext<'_>) -> Flow {
    turn.now = Instant::now();
    common.reset_socket(sending.ends_by_close());
    common.observed.note_end(sending.sent());
    common.prefill = sending.prefill();
    let exchange = sending.exchange();
    let (outcome, persistence) = (exchange.outcome(), exchange.persistence());
    let is_last = exchange.is_answer_to_last() && !sending.ends_by_close();
    common.unconfirmed = sending
        .into_record(outcome, common.peer, turn.service)
        .map(|record| common.with_tls_client(record))
        .and_then(|record| DeferredRecord::defer(record, || common.outstanding(), turn.service));
    let next = State::Receiving(Receiving::new(turn.now));
    if persistence == Persistence::KeepAlive {
        common.deadline = turn.now + turn.service.config.deadlines.idle;
        return Flow::Continue(next);
    }
    if is_last && common.has_nothing_to_wait_for() {
        return Flow::Stop(next, Step::Close(outcome));
    }
    // A close with bytes unread would be a reset, and might take the response with it.
    lingering::begin(next, outcome, common, turn.now)
}

pub(super) fn expire(
    mut sending: Box<Sending>,
    common: &mut CommonState,
    turn: &mut TurnContext<'_>,
) -> Flow {
    if common.pacer.is_throttled() || sending.is_paused() {
        return Flow::Stop(State::Sending(sending), Step::Yield);
    }
    let expired = match &mut common.tls {
        None => sending.expire(&&common.stream, turn.service, turn.now),
        Some(tls) => {
            let buffers = turn.tools.sealing.get_or_insert_default();
            let sink = TlsSink::new(&common.stream, tls, buffers);
            sending.expire(&sink, turn.service, turn.now)
        }
    };
    let step = match expired {
        Ok(deadline) => {
            if sending.seems_stalled() {
                common.send_queue.shorten(&common.stream);
            }
            common.deadline = deadline;
            Step::Park(Interest::Write)
        }
        Err(reason) => Step::Close(reason),
    };
    Flow::Stop(State::Sending(sending), step)
}

/// Reads the response's next bytes into memory, or sends them.
pub(super) fn run_disk_job(
    mut sending: Box<Sending>,
    action: DiskAction,
    common: &mut CommonState,
    service: &Shared,
    tools: &mut IoBuffers,
) -> State {
    let (client, now) = (common.share.client(), Instant::now());
    let budget = match common.pacer.allowance(service, client, now) {
        Allowance::Bytes(bytes) => bytes.min(service.config.quantum_bytes),
        // Another connection of the client was faster: the first piece is on credit.
        Allowance::NotBefore(_) => LEAST_CHARGE,
    };
    let charged = match &mut common.tls {
        None => {
            let mut sink = &common.stream;
            sending.run_disk_job(action, &mut sink, service, tools, budget)
        }
        Some(tls) => {
            let was_in_kernel = tls.is_in_kernel();
            let mut buffers = tools.sealing.take().unwrap_or_default();
            let mut sink = TlsSink::new(&common.stream, tls, &mut buffers);
            let sent = sending.run_disk_job(action, &mut sink, service, tools, budget);
            tools.sealing = Some(buffers);
            count_handover(was_in_kernel, tls, service);
            sent
        }
    };
    client.charge(charged);
    common.pacer.charge(charged, service, client, now);
    State::Sending(sending)
}

/// Counts a connection whose session the kernel has taken over just now.
fn count_handover(was_in_kernel: bool, tls: &TlsStream, service: &Shared) {
    if !was_in_kernel && tls.is_in_kernel() {
        Counters::add_one(&service.counters.kernel_tls);
    }
}
