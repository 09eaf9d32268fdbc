//! Why TLS handshakes fail.

/// Writes the table of failures once, as an enum, as words of a metric and as texts of the log.
macro_rules! handshake_failures {
    ($($(#[$doc:meta])* $variant:ident, $word:literal, $text:literal;)*) => {
        /// Why a TLS handshake failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum HandshakeFailure { $($(#[$doc])* $variant,)* }

        impl HandshakeFailure {
            /// Every failure, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word for the metric.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The text for the access log.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

handshake_failures! {
    /// Text, of HTTP or another protocol.
    PlainText, "plain-text", "plain text on a port that speaks TLS";
    /// The handshake had begun, and was not whole within `--head-timeout`.
    Timeout, "timeout", "the handshake was not whole in time";
    /// The client closed or reset the connection after the handshake had begun.
    Aborted, "aborted", "TLS: the client broke the handshake off";
    /// The client sent an alert about the server's certificate.
    CertificateRefused, "certificate-refused", "TLS: the client does not accept the certificate";
    /// The client sent another alert.
    Alert, "alert", "TLS: the client broke the handshake off, by an alert";
    /// The client has no version, cipher, group or signature of the server's.
    Incompatible, "incompatible", "TLS: no version or cipher in common with the client";
    /// The client names protocols (ALPN), and HTTP/1 is not among them.
    NoProtocol, "no-protocol", "TLS: the client speaks no protocol of this server (ALPN)";
    /// The client showed no certificate, and has to.
    NoCertificate, "no-certificate", "TLS: the client has no certificate";
    /// The client's certificate has expired.
    ClientExpired, "client-expired", "TLS: the client's certificate has expired";
    /// The client's certificate is not valid yet.
    ClientNotYetValid, "client-not-yet-valid", "TLS: the client's certificate is not valid yet";
    /// No authority of the server's signed the client's certificate.
    ClientUnknownIssuer, "client-unknown-issuer", "TLS: the issuer of the client's certificate is unknown";
    /// The client's certificate is of a server, or for another purpose.
    ClientPurpose, "client-purpose", "TLS: the client's certificate is not one for clients";
    /// The client's certificate has another fault.
    ClientRefused, "client-refused", "TLS: the client's certificate is not accepted";
    /// The bytes are no messages of TLS.
    Malformed, "malformed", "TLS: malformed";
    /// A record exceeds the size that RFC 8446 section 5.1 allows.
    OversizedRecord, "oversized-record", "TLS: a record that is too large";
    /// A record was altered, or is under another key.
    Undecryptable, "undecryptable", "TLS: a record that does not decrypt";
    /// Messages are out of order, or contradict each other.
    Misbehaved, "misbehaved", "TLS: the client breaks the protocol";
    /// Any other failure.
    Other, "other", "TLS: the handshake failed";
}
