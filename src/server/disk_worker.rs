//! A disk worker's loop: it waits for disks, so that no hot worker has to, and sends connections
//! back to dispatch.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::server::config::CacheChoice;
use crate::server::connection::Connection;
use crate::server::connection::step::DiskAction;
use crate::server::disk_queue::Job;
use crate::server::ring::Ring;
use crate::server::telemetry::{CloseReason, Counters};
use crate::server::transmit::EXTENT_BYTES;
use crate::server::transmit::read_ahead::{READ_AHEAD_EXTENTS, ReadAhead, read_into_cache};
use crate::server::transmit::sink::IoBuffers;

/// Runs jobs from the disk queue until it is shut.
pub(super) fn run_disk_worker(ring: &Ring) {
    let mut tools = IoBuffers::default();
    while let Some((job, ticket)) = ring.disk.take() {
        let back = match job {
            Job::Connection(connection, action) => run_job(connection, action, ring, &mut tools),
            Job::Prefetch(ReadAhead { file, extent, .. }) => {
                if ring.service.config.cache == CacheChoice::DropBehind {
                    let reader = extent.offset.saturating_sub(AHEAD_BYTES);
                    file.drop_behind(reader);
                }
                // An error is ignored here: the connection that sends these bytes meets it again
                // and reports it.
                let read = AssertUnwindSafe(|| read_into_cache(&file, extent, &mut tools));
                if matches!(catch_unwind(read), Ok(Ok(()))) {
                    Counters::add_one(&ring.service.counters.extents_warmed);
                }
                None
            }
            Job::Close(file) => {
                drop(file);
                None
            }
        };
        for connection in ring
            .disk
            .finish(&ticket, back.as_deref())
            .into_iter()
            .chain(back)
        {
            ring.dispatch.send_back(connection);
        }
    }
}

/// Runs a connection's job; a panic in it costs that connection alone.
fn run_job(
    mut connection: Box<Connection>,
    action: DiskAction,
    ring: &Ring,
    tools: &mut IoBuffers,
) -> Option<Box<Connection>> {
    if ring.service.is_aborting() {
        return Some(connection);
    }
    let run = AssertUnwindSafe(|| {
        connection.run_disk_job(action, &ring.service, tools);
        if let DiskAction::Read(..) = action {
            ring.disk.read_ahead(&mut connection);
        }
    });
    if catch_unwind(run).is_ok() {
        return Some(connection);
    }
    Counters::add_one(&ring.service.counters.panics);
    connection.close(CloseReason::Panicked, &ring.service);
    None
}

/// Extents are read ahead by no more than this.
const AHEAD_BYTES: u64 = (READ_AHEAD_EXTENTS + 1) * EXTENT_BYTES;
