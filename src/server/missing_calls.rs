//! System calls that the kernel lacks, and what a server does without them.

use crate::sys::send_file::missing_calls;

/// What the missing calls of this kernel cost, or those that seccomp(2) refuses; `look_ups` are the
/// missing ones for look-ups of names. `None` if none is missing.
pub(super) fn describe(look_ups: Vec<&'static str>) -> Option<String> {
    let (reads, copies): (Vec<_>, Vec<_>) =
        (missing_calls().into_iter()).partition(|call| *call == "preadv2");
    let costs = [
        (
            look_ups,
            "files are looked up by the disk threads, once a second each",
        ),
        (
            reads,
            "what is in memory is not known, and read by the disk threads first",
        ),
        (copies, "bytes are copied"),
    ];
    let costs = costs.into_iter().filter(|(missing, _)| !missing.is_empty());
    let costs: Vec<_> = costs
        .map(|(missing, cost)| format!("no {}: {cost}", missing.join(", no ")))
        .collect();
    (!costs.is_empty()).then(|| format!("this system has {}", costs.join("; ")))
}
