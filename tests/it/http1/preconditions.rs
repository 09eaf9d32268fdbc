//! Preconditions, in the order of RFC 9110 section 13.2.2.

use super::case::{Case, get, head, request};

#[test]
fn preconditions() {
    super::run(&cases(), |_| {});
}

pub fn cases() -> Vec<Case> {
    [
        if_match(),
        if_unmodified(),
        if_none_match(),
        if_modified(),
        order(),
    ]
    .concat()
}

fn with(rule: &'static str, fields: &str) -> Case {
    get(rule, "/ten.txt", &format!("{fields}\r\n"))
}

fn given(rule: &'static str, fields: &str) -> Case {
    with(rule, fields).is(200).text("0123456789")
}

fn failed(rule: &'static str, fields: &str) -> Case {
    with(rule, fields).is(412)
}

fn unchanged(rule: &'static str, fields: &str) -> Case {
    with(rule, fields).is(304).has("etag", "$ETAG").text("")
}

fn if_match() -> Vec<Case> {
    vec![
        given("9110 13.1.1 the same tag", "If-Match: $ETAG"),
        given("9110 13.1.1 an asterisk", "If-Match: *"),
        failed("9110 13.1.1 another tag", "If-Match: \"other\""),
        given("9110 13.1.1 one of a list", "If-Match: \"other\", $ETAG"),
        failed(
            "9110 13.1.1 none of a list",
            "If-Match: \"other\", \"another\"",
        ),
        failed("9110 13.1.1 compared strongly", "If-Match: W/$ETAG"),
        given(
            "9110 5.3 a list over two lines",
            "If-Match: \"other\"\r\nIf-Match: $ETAG",
        ),
        failed(
            "9110 8.8.3 no tag at all matches nothing",
            "If-Match: other",
        )
        .own(),
        failed("9110 8.8.3 a comma within a tag", "If-Match: \"a,b\""),
        head("9110 13.1.1 HEAD", "/ten.txt", "If-Match: \"other\"\r\n").is(412),
        get(
            "9110 13.2.1 not for what is not there",
            "/absent",
            "If-Match: \"other\"\r\n",
        )
        .is(404),
    ]
}

fn if_unmodified() -> Vec<Case> {
    vec![
        given(
            "9110 13.1.4 the same date",
            "If-Unmodified-Since: Sun, 09 Sep 2001 01:46:40 GMT",
        ),
        given(
            "9110 13.1.4 a later date",
            "If-Unmodified-Since: Mon, 01 Jan 2018 00:00:00 GMT",
        ),
        failed(
            "9110 13.1.4 an earlier date",
            "If-Unmodified-Since: Sun, 09 Sep 2001 01:46:39 GMT",
        ),
        failed(
            "9110 13.1.4 a much earlier date",
            "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
        ),
        given("9110 13.1.4 no date", "If-Unmodified-Since: yesterday"),
        given(
            "9110 13.1.4 no valid date",
            "If-Unmodified-Since: Sat, 31 Feb 1998 00:00:00 GMT",
        )
        .own(),
        failed(
            "9110 5.6.7 RFC 850's form",
            "If-Unmodified-Since: Saturday, 01-Jan-00 00:00:00 GMT",
        ),
        failed(
            "9110 5.6.7 asctime's form",
            "If-Unmodified-Since: Sat Jan  1 00:00:00 2000",
        ),
        given(
            "9110 13.2.2 If-Match outweighs it",
            "If-Match: $ETAG\r\nIf-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT",
        ),
    ]
}

fn if_none_match() -> Vec<Case> {
    vec![
        unchanged("9110 13.1.2 the same tag", "If-None-Match: $ETAG"),
        unchanged("9110 13.1.2 compared weakly", "If-None-Match: W/$ETAG"),
        unchanged("9110 13.1.2 an asterisk", "If-None-Match: *"),
        given("9110 13.1.2 another tag", "If-None-Match: \"other\""),
        unchanged(
            "9110 13.1.2 one of a list",
            "If-None-Match: \"other\", $ETAG",
        ),
        unchanged(
            "9110 13.1.2 one of a list without white space",
            "If-None-Match: \"other\",W/$ETAG,\"x\"",
        ),
        unchanged(
            "9110 5.3 a list over two lines",
            "If-None-Match: \"other\"\r\nIf-None-Match: $ETAG",
        ),
        unchanged("9110 5.6.1.2 empty elements", "If-None-Match: ,, $ETAG ,"),
        given("9110 13.1.2 no tag at all", "If-None-Match: other"),
        given("9110 8.8.3 an open quote", "If-None-Match: \"open"),
        head("9110 13.1.2 HEAD", "/ten.txt", "If-None-Match: $ETAG\r\n")
            .is(304)
            .has("etag", "$ETAG"),
        get(
            "9110 13.2.1 not for what is not there",
            "/absent",
            "If-None-Match: *\r\n",
        )
        .is(404),
        get(
            "9110 15.4.5 what a 304 carries",
            "/ten.txt",
            "If-None-Match: $ETAG\r\n",
        )
        .is(304)
        .has("etag", "$ETAG")
        .lacks("content-range")
        .lacks("transfer-encoding"),
    ]
}

fn if_modified() -> Vec<Case> {
    vec![
        unchanged(
            "9110 13.1.3 the same date",
            "If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT",
        ),
        unchanged(
            "9110 13.1.3 a later date",
            "If-Modified-Since: Mon, 01 Jan 2018 00:00:00 GMT",
        ),
        given(
            "9110 13.1.3 an earlier date",
            "If-Modified-Since: Sun, 09 Sep 2001 01:46:39 GMT",
        ),
        given(
            "9110 13.1.3 the beginning of time",
            "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
        ),
        given("9110 13.1.3 no date", "If-Modified-Since: yesterday"),
        given("9110 13.1.3 an empty field", "If-Modified-Since:"),
        given(
            "9110 13.1.3 no valid date",
            "If-Modified-Since: Mon, 99 Jan 2018 00:00:00 GMT",
        ),
        unchanged(
            "9110 5.6.7 RFC 850's form",
            "If-Modified-Since: Sunday, 09-Sep-01 01:46:40 GMT",
        ),
        unchanged(
            "9110 5.6.7 asctime's form",
            "If-Modified-Since: Sun Sep  9 01:46:40 2001",
        ),
        head(
            "9110 13.1.3 HEAD",
            "/ten.txt",
            "If-Modified-Since: Mon, 01 Jan 2018 00:00:00 GMT\r\n",
        )
        .is(304),
        given(
            "9110 13.1.3 ignored beside If-None-Match",
            "If-None-Match: \"other\"\r\nIf-Modified-Since: Mon, 01 Jan 2018 00:00:00 GMT",
        ),
        unchanged(
            "9110 13.1.3 does not outweigh If-None-Match",
            "If-None-Match: $ETAG\r\nIf-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT",
        ),
    ]
}

fn order() -> Vec<Case> {
    vec![
        failed(
            "9110 13.2.2 step 1 before step 3",
            "If-None-Match: $ETAG\r\nIf-Match: \"other\"",
        ),
        unchanged(
            "9110 13.2.2 step 3 after a true step 1",
            "If-Match: $ETAG\r\nIf-None-Match: $ETAG",
        ),
        failed(
            "9110 13.2.2 step 2 before step 3",
            "If-None-Match: $ETAG\r\nIf-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT",
        ),
        failed(
            "9110 13.2.2 step 2 before step 4",
            "If-Modified-Since: Mon, 01 Jan 2018 00:00:00 GMT\r\nIf-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT",
        ),
        unchanged(
            "9110 13.2.2 step 4 after a true step 2",
            "If-Modified-Since: Mon, 01 Jan 2018 00:00:00 GMT\r\nIf-Unmodified-Since: Mon, 01 Jan 2018 00:00:00 GMT",
        ),
        unchanged(
            "9110 13.2.2 step 3 before ranges",
            "If-None-Match: $ETAG\r\nRange: bytes=0-1",
        ),
        unchanged(
            "9110 13.2.2 step 4 before ranges",
            "If-Modified-Since: Mon, 01 Jan 2018 00:00:00 GMT\r\nRange: bytes=0-1",
        ),
        failed(
            "9110 13.2.2 step 1 before an unsatisfiable range",
            "If-Match: \"other\"\r\nRange: bytes=50-",
        ),
        with(
            "9110 13.2.2 step 5 after all",
            "If-Match: $ETAG\r\nIf-None-Match: \"other\"\r\nIf-Range: $ETAG\r\nRange: bytes=0-1",
        )
        .is(206)
        .text("01"),
        given(
            "9110 13.2.2 step 5 false",
            "If-Match: $ETAG\r\nIf-Range: \"other\"\r\nRange: bytes=0-1",
        ),
        with(
            "9110 13.2.2 ranges after a true step 1",
            "If-Match: $ETAG\r\nRange: bytes=-2",
        )
        .is(206)
        .text("89"),
        request(
            "9110 13.2.1 not for a method that is refused",
            "DELETE",
            "/ten.txt",
            "If-Match: \"other\"\r\n",
        )
        .is(405)
        .has("allow", "GET, HEAD, OPTIONS")
        .own(),
    ]
}
