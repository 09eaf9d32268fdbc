//! Values of fields: tokens, numbers, comma-separated lists, quality values (RFC 9110 sections 5.6
//! and 12.4.2).

/// The values of all fields of this name in the head of a well-formed request, in order.
pub(super) fn values<'a>(head: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    // The request line may hold a colon as well.
    let lines = head
        .split(|byte| *byte == b'\n')
        .skip_while(|line| line.trim_ascii().is_empty());
    lines.skip(1).filter_map(move |line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (field, value) = line.split_at(colon);
        field
            .eq_ignore_ascii_case(name.as_bytes())
            .then(|| value[1..].trim_ascii())
    })
}

/// Whether a byte is allowed in a token.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Digits only: `parse` alone would take a sign.
pub(super) fn decimal(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// The elements of a list, without the white space around them; empty ones are left out.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// Takes spaces and tabs off both ends.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// An element and its quality in thousandths. Parameters other than `q` are ignored; a malformed
/// `q` counts as 0, so that an element with a restriction is never forced on a client.
pub(super) fn with_quality(element: &[u8]) -> (&[u8], u16) {
    let mut parts = element.split(|byte| *byte == b';').map(trim);
    let name = parts.next().unwrap_or_default();
    let quality = parts
        .find_map(|part| match part {
            [b'q' | b'Q', b'=', value @ ..] => Some(thousandths(value).unwrap_or(0)),
            _ => None,
        })
        .unwrap_or(1_000);
    (name, quality)
}

fn thousandths(value: &[u8]) -> Option<u16> {
    let (whole, fraction) = match value {
        [whole] | [whole, b'.'] => (whole, [].as_slice()),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let mut thousandths = match whole {
        b'0' => 0,
        b'1' => 1_000,
        _ => return None,
    };
    let mut weight = 100;
    for digit in fraction {
        if !digit.is_ascii_digit() {
            return None;
        }
        thousandths += u16::from(digit - b'0') * weight;
        weight /= 10;
    }
    (thousandths <= 1_000).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_values_have_three_digits_at_most() {
        let cases: [(&[u8], u16); 10] = [
            (b"a", 1_000),
            (b"a;q=0.5", 500),
            (b"a ; Q=0.123", 123),
            (b"a;level=1;q=1.000", 1_000),
            (b"a;q=0", 0),
            (b"a;q=0.", 0),
            (b"a;q=1.001", 0),
            (b"a;q=0.1234", 0),
            (b"a;q=2", 0),
            (b"a;q=-1", 0),
        ];
        for (element, quality) in cases {
            assert_eq!(
                with_quality(element),
                (b"a".as_slice(), quality),
                "{element:?}"
            );
        }
    }

    #[test]
    fn empty_elements_are_left_out() {
        let list: Vec<_> = elements(b", a ,,\tb\t,").collect();
        assert_eq!(list, [b"a", b"b"]);
    }
}
