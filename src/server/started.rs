//! A server whose threads run, until its end.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use threadpool::ThreadPool;

use crate::server::acceptor::Acceptor;
use crate::server::admin::{Admin, Observer};
use crate::server::handle::Handle;
use crate::server::ring::Ring;
use crate::server::telemetry::Snapshot;
use crate::server::telemetry::access_log::AccessLogWriter;
use crate::server::threads;

/// A server that has its threads, and accepts no connection so far.
#[derive(Debug)]
pub struct StartedServer {
    pub(super) handle: Handle,
    pub(super) ring: Arc<Ring>,
    pub(super) acceptor: Acceptor,
    /// The workers, and the disk workers.
    pub(super) pools: [ThreadPool; 2],
    /// Dropped, they end the other threads.
    pub(super) stops: [Option<Sender<()>>; 3],
    pub(super) closer: JoinHandle<()>,
    pub(super) admin: Option<(Admin, Arc<Observer>)>,
    pub(super) writer: AccessLogWriter,
}

impl StartedServer {
    /// Runs until [`Handle::shut_down`], and until transfers are finished, the grace has passed, or
    /// [`Handle::abort`] was called. Returns the final counters.
    #[must_use]
    pub fn run(self) -> Snapshot {
        let grace = self.ring.service.config.grace;
        self.acceptor.run();
        drop(self.stops);
        self.ring.service.digests.shut();
        let admin = match self.ring.service.is_handed_over() {
            true => {
                self.ring.service.digests.close_store();
                let admin = self.admin;
                admin
                    .map(|(admin, observer)| admin.hand_over(observer))
                    .and(None)
            }
            false => self.admin,
        };
        let counters = self.handle.finish(grace);
        if counters.open == 0 {
            threads::wait_for(&self.pools);
        }
        if let Some((admin, _)) = admin {
            admin.finish();
        }
        drop((self.handle, self.ring, self.closer));
        self.writer.finish();
        counters
    }
}
