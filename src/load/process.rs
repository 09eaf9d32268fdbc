//! The usage of a local server: processor time and memory of a process and all its descendants,
//! from `/proc` (`proc_pid_stat(5)`). Descendants count because servers such as nginx work in
//! children.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::sys::resources::{clock_ticks_per_second, page_bytes};

/// A reading of one process and its descendants.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// User and system time since the processes began, in seconds.
    pub(super) cpu_seconds: f64,
    /// Resident memory in bytes; pages shared between processes count in each.
    pub(super) resident_bytes: u64,
    pub(super) processes: u64,
    pub(super) threads: u64,
}

/// Reads the usage of `pid` and its descendants; `None` if there is no such process.
pub(super) fn read(pid: u32) -> Option<Usage> {
    let stats: HashMap<u32, Stat> = fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|process| Some((process, Stat::read(process)?)))
        .collect();
    stats.get(&pid)?;
    let mut usage = Usage::default();
    let mut ticks = 0;
    for (&process, stat) in &stats {
        if descends(process, pid, &stats) {
            ticks += stat.ticks;
            usage.resident_bytes += stat.resident_pages * page_bytes();
            usage.processes += 1;
            usage.threads += stat.threads;
        }
    }
    usage.cpu_seconds = ticks as f64 / clock_ticks_per_second() as f64;
    Some(usage)
}

/// Memory that all TCP sockets of the machine hold, in bytes (`/proc/net/sockstat`).
pub(super) fn tcp_memory_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/net/sockstat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|&word| word == "mem")?;
    let pages: u64 = words.next()?.parse().ok()?;
    Some(pages * page_bytes())
}

fn descends(mut process: u32, ancestor: u32, stats: &HashMap<u32, Stat>) -> bool {
    // Processes start and end during the walk, so the chain may be broken, or even a circle.
    for _ in 0..stats.len() {
        if process == ancestor {
            return true;
        }
        match stats.get(&process) {
            Some(stat) => process = stat.parent,
            None => return false,
        }
    }
    false
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    ticks: u64,
    threads: u64,
    resident_pages: u64,
}

impl Stat {
    fn read(process: u32) -> Option<Self> {
        Self::parse(
            &fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat")).ok()?,
        )
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field, the command in parentheses, may itself hold spaces and parentheses.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - FIRST_FIELD)?.parse::<u64>().ok();
        Some(Self {
            parent: u32::try_from(number(4)?).ok()?,
            ticks: number(14)? + number(15)?,
            threads: number(20)?,
            resident_pages: number(24)?,
        })
    }
}

/// The number that `proc_pid_stat(5)` gives to the field behind the command.
const FIRST_FIELD: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_may_hold_anything() {
        let text =
            "7 (a) b (c) S 3 7 7 0 -1 4194304 1 2 3 4 50 60 8 9 20 0 11 0 100 2000 33 18446744";
        let stat = Stat {
            parent: 3,
            ticks: 110,
            threads: 11,
            resident_pages: 33,
        };
        assert_eq!(Stat::parse(text), Some(stat));
    }

    #[test]
    fn this_process_is_seen_and_process_zero_is_not() {
        let usage = read(std::process::id()).expect("this process runs");
        assert!(usage.resident_bytes > 0 && usage.threads > 0 && usage.processes > 0);
        assert_eq!(read(0), None);
    }
}
