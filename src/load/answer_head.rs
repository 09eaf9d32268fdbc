//! The head of an HTTP answer, so far as a load generator needs it (RFC 9112 sections 4 and 6.3).

use crate::http::Persistence;

use super::tally::Failure;

/// The head of a final answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnswerHead {
    pub(super) status: u16,
    /// The length of the content; `None` if only the close ends it.
    pub(super) content_length: Option<u64>,
    /// The whole file's length, from `Content-Range`.
    pub(super) complete_length: Option<u64>,
    pub(super) persistence: Persistence,
}

/// Reads a head from the beginning of `bytes`, interim answers (1xx) skipped, and says how many
/// bytes it takes; `None` if it is not all there yet.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(AnswerHead, usize)>, Failure> {
    let mut skipped = 0;
    loop {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let length = match response.parse(&bytes[skipped..]) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Failure::BadHead),
        };
        skipped += length;
        if response.code.is_some_and(|status| status >= 200) {
            return Ok(Some((read(&response)?, skipped)));
        }
    }
}

fn read(response: &httparse::Response<'_, '_>) -> Result<AnswerHead, Failure> {
    let status = response.code.ok_or(Failure::BadHead)?;
    let mut head = AnswerHead {
        status,
        content_length: None,
        complete_length: None,
        persistence: match response.version {
            Some(1) => Persistence::KeepAlive,
            _ => Persistence::Close,
        },
    };
    for field in response.headers.iter() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            head.content_length = Some(number(field.value).ok_or(Failure::BadHead)?);
        } else if is("content-range") {
            head.complete_length = field
                .value
                .rsplit(|&byte| byte == b'/')
                .next()
                .and_then(number);
        } else if is("connection") {
            if field.value.eq_ignore_ascii_case(b"close") {
                head.persistence = Persistence::Close;
            } else if field.value.eq_ignore_ascii_case(b"keep-alive") {
                head.persistence = Persistence::KeepAlive;
            }
        } else if is("transfer-encoding") {
            // Files come with their length; chunks would have to be read instead of thrown away.
            return Err(Failure::BadHead);
        }
    }
    if matches!(status, 204 | 304) {
        head.content_length = Some(0);
    }
    if head.content_length.is_none() {
        head.persistence = Persistence::Close;
    }
    Ok(head)
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.trim().parse().ok()
}

const MOST_FIELDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let text =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n\
                     Content-Range: bytes 0-4/1000\r\n\r\nhello";
        let whole = text.len() - 5;
        for end in 0..whole {
            assert_eq!(parse(&text[..end]), Ok(None), "{end} bytes");
        }
        let head = AnswerHead {
            status: 206,
            content_length: Some(5),
            complete_length: Some(1000),
            persistence: Persistence::KeepAlive,
        };
        assert_eq!(parse(text), Ok(Some((head, whole))));
    }

    #[test]
    fn the_close_ends_what_has_no_length() {
        let (head, _) = parse(b"HTTP/1.1 200 OK\r\n\r\n").unwrap().unwrap();
        assert_eq!(
            (head.content_length, head.persistence),
            (None, Persistence::Close)
        );
        let (head, _) = parse(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(
            (head.content_length, head.persistence),
            (Some(3), Persistence::Close)
        );
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert_eq!(parse(text.as_bytes()), Err(Failure::BadHead), "{text}");
        }
    }
}
