//! SIGUSR2: the program is started again on the same sockets, and this one ends once that is ready.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::Args;

use haul::diagnostics::say;
use haul::internals::{Launcher, launch_all};
use haul::server::config::InheritedListener;
use haul::server::{Handle, Server};

use super::supervisor::Supervisor;

/// Start a program on the sockets that come by standard input; for `haul serve`
#[derive(Args, Debug)]
pub(crate) struct LauncherArguments {
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

impl LauncherArguments {
    /// Runs as the helper that starts the program on request.
    pub(crate) fn run(self) -> ExitCode {
        let command = || {
            let mut command = std::process::Command::new(&self.command[0]);
            command.args(&self.command[1..]);
            command
        };
        match launch_all(command) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                say(format_args!("haul: cannot start what takes over: {error}"));
                ExitCode::FAILURE
            }
        }
    }
}

/// The means of an upgrade; one thread has them at a time.
#[derive(Clone)]
pub(super) struct Upgrade(Arc<Mutex<State>>);

enum State {
    Possible(Launcher, Vec<InheritedListener>),
    UnderWay,
    Impossible(String),
}

impl Upgrade {
    /// Starts the helper process that will start the program as this one was. To be called before
    /// the sandbox and before any thread: both forbid it later.
    pub(super) fn prepare(server: &Server) -> Self {
        let state = match prepared(server) {
            Ok((launcher, sockets)) => State::Possible(launcher, sockets),
            Err(error) => State::Impossible(error.to_string()),
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Starts the program, and ends the server once that is ready. A separate thread waits for it.
    pub(super) fn begin(&self, handle: &Handle, supervisor: &Supervisor) {
        let (launcher, sockets) = match std::mem::replace(&mut *self.state(), State::UnderWay) {
            State::Possible(launcher, sockets) => (launcher, sockets),
            State::UnderWay => {
                say(format_args!(
                    "haul: another process is about to take over already"
                ));
                return;
            }
            State::Impossible(why) => {
                say(format_args!("haul: nothing can take over: {why}"));
                *self.state() = State::Impossible(why);
                return;
            }
        };
        let (this, handle, supervisor) = (self.clone(), handle.clone(), supervisor.clone());
        let wait = move || match launcher.launch(&sockets) {
            Ok(id) => {
                supervisor.hand_over(id);
                let open = handle.counters().open;
                drop(sockets);
                handle.hand_over();
                say(format_args!(
                    "process {id} has taken over; {open} connections are left"
                ));
            }
            Err(why) => {
                say(format_args!(
                    "haul: goes on, for what was to take over did not start: {why}"
                ));
                *this.state() = State::Possible(launcher, sockets);
            }
        };
        let thread = std::thread::Builder::new().name("haul-upgrade".into());
        if let Err(error) = thread.spawn(wait) {
            *self.state() = State::Impossible(error.to_string());
        }
    }

    /// Gives it up, and with it the copies of the sockets.
    pub(super) fn give_up(&self) {
        *self.state() = State::Impossible("the server ends".into());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prepared(server: &Server) -> io::Result<(Launcher, Vec<InheritedListener>)> {
    let sockets = server.sockets()?;
    // The path as given: a link may have another target by then.
    let arguments: Vec<_> = ["launcher".into(), "--".into()]
        .into_iter()
        .chain(std::env::args_os())
        .collect();
    Ok((Launcher::start(&arguments)?, sockets))
}
