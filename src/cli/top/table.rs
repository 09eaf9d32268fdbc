//! Words for a server's state, for the screen and for plain text.

use std::fmt::Write as _;

use haul::internals::is_unprintable;
use percent_encoding::percent_decode_str;

use super::status::{Order, Status, Transfer};

/// The whole status as text, for pipes and files.
pub(super) fn plain(status: &Status) -> String {
    let mut text = format!("{}\n{}\n", first_line(status), second_line(status));
    for transfer in status.found("", Order::Rate, false) {
        let [client, request, done, rate, left, waits_for] = cells(transfer);
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            text,
            "{client:<21} {done:>5} {rate:>11} {left:>8} {waits_for:<9} {request}"
        );
    }
    text
}

/// The server's name, and whether it serves.
pub(super) fn first_line(status: &Status) -> String {
    let own = status.transfers.iter().filter(|it| !it.is_left_over);
    let state = match (status.draining, own.count()) {
        (false, _) => "serving".to_owned(),
        (true, transfers) => format!("draining: waits for {transfers} transfers"),
    };
    let up = time(status.uptime_seconds);
    let mut line = format!("haul {}, {state}, up {up}", printable(&status.version));
    for before in status.predecessors() {
        let (process, transfers) = (before.process, before.transfers.len());
        // Writing to a `String` cannot fail.
        let _ = write!(
            line,
            "; process {process} drains, waits for {transfers} transfers"
        );
    }
    line
}

/// How much it does.
pub(super) fn second_line(status: &Status) -> String {
    let now = status.bytes_per_second.last().copied().unwrap_or(0);
    format!(
        "{}/s now, {} sent, {} transfers, {} of {} connections, {} requests",
        bytes(now),
        bytes(status.bytes_sent),
        status.transfers.len(),
        status.connections,
        status.connections_limit,
        status.requests,
    )
}

/// Client, request, progress, rate, remaining time, and the reason of a wait.
pub(super) fn cells(transfer: &Transfer) -> [String; 6] {
    let done = match transfer.intended {
        Some(intended) if intended > 0 => {
            let done = transfer.sent.min(intended) as f64 / intended as f64;
            format!("{}%", (done * 100.0) as u64)
        }
        _ => bytes(transfer.sent),
    };
    [
        printable(&transfer.client),
        request(&transfer.request),
        done,
        format!("{}/s", bytes(transfer.bytes_per_second)),
        transfer.seconds_left.map_or_else(|| "–".into(), time),
        match transfer.is_left_over {
            true => format!("{}, old", printable(&transfer.waits_for)),
            false => printable(&transfer.waits_for),
        },
    ]
}

/// The request, without the parts that nearly all share.
fn request(text: &str) -> String {
    let path = text.strip_prefix("GET ").unwrap_or(text);
    let path = path.strip_suffix(" HTTP/1.1").unwrap_or(path);
    printable(&percent_decode_str(path).decode_utf8_lossy())
}

/// A client without its port.
pub(super) fn host(client: &str) -> &str {
    let port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match client.rsplit_once(':') {
        Some((host, rest)) if port(rest) => host,
        _ => client,
    }
}

/// A stranger's text, without what would move the cursor.
fn printable(text: &str) -> String {
    text.chars()
        .map(|character| match is_unprintable(character) {
            true => '\u{fffd}',
            false => character,
        })
        .collect()
}

fn bytes(count: u64) -> String {
    bytesize::ByteSize::b(count).display().iec().to_string()
}

fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}
