//! Secrets in an address's query: signatures, tokens and keys, which grant access to any reader of
//! a screen or a log.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// `query` with `***` for the values that look secret, by their name or their length.
pub(crate) fn redact(query: &str) -> Cow<'_, str> {
    if !query.split(['&', ';']).any(is_secret) {
        return Cow::Borrowed(query);
    }
    let mut shown = String::new();
    for field in query.split_inclusive(['&', ';']) {
        let (field, separator) = match field.strip_suffix(['&', ';']) {
            Some(inner) => (inner, &field[inner.len()..]),
            None => (field, ""),
        };
        match field.split_once('=') {
            _ if !is_secret(field) => shown.push_str(field),
            Some((name, _)) => shown.extend([name, "=***"]),
            None => shown.push_str("***"),
        }
        shown.push_str(separator);
    }
    Cow::Owned(shown)
}

fn is_secret(field: &str) -> bool {
    let Some((name, value)) = field.split_once('=') else {
        return field.len() > MAX_SHOWN_BYTES;
    };
    let name = percent_decode_str(name).decode_utf8_lossy();
    let name = name.to_ascii_lowercase();
    !value.is_empty()
        && (value.len() > MAX_SHOWN_BYTES || SECRETS.iter().any(|word| name.contains(word)))
}

/// Parts of the names of secrets: those of S3, Azure, Google, CloudFront, Akamai, nginx
/// and haul's own links among them.
const SECRETS: [&str; 15] = [
    "sig", "token", "key", "secret", "pass", "pwd", "auth", "cred", "session", "policy", "hmac",
    "hash", "jwt", "md5", "code",
];
/// A longer value may be a secret under any name.
const MAX_SHOWN_BYTES: usize = 20;

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn only_what_looks_secret_is_left_out() {
        for (query, shown) in [
            ("format=json&id=5", "format=json&id=5"),
            ("expires=1790000000&sig=abc", "expires=1790000000&sig=***"),
            ("X-Amz-Signature=0a&x=1", "X-Amz-Signature=***&x=1"),
            ("%73ig=abc;v=2", "%73ig=***;v=2"),
            ("st=0123456789abcdefghijk", "st=***"),
            ("0123456789abcdefghijk", "***"),
            ("token=", "token="),
            ("sig=a=b&", "sig=***&"),
            ("", ""),
        ] {
            assert_eq!(redact(query), shown);
        }
    }
}
