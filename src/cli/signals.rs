//! The signals that end a client program.

use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use haul::internals::exit_now;
use signal_hook::consts::signal::SIGXFSZ;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

/// The received signals, independent of failures of the handler's socket.
pub(crate) struct SignalReceiver(SignalDelivery<UnixStream, SignalOnly>);

impl SignalReceiver {
    /// Takes these signals from now on.
    ///
    /// # Errors
    /// No descriptor left (socketpair(2)), or a signal that cannot be taken (sigaction(2)).
    pub(crate) fn new(signals: impl IntoIterator<Item = i32>) -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        read.set_read_timeout(Some(LOOK_EVERY))?;
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, signals)?;
        Ok(Self(delivery))
    }

    /// Waits for the next signal.
    pub(crate) fn next(&mut self) -> i32 {
        loop {
            if let Some(signal) = self.0.pending().next() {
                return signal;
            }
            match self.0.get_read_mut().read(&mut [0]) {
                Ok(1..) => {}
                Err(error) if matches!(error.kind(), WouldBlock | Interrupted) => {}
                // The socket reports nothing any more, at once: signals are looked for by the clock.
                Ok(0) | Err(_) => std::thread::sleep(AFTER_ERROR),
            }
        }
    }
}

/// A write beyond the limit of file sizes fails with an error, instead of ending the process.
pub(crate) fn outlive_file_size_limit() -> io::Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map(drop)
}

/// The first SIGINT, SIGTERM or SIGHUP sets `stop`, and the next one ends the process; so does the
/// end of `grace` after the first.
pub(crate) fn stop_on_signals(stop: Arc<AtomicBool>, grace: Option<Duration>) -> io::Result<()> {
    let mut signals = SignalReceiver::new([SIGTERM, SIGINT, SIGHUP])?;
    let follow = move || {
        loop {
            let signal = signals.next();
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

/// The handler's message may be lost where the system is out of memory; the signal is kept.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const AFTER_ERROR: Duration = Duration::from_millis(100);
