//! The way to a running server from other threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::server::config::{ConnectionLimits, Rates};
use crate::server::ring::Ring;
use crate::server::semaphore::Semaphore;
use crate::server::telemetry::{CloseReason, Snapshot};
use crate::sync;
use crate::sys::poller::Poller;
use crate::tls::identity::IdentityError;
use crate::tls::server::ServerTls;

/// The way to a running server, from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) ring: Arc<Ring>,
    acceptor: Arc<Poller>,
    permits: (Arc<Semaphore>, Arc<Semaphore>),
}

impl Handle {
    pub(super) fn new(
        ring: &Arc<Ring>,
        acceptor: &Arc<Poller>,
        permits: &(Arc<Semaphore>, Arc<Semaphore>),
    ) -> Self {
        Self {
            ring: Arc::clone(ring),
            acceptor: Arc::clone(acceptor),
            permits: permits.clone(),
        }
    }

    /// Ends the server: no new connections, idle ones are closed, transfers under way finish
    /// within the grace.
    pub fn shut_down(&self) {
        self.ring.service.drain();
        self.acceptor.wake();
        self.ring.dispatch.wake_all();
    }

    /// Ends the server as [`Self::shut_down`] does, for a successor on the same sockets: the
    /// successor gets the admin interface and the store of digests.
    pub fn hand_over(&self) {
        self.ring.service.hand_over();
        self.shut_down();
    }

    /// Ends the server without the grace: transfers under way are reset, and recorded as such.
    pub fn abort(&self) {
        self.ring.service.abort();
        self.acceptor.wake();
        self.ring.dispatch.wake_all();
    }

    /// The counters now.
    #[must_use]
    pub fn counters(&self) -> Snapshot {
        // A permit is taken before its connection is counted and returned after its close was
        // counted. Read in this order, every accepted connection is either open or closed.
        let accepted = self.ring.service.counters.accepted.sum();
        let open = self.open();
        let mut snapshot = self.ring.service.counters.snapshot();
        (snapshot.accepted, snapshot.open) = (accepted, open);
        snapshot.closes_waiting = self.ring.disk.closing();
        snapshot
    }

    /// Opens the access log again, after it was moved away.
    pub fn reopen_access_log(&self) {
        self.ring.service.journal.reopen();
    }

    /// Reads the files of passwords and keys again. A file with a fault leaves the old content in
    /// place; returns the faults.
    #[must_use]
    pub fn reload_access(&self) -> Vec<String> {
        let access = self.ring.service.access.as_ref();
        access.map(|access| access.reload()).unwrap_or_default()
    }

    /// Loads certificates and keys again, for new connections. Returns whether there are any.
    ///
    /// # Errors
    /// [`IdentityError`] names the file and the fault; the old ones stay.
    pub fn reload_certificates(&self) -> Result<bool, IdentityError> {
        match &self.ring.service.tls {
            Some(tls) => tls.reload().map(|()| true),
            None => Ok(false),
        }
    }

    /// Faults of the certificates in use that clients find, one line each.
    #[must_use]
    pub fn certificate_warnings(&self) -> Vec<String> {
        let tls = self.ring.service.tls.as_ref();
        tls.map_or_else(Vec::new, ServerTls::warnings)
    }

    /// Changes rates and limits, for transfers under way too. Connections beyond a lower limit
    /// stay.
    pub fn set_limits(&self, rates: &Rates, limits: &ConnectionLimits) {
        self.ring.service.set_limits(rates, limits);
    }

    fn open(&self) -> u64 {
        (self.permits.0.taken() + self.permits.1.taken()) as u64
    }

    /// Waits until no connection is left, or until `goes_on` is false.
    fn wait_while(&self, goes_on: impl Fn() -> bool) {
        while self.open() > 0 && goes_on() {
            sync::pause(DRAIN_POLL);
        }
    }

    /// Lets transfers finish within the grace, and closes the rest. Returns the counters; `open` is
    /// not zero where a disk hangs.
    pub(super) fn finish(&self, grace: Duration) -> Snapshot {
        let grace_ends = Instant::now() + grace;
        self.wait_while(|| Instant::now() < grace_ends && !self.ring.service.is_aborting());
        self.abort();
        // Workers close the rest at once; a hung disk is not waited for. Connections from the disk
        // queue may find no worker any more.
        let abort_ends = Instant::now() + ABORT_GRACE;
        self.wait_while(|| {
            while let Some(connection) = self.ring.dispatch.receive() {
                connection.close(CloseReason::Shutdown, &self.ring.service);
            }
            Instant::now() < abort_ends
        });
        self.ring.disk.shut();
        self.counters()
    }
}

const DRAIN_POLL: Duration = Duration::from_millis(5);
const ABORT_GRACE: Duration = Duration::from_secs(2);
