//! SOCKS5 (RFC 1928) with a user name and password (RFC 1929); the proxy resolves the host.

use super::connection::{Connection, HEAD_FILL_BYTES};
use crate::get::client::cancellation::{Cancellation, StallTimer};
use crate::get::error::{ErrorKind, GetError};

/// Asks the proxy at the other end of `connection` to connect to `host`.
///
/// # Errors
/// Network: the proxy refuses, or is none.
pub(crate) fn connect(
    connection: &mut Connection,
    (host, port): (&str, u16),
    credentials: Option<&[u8]>,
    cancellation: &Cancellation,
) -> Result<(), GetError> {
    // An answer that drips in, byte by byte, is bounded as a whole.
    let stall_timer = &cancellation.stall_timer();
    let method = if credentials.is_some() {
        PASSWORD
    } else {
        NO_LOGIN
    };
    connection.send(&[VERSION, 1, method])?;
    match take::<2>(connection, cancellation, stall_timer)? {
        [VERSION, chosen] if chosen == method => {}
        [VERSION, _] => return Err(refused("it wants another login")),
        _ => return Err(refused("it does not speak SOCKS5")),
    }
    if let Some(credentials) = credentials {
        let colon = credentials.iter().position(|&byte| byte == b':');
        let (user, password) = credentials.split_at(colon.unwrap_or(credentials.len()));
        let mut login = vec![1];
        push_short(&mut login, user)?;
        push_short(&mut login, password.get(1..).unwrap_or_default())?;
        connection.send(&login)?;
        if take::<2>(connection, cancellation, stall_timer)?[1] != 0 {
            return Err(refused("it refuses user name and password"));
        }
    }
    let mut request = vec![VERSION, CONNECT, 0, NAME];
    push_short(&mut request, host.trim_matches(['[', ']']).as_bytes())?;
    request.extend_from_slice(&port.to_be_bytes());
    connection.send(&request)?;
    let [_, reply, _, kind] = take::<4>(connection, cancellation, stall_timer)?;
    if reply != 0 {
        let text = format!("the SOCKS proxy cannot reach {host}:{port}: {}", why(reply));
        return Err(GetError::passing(ErrorKind::Network, text));
    }
    // The address that the proxy uses has to be read, and is ignored.
    match kind {
        IPV4 => drop(take::<6>(connection, cancellation, stall_timer)?),
        IPV6 => drop(take::<18>(connection, cancellation, stall_timer)?),
        _ => {
            let [length] = take::<1>(connection, cancellation, stall_timer)?;
            for _ in 0..usize::from(length) + 2 {
                take::<1>(connection, cancellation, stall_timer)?;
            }
        }
    }
    Ok(())
}

fn take<const N: usize>(
    connection: &mut Connection,
    cancellation: &Cancellation,
    stall_timer: &StallTimer<'_>,
) -> Result<[u8; N], GetError> {
    while connection.input.unused().len() < N {
        stall_timer.check()?;
        if connection.fill(HEAD_FILL_BYTES, cancellation)? == 0 {
            return Err(refused("it closed the connection"));
        }
    }
    let mut taken = [0; N];
    connection.input.take(&mut taken);
    Ok(taken)
}

fn push_short(to: &mut Vec<u8>, bytes: &[u8]) -> Result<(), GetError> {
    let length = u8::try_from(bytes.len())
        .map_err(|_| refused("a host, user name or password has more than 255 bytes"))?;
    to.push(length);
    to.extend_from_slice(bytes);
    Ok(())
}

fn refused(why: &str) -> GetError {
    GetError::new(
        ErrorKind::Network,
        format!("the SOCKS proxy is no help: {why}"),
    )
}

fn why(reply: u8) -> &'static str {
    match reply {
        2 => "its rules forbid it",
        3 | 4 => "there is no way there",
        5 => "the connection was refused",
        6 => "it took too long",
        _ => "it does not say why",
    }
}

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;
