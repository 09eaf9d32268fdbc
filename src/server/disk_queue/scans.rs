//! Connections that wait for a shared scan: each scan has one step in the queue or in a disk worker
//! at a time.
//!
//! After each step another waiting connection has its turn, before the other jobs of its client: a
//! client with a long queue delays no other client. Scans under way have permits, so there are few.

use std::collections::HashMap;

use crate::server::connection::Connection;
use crate::server::connection::step::DiskAction;
use crate::server::listing::ScanNumber;

/// The scans under way.
#[derive(Debug, Default)]
pub(super) struct Scans(HashMap<ScanNumber, Waiting>);

#[derive(Debug)]
struct Waiting {
    /// The file system of the directory.
    device: u64,
    connections: Vec<Box<Connection>>,
}

/// A job's part in a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScanTurn {
    /// It takes the scan further, unless another job does.
    Next(ScanNumber),
    /// It continues the scan, and others wait for that.
    Current(ScanNumber),
}

impl ScanTurn {
    pub(super) fn of(action: DiskAction) -> Option<Self> {
        match action {
            DiskAction::ProduceListing(scan) => scan.map(Self::Next),
            _ => None,
        }
    }

    pub(super) fn scan(self) -> ScanNumber {
        match self {
            Self::Next(scan) | Self::Current(scan) => scan,
        }
    }
}

impl Scans {
    /// Makes a connection wait for a scan that another one continues.
    pub(super) fn wait(
        &mut self,
        turn: Option<ScanTurn>,
        connection: Box<Connection>,
    ) -> Result<(), Box<Connection>> {
        let waiting = match turn {
            Some(ScanTurn::Next(scan)) => self.0.get_mut(&scan),
            Some(ScanTurn::Current(_)) | None => None,
        };
        match waiting {
            Some(waiting) => {
                waiting.connections.push(connection);
                Ok(())
            }
            None => Err(connection),
        }
    }

    /// A job begins that takes a scan further.
    pub(super) fn begin(&mut self, scan: ScanNumber, device: u64) {
        let connections = Vec::new();
        self.0.entry(scan).or_insert(Waiting {
            device,
            connections,
        });
    }

    /// Removes the connection that continues a scan next.
    pub(super) fn next(&mut self, scan: ScanNumber) -> Option<Box<Connection>> {
        self.0.get_mut(&scan)?.connections.pop()
    }

    /// Removes all connections that wait for the scan.
    pub(super) fn end(&mut self, scan: ScanNumber) -> Vec<Box<Connection>> {
        let ended = self.0.remove(&scan);
        ended.map_or_else(Vec::new, |waiting| waiting.connections)
    }

    /// Whether others wait for what this job does.
    pub(super) fn is_needed(&self, turn: ScanTurn) -> bool {
        let ScanTurn::Current(scan) = turn else {
            return false;
        };
        let waiting = self.0.get(&scan);
        waiting.is_some_and(|waiting| !waiting.connections.is_empty())
    }

    /// Removes the waiting connections of every scan of a file system, to be put back.
    pub(super) fn take_all(&mut self, device: u64) -> Vec<(ScanNumber, Vec<Box<Connection>>)> {
        let scans = self.0.iter_mut().filter(|(_, it)| it.device == device);
        scans
            .map(|(scan, waiting)| (*scan, std::mem::take(&mut waiting.connections)))
            .collect()
    }

    /// Puts connections back; those whose scan has ended meanwhile are returned.
    pub(super) fn put_back(
        &mut self,
        scan: ScanNumber,
        connections: Vec<Box<Connection>>,
    ) -> Vec<Box<Connection>> {
        match self.0.get_mut(&scan) {
            Some(waiting) => {
                waiting.connections.extend(connections);
                Vec::new()
            }
            None => connections,
        }
    }
}
