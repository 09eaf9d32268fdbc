//! `haul answer` and `haul say`: the command lines of the conversation.

use std::io::{self, IsTerminal, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::address_family::FamilyArguments;
use super::exit_status::USAGE;
use super::signals::stop_on_signals;
use super::values::{duration, listen_address};
use clap::Args;
use haul::diagnostics;
use haul::message::{
    AnswerConfig, Answerer, Charset, Heard, SayConfig, SayError, escape_controls, say,
};

/// Take connections, print the first message of each, and reply.
///
/// Good for checking that two hosts reach each other before moving 200 GB.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  haul answer --listen 0.0.0.0:7788 --reply 'I hear you'")]
pub(crate) struct AnswerArguments {
    /// Address to listen on; may be repeated. Port 0 takes a free port
    #[arg(long, short, value_name = "[HOST:]PORT", default_value = "127.0.0.1:7788", value_parser = listen_address, env = "HAUL_ANSWER_LISTEN", value_delimiter = ',')]
    listen: Vec<SocketAddr>,

    /// What to reply.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "thank you !",
        env = "HAUL_REPLY"
    )]
    reply: String,

    /// The encoding of messages and replies, such as utf-8 or gbk.
    #[arg(
        long,
        value_name = "LABEL",
        default_value = "utf-8",
        env = "HAUL_ENCODING"
    )]
    encoding: Charset,

    /// A message is over when its sender is silent for so long, or half-closes.
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = duration)]
    silence: Duration,
}

/// Send a message to `haul answer` and print the reply.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  haul say 10.0.0.2:7788 'hello there'

Exit status: 0 with a reply, 1 without one, 2 for wrong usage.")]
pub(crate) struct SayArguments {
    /// Host and port of the other side; port 7788 by default
    #[arg(value_name = "HOST[:PORT]", value_parser = host_and_port)]
    to: HostAndPort,

    /// What to say; without it, standard input is read, with a prompt on a terminal.
    #[arg(value_name = "TEXT")]
    text: Option<String>,

    /// The encoding of message and reply, such as utf-8 or gbk.
    #[arg(
        long,
        value_name = "LABEL",
        default_value = "utf-8",
        env = "HAUL_ENCODING"
    )]
    encoding: Charset,

    #[command(flatten)]
    family: FamilyArguments,
}

#[derive(Clone, Debug)]
struct HostAndPort {
    host: String,
    port: u16,
}

impl AnswerArguments {
    /// Answers until a signal arrives.
    pub(crate) fn run(self) -> ExitCode {
        let config = AnswerConfig {
            listen: self.listen,
            reply: self.reply,
            charset: self.encoding,
            silence: self.silence,
        };
        match answer(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => {
                diagnostics::say(format_args!("haul: {reason}"));
                ExitCode::FAILURE
            }
        }
    }
}

impl SayArguments {
    /// Says it and prints the reply.
    pub(crate) fn run(self) -> ExitCode {
        let text = match self.text.map_or_else(ask, Ok) {
            Ok(text) => text,
            Err(error) => {
                diagnostics::say(format_args!(
                    "haul: cannot read what to say from standard input: {error}"
                ));
                return ExitCode::from(USAGE);
            }
        };
        let HostAndPort { host, port } = self.to;
        match say(&SayConfig {
            host,
            port,
            family: self.family.family(),
            text,
            charset: self.encoding,
        }) {
            Ok(reply) => match writeln!(io::stdout(), "{}", printable(&reply)) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    diagnostics::say(format_args!("haul: cannot write the reply: {error}"));
                    ExitCode::FAILURE
                }
                _ => ExitCode::SUCCESS,
            },
            Err(error) => {
                diagnostics::say(format_args!("haul: {error}"));
                match error {
                    SayError::Charset(_) | SayError::Empty | SayError::TooLong { .. } => {
                        ExitCode::from(USAGE)
                    }
                    _ => ExitCode::FAILURE,
                }
            }
        }
    }
}

fn answer(config: &AnswerConfig) -> Result<(), String> {
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signals(Arc::clone(&stop), None)
        .map_err(|error| format!("cannot catch signals: {error}"))?;
    let answerer = Answerer::bind(config).map_err(|error| error.to_string())?;
    for address in answerer.local_addrs() {
        diagnostics::say(format_args!("listening on {address}"));
    }
    answerer
        .run(&stop, print)
        .map_err(|error| format!("cannot wait for connections: {error}"))
}

fn print(heard: Heard) {
    match heard {
        Heard::Message { sender, text } => {
            diagnostics::OUTPUT.say(format_args!("{sender}: {}", printable(&text)));
        }
        Heard::Silence { sender } => diagnostics::say(format_args!("{sender} said nothing")),
        Heard::Broken { sender, error } => {
            diagnostics::say(format_args!("{sender} was lost: {error}"));
        }
        Heard::Unaccepted { error } => {
            diagnostics::say(format_args!("haul: cannot accept a connection: {error}"));
        }
    }
}

/// One line: without the line end that many clients send, and escaped.
fn printable(text: &str) -> String {
    let line = text
        .strip_suffix('\n')
        .map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    escape_controls(line)
}

fn ask() -> io::Result<String> {
    let mut text = String::new();
    if io::stdin().is_terminal() {
        // Without the prompt it waits all the same.
        let _ = io::stderr().write_all(b"message: ");
        io::stdin().read_line(&mut text)?;
    } else {
        io::stdin()
            .take(MAX_INPUT_BYTES)
            .read_to_string(&mut text)?;
    }
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

fn host_and_port(text: &str) -> Result<HostAndPort, String> {
    let wrong = || "write HOST[:PORT] or [IPV6][:PORT]".to_owned();
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or_else(wrong)?)),
        // An IPv6 address without brackets holds several colons.
        None if text.matches(':').count() == 1 => text
            .split_once(':')
            .map(|(host, port)| (host, Some(port)))
            .ok_or_else(wrong)?,
        None => (text, None),
    };
    let port = port
        .map_or(Ok(DEFAULT_PORT), str::parse)
        .map_err(|_| wrong())?;
    if host.is_empty() {
        return Err(wrong());
    }
    Ok(HostAndPort {
        host: host.to_owned(),
        port,
    })
}

/// The default port of `haul answer`.
const DEFAULT_PORT: u16 = 7788;
/// More than a message may have, so that the library reports its limit.
const MAX_INPUT_BYTES: u64 = 64 * 1_024;
