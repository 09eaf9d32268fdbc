//! Messages that the kernel passes on: alerts, and those after the handshake (RFC 8446 sections 4.6
//! and 6).

use crate::sys::kernel_tls::{RecordFault, Version, record_type};

/// The meaning of a record without content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A warning without consequence.
    Nothing,
    /// `close_notify`.
    Closed,
    /// A fatal alert.
    Fatal,
    /// Later records are sealed with the next key.
    KeyUpdate {
        /// Whether the peer requests a key update in the other direction.
        is_answer_wanted: bool,
    },
    /// A new handshake, as TLS 1.2 allows.
    Renegotiation,
    /// A violation of the protocol.
    Unexpected,
}

/// An alert to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alert([u8; 2]);

impl Alert {
    pub(super) const CLOSE_NOTIFY: Self = Self([WARNING, 0]);
    pub(super) const UNEXPECTED_MESSAGE: Self = Self([FATAL, 10]);
    pub(super) const NO_RENEGOTIATION: Self = Self([WARNING, 100]);
    const BAD_RECORD_MAC: Self = Self([FATAL, 20]);
    const RECORD_OVERFLOW: Self = Self([FATAL, 22]);
    const DECODE_ERROR: Self = Self([FATAL, 50]);

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The meaning of a record of type `kind`.
pub(super) fn parse(kind: u8, bytes: &[u8], version: Version) -> Message {
    match (kind, bytes) {
        (record_type::ALERT, [_, CLOSE_NOTIFY]) => Message::Closed,
        (record_type::ALERT, [WARNING, _]) if version == Version::Tls12 => Message::Nothing,
        (record_type::ALERT, [_, USER_CANCELED]) if version == Version::Tls13 => Message::Nothing,
        (record_type::ALERT, [_, _]) => Message::Fatal,
        (record_type::HANDSHAKE, [0x18, 0, 0, 1, is_answer_wanted @ (0 | 1)])
            if version == Version::Tls13 =>
        {
            Message::KeyUpdate {
                is_answer_wanted: *is_answer_wanted == 1,
            }
        }
        (record_type::HANDSHAKE, _) if version == Version::Tls12 => Message::Renegotiation,
        _ => Message::Unexpected,
    }
}

/// The alert for a record that the kernel could not open.
pub(super) fn alert_for(fault: RecordFault) -> Alert {
    match fault {
        RecordFault::Undecipherable => Alert::BAD_RECORD_MAC,
        RecordFault::TooLong => Alert::RECORD_OVERFLOW,
        RecordFault::Malformed => Alert::DECODE_ERROR,
    }
}

/// A `KeyUpdate` that requests no answer.
pub(super) const KEY_UPDATE: [u8; 5] = [0x18, 0, 0, 1, 0];

/// Levels of alerts.
const WARNING: u8 = 1;
const FATAL: u8 = 2;

const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_mean_what_the_version_says() {
        let alert = |bytes: &[u8], version| parse(record_type::ALERT, bytes, version);
        let handshake = |bytes: &[u8], version| parse(record_type::HANDSHAKE, bytes, version);
        for version in Version::ALL {
            assert_eq!(alert(&[1, 0], version), Message::Closed);
            assert_eq!(alert(&[2, 0], version), Message::Closed);
            assert_eq!(alert(&[2, 40], version), Message::Fatal);
            assert_eq!(alert(&[1, 90], version), Message::Nothing);
            assert_eq!(alert(&[2], version), Message::Unexpected);
            assert_eq!(parse(20, &[1], version), Message::Unexpected);
            assert_eq!(parse(0, &[], version), Message::Unexpected);
        }
        assert_eq!(alert(&[2, 90], Version::Tls12), Message::Fatal);
        assert_eq!(alert(&[1, 41], Version::Tls12), Message::Nothing);
        assert_eq!(alert(&[1, 41], Version::Tls13), Message::Fatal);
        for (asked, is_answer_wanted) in [(0, false), (1, true)] {
            let message = handshake(&[24, 0, 0, 1, asked], Version::Tls13);
            assert_eq!(message, Message::KeyUpdate { is_answer_wanted });
        }
        for bytes in [
            &[24, 0, 0, 1, 2][..],
            &[24, 0, 0, 1],
            &[24, 0, 0, 1, 0, 24],
            &[],
        ] {
            assert_eq!(handshake(bytes, Version::Tls13), Message::Unexpected);
        }
        assert_eq!(
            handshake(&[1, 0, 0, 9], Version::Tls12),
            Message::Renegotiation
        );
    }
}
