//! A session whose records the kernel seals and opens: bytes go to the socket as in plain text.
//!
//! Every call here ends its last record, unless the socket is full. No counter of TCP includes the
//! sealed bytes that it has not taken, so records and bytes are counted here.

use std::io;
use std::net::TcpStream;

use crate::server::config::SendChoice;
use crate::server::transmit::sink::{
    FilePart, IoBuffers, More, SendError, Sink, blocked_or_network,
};
use crate::server::transmit::tls::messages::{self, Alert, Message};
use crate::server::transmit::tls::record_count::{self, RecordCount};
use crate::sys::kernel_tls::{self, Direction, RecordFault, record_type};
use crate::sys::socket;
use crate::tls::kernel::{KernelSession, Parameters};
use crate::tls::session::Session;

/// A connection's session in the kernel.
#[derive(Debug)]
pub(crate) struct KernelStream {
    session: KernelSession,
    changes_keys: bool,
    count: RecordCount,
    sealed: Sealed,
    sending: SendState,
    /// Key updates, renegotiations and empty messages that the peer may still send before content.
    messages_left: u8,
}

/// The bytes given to the kernel, and the records that they became.
#[derive(Clone, Copy, Debug)]
struct Sealed {
    /// Bytes of content.
    plain: u64,
    /// Records sealed with earlier keys.
    earlier: u64,
    /// The number of the first record with the present key.
    first: u64,
    /// Bytes that TCP had taken when the kernel began.
    taken_before: u64,
    overhead: u64,
}

/// The state of the sending direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendState {
    Open,
    /// The peer has requested a key update, which is sent before other bytes.
    OwesKeys,
    /// `close_notify` was sent.
    Closed,
    /// An alert was sent, or announced keys could not be set.
    Failed,
}

/// The outcome of receiving once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// Number of bytes of content.
    Bytes(usize),
    /// A message without content for the caller.
    Message,
    /// The peer sends no more bytes, or none that could be opened.
    End,
    /// The TCP stream has ended without `close_notify`.
    Truncated,
}

impl KernelStream {
    /// Hands a session to the kernel; `stream` was prepared by [`kernel_tls::attach`].
    ///
    /// # Errors
    /// The kernel refuses the keys: the session is lost.
    pub(super) fn new(
        session: Session,
        stream: &TcpStream,
        changes_keys: bool,
    ) -> io::Result<Self> {
        let (session, keys) = session.into_kernel().map_err(io::Error::other)?;
        let taken_before = socket::bytes_taken(stream).ok_or(io::ErrorKind::Unsupported)?;
        kernel_tls::set_keys(stream, Direction::Send, &keys.send)?;
        kernel_tls::set_keys(stream, Direction::Receive, &keys.receive)?;
        let parameters = session.parameters();
        Ok(Self {
            changes_keys,
            count: RecordCount::new(parameters.record_limit, keys.send.sequence),
            sealed: Sealed {
                plain: 0,
                earlier: 0,
                first: keys.send.sequence,
                taken_before,
                overhead: parameters.cipher.overhead(parameters.version),
            },
            sending: SendState::Open,
            messages_left: MAX_MESSAGES,
            session,
        })
    }

    pub(crate) fn send(&mut self, stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        self.admit(stream, bytes.len() as u64)?;
        let sent = socket::send(stream, bytes, false)?;
        self.sealed.plain += sent as u64;
        Ok(sent)
    }

    pub(crate) fn send_file(
        &mut self,
        mut stream: &TcpStream,
        part: FilePart<'_>,
        tools: &mut IoBuffers,
    ) -> Result<usize, SendError> {
        // The length of a copy is bounded by the buffer, so that each call ends its last record.
        let most = match *part.choice {
            SendChoice::Auto => u64::MAX,
            SendChoice::Copy => tools.scratch.len() as u64,
        };
        let part = FilePart {
            len: part.len.min(most),
            more: More::No,
            ..part
        };
        self.admit(stream, part.len).map_err(blocked_or_network)?;
        let sent = Sink::send_file(&mut stream, part, tools).map_err(|error| match error {
            // sendfile(2) also reports faults of received records.
            SendError::File(error) | SendError::Network(error) if self.fails_by_socket(stream) => {
                SendError::Network(error)
            }
            error => error,
        })?;
        self.sealed.plain += sent as u64;
        Ok(sent)
    }

    /// Notes that `len` bytes of a file follow. If the key might not seal so many, the session ends
    /// before the first of them, and the client asks again on another connection.
    pub(crate) fn announce_body(&mut self, stream: &TcpStream, len: u64) {
        let Parameters {
            cipher,
            record_limit,
            ..
        } = self.session.parameters();
        let sealed = kernel_tls::records_sent(stream, cipher);
        let fits = sealed.is_ok_and(|sealed| record_count::fits(len, sealed, record_limit));
        if !fits && !self.changes_keys {
            let _ = self.end(stream);
        }
    }

    /// Receives once.
    ///
    /// # Errors
    /// As recvmsg(2); the peer broke the protocol, and was sent an alert.
    pub(crate) fn receive(
        &mut self,
        stream: &TcpStream,
        buffer: &mut [u8],
    ) -> io::Result<Incoming> {
        let received = kernel_tls::receive_record(stream, buffer);
        let (len, kind) = received.inspect_err(|error| {
            self.fails_by(stream, error);
        })?;
        let version = self.session.parameters().version;
        let message = match kind {
            None if len == 0 => return Ok(Incoming::Truncated),
            None | Some(record_type::APPLICATION_DATA) if len > 0 => {
                self.messages_left = MAX_MESSAGES;
                return Ok(Incoming::Bytes(len));
            }
            // The record is empty, with one of another type behind it.
            None | Some(record_type::APPLICATION_DATA) => Message::Nothing,
            Some(kind) => messages::parse(kind, &buffer[..len], version),
        };
        match message {
            Message::Nothing if self.takes_message() => Ok(Incoming::Message),
            Message::Closed => Ok(Incoming::End),
            Message::Fatal => Err(io::ErrorKind::ConnectionAborted.into()),
            Message::KeyUpdate { is_answer_wanted } if self.takes_message() => {
                self.change_receiving_keys(stream, is_answer_wanted)
            }
            Message::Renegotiation if self.takes_message() => {
                match self.send_alert(stream, Alert::NO_RENEGOTIATION) {
                    // A full send queue does not stop the receiving direction.
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
                    _ => Ok(Incoming::Message),
                }
            }
            Message::Nothing
            | Message::KeyUpdate { .. }
            | Message::Renegotiation
            | Message::Unexpected => {
                self.fail(stream, Alert::UNEXPECTED_MESSAGE);
                Err(io::ErrorKind::InvalidData.into())
            }
        }
    }

    /// Sends `close_notify` behind the sent bytes.
    ///
    /// # Errors
    /// `WouldBlock` as long as TCP has not taken all; as sendmsg(2).
    pub(crate) fn end(&mut self, stream: &TcpStream) -> io::Result<()> {
        match self.sending {
            SendState::Open | SendState::OwesKeys => {
                self.send_alert(stream, Alert::CLOSE_NOTIFY)?;
                self.sending = SendState::Closed;
            }
            SendState::Closed | SendState::Failed => {}
        }
        match self.unsent(stream) {
            0 => Ok(()),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Bytes of `close_notify`, once it was sent: they belong to no response.
    pub(crate) fn closing(&self) -> u64 {
        match self.sending {
            SendState::Closed => Alert::CLOSE_NOTIFY.bytes().len() as u64 + self.sealed.overhead,
            SendState::Open | SendState::OwesKeys | SendState::Failed => 0,
        }
    }

    /// Bytes that the kernel was given and TCP has not taken.
    pub(crate) fn unsent(&self, stream: &TcpStream) -> u64 {
        let cipher = self.session.parameters().cipher;
        let Ok(next) = kernel_tls::records_sent(stream, cipher) else {
            return 0;
        };
        let taken = socket::bytes_taken(stream);
        taken.map_or(0, |taken| self.sealed.not_taken(next, taken))
    }

    /// Counts `len` bytes more for the key, and changes it if it may not seal them.
    fn admit(&mut self, stream: &TcpStream, len: u64) -> io::Result<()> {
        match self.sending {
            SendState::Open => {}
            SendState::OwesKeys => self.change_sending_keys(stream)?,
            SendState::Closed | SendState::Failed => return Err(io::ErrorKind::BrokenPipe.into()),
        }
        if self.count.admit(len) {
            return Ok(());
        }
        let cipher = self.session.parameters().cipher;
        self.count
            .correct(kernel_tls::records_sent(stream, cipher)?);
        if self.count.admit(len) {
            return Ok(());
        }
        if self.changes_keys {
            self.change_sending_keys(stream)?;
            if self.count.admit(len) {
                return Ok(());
            }
        }
        Err(io::Error::other("the key has sealed all that it may"))
    }

    /// Announces the next key, and has the kernel seal with it.
    fn change_sending_keys(&mut self, stream: &TcpStream) -> io::Result<()> {
        self.send_record(stream, record_type::HANDSHAKE, &messages::KEY_UPDATE)?;
        // Later bytes must not be sealed with the old key.
        self.sending = SendState::Failed;
        let parameters = self.session.parameters();
        let next = kernel_tls::records_sent(stream, parameters.cipher)?;
        let keys = self.session.next_keys(Direction::Send);
        kernel_tls::set_keys(stream, Direction::Send, &keys.map_err(io::Error::other)?)?;
        self.sealed.earlier += next - self.sealed.first;
        self.sealed.first = 0;
        self.count = RecordCount::new(parameters.record_limit, 0);
        self.sending = SendState::Open;
        Ok(())
    }

    /// Sets the next key to open with, which the peer has announced.
    fn change_receiving_keys(
        &mut self,
        stream: &TcpStream,
        is_answer_wanted: bool,
    ) -> io::Result<Incoming> {
        if !self.changes_keys {
            // The pending requests are answered, and the connection ends in order.
            return Ok(Incoming::End);
        }
        let keys = self.session.next_keys(Direction::Receive);
        kernel_tls::set_keys(stream, Direction::Receive, &keys.map_err(io::Error::other)?)?;
        if is_answer_wanted && self.sending == SendState::Open {
            self.sending = SendState::OwesKeys;
        }
        Ok(Incoming::Message)
    }

    fn takes_message(&mut self) -> bool {
        let left = self.messages_left.checked_sub(1);
        self.messages_left = left.unwrap_or(0);
        left.is_some()
    }

    /// Ends the session if the error is that of a received record. Returns whether it is.
    fn fails_by(&mut self, stream: &TcpStream, error: &io::Error) -> bool {
        let fault = RecordFault::of(error);
        if let Some(fault) = fault {
            self.fail(stream, messages::alert_for(fault));
        }
        fault.is_some()
    }

    /// Ends the session if sending failed for a record that came: the socket has its error then.
    fn fails_by_socket(&mut self, stream: &TcpStream) -> bool {
        let error = stream.take_error().ok().flatten();
        error.is_some_and(|error| self.fails_by(stream, &error))
    }

    /// Ends the session by an alert, if the socket takes it.
    fn fail(&mut self, stream: &TcpStream, alert: Alert) {
        // The socket would refuse all calls after a bad record.
        let _ = stream.take_error();
        if matches!(self.sending, SendState::Open | SendState::OwesKeys) {
            let _ = self.send_alert(stream, alert);
            self.sending = SendState::Failed;
        }
    }

    fn send_alert(&mut self, stream: &TcpStream, alert: Alert) -> io::Result<()> {
        self.send_record(stream, record_type::ALERT, alert.bytes())
    }

    fn send_record(&mut self, stream: &TcpStream, kind: u8, bytes: &[u8]) -> io::Result<()> {
        kernel_tls::send_record(stream, kind, bytes)?;
        self.sealed.plain += bytes.len() as u64;
        Ok(())
    }
}

impl Sealed {
    /// Bytes that TCP has not taken, by the `next` record's number and the bytes `taken` in all.
    /// They include those of an incomplete record.
    fn not_taken(&self, next: u64, taken: u64) -> u64 {
        let records = self.earlier + next.saturating_sub(self.first);
        let given = self.plain + records * self.overhead;
        given.saturating_sub(taken.saturating_sub(self.taken_before))
    }
}

/// Most messages without content in a row, as in rustls.
const MAX_MESSAGES: u8 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_tcp_has_not_taken_are_computed_from_bytes_and_records() {
        let sealed = Sealed {
            plain: 20_000,
            earlier: 1,
            first: 7,
            taken_before: 500,
            overhead: 22,
        };
        // Two records are complete, one of them with an earlier key.
        let all = 20_000 + 2 * 22;
        assert_eq!(sealed.not_taken(8, 500), all);
        assert_eq!(sealed.not_taken(8, 500 + all), 0);
        assert_eq!(sealed.not_taken(8, 500 + all - 1), 1);
        // The end of the stream counts as a byte that TCP has taken.
        assert_eq!(sealed.not_taken(8, 500 + all + 1), 0);
    }
}
