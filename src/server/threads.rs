//! The threads of a server besides the acceptor, the workers and those of the log and the admin
//! interface. Each ends when the sender of its channel is dropped.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use threadpool::ThreadPool;

use crate::diagnostics::say;
use crate::server::config::DigestChoice;
use crate::server::connection::Connection;
use crate::server::digests::{self, HashThreads, follow_tree, run_digest_worker};
use crate::server::files::Closing;
use crate::server::ring::Ring;
use crate::server::startup_error::StartupError;
use crate::server::telemetry::CloseReason;

/// Starts the threads that hash. The tree is followed until the sender is dropped.
pub(super) fn start_digests(ring: &Ring) -> Result<Option<Sender<()>>, StartupError> {
    let choice = ring.service.config.digests.choice;
    if choice == DigestChoice::Off {
        return Ok(None);
    }
    for _ in 0..digests::THREADS {
        let service = Arc::clone(&ring.service.digests);
        let disk = Arc::clone(&ring.disk);
        let done = move |device| disk.done_when_idle(device);
        let hash_threads = HashThreads::start().map_err(StartupError::Resources)?;
        let work = move || run_digest_worker(&service, &hash_threads, done);
        spawn("haul-digest", work)?;
    }
    if choice != DigestChoice::All {
        return Ok(None);
    }
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    let service = Arc::clone(&ring.service);
    spawn("haul-tree", move || {
        let config = &service.config;
        let path = config.files.is_empty().then_some(&*config.root);
        follow_tree(&service.digests, &service.root, path, &stopped);
    })?;
    Ok(Some(stop))
}

/// Starts the thread that hands files to be closed to the disk workers.
pub(super) fn start_closer(
    ring: &Ring,
    closing: Receiver<Closing>,
) -> Result<JoinHandle<()>, StartupError> {
    let disk = Arc::clone(&ring.disk);
    spawn("haul-close", move || {
        for closing in closing {
            disk.close_file(closing);
        }
    })
}

/// Starts the thread that looks for a root that was replaced. No other work is done there: the
/// root's path may hang.
pub(super) fn start_root(ring: &Ring) -> Result<Sender<()>, StartupError> {
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    let service = Arc::clone(&ring.service);
    spawn("haul-root", move || {
        let mut is_told = false;
        service.look_at_root();
        while stopped.recv_timeout(ROOT_CHECK) == Err(RecvTimeoutError::Timeout) {
            let is_covered = service.root.refresh();
            service.look_at_root();
            if !is_covered && !is_told {
                say(format_args!(
                    "haul: the sandbox does not cover what is now at {}: the old directory is \
                     served on; restart, or see --sandbox",
                    service.config.root.display()
                ));
            }
            is_told = !is_covered;
        }
    })?;
    Ok(stop)
}

/// Starts the thread that sweeps queues of file systems that hang, and forgets old scans.
pub(super) fn start_sweep(ring: &Arc<Ring>) -> Result<Sender<()>, StartupError> {
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    let ring = Arc::clone(ring);
    spawn("haul-sweep", move || {
        while stopped.recv_timeout(SWEEP) == Err(RecvTimeoutError::Timeout) {
            sweep(&ring);
            ring.service.scans.forget_old();
        }
    })?;
    Ok(stop)
}

/// Lets go of connections that wait for a file system that hangs, and whose peers have left.
pub(super) fn sweep(ring: &Ring) {
    let swept = ring.disk.sweep(Connection::has_left);
    ring.service.counters.swept.add(swept.gone.len() as u64);
    for connection in swept.gone {
        connection.close(CloseReason::Aborted, &ring.service);
    }
    for connection in swept.back {
        ring.dispatch.send_back(connection);
    }
}

/// Waits for the threads of these pools to end, for a limited time: a hung file system may hold one.
pub(super) fn wait_for(pools: &[ThreadPool]) {
    let ends = Instant::now() + POOL_GRACE;
    while pools.iter().any(|pool| pool.active_count() > 0) && Instant::now() < ends {
        std::thread::sleep(POOL_POLL);
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartupError> {
    let builder = std::thread::Builder::new().name(name.into());
    builder.spawn(work).map_err(StartupError::Resources)
}

/// A replaced root is noticed after at most this.
const ROOT_CHECK: Duration = Duration::from_millis(250);
/// A closed connection in a hung queue is noticed after at most twice this.
const SWEEP: Duration = Duration::from_secs(1);
const POOL_POLL: Duration = Duration::from_millis(5);
const POOL_GRACE: Duration = Duration::from_secs(2);
