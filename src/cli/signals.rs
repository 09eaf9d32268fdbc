//! The signals that end a client program.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use haul::internals::exit_now;
use signal_hook::consts::signal::SIGXFSZ;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Waits for the next signal, whatever happens to the pipe that tells of it: a read that fails
/// panics in signal-hook, and a program without this thread could not be ended.
pub(crate) fn next_signal(signals: &mut Signals) -> i32 {
    loop {
        let next = AssertUnwindSafe(|| signals.forever().next());
        if let Ok(Some(signal)) = catch_unwind(next) {
            return signal;
        }
    }
}

/// A write beyond the limit of file sizes fails with an error, instead of ending the process.
pub(crate) fn outlive_file_size_limit() -> io::Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map(drop)
}

/// The first SIGINT, SIGTERM or SIGHUP sets `stop`, and the next one ends the process; so does
/// the first one after `grace`, whatever the process waits for by then.
pub(crate) fn stop_on_signals(stop: Arc<AtomicBool>, grace: Option<Duration>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let follow = move || {
        loop {
            let signal = next_signal(&mut signals);
            if stop.swap(true, Ordering::Relaxed) {
                exit_now(128 + signal);
            }
            if let Some(grace) = grace {
                let end = move || {
                    std::thread::sleep(grace);
                    exit_now(128 + signal)
                };
                if std::thread::Builder::new().spawn(end).is_err() {
                    exit_now(128 + signal);
                }
            }
        }
    };
    let thread = std::thread::Builder::new().name("haul-signals".into());
    thread.spawn(follow).map(drop)
}
