//! Notifications to a supervisor, as systemd's (sd_notify(3)), from a separate thread: a supervisor
//! that does not read delays nothing.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use haul::server::Handle;

/// The channel to the supervisor's thread; `None` without a supervisor.
#[derive(Clone, Debug)]
pub(super) struct Supervisor(Option<SyncSender<Message>>);

/// A phase, and the channel that confirms its notification.
type Message = (Phase, Option<SyncSender<()>>);

/// A notification to the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The server accepts connections.
    Ready,
    /// The server reads its settings again; [`Phase::Ready`] follows.
    Reloading,
    /// The server drains and ends.
    Stopping,
    /// The process of this number serves on; this one ends.
    HandedOver(u32),
}

impl Supervisor {
    /// Starts the thread, if there is a supervisor.
    pub(super) fn start(handle: Handle) -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none_or(|socket| socket.is_empty()) {
            return Self(None);
        }
        let (sender, phases) = sync_channel(PHASES);
        let thread = std::thread::Builder::new().name("haul-notify".into());
        let started = thread.spawn(move || tell(&phases, &handle));
        Self(started.is_ok().then_some(sender))
    }

    /// Tells the supervisor, as soon as it listens. Never waits.
    pub(super) fn tell(&self, phase: Phase) {
        if let Some(sender) = &self.0 {
            // A full channel is that of a supervisor that does not listen.
            let _ = sender.try_send((phase, None));
        }
    }

    /// Notifies the supervisor of the new main process, with a short wait: the message must precede
    /// the end of this process.
    pub(super) fn hand_over(&self, id: u32) {
        if let Some(sender) = &self.0 {
            let (told, is_told) = sync_channel(1);
            if sender.try_send((Phase::HandedOver(id), Some(told))).is_ok() {
                let _ = is_told.recv_timeout(TIMEOUT);
            }
        }
    }
}

fn tell(phases: &Receiver<Message>, handle: &Handle) {
    let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 2);
    let look = watchdog.map_or(STATUS_EVERY, |pause| pause.min(STATUS_EVERY));
    let (mut last_phase, mut last_status) = (None, String::new());
    let mut watched = Instant::now();
    loop {
        let (phase, who_waits) = match phases.recv_timeout(look) {
            Ok((phase, who_waits)) => (Some(phase), who_waits),
            Err(RecvTimeoutError::Timeout) => (None, None),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // A reload may end behind the end's beginning.
        let is_late = last_phase == Some(Phase::Stopping)
            && matches!(phase, Some(Phase::Ready | Phase::Reloading));
        let phase = phase.filter(|_| !is_late);
        last_phase = phase.or(last_phase);
        let status = status(last_phase, handle);
        let mut states = Vec::new();
        match phase {
            Some(Phase::Ready) => states.push(NotifyState::Ready),
            Some(Phase::Reloading) => {
                states.push(NotifyState::Reloading);
                states.extend(NotifyState::monotonic_usec_now());
            }
            Some(Phase::Stopping) => states.push(NotifyState::Stopping),
            Some(Phase::HandedOver(id)) => states.push(NotifyState::MainPid(id)),
            None => {}
        }
        if watchdog.is_some_and(|pause| watched.elapsed() >= pause) {
            watched = Instant::now();
            states.push(NotifyState::Watchdog);
        }
        if status != last_status {
            states.push(NotifyState::Status(&status));
        }
        if !states.is_empty() {
            // A failure here cannot be reported.
            let _ = sd_notify::notify(&states);
        }
        if let Some(who_waits) = who_waits {
            let _ = who_waits.try_send(());
        }
        if matches!(phase, Some(Phase::HandedOver(_))) {
            return;
        }
        drop(states);
        last_status = status;
    }
}

fn status(phase: Option<Phase>, handle: &Handle) -> String {
    let open = handle.counters().open;
    match phase {
        Some(Phase::Stopping) => format!("Ending; {open} connections are left"),
        _ => format!("Serving {open} connections"),
    }
}

/// So many phases wait for a supervisor that does not listen.
const PHASES: usize = 8;
/// A supervisor that does not listen holds a hand-over up for so long.
const TIMEOUT: Duration = Duration::from_secs(5);
const STATUS_EVERY: Duration = Duration::from_secs(5);
