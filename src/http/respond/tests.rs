//! Responses as bytes and plans, for requests and files that are made up.

use std::sync::LazyLock;

use super::*;
use crate::http::DigestAnswer;
use crate::http::conditional::{Conditions, EntityTags, IfRange};
use crate::http::negotiate::{Accept, AcceptEncoding, Explanation};
use crate::http::policy::{CacheRule, Field};
use crate::http::query::Query;
use crate::http::range::RangeSpec;
use crate::http::request::{BodyLength, Expectation};
use crate::http::validator::{EntityTag, Strength};
use crate::meta::Timestamp;

fn get() -> Request {
    Request {
        method: Method::Get,
        version: Version::Http11,
        target: Target {
            path: b"a/b.txt".to_vec(),
            trailing_slash: false,
        },
        query: Query::default(),
        digests: None,
        host: None,
        persistence: Persistence::KeepAlive,
        is_last: false,
        body: BodyLength::Empty,
        expectation: Expectation::None,
        refusal: None,
        conditions: None,
        ranges: None,
        accept: Accept::default(),
        accept_encoding: AcceptEncoding::default(),
        credentials: None,
        audience: Default::default(),
        line: b"GET /a/b.txt?x=y HTTP/1.1".as_slice().into(),
        forwarded_for: None,
        client_fields: None,
    }
}

const META: Meta = Meta {
    device: 1,
    inode: 2,
    links: 1,
    len: 1_000,
    modified: Timestamp {
        seconds: 784_111_777,
        nanoseconds: 9,
    },
    changed: Timestamp {
        seconds: 784_111_777,
        nanoseconds: 9,
    },
};

fn now() -> Now {
    Now::at(784_111_877)
}

static VALIDATORS: LazyLock<Validators> =
    LazyLock::new(|| Validators::of(&META, HttpPolicy::default().etag, true, &now()));

fn subject(meta: &Meta) -> Subject<'_> {
    Subject {
        meta,
        validators: &VALIDATORS,
        path: b"a/b.txt",
        coding: None,
        media_type: None,
        digests: DigestAnswer::None,
        selection: Negotiation::None,
    }
}

fn etag() -> String {
    let mut etag = Vec::new();
    VALIDATORS.write_etag(&mut etag);
    String::from_utf8(etag).expect("ASCII")
}

fn answer(request: &Request) -> Response {
    to_file(request, &subject(&META), &HttpPolicy::default(), &now())
}

fn head(response: &Response) -> &str {
    let head = str::from_utf8(&response.head).expect("ASCII");
    assert!(
        head.ends_with("\r\n\r\n") && !head.trim_end().contains("\r\n\r\n"),
        "{head}"
    );
    head
}

fn field<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    let mut values = head(response)
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let value = values.next();
    assert_eq!(values.next(), None, "{name} twice");
    value
}

/// The body of a response that haul made itself.
fn body(response: &Response) -> &[u8] {
    assert!(response.body.segments.len() <= 1);
    match response.body.segments.front() {
        None => &[],
        Some(Segment::Memory(bytes)) => bytes,
        Some(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_file() {
    let response = answer(&get());
    let expected = format!(
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:51:17 GMT\r\nServer: haul\r\nETag: {}\r\n\
        Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nAccept-Ranges: bytes\r\n\
        X-Content-Type-Options: nosniff\r\nContent-Type: text/plain; charset=utf-8\r\n\
        Content-Length: 1000\r\n\r\n",
        etag()
    );
    assert_eq!(head(&response), expected);
    assert_eq!(
        response.body.segments,
        [Segment::File {
            offset: 0,
            len: 1_000
        }]
    );
    assert_eq!(response.content_length, 1_000);

    let of_head = answer(&Request {
        method: Method::Head,
        ..get()
    });
    assert_eq!(of_head.head, response.head);
    assert!(of_head.body.segments.is_empty());

    let empty = Meta { len: 0, ..META };
    let of_empty = to_file(&get(), &subject(&empty), &HttpPolicy::default(), &now());
    assert_eq!(field(&of_empty, "Content-Length"), Some("0"));
    assert!(of_empty.body.segments.is_empty());
}

#[test]
fn one_range_and_none() {
    let ranges = |specs: &[RangeSpec]| Request {
        ranges: Some(specs.into()),
        ..get()
    };
    let part = answer(&ranges(&[RangeSpec::Last(10)]));
    assert_eq!(part.status, 206);
    assert_eq!(field(&part, "Content-Range"), Some("bytes 990-999/1000"));
    assert_eq!(field(&part, "Content-Length"), Some("10"));
    assert_eq!(
        part.body.segments,
        [Segment::File {
            offset: 990,
            len: 10
        }]
    );

    let beyond = answer(&ranges(&[RangeSpec::From(1_000)]));
    assert_eq!(beyond.status, 416);
    assert_eq!(field(&beyond, "Content-Range"), Some("bytes */1000"));
    assert_eq!(beyond.persistence, Persistence::KeepAlive);
}

#[test]
fn several_ranges_add_up_to_the_promised_length() {
    let specs = [
        RangeSpec::Between { first: 0, last: 9 },
        RangeSpec::Between {
            first: 20,
            last: 29,
        },
        RangeSpec::Between {
            first: 25,
            last: 34,
        },
    ];
    let response = answer(&Request {
        ranges: Some(specs.as_slice().into()),
        ..get()
    });
    let content_type = field(&response, "Content-Type").expect("one");
    let boundary = content_type
        .strip_prefix("multipart/byteranges; boundary=")
        .expect("multipart");
    let (mut text, mut sent) = (String::new(), 0);
    for segment in &response.body.segments {
        match segment {
            Segment::Memory(bytes) => {
                sent += bytes.len() as u64;
                text.push_str(str::from_utf8(bytes).expect("ASCII"));
            }
            Segment::File { offset, len } => {
                sent += len;
                text.push_str(&format!("<{offset}+{len}>"));
            }
        }
    }
    let expected = format!(
        "\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\
        Content-Range: bytes 0-9/1000\r\n\r\n<0+10>\r\n--{boundary}\r\n\
        Content-Type: text/plain; charset=utf-8\r\n\
        Content-Range: bytes 20-34/1000\r\n\r\n<20+15>\r\n--{boundary}--\r\n"
    );
    assert_eq!(text, expected);
    assert_eq!(
        field(&response, "Content-Length"),
        Some(sent.to_string().as_str())
    );
    assert_eq!(response.content_length, sent);
    assert_eq!(field(&response, "Content-Range"), None);
}

#[test]
fn a_range_counts_only_for_the_same_content() {
    let tag = |strength, opaque: &str| EntityTag {
        strength,
        opaque: opaque.as_bytes().into(),
    };
    let known = etag();
    let known = known.trim_matches('"');
    let date = |seconds| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    let cases = [
        (IfRange::Tag(tag(Strength::Strong, known)), 206),
        (IfRange::Tag(tag(Strength::Weak, known)), 200),
        (IfRange::Tag(tag(Strength::Strong, "other")), 200),
        (IfRange::Date(date(784_111_777)), 206),
        (IfRange::Date(date(784_111_778)), 200),
        (IfRange::Invalid, 200),
    ];
    for (if_range, status) in cases {
        let conditions = Conditions {
            if_range: Some(if_range.clone()),
            ..Conditions::default()
        };
        let request = Request {
            ranges: Some([RangeSpec::From(10)].as_slice().into()),
            conditions: Some(Box::new(conditions)),
            ..get()
        };
        assert_eq!(answer(&request).status, status, "{if_range:?}");
    }
}

#[test]
fn what_the_client_has_is_not_sent_again() {
    let conditions = Conditions {
        if_none_match: Some(EntityTags::Any),
        ..Conditions::default()
    };
    let request = Request {
        conditions: Some(Box::new(conditions)),
        ..get()
    };
    let policy = HttpPolicy {
        cache_control: vec![CacheRule::parse("**/*.txt=max-age=60").expect("a rule")],
        ..HttpPolicy::default()
    };
    let subject = Subject {
        selection: Negotiation::ByCoding,
        ..subject(&META)
    };
    let response = to_file(&request, &subject, &policy, &now());
    assert_eq!(response.status, 304);
    assert_eq!(field(&response, "ETag"), Some(etag().as_str()));
    assert_eq!(field(&response, "Vary"), Some("Accept-Encoding"));
    assert_eq!(field(&response, "Cache-Control"), Some("max-age=60"));
    assert_eq!(field(&response, "Content-Length"), None);
    assert!(response.body.segments.is_empty());

    let conditions = Conditions {
        if_match: Some(EntityTags::List(Vec::new())),
        ..Conditions::default()
    };
    let failed = answer(&Request {
        conditions: Some(Box::new(conditions)),
        ..get()
    });
    assert_eq!(failed.status, 412);
    assert_eq!(failed.persistence, Persistence::KeepAlive);
}

#[test]
fn the_policy_adds_fields() {
    let policy = HttpPolicy {
        cors: Cors::AnyOrigin,
        fields: vec![Field::parse("X-Robots-Tag: none").expect("a field")],
        ..HttpPolicy::default()
    };
    let mut request = get();
    request.query.disposition = Disposition::Attachment;
    let subject = Subject {
        coding: Some(Coding::Gzip),
        media_type: None,
        digests: DigestAnswer::None,
        ..subject(&META)
    };
    let response = to_file(&request, &subject, &policy, &now());
    assert_eq!(field(&response, "Access-Control-Allow-Origin"), Some("*"));
    assert_eq!(field(&response, "X-Robots-Tag"), Some("none"));
    assert_eq!(field(&response, "Content-Encoding"), Some("gzip"));
    assert_eq!(
        field(&response, "Content-Disposition"),
        Some("attachment; filename=\"b.txt\"")
    );
    let options = to_options(&request, &policy, &now());
    assert_eq!(options.status, 204);
    assert_eq!(field(&options, "Allow"), Some("GET, HEAD, OPTIONS"));
    assert_eq!(field(&options, "Content-Length"), None);
}

#[test]
fn a_refusal_is_explained_in_the_form_that_is_liked() {
    let policy = HttpPolicy::default();
    let line = to_refusal(Some(&get()), &Refusal::NotFound, &policy, &now());
    assert_eq!(line.status, 404);
    assert_eq!(line.persistence, Persistence::KeepAlive);
    assert_eq!(
        field(&line, "Content-Type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(
        field(&line, "Content-Length"),
        Some(body(&line).len().to_string().as_str())
    );

    let mut browser = get();
    browser.accept.explanation = Explanation::Page;
    let page = to_refusal(Some(&browser), &Refusal::NotFound, &policy, &now());
    assert_eq!(
        field(&page, "Content-Type"),
        Some("text/html; charset=utf-8")
    );
    assert!(field(&page, "Content-Security-Policy").is_some());
    assert!(body(&page).starts_with(b"<!DOCTYPE html>"));

    browser.method = Method::Head;
    let of_head = to_refusal(Some(&browser), &Refusal::NotFound, &policy, &now());
    assert_eq!(of_head.head, page.head);
    assert!(of_head.body.segments.is_empty());

    let malformed = to_refusal(None, &Refusal::BadRequest("two Hosts"), &policy, &now());
    assert_eq!(malformed.persistence, Persistence::Close);
    assert_eq!(field(&malformed, "Connection"), Some("close"));
    let overloaded = to_refusal(Some(&get()), &Refusal::Overloaded, &policy, &now());
    assert_eq!(field(&overloaded, "Retry-After"), Some("10"));
    assert_eq!(overloaded.persistence, Persistence::Close);
    let post = to_refusal(Some(&get()), &Refusal::MethodNotAllowed, &policy, &now());
    assert_eq!(field(&post, "Allow"), Some("GET, HEAD, OPTIONS"));
}

#[test]
fn a_redirect_stays_on_this_server_and_keeps_the_query() {
    let mut request = get();
    request.target.path = "/evil.example/Ü".as_bytes()[1..].to_vec();
    request.line = b"GET //evil.example/%C3%9C?sort=size&q=%0d HTTP/1.1"
        .as_slice()
        .into();
    let response = to_redirect(&request, &HttpPolicy::default(), &now());
    assert_eq!(response.status, 301);
    assert_eq!(
        field(&response, "Location"),
        Some("/evil.example/%C3%9C/?sort=size&q=%0d")
    );
}

#[test]
fn a_stream_is_framed_as_the_version_allows() {
    let kind = ContentKind {
        content_type: "application/json",
        security_policy: None,
    };
    let policy = HttpPolicy::default();
    let chunked = to_stream(&get(), kind, &policy, &now());
    assert_eq!(chunked.framing, StreamFraming::Chunked);
    assert_eq!(
        field(&chunked.response, "Transfer-Encoding"),
        Some("chunked")
    );
    assert_eq!(field(&chunked.response, "Content-Length"), None);

    let old = Request {
        version: Version::Http10,
        ..get()
    };
    let until_close = to_stream(&old, kind, &policy, &now());
    assert_eq!(until_close.framing, StreamFraming::UntilClose);
    assert_eq!(field(&until_close.response, "Connection"), Some("close"));
    assert_eq!(field(&until_close.response, "Transfer-Encoding"), None);

    let of_head = Request {
        method: Method::Head,
        ..get()
    };
    assert_eq!(
        to_stream(&of_head, kind, &policy, &now()).framing,
        StreamFraming::Bodiless
    );
}

#[test]
fn http_1_0_is_told_that_the_connection_stays() {
    let response = answer(&Request {
        version: Version::Http10,
        ..get()
    });
    assert_eq!(field(&response, "Connection"), Some("keep-alive"));
    let last = answer(&Request {
        persistence: Persistence::Close,
        ..get()
    });
    assert_eq!(field(&last, "Connection"), Some("close"));
}
