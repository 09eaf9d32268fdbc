//! The thread that holds blocks against the server's list as they land. The prover never holds
//! receiving up: the bytes are read back from the page cache.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::block_ledger::{BadBlock, ListState};
use super::session::Session;
use crate::digest::BlockList;
use crate::digest::blocks::BLOCK_BYTES;
use crate::get::blocks::{self, ListAnswer, agrees};
use crate::get::client::cancellation::Cancellation;
use crate::get::error::GetError;

/// A message of the prover to the coordinator.
#[derive(Debug)]
pub(super) enum Finding {
    /// The list has arrived: mirrors are checked by it from now on.
    Listed,
    /// A block is bad, and was forgotten.
    Bad(BadBlock),
    /// All blocks are good, or there is no list.
    Settled,
    /// The part file cannot be read.
    Failed(GetError),
}

/// Verifies blocks until the sender of `wake` is dropped.
pub(super) fn run(
    session: &Session<'_>,
    wake: &Receiver<()>,
    findings: &Sender<Finding>,
    cancellation: &Cancellation,
) {
    let tell = |finding| drop(findings.send(finding));
    let listed = seek(session, wake, cancellation);
    let Some(list) = listed else {
        if !matches!(session.blocks.listing(), ListState::Unsought) {
            session.blocks.give_up();
        }
        return tell(Finding::Settled);
    };
    tell(Finding::Listed);
    let mut buffer = vec![0; blocks::PIECE_BYTES];
    // The list is dropped once it contradicts the user's checksum.
    while session.blocks.list().is_some() {
        let done = session.plan().done().clone();
        let Some(number) = session.blocks.next(&done, list.len()) else {
            if session.blocks.is_settled() {
                tell(Finding::Settled);
            }
            match wake.recv_timeout(LOOK_EVERY) {
                Err(RecvTimeoutError::Disconnected) => return,
                _ => continue,
            }
        };
        if cancellation.check().is_err() {
            return;
        }
        match blocks::is_good(session.part.file(), &list, number, &mut buffer) {
            Ok(true) => session.blocks.note_good(number, list.len()),
            Ok(false) => {
                // Under the plan's lock: the coordinator takes the file for whole under it.
                let mut plan = session.plan();
                if let Some(bad) = session.blocks.note_bad(number, list.len()) {
                    plan.forget(bad.extent);
                    drop(plan);
                    tell(Finding::Bad(bad));
                }
            }
            Err(error) => {
                let error = GetError::local("read", session.part.path(), &error);
                return tell(Finding::Failed(error));
            }
        }
    }
}

/// The list, as soon as the server has a valid one; `None` if there will be none.
fn seek(
    session: &Session<'_>,
    wake: &Receiver<()>,
    cancellation: &Cancellation,
) -> Option<Arc<BlockList>> {
    let mut pause = LOOK_EVERY;
    let mut asked = None;
    loop {
        match session.blocks.listing() {
            ListState::Known(list) => return Some(list),
            ListState::None => return None,
            ListState::Unsought => {}
            ListState::Asked(source) => asked = Some(source),
            ListState::Pending => pause = (pause * 2).min(MAX_PAUSE),
        }
        if let Some(source) = &asked {
            let length = session.state.length().filter(|it| *it > BLOCK_BYTES)?;
            let version = (length, source.validator.as_ref());
            match blocks::ask(session.shared, &source.url, version, cancellation) {
                Ok(ListAnswer::List(list)) if agrees(&list, session.checksums) => {
                    let list = Arc::new(list);
                    return session.blocks.take_list(&list).then_some(list);
                }
                Ok(ListAnswer::Pending) => session.blocks.note_pending(),
                Ok(ListAnswer::List(_)) => {
                    let text = "the server's list of blocks is another file's: it is left out";
                    session.reporter.note(text.to_owned());
                    return None;
                }
                Ok(ListAnswer::None) | Err(_) => return None,
            }
        }
        match wake.recv_timeout(pause) {
            Err(RecvTimeoutError::Disconnected) => return None,
            // The whole file is here: its digest is requested by other means.
            Ok(()) if asked.is_some() => return None,
            _ => {}
        }
    }
}

/// Where the block is, for a person.
pub(super) fn place(bad: &BadBlock) -> String {
    let (start, end) = bad.extent;
    let (number, last) = (start / BLOCK_BYTES, end - 1);
    format!("block {number}, bytes {start} to {last},")
}

const LOOK_EVERY: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_secs(5);
