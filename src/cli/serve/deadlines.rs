//! The options that bound how long a connection may take for each step.

use std::time::Duration;

use clap::Args;

use haul::server::config::Deadlines;

use crate::cli::values::positive_duration;

/// How long a connection may take.
#[derive(Args, Debug)]
#[command(next_help_heading = "Deadlines")]
pub(super) struct DeadlineArgs {
    /// For a connection's first byte
    #[arg(long, alias = "first-byte", env = "HAUL_FIRST_BYTE_TIMEOUT", value_name = "DURATION", default_value = "30s",
        value_parser = positive_duration)]
    first_byte_timeout: Duration,

    /// From the first byte of a request to its last
    #[arg(long, alias = "head", env = "HAUL_HEAD_TIMEOUT", value_name = "DURATION", default_value = "30s",
        value_parser = positive_duration)]
    head_timeout: Duration,

    /// Silence after which a bare name counts as whole
    #[arg(long, env = "HAUL_NAME_GRACE", value_name = "DURATION", default_value = "100ms",
        value_parser = positive_duration)]
    name_grace: Duration,

    /// Between two requests on one connection
    #[arg(long, env = "HAUL_IDLE", value_name = "DURATION", default_value = "75s",
        value_parser = positive_duration)]
    idle: Duration,

    /// For a client that takes no byte of its response; one that moves is never cut
    #[arg(long, alias = "send-stall", env = "HAUL_SEND_TIMEOUT", value_name = "DURATION", default_value = "60s",
        value_parser = positive_duration)]
    send_timeout: Duration,

    /// For a response in all [default: no limit]
    #[arg(long, env = "HAUL_RESPONSE_TIMEOUT", value_name = "DURATION",
        value_parser = positive_duration)]
    response_timeout: Option<Duration>,
}

impl DeadlineArgs {
    pub(super) fn deadlines(&self) -> Deadlines {
        Deadlines {
            first_byte: self.first_byte_timeout,
            head: self.head_timeout,
            name_grace: self.name_grace,
            idle: self.idle,
            send_stall: self.send_timeout,
            response: self.response_timeout,
            ..Deadlines::default()
        }
    }
}
