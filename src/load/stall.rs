//! Clients that request a file and then read nothing.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::sys::client_socket;
use crate::tls::client::{Channel, Connector, Identity, Scratch};

use super::tally::{Failure, Tally};
use super::target::Target;

/// Connects `count` clients to `target`, each with a request and without reads, and waits until the
/// server has filled their buffers. Ends early when many in a row fail.
pub(super) fn hold(
    target: &Target,
    count: usize,
    connector: &Connector,
    stop: &AtomicBool,
    tally: &mut Tally,
) -> Vec<TcpStream> {
    let mut request = Vec::new();
    target.write_request(None, &mut request);
    let mut held = Vec::with_capacity(count);
    let mut failed_in_a_row = 0;
    while held.len() < count && failed_in_a_row < MAX_FAILURES && !stop.load(Ordering::Relaxed) {
        let connected = client_socket::connect_with_small_buffer(
            target.address,
            CONNECT_TIMEOUT,
            RECEIVE_BYTES,
        );
        let asked = connected.and_then(|stream| ask(stream, target, connector, &request));
        match asked {
            Ok(stream) => {
                held.push(stream);
                failed_in_a_row = 0;
            }
            Err(error) => {
                tally.fail(Failure::of(&error));
                failed_in_a_row += 1;
            }
        }
    }
    if !held.is_empty() {
        thread::sleep(SETTLE);
    }
    held
}

fn ask(
    mut stream: TcpStream,
    target: &Target,
    connector: &Connector,
    request: &[u8],
) -> io::Result<TcpStream> {
    let Some(name) = &target.secure else {
        stream.write_all(request)?;
        return Ok(stream);
    };
    let session = connector.begin(name, Identity::Presented);
    let mut channel = Channel::new(session.map_err(io::Error::other)?);
    stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
    let mut scratch = Scratch::new();
    while channel.is_handshaking() || channel.has_unsent() {
        channel.shake_hands(&mut stream, &mut scratch)?;
    }
    channel.enqueue(request)?;
    channel.flush(&mut stream)?;
    Ok(stream)
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// On one machine the clients' buffers would use up the memory that the server's are measured by.
const RECEIVE_BYTES: usize = 4 << 10;
const MAX_FAILURES: u32 = 8;
/// Time for the server to run into its full buffers.
const SETTLE: Duration = Duration::from_secs(2);
