//! `haul top`.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;

use crate::cli::values::timeout;

use address::AdminUrl;
use status::Status;

mod address;
mod screen;
mod status;
mod table;

const EXAMPLES: &str = "\
Examples:
  haul serve --admin 9000; haul top 9000      the server on this host
  haul top unix:/run/haul/admin.sock          by a Unix socket
  haul top --once --json 9000 | jq .transfers for scripts

Keys: s sorts by the next column, r turns the order, / finds, arrows and pages move, q ends.";

/// Watch a server: client, progress and rate of each transfer
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TopArguments {
    /// The server's --admin
    #[arg(env = "HAUL_ADMIN", value_name = "[HOST:]PORT|unix:PATH|URL")]
    admin: AdminUrl,

    /// Time between two looks
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = timeout)]
    interval: Duration,

    /// Look once, and print it; so it is where standard output is no terminal
    #[arg(long)]
    once: bool,

    /// Print what the server says as it is
    #[arg(long, requires = "once")]
    json: bool,
}

impl TopArguments {
    /// Shows the server until a key ends it.
    ///
    /// # Errors
    /// The server does not answer at first, or the terminal cannot be written to.
    pub(crate) fn run(self) -> io::Result<()> {
        let answer = self.admin.ask()?;
        let status = Status::parse(&answer)?;
        if self.json {
            return print(&format!("{}\n", answer.trim_end()));
        }
        if self.once || !io::stdout().is_terminal() {
            return print(&table::plain(&status));
        }
        screen::show(&self.admin, status, self.interval)
    }
}

fn print(text: &str) -> io::Result<()> {
    io::stdout().write_all(text.as_bytes())
}
