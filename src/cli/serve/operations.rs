//! The options of `haul serve` for its operation: observation and supervision.

use clap::{Args, ValueEnum};

use haul::server::config::{
    AdminAddress, AdminReach, ForwardedField, Network, Proxies, ServeConfig,
};
use haul::server::telemetry::log_format::LogFormat;

use crate::cli::values::{ListenAddress, any_address};

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

    /// Address for /metrics, /healthz, /readyz, /transfers and a page for people, on this host
    #[arg(long, env = "HAUL_ADMIN", value_name = "[HOST:]PORT|unix:PATH", value_parser = any_address)]
    admin: Option<ListenAddress>,

    /// Proxies that begin each connection with a PROXY header (version 1 or 2), which is required;
    /// the client is the one in it. NET is an address, ADDRESS/BITS or unix; may be repeated
    #[arg(
        long,
        env = "HAUL_PROXY_PROTOCOL",
        value_name = "NET",
        value_delimiter = ','
    )]
    proxy_protocol: Vec<Network>,

    /// Proxies that name their client in a field of each request; from other peers it is ignored
    #[arg(
        long,
        env = "HAUL_TRUST_FORWARDED",
        value_name = "NET",
        value_delimiter = ','
    )]
    trust_forwarded: Vec<Network>,

    /// The field for that; the other one is ignored
    #[arg(
        long,
        env = "HAUL_FORWARDED_FIELD",
        value_name = "FIELD",
        default_value = "x-forwarded-for"
    )]
    forwarded_field: ForwardedFieldArg,

    /// Let --admin be an address that other hosts can reach: they see all transfers
    #[arg(long, env = "HAUL_ADMIN_ALLOW_REMOTE")]
    admin_allow_remote: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormatArg {
    /// TIME PEER PROTOCOL "REQUEST" STATUS ACKNOWLEDGED/INTENDED SECONDS OUTCOME[: DETAIL]
    Haul,
    /// As Apache and nginx write it, for programs that read that; it has no outcome
    Combined,
    /// An object a line: time, client, port (or uid), protocol, request (and request_base64 if it
    /// is not UTF-8), status, bytes (acknowledged), intended, seconds, outcome, detail, referer,
    /// user_agent, user, subject (of a client's certificate); what has no value is left out
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ForwardedFieldArg {
    /// As most proxies do
    XForwardedFor,
    /// RFC 7239
    Forwarded,
}

impl OperationsArgs {
    /// Puts the admin interface into the settings.
    pub(super) fn apply(self, config: &mut ServeConfig) -> Result<(), String> {
        config.proxies = Proxies {
            introduced: self.proxy_protocol,
            forwarding: self.trust_forwarded,
            field: match self.forwarded_field {
                ForwardedFieldArg::XForwardedFor => ForwardedField::XForwardedFor,
                ForwardedFieldArg::Forwarded => ForwardedField::Forwarded,
            },
        };
        config.admin_reach = match self.admin_allow_remote {
            true => AdminReach::Anywhere,
            false => AdminReach::ThisHost,
        };
        config.admin = match self.admin {
            Some(ListenAddress::Inet(address))
                if !address.ip().is_loopback() && !self.admin_allow_remote =>
            {
                return Err(format!(
                    "--admin {address} could be reached from other hosts; say \
                     --admin-allow-remote if they may see who gets what"
                ));
            }
            Some(ListenAddress::Inet(address)) => Some(AdminAddress::Inet(address)),
            Some(ListenAddress::Local(address)) => Some(AdminAddress::Local(address)),
            None => None,
        };
        Ok(())
    }

    /// The form of the access log's lines.
    pub(super) fn log_format(&self) -> LogFormat {
        match self.log_format {
            LogFormatArg::Haul => LogFormat::Haul,
            LogFormatArg::Combined => LogFormat::Combined,
            LogFormatArg::Json => LogFormat::Json,
        }
    }
}
