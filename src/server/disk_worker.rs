//! A disk worker: it waits for disks, so that no hot worker has to.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::server::config::CacheChoice;
use crate::server::connection::{Connection, DiskJob, READ_AHEAD_EXTENTS};
use crate::server::disk_queue::Job;
use crate::server::ring::Ring;
use crate::server::telemetry::{CloseReason, Counters};
use crate::server::transmit::sink::IoBuffers;
use crate::server::transmit::{EXTENT_BYTES, drop_behind, warm};

/// Works in the disk lane until it is closed.
pub(super) fn run_disk_worker(ring: &Ring) {
    let mut tools = IoBuffers::default();
    while let Some((job, ticket)) = ring.disk.take() {
        let back = match job {
            Job::Visit(connection, errand) => visit(connection, errand, ring, &mut tools),
            Job::Prefetch(file, extent) => {
                if ring.service.config.cache == CacheChoice::DropBehind {
                    let reader = extent.offset.saturating_sub(AHEAD_BYTES);
                    drop_behind(&file, reader);
                }
                // Whoever sends these bytes will come upon the error, and has a peer to tell.
                let read = AssertUnwindSafe(|| warm(&file, extent, &mut tools));
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
        for connection in ring.disk.finish(&ticket).into_iter().chain(back) {
            ring.dispatch.send(connection);
        }
    }
}

/// Runs an errand; a panic in it costs that connection alone.
fn visit(
    mut connection: Box<Connection>,
    errand: DiskJob,
    ring: &Ring,
    tools: &mut IoBuffers,
) -> Option<Box<Connection>> {
    if ring.service.is_aborting() {
        return Some(connection);
    }
    let run = AssertUnwindSafe(|| {
        connection.run_disk_job(errand, &ring.service, tools);
        if let DiskJob::Read(_) = errand {
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

/// What is read ahead lies no further than this before its reader.
const AHEAD_BYTES: u64 = (READ_AHEAD_EXTENTS + 1) * EXTENT_BYTES;
