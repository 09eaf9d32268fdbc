//! The threads of a session: the coordinator with its segments, the keeper of the state, the prover
//! of blocks, and the hasher. They run until the file is whole or turns out to be another file.

use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::coordinator::Coordinator;
use super::prover;
use super::session::{Session, SessionEnd};
use crate::get::checksum::{Caught, Verifier};
use crate::get::client::Response;
use crate::get::download::mirrors::Mirrors;
use crate::get::error::GetError;
use crate::get::event::Event;
use crate::get::shared::attempts::Attempts;

/// Runs `session` to its end.
///
/// # Errors
/// The failure that another attempt could not cure; the part file keeps its bytes.
pub(crate) fn run(
    session: &Session<'_>,
    mirrors: &mut Mirrors,
    first: Option<(usize, Box<Response>)>,
    attempts: &mut Attempts,
) -> Result<SessionEnd, GetError> {
    // Before any thread starts: the keeper may start late.
    let saved = session.plan().done().total();
    let (end, saved) = thread::scope(|scope| {
        let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
        let keeper_stopped = stopped.clone();
        let keeper = spawn(scope, move || keep_state(session, saved, &keeper_stopped))?;
        let follower = (!session.checksums.is_empty())
            .then(|| spawn(scope, move || hash_behind(session, &stopped)));
        let follower = follower.transpose()?;
        let (wake, woken) = crossbeam_channel::bounded(1);
        let (findings, found) = crossbeam_channel::unbounded();
        let (cancellation, cancel) = session.shared.cancellation().fork();
        spawn(scope, move || {
            prover::run(session, &woken, &findings, &cancellation);
        })?;
        let end = Coordinator::new(session, mirrors, attempts, (wake, found)).run(scope, first);
        cancel.cancel();
        drop(stop);
        let joined = "the thread's panics are the scope's";
        let saved = keeper.join().expect(joined);
        let verified = follower.map_or(Ok(()), |follower| follower.join().expect(joined));
        let end = end.and_then(|end| match end {
            SessionEnd::Whole => verified.map(|()| SessionEnd::Whole),
            start_over => Ok(start_over),
        });
        Ok((end, saved))
    })?;
    if end.is_err() {
        keep_rest(session, saved);
    }
    end
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, GetError> {
    thread::Builder::new()
        .spawn_scoped(scope, work)
        .map_err(|error| GetError::no_thread(&error))
}

/// Saves what the state on the disk does not claim, after the last write. On a full disk the file's
/// last bytes make room for that.
fn keep_rest(session: &Session<'_>, saved: u64) {
    let mut plan = session.plan();
    let mut state = session.state.clone();
    state.done = plan.done().clone();
    if plan.is_whole() || state.done.total() <= saved || session.part.sync_data().is_err() {
        return;
    }
    if session.part.save(&state).is_err() && session.part.give_back(&mut state.done).is_ok() {
        plan.restrict_to(&state.done);
        let _ = session.part.save(&state);
    }
}

/// Writes the state after its data, at intervals, and once more at the end of the session. The
/// existing state claims `saved` bytes; returns the bytes of the last one.
fn keep_state(session: &Session<'_>, mut saved: u64, stopped: &Receiver<()>) -> u64 {
    let mut pause = SAVE_EVERY;
    loop {
        let last = stopped.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected);
        let done = {
            let plan = session.plan();
            if last && plan.is_whole() {
                return saved;
            }
            plan.done().clone()
        };
        let began = Instant::now();
        if done.total() != saved {
            let total = done.total();
            let mut state = session.state.clone();
            state.done = done;
            // On a full disk the state before stays valid: it only claims less.
            if session
                .part
                .sync_data()
                .and_then(|()| session.part.save(&state))
                .is_ok()
            {
                saved = total;
            }
        }
        if last {
            return saved;
        }
        // A slow disk must not spend its time on this.
        pause = SAVE_EVERY.max(began.elapsed() * 20);
    }
}

/// Hashes the contiguous bytes from the start, so that the sum is known at the end; skipped while
/// good blocks suffice.
fn hash_behind(session: &Session<'_>, stopped: &Receiver<()>) -> Result<(), GetError> {
    let mut verifier = Verifier::new(session.checksums);
    let mut shown: Option<Instant> = None;
    loop {
        if session.blocks.covers(session.checksums) {
            return Ok(());
        }
        // The hash of a bad block is void.
        let bad = session.blocks.take_first_bad();
        if bad.is_some_and(|bad| bad < verifier.hashed()) {
            verifier = Verifier::new(session.checksums);
        }
        let front = session.blocks.front(session.plan().done());
        let file = (session.part.file(), session.part.path());
        if verifier.follow(file, front)? == Caught::Behind {
            session.shared.check()?;
            let is_due = shown.is_none_or(|shown| shown.elapsed() >= SHOW_EVERY);
            if is_due && session.plan().is_whole() {
                shown = Some(Instant::now());
                session.reporter.send(|file| Event::Verifying {
                    file,
                    name: session.part.target().to_owned(),
                    done: verifier.hashed(),
                    length: front,
                });
            }
            continue;
        }
        let stopped = stopped.recv_timeout(FOLLOW_EVERY) == Err(RecvTimeoutError::Disconnected);
        let plan = session.plan();
        if stopped && !plan.is_whole() {
            return Ok(());
        }
        if stopped && session.blocks.front(plan.done()) == front {
            drop(plan);
            return verifier.finish();
        }
    }
}

const SHOW_EVERY: Duration = Duration::from_millis(100);
const FOLLOW_EVERY: Duration = Duration::from_millis(20);
const SAVE_EVERY: Duration = Duration::from_millis(200);
