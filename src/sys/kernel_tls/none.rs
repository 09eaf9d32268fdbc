//! Systems without: every call says so.

use std::io;
use std::net::TcpStream;

use crate::sys::kernel_tls::keys::{Cipher, Direction, TrafficKeys};

pub(crate) fn attach(_: &TcpStream) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn set_keys(_: &TcpStream, _: Direction, _: &TrafficKeys) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn records_sent(_: &TcpStream, _: Cipher) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn send_record(_: &TcpStream, _: u8, _: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Receives bytes: there are no records.
pub(crate) fn receive_record(
    mut stream: &TcpStream,
    buffer: &mut [u8],
) -> io::Result<(usize, Option<u8>)> {
    let count = io::Read::read(&mut stream, buffer)?;
    Ok((count, None))
}
