//! `haul get`: from its command line to its exit status.

mod config;
mod options;

use std::thread;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use haul::diagnostics::say;
use haul::get::{Cancel, ErrorKind, Target, display, printable, run};

use super::signals::{outlive_file_size_limit, stop_on_signals};
use config::{Checked, Unusable};
pub(crate) use options::GetArguments;

/// Runs `haul get`.
///
/// # Errors
/// Whose fault it is; standard error has the rest.
pub(crate) fn fetch(args: GetArguments) -> Result<(), ErrorKind> {
    let Checked {
        config,
        jobs,
        display,
    } = config::of(args).map_err(|Unusable(text)| {
        say(format_args!("haul: {}", printable(&text)));
        ErrorKind::Usage
    })?;
    let cancel = Cancel::default();
    // A stream leaves nothing behind that would have to be put in order.
    let streams = jobs.iter().any(|job| job.target == Target::Stream);
    let grace = streams.then_some(STREAM_GRACE);
    let caught = outlive_file_size_limit();
    if let Err(error) = caught.and_then(|()| stop_on_signals(cancel.flag(), grace)) {
        say(format_args!("haul: cannot catch signals: {error}"));
    }
    let (events, shown) = crossbeam_channel::unbounded();
    let (showing, ended) = crossbeam_channel::bounded::<()>(0);
    let show = move || {
        display::show(display, &shown);
        drop(showing);
    };
    if let Err(error) = thread::Builder::new().spawn(show) {
        say(format_args!("haul: cannot start a thread: {error}"));
        return Err(ErrorKind::LocalFile);
    }
    let outcome = run(config, &jobs, &events, &cancel);
    // The display ends with its last sender, unless no reader takes its output.
    drop(events);
    while ended.recv_timeout(DISPLAY_GRACE) == Err(RecvTimeoutError::Timeout)
        && !cancel.is_cancelled()
    {}
    outcome
}

/// Time for the last lines of a download that was stopped.
const DISPLAY_GRACE: Duration = Duration::from_secs(1);
/// Time for a stream to end after the first signal, even without a reader.
const STREAM_GRACE: Duration = Duration::from_secs(1);
