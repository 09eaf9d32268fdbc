//! Values as people type them: sizes, durations, addresses.

use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::TypedValueParser;

use haul::server::config::LocalAddress;

/// A size in bytes: `65536`, `64KiB`, `1.5G`. K, M and G without an `i` count in thousands.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let parsed = bytesize::ByteSize::from_str(text);
    let bytes =
        parsed.map_err(|_| format!("`{text}` is not a size; write 65536, 64KiB or 10MB"))?;
    match bytes.as_u64() {
        // The crate cuts to this what does not fit.
        u64::MAX if text.parse() != Ok(u64::MAX) => {
            Err(format!("`{text}` is more than {} bytes", u64::MAX))
        }
        bytes => Ok(bytes),
    }
}

/// A size that is not zero.
pub(crate) fn positive_size(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("it must be more than zero".into()),
        bytes => Ok(bytes),
    }
}

/// A size that is not zero.
pub(crate) fn non_zero_size(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(size(text)?).ok_or_else(|| "it must be more than zero".into())
}

/// A duration: `30s`, `1m 30s`, `250ms`; a bare number is in seconds.
/// One of more than a century counts as for ever.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    Ok(exact_duration(text)?.min(MAX_DURATION))
}

/// A duration above zero that ends at a date.
pub(crate) fn lifetime(text: &str) -> Result<Duration, String> {
    match exact_duration(text)? {
        Duration::ZERO => Err("it must be more than zero".into()),
        duration if duration > MAX_DURATION => Err("a century (36500d) is the longest".into()),
        duration => Ok(duration),
    }
}

fn exact_duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => jiff::SignedDuration::from_str(text)
            .or_else(|_| jiff::Span::from_str(text)?.to_duration(DAYS))
            .ok()
            .and_then(|it| it.try_into().ok()),
    };
    let parsed: Option<Duration> = parsed;
    parsed.ok_or_else(|| format!("`{text}` is not a duration; write 30s, 250ms, 1h 30m or 7d"))
}

/// `7d` and `2w` have no hour of summer time in them.
const DAYS: jiff::SpanRelativeTo<'_> = jiff::SpanRelativeTo::days_are_24_hours();

/// A duration, or `unlimited`.
pub(crate) fn grace(text: &str) -> Result<Duration, String> {
    match text {
        "unlimited" => Ok(MAX_DURATION),
        _ => duration(text),
    }
}

/// A century: no clock overflows by it.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A duration that is not zero.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it must be more than zero".into()),
        duration => Ok(duration),
    }
}

/// A duration above zero, of a day at most.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    match positive_duration(text)? {
        duration if duration > MAX_TIMEOUT => Err("a day is the longest".into()),
        duration => Ok(duration),
    }
}

/// `PORT`, `HOST:PORT`, `ADDRESS:PORT` or `[IPV6]:PORT`; the host defaults to 127.0.0.1.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let usage = || format!("`{text}` is not an address; write PORT, HOST:PORT or [IPV6]:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(usage)?;
    let port = port
        .strip_prefix(':')
        .unwrap_or(port)
        .parse::<u16>()
        .map_err(|_| usage())?;
    if host.is_empty() || host == "*" {
        return Ok(SocketAddr::from(([0, 0, 0, 0], port)));
    }
    if host.contains(':') && !host.starts_with('[') {
        return Err(format!(
            "{}: an IPv6 address goes in brackets, [{host}]:{port}",
            usage()
        ));
    }
    let mut found = std::net::ToSocketAddrs::to_socket_addrs(&(host, port))
        .map_err(|error| format!("cannot find the host `{host}`: {error}"))?;
    found
        .next()
        .ok_or_else(|| format!("the host `{host}` has no address"))
}

/// A number of threads.
pub(crate) fn threads(most: u16) -> impl TypedValueParser<Value = NonZeroUsize> {
    clap::value_parser!(u16)
        .range(1..=i64::from(most))
        .try_map(|threads| NonZeroUsize::try_from(usize::from(threads)))
}

/// A TCP port, or a Unix socket.
#[derive(Clone, Debug)]
pub(crate) enum ListenAddress {
    Inet(SocketAddr),
    Local(LocalAddress),
}

/// `[HOST:]PORT`, `unix:PATH` or `unix:@NAME`.
pub(crate) fn any_address(text: &str) -> Result<ListenAddress, String> {
    let Some(name) = text.strip_prefix("unix:") else {
        return listen_address(text).map(ListenAddress::Inet);
    };
    let address = match name.strip_prefix('@') {
        Some(name) => LocalAddress::Abstract(name.to_owned()),
        None => LocalAddress::Path(PathBuf::from(name)),
    };
    match name.trim_start_matches('@') {
        "" => Err("write unix:PATH or unix:@NAME".into()),
        name if name.len() > MAX_NAME_BYTES => Err(format!(
            "a Unix socket's name has at most {MAX_NAME_BYTES} bytes"
        )),
        _ => Ok(ListenAddress::Local(address)),
    }
}

const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// `sun_path` (unix(7)), without its end.
const MAX_NAME_BYTES: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        let cases = [
            ("0", 0),
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("1.5 MB", 1_500_000),
            ("2M", 2_000_000),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "x",
            "-1",
            "1 furlong",
            "99999999999 EB",
            "18446744073709551616",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(positive_size("0").is_err());
    }

    #[test]
    fn durations_as_people_write_them() {
        let cases = [
            ("30", 30_000),
            ("0.5", 500),
            ("250ms", 250),
            ("1m 30s", 90_000),
            ("7d", 604_800_000),
            ("2w 1d 1h", 1_299_600_000),
        ];
        for (text, millis) in cases {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "-1", "soon", "nan", "1e400", "1y"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_as_people_write_them() {
        let cases = [
            ("80", "127.0.0.1:80"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            (":80", "0.0.0.0:80"),
            ("*:80", "0.0.0.0:80"),
            ("[::1]:80", "[::1]:80"),
        ];
        for (text, address) in cases {
            assert_eq!(
                listen_address(text).map(|it| it.to_string()),
                Ok(address.into()),
                "{text}"
            );
        }
        for text in ["", "x", "1.2.3.4", "99999", "::1:80x", "[::1]"] {
            assert!(listen_address(text).is_err(), "{text}");
        }
    }
}
