//! A public key's digest, by which a server is known without an authority (RFC 7469, 2.4).

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use sha2::{Digest, Sha256};

/// The SHA-256 of a certificate's `SubjectPublicKeyInfo`.
///
/// Read from `sha256:` or curl's `sha256//`, with base64 or hexadecimal digits behind it; written
/// as `sha256:` with base64.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; 32]);

/// The text is no pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPin;

impl Pin {
    /// The pin of a certificate's key; `None` if it cannot be read.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = ParsedCertificate::try_from(certificate).ok()?;
        Some(Self(
            Sha256::digest(parsed.subject_public_key_info()).into(),
        ))
    }
}

impl FromStr for Pin {
    type Err = BadPin;

    fn from_str(text: &str) -> Result<Self, BadPin> {
        let text = text.trim();
        let digits = text
            .strip_prefix("sha256//")
            .or_else(|| text.strip_prefix("sha256:"))
            .unwrap_or(text);
        let hex: Vec<u8> = digits.bytes().filter(|&byte| byte != b':').collect();
        let bytes = match hex.len() {
            64 => from_hex(&hex).ok_or(BadPin)?,
            _ => ANY_BASE64.decode(digits).map_err(|_| BadPin)?,
        };
        bytes.try_into().map(Self).map_err(|_| BadPin)
    }
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |&byte: &u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8]| Some((digit(&pair[0])? * 16 + digit(&pair[1])?) as u8);
    digits.chunks_exact(2).map(byte).collect()
}

impl fmt::Display for Pin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sha256:{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl fmt::Display for BadPin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a pin is sha256: and the 44 base64 or 64 hexadecimal digits of a SHA-256")
    }
}

impl std::error::Error for BadPin {}

const ANY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_pin_is_read() {
        let hex = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
        let colons: Vec<&str> = (0..32).map(|at| &hex[at * 2..at * 2 + 2]).collect();
        let base64 = "ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=";
        let pin: Pin = format!("sha256:{hex}").parse().unwrap();
        assert_eq!(pin.to_string(), format!("sha256:{base64}"));
        for text in [
            format!("sha256//{base64}"),
            format!("sha256:{}", base64.trim_end_matches('=')),
            format!("sha256:{}", colons.join(":")),
            hex.to_owned(),
        ] {
            assert_eq!(text.parse(), Ok(pin), "{text}");
        }
        for text in ["", "sha256:", "sha256:abc", "md5:abc", &hex[1..]] {
            assert_eq!(text.parse::<Pin>(), Err(BadPin), "{text}");
        }
    }
}
