//! Queues of jobs that may wait for a disk, for each file system, round robin by client. Look-ups,
//! listings and reads have queues of their own, so that a look-up waits for no read of another
//! client's.
//!
//! A queue may use a disk worker only while it occupies fewer than are free (a dynamic threshold):
//! hung reads take half of the workers, hung look-ups half of the rest, and one is always left for
//! a file system without running jobs. Readers of one extent share one read, and requests for one
//! page of a directory share one scan.
//!
//! Extents ahead of a reader are read one after the other: then the kernel reads ahead as well, and
//! into large folios, which cost less to send. On a file system where each read may take long, a
//! whole extent is requested at once.

pub(crate) mod gauge;
mod key;
#[cfg(all(test, feature = "models"))]
mod models;
mod queues;
mod scans;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError};

use crate::server::connection::Connection;
use crate::server::connection::step::{DiskAction, DiskJob};
use crate::server::disk_queue::gauge::DiskGauges;
use crate::server::disk_queue::key::{QueueKey, QueueKind};
use crate::server::disk_queue::queues::Queues;
pub(super) use crate::server::disk_queue::queues::{Job, Ticket};
use crate::server::disk_queue::scans::ScanTurn;
use crate::server::files::Closing;
use crate::server::telemetry::Counters;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// The connections that were taken out of hung queues.
#[derive(Debug, Default)]
pub(super) struct Swept {
    /// To be closed.
    pub(super) gone: Vec<Box<Connection>>,
    /// Connections to be resumed: their wait has ended.
    pub(super) back: Vec<Box<Connection>>,
}

impl Swept {
    /// Removes connections whose peers have left from `waiting`; the others stay.
    fn take_gone(
        &mut self,
        waiting: Vec<Box<Connection>>,
        looks_gone: &impl Fn(&mut Connection) -> bool,
    ) -> Vec<Box<Connection>> {
        let mut left = Vec::with_capacity(waiting.len());
        for mut connection in waiting {
            match looks_gone(&mut connection) {
                true => self.gone.push(connection),
                false => left.push(connection),
            }
        }
        left
    }
}

/// The queues, for threads: workers wait here for jobs.
#[derive(Debug)]
pub(super) struct DiskQueue {
    lines: Mutex<Queues>,
    work: Condvar,
    counters: Arc<Counters>,
    gauges: DiskGauges,
}

impl DiskQueue {
    /// Queues for so many workers.
    #[must_use]
    pub(super) fn new(workers: usize, counters: Arc<Counters>) -> Self {
        let gauges = DiskGauges::default();
        Self {
            lines: Mutex::new(Queues::new(workers, gauges.clone())),
            work: Condvar::new(),
            counters,
            gauges,
        }
    }

    /// Queues a connection's job; if its extent or scan is already under way, the connection waits
    /// for that and costs no read.
    pub(super) fn submit(&self, connection: Box<Connection>, job: DiskJob) {
        let extent = match job.action {
            DiskAction::Read(_, key) => Some(key),
            _ => None,
        };
        let mut lines = self.lock();
        if let Some(key) = extent {
            let wanted = lines.extents.entry(key).or_default();
            if wanted.begun {
                wanted.waiting.push(connection);
                Counters::add_one(&self.counters.extents_shared);
                return;
            }
            wanted.begun = true;
        }
        let scan = ScanTurn::of(job.action);
        let Err(connection) = lines.scans.wait(scan, connection) else {
            return;
        };
        let client = Arc::clone(connection.client());
        let line = QueueKey::of_job(job);
        let ticket = Ticket {
            line,
            extent,
            reader: None,
            scan,
        };
        let job = (Job::Connection(connection, job.action), ticket);
        lines.put(line, |queue| queue.jobs.push(&client, job));
        drop(lines);
        self.work.notify_one();
    }

    /// Queues the extents that a connection needs next, except those under way. A long queue gets
    /// none: connections that wait for bytes go first.
    pub(super) fn read_ahead(&self, connection: &mut Connection) {
        while let Some(ahead) = connection.next_read_ahead() {
            let (reader, client) = (connection.number(), Arc::clone(connection.client()));
            if self.lock().read_ahead(reader, client, ahead) {
                self.work.notify_one();
            }
        }
    }

    /// Jobs of this file system that are done; `None` while one waits or runs.
    pub(super) fn done_when_idle(&self, device: u64) -> Option<u64> {
        let lines = self.lock();
        let is_busy =
            lines.running.contains_key(&device) || lines.turns.iter().any(|it| it.device == device);
        let done = lines.gauges.get(&device).map_or(0, |it| it.counts()[2]);
        (!is_busy).then_some(done)
    }

    /// Queues the close of a file; once the queue is shut, the file is closed at once.
    pub(super) fn close_file(&self, closing: Closing) {
        let (device, kind) = (closing.device(), QueueKind::Closes);
        let mut lines = self.lock();
        if lines.shut {
            drop(lines);
            return drop(closing);
        }
        lines.put(QueueKey { device, kind }, |queue| {
            queue.closing.push_back(closing);
        });
        drop(lines);
        self.work.notify_one();
    }

    /// How many files wait to be closed, or are being closed.
    pub(super) fn closing(&self) -> u64 {
        let lines = self.lock();
        let closes = lines
            .waiting
            .iter()
            .filter(|(line, _)| line.kind == QueueKind::Closes);
        closes
            .map(|(_, queue)| (queue.closing.len() + queue.running) as u64)
            .sum()
    }

    /// Removes connections that wait in a stuck queue and for which `looks_gone` holds. Returns
    /// those, and others whose wait has ended meanwhile.
    #[must_use]
    pub(super) fn sweep(&self, looks_gone: impl Fn(&mut Connection) -> bool) -> Swept {
        let mut swept = Swept::default();
        let standing = self.lock().standing();
        for line in standing {
            let mut left = self
                .lock()
                .waiting
                .get(&line)
                .map_or(0, |queue| queue.jobs.len());
            while left > 0 {
                // A few at a time: others need the lock.
                let some = left.min(SWEPT_AT_ONCE);
                let gone = self.lock().sweep(line, some, &looks_gone);
                swept.gone.extend(gone);
                left -= some;
            }
            match line.kind {
                QueueKind::Reads => self.sweep_extents(line.device, &looks_gone, &mut swept),
                QueueKind::Listings => self.sweep_scans(line.device, &looks_gone, &mut swept),
                _ => {}
            }
        }
        swept
    }

    /// Sweeps the connections that wait for an extent that another job reads.
    fn sweep_extents(
        &self,
        device: u64,
        looks_gone: &impl Fn(&mut Connection) -> bool,
        swept: &mut Swept,
    ) {
        let keys = self.lock().extents_of(device);
        for key in keys {
            let mut lines = self.lock();
            let wanted = lines.extents.get_mut(&key);
            let waiting =
                wanted.map_or_else(Vec::new, |wanted| std::mem::take(&mut wanted.waiting));
            drop(lines);
            let left = swept.take_gone(waiting, looks_gone);
            match self.lock().extents.get_mut(&key) {
                // A wanted extent that was queued again may still be cancelled, and then wakes no
                // connection.
                Some(wanted) if wanted.begun => wanted.waiting.extend(left),
                _ => swept.back.extend(left),
            }
        }
    }

    /// Sweeps the connections that wait for a scan which another job takes further.
    fn sweep_scans(
        &self,
        device: u64,
        looks_gone: &impl Fn(&mut Connection) -> bool,
        swept: &mut Swept,
    ) {
        let scans = self.lock().scans.take_all(device);
        for (scan, waiting) in scans {
            let left = swept.take_gone(waiting, looks_gone);
            let back = self.lock().scans.put_back(scan, left);
            swept.back.extend(back);
        }
    }

    /// Takes the next job, and waits for one if necessary. `None` once the queue is shut and empty.
    #[must_use]
    pub(super) fn take(&self) -> Option<(Job, Ticket)> {
        let mut lines = self.lock();
        loop {
            if let Some(taken) = lines.next() {
                // Wakes one more worker only if there is work for it (chained wake-ups).
                let more = lines.has_next();
                drop(lines);
                if more {
                    self.work.notify_one();
                }
                return Some(taken);
            }
            if lines.shut {
                return None;
            }
            lines = self
                .work
                .wait(lines)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends a job, of `connection` if it was one's. Returns the others that waited for its extent, or
    /// for a scan that is not under way any more. The worker must come for its next job: it may be
    /// the only one that is awake.
    #[must_use]
    pub(super) fn finish(
        &self,
        ticket: &Ticket,
        connection: Option<&Connection>,
    ) -> Vec<Box<Connection>> {
        let goes_on = connection.is_some_and(Connection::scan_is_under_way);
        let mut lines = self.lock();
        let mut waited = lines.finish(ticket);
        if let Some(turn) = ticket.scan
            && !(goes_on && lines.go_on_with(turn.scan(), ticket.line))
        {
            waited.extend(lines.scans.end(turn.scan()));
        }
        waited
    }

    /// The load by file system.
    pub(super) fn gauges(&self) -> DiskGauges {
        self.gauges.clone()
    }

    /// Lets the workers go once the line is empty.
    pub(super) fn shut(&self) {
        self.lock().shut = true;
        self.work.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections that are looked at while others wait for the lock: some 100 us.
const SWEPT_AT_ONCE: usize = 256;
