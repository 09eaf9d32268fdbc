//! The signals of a server: end, take-over, reload.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};

use haul::diagnostics::say;
use haul::internals::exit_now;

use crate::cli::signals::SignalReceiver;
use crate::cli::values::MAX_DURATION;

use super::reload::Reload;
use super::supervisor::{Phase, Supervisor};
use super::upgrade::Upgrade;

/// Starts the thread that turns signals into calls. Returns where the exit status will be: 0, but
/// that of the second signal if there was one.
pub(super) fn follow_signals(
    reload: Reload,
    upgrade: Upgrade,
    grace: Duration,
    supervisor: Supervisor,
) -> io::Result<Arc<AtomicU8>> {
    let mut signals = SignalReceiver::new([SIGTERM, SIGINT, SIGHUP, SIGUSR2])?;
    let status = Arc::new(AtomicU8::new(0));
    let cut_short = Arc::clone(&status);
    let handle = reload.handle.clone();
    let reloads = start_reloads(reload, supervisor.clone())?;
    let follow = move || {
        let mut asked = false;
        loop {
            match signals.next() {
                // A full channel has a reload that has not begun.
                SIGHUP => drop(reloads.try_send(())),
                SIGUSR2 => upgrade.begin(&handle, &supervisor),
                signal if asked => {
                    status.store(128 + signal as u8, Ordering::Relaxed);
                    handle.abort();
                    // A disk that hangs may keep threads from ending.
                    std::thread::sleep(AT_ONCE);
                    exit_now(128 + signal)
                }
                _ => {
                    asked = true;
                    let open = handle.counters().open;
                    supervisor.tell(Phase::Stopping);
                    upgrade.give_up();
                    handle.shut_down();
                    let time = match grace {
                        MAX_DURATION => "all the time that they need".to_owned(),
                        grace => format!("{} s", grace.as_secs_f64()),
                    };
                    say(format_args!(
                        "ending; connections still open: {open}, with {time} to finish; a second \
                         signal ends at once"
                    ));
                }
            }
        }
    };
    std::thread::Builder::new()
        .name("haul-signals".into())
        .spawn(follow)?;
    Ok(cut_short)
}

/// Starts the thread that reads settings again: a file that cannot be read yet delays no signal.
fn start_reloads(reload: Reload, supervisor: Supervisor) -> io::Result<SyncSender<()>> {
    let (sender, requests) = sync_channel(1);
    let follow = move || {
        for () in requests {
            supervisor.tell(Phase::Reloading);
            reload.run();
            supervisor.tell(Phase::Ready);
        }
    };
    std::thread::Builder::new()
        .name("haul-reload".into())
        .spawn(follow)?;
    Ok(sender)
}

/// Time for the resets and their lines in the log after the second signal.
const AT_ONCE: Duration = Duration::from_secs(3);
