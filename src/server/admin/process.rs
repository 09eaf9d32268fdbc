//! The system's figures of this process (proc(5)).

use std::fs;

use crate::sys::resources;

/// The process's usage; figures that the system lacks are left out.
#[derive(Debug, Default)]
pub(super) struct Usage {
    pub cpu_seconds: Option<f64>,
    pub virtual_bytes: Option<u64>,
    pub resident_bytes: Option<u64>,
    pub threads: Option<u64>,
    pub open_files: Option<u64>,
    pub most_open_files: u64,
}

impl Usage {
    pub(super) fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name in front may hold spaces and parentheses.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // Numbered from 3 on in proc(5).
        let field = |number: usize| -> Option<u64> { fields.get(number - 3)?.parse().ok() };
        let ticks = field(14).zip(field(15)).map(|(user, system)| user + system);
        let per_second = resources::clock_ticks_per_second().max(1) as f64;
        let page = resources::page_bytes();
        let files = fs::read_dir("/proc/self/fd").ok();
        Self {
            cpu_seconds: ticks.map(|ticks| ticks as f64 / per_second),
            threads: field(20),
            virtual_bytes: field(23),
            resident_bytes: field(24).map(|pages| pages * page),
            // The directory itself is one of them.
            open_files: files.map(|files| (files.count() as u64).saturating_sub(1)),
            most_open_files: resources::open_files(),
        }
    }
}
