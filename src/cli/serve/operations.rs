//! The options of `haul serve` that an operator needs: how it is seen and supervised.

use clap::{Args, ValueEnum};

use haul::server::telemetry::log_format::LogFormat;

/// How the server is seen and supervised.
#[derive(Args, Debug)]
#[command(next_help_heading = "Operations")]
pub(super) struct OperationsArgs {
    /// The form of the access log's lines
    #[arg(
        long,
        env = "HAUL_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "haul"
    )]
    log_format: LogFormatArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormatArg {
    /// TIME PEER PROTOCOL "REQUEST" STATUS ACKNOWLEDGED/INTENDED SECONDS OUTCOME[: DETAIL]
    Haul,
    /// As Apache and nginx write it, for programs that read that; it has no outcome
    Combined,
    /// An object a line: time, client, port (or uid), protocol, request (and request_base64 if it
    /// is not UTF-8), status, bytes (acknowledged), intended, seconds, outcome, detail, referer,
    /// user_agent; what has no value is left out
    Json,
}

impl OperationsArgs {
    /// The form of the access log's lines.
    pub(super) fn log_format(&self) -> LogFormat {
        match self.log_format {
            LogFormatArg::Haul => LogFormat::Haul,
            LogFormatArg::Combined => LogFormat::Combined,
            LogFormatArg::Json => LogFormat::Json,
        }
    }
}
