//! A tunnel through an HTTP proxy (RFC 9110, 9.3.6).

use super::body::malformed;
use super::connection::{Connection, HEAD_FILL_BYTES};
use crate::get::client::cancellation::Cancellation;
use crate::get::config::login;
use crate::get::error::{ErrorKind, GetError};
use crate::http::client_response;

/// Asks the proxy at the other end of `connection` to connect to `authority`, a host and a port.
///
/// # Errors
/// Network: the proxy cannot, or is none. NotFound: it does not let us.
pub(crate) fn connect(
    connection: &mut Connection,
    authority: &str,
    credentials: Option<&[u8]>,
    cancellation: &Cancellation,
) -> Result<(), GetError> {
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(credentials) = credentials {
        request += &format!("Proxy-Authorization: {}\r\n", login::basic(credentials));
    }
    request += "\r\n";
    connection.send(request.as_bytes())?;
    let stall_timer = cancellation.stall_timer();
    loop {
        let parsed = client_response::parse_head(connection.input.unused());
        let parsed = parsed.map_err(|why| malformed(&why).and("that is the proxy's answer"))?;
        if let Some((head, used)) = parsed {
            connection.input.consume(used);
            match head.status {
                100..200 => continue,
                200..300 if connection.input.is_empty() => return Ok(()),
                200..300 => {
                    let text = "the proxy speaks for the server, which has not been asked yet";
                    return Err(GetError::new(ErrorKind::Network, text));
                }
                status => return Err(refused(status, authority)),
            }
        }
        stall_timer.check()?;
        if connection.fill(HEAD_FILL_BYTES, cancellation)? == 0 {
            let text = "the proxy closed the connection without an answer";
            return Err(GetError::passing(ErrorKind::Network, text));
        }
    }
}

fn refused(status: u16, authority: &str) -> GetError {
    let error = match status {
        407 => GetError::new(
            ErrorKind::NotFound,
            "the proxy wants a user and a password (407): \
             https_proxy=http://USER:PASSWORD@HOST:PORT gives them",
        ),
        408 | 425 | 429 | 500 | 502..=504 => GetError::passing(
            ErrorKind::Network,
            format!("the proxy cannot connect to {authority} now ({status})"),
        ),
        _ => GetError::new(
            ErrorKind::NotFound,
            format!("the proxy refuses to connect to {authority} ({status})"),
        ),
    };
    error.with_status(status)
}
