//! A session of a download, and its results.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, OnceLock};

use crate::get::client::Response;
use crate::get::download::block_ledger::BlockLedger;
use crate::get::download::plan::Plan;
use crate::get::download::run;
use crate::get::download::session::{Session, SessionEnd};
use crate::get::download::transfer::state::Transfer;
use crate::get::error::{ErrorKind, GetError};
use crate::get::event::Event;
use crate::get::part_file::validate::{Identity, Trust};

impl Transfer<'_> {
    pub(super) fn session(
        &mut self,
        first: Option<(usize, Box<Response>)>,
    ) -> Result<SessionEnd, GetError> {
        let held = self
            .holdings
            .current
            .as_mut()
            .expect("a session fills a part file");
        let state = &held.state;
        let enough = |identity: &Identity| identity.is_enough(self.trust);
        let identity = state.identity.clone().filter(enough);
        let source = match &first {
            Some((mirror, _)) => *mirror,
            None => self.mirrors.find(&state.url).unwrap_or(0),
        };
        if first.is_none()
            && let Some(identity) = &identity
        {
            let url = self.mirrors.url(source).clone();
            self.mirrors.learn(source, url, identity.validator.clone());
        }
        self.reporter.send(|file| Event::Started {
            file,
            name: self.target.to_owned(),
            url: self.url.to_string(),
            length: state.length(),
            resumed: state.done.total(),
        });
        let session = Session {
            shared: self.shared,
            reporter: self.reporter,
            part: &held.part,
            state: state.clone(),
            identity,
            source,
            trust: match self.has_proven_mirrors {
                true => Trust::Checksum,
                false => self.trust,
            },
            checksums: self.proof.checksums(),
            blocks: BlockLedger::new(self.list.clone(), self.list_source.clone()),
            mirror_digest: OnceLock::new(),
            plan: Mutex::new(Plan::new(state.length(), state.done.clone())),
            writing_nanos: AtomicU64::new(0),
        };
        let end = run::run(&session, &mut self.mirrors, first, &mut self.attempts);
        let (done, received, whole) = {
            let plan = session.plan();
            (plan.done().clone(), plan.received(), plan.is_whole())
        };
        self.received += received;
        if session.blocks.is_settled() || !whole {
            self.list = session.blocks.list();
        }
        let (is_haul, proven) = (session.blocks.was_sought(), session.blocks.proven());
        let mirror_digest = session.mirror_digest.get().cloned();
        let kept = done.total();
        let can_go_on = session.identity.is_some();
        self.mirror_digest = mirror_digest.or_else(|| self.mirror_digest.take());
        held.state.done = done;
        held.state.whole = whole;
        self.proof.note_blocks(is_haul, proven.filter(|_| whole));
        let is_remote = !matches!(
            end.as_ref().map_err(|error| error.kind),
            Err(ErrorKind::LocalFile | ErrorKind::Verification)
        );
        end.map_err(|error| match (error.is_stop(), can_go_on) {
            (stops, true) if stops || (is_remote && kept > 0) => error.and(format!(
                "{kept} bytes are kept: the same command goes on from there"
            )),
            (true, false) => {
                error.and("the server cannot go on in the middle: the same command starts over")
            }
            _ => error,
        })
    }
}
