//! Byte ranges (RFC 9110 section 14) and `If-Range` (section 13.1.5).

use super::case::{Case, get, head, request};

#[test]
fn ranges() {
    super::run_when_dates_are_strong(&cases());
}

pub fn cases() -> Vec<Case> {
    [single(), several(), if_range()].concat()
}

fn range(rule: &'static str, value: &str) -> Case {
    get(rule, "/ten.txt", &format!("Range: {value}\r\n"))
}

fn part(rule: &'static str, value: &str, range_is: &'static str, body: &str) -> Case {
    range(rule, value)
        .is(206)
        .has("content-range", range_is)
        .has("etag", "$ETAG")
        .text(body)
}

fn whole(rule: &'static str, value: &str) -> Case {
    range(rule, value)
        .is(200)
        // Section 14.2: an invalid set may be ignored or rejected.
        .or_elsewhere(&[416])
        .lacks("content-range")
        .text("0123456789")
}

fn none(rule: &'static str, value: &str) -> Case {
    range(rule, value)
        .is(416)
        .has("content-range", "bytes */10")
}

fn single() -> Vec<Case> {
    vec![
        part(
            "9110 14.1.2 first-last",
            "bytes=0-3",
            "bytes 0-3/10",
            "0123",
        ),
        part("9110 14.1.2 one byte", "bytes=0-0", "bytes 0-0/10", "0"),
        part(
            "9110 14.1.2 the last byte",
            "bytes=9-9",
            "bytes 9-9/10",
            "9",
        ),
        part("9110 14.1.2 all", "bytes=0-9", "bytes 0-9/10", "0123456789"),
        part("9110 14.1.2 from", "bytes=3-", "bytes 3-9/10", "3456789"),
        part(
            "9110 14.1.2 from the start",
            "bytes=0-",
            "bytes 0-9/10",
            "0123456789",
        ),
        part(
            "9110 14.1.2 from the last byte",
            "bytes=9-",
            "bytes 9-9/10",
            "9",
        ),
        part("9110 14.1.2 suffix", "bytes=-3", "bytes 7-9/10", "789"),
        part("9110 14.1.2 suffix of one", "bytes=-1", "bytes 9-9/10", "9"),
        part(
            "9110 14.1.2 suffix of all",
            "bytes=-10",
            "bytes 0-9/10",
            "0123456789",
        ),
        part(
            "9110 14.1.2 a suffix longer than the content",
            "bytes=-11",
            "bytes 0-9/10",
            "0123456789",
        ),
        part(
            "9110 14.1.2 a suffix of 2^70",
            "bytes=-1180591620717411303424",
            "bytes 0-9/10",
            "0123456789",
        ),
        part(
            "9110 14.1.2 last is clamped",
            "bytes=5-100",
            "bytes 5-9/10",
            "56789",
        ),
        part(
            "9110 14.1.2 last is 2^64",
            "bytes=5-18446744073709551616",
            "bytes 5-9/10",
            "56789",
        ),
        part(
            "9110 14.1.2 last is 2^63",
            "bytes=5-9223372036854775808",
            "bytes 5-9/10",
            "56789",
        ),
        part(
            "9110 14.1.2 leading zeros",
            "bytes=0005-0006",
            "bytes 5-6/10",
            "56",
        ),
        part(
            "9110 14.1 the unit's case",
            "Bytes=0-3",
            "bytes 0-3/10",
            "0123",
        ),
        part(
            "9110 5.6.1.2 empty elements",
            "bytes=,,0-3,",
            "bytes 0-3/10",
            "0123",
        ),
        part(
            "9110 5.6.1.2 white space around elements",
            "bytes= 0-3\t",
            "bytes 0-3/10",
            "0123",
        ),
        none("9110 15.5.17 from the end", "bytes=10-"),
        none("9110 15.5.17 behind the end", "bytes=10-20"),
        none(
            "9110 15.5.17 far behind the end",
            "bytes=99999999999999999999-",
        ),
        none("9110 14.1.2 a suffix of nothing", "bytes=-0"),
        whole("9110 14.2 no range", "bytes="),
        whole("9110 14.2 a dash alone", "bytes=-"),
        whole("9110 14.2 letters", "bytes=a-b"),
        whole("9110 14.1.1 last before first", "bytes=5-4"),
        whole("9110 14.2 no dash", "bytes=1"),
        whole("9110 14.2 no equals sign", "bytes 0-1"),
        whole("9110 14.2 an unknown unit", "lines=0-1"),
        whole("9110 14.2 one valid, one not", "bytes=0-1,x"),
        whole("9110 14.2 a sign", "bytes=+0-1"),
        whole("9110 14.2 white space within", "bytes=0 - 1"),
        whole("9110 14.2 two equals signs", "bytes==0-1"),
        whole("9110 14.2 hexadecimal digits", "bytes=0x0-0x1"),
        whole("9110 14.2 three positions", "bytes=1-2-3"),
        whole("9110 14.2 two dashes", "bytes=--1"),
        whole("9110 14.2 a semicolon", "bytes=0-1;2-3"),
        whole("9110 14.2 an empty field", ""),
        whole("9110 14.2 a unit alone", "bytes"),
        get(
            "9110 5.3 two Range fields",
            "/ten.txt",
            "Range: bytes=0-1\r\nRange: bytes=4-5\r\n",
        )
        .is(200)
        .text("0123456789")
        .own(),
        head(
            "9110 14.2 HEAD ignores Range",
            "/ten.txt",
            "Range: bytes=0-3\r\n",
        )
        .is(200)
        .has("content-length", "10")
        .lacks("content-range"),
        head(
            "9110 14.2 HEAD ignores an unsatisfiable Range",
            "/ten.txt",
            "Range: bytes=50-\r\n",
        )
        .is(200)
        .has("content-length", "10"),
        get("9110 14.3 Accept-Ranges without asking", "/ten.txt", "")
            .is(200)
            .has("accept-ranges", "bytes")
            .has("content-length", "10")
            .text("0123456789"),
        get(
            "9110 14.2 a file that is not there",
            "/absent",
            "Range: bytes=0-3\r\n",
        )
        .is(404)
        .lacks("content-range"),
        get(
            "9110 15.5.17 nothing of an empty file",
            "/empty.txt",
            "Range: bytes=0-0\r\n",
        )
        .is(416)
        // A server may ignore any range.
        .or_elsewhere(&[200])
        .has("content-range", "bytes */0"),
        get(
            "9110 15.5.17 from the start of an empty file",
            "/empty.txt",
            "Range: bytes=0-\r\n",
        )
        .is(416)
        // A server may ignore any range.
        .or_elsewhere(&[200])
        .has("content-range", "bytes */0"),
        get(
            "9110 14.1.2 the last bytes of an empty file",
            "/empty.txt",
            "Range: bytes=-5\r\n",
        )
        .any(&[200, 416])
        .lacks("content-encoding"),
        get("9110 14.2 an empty file", "/empty.txt", "")
            .is(200)
            .has("content-length", "0")
            .text(""),
        get(
            "9110 14.4 of a larger file",
            "/big.bin",
            "Range: bytes=99990-\r\n",
        )
        .is(206)
        .has("content-range", "bytes 99990-99999/100000")
        .has("content-length", "10"),
    ]
}

fn several() -> Vec<Case> {
    let many = |count: usize| {
        let set: Vec<_> = (0..count)
            .map(|n| format!("{}-{}", n * 10, n * 10))
            .collect();
        format!("Range: bytes={}\r\n", set.join(","))
    };
    vec![
        range("9110 14.6 two parts", "bytes=0-1,4-5")
            .is(206)
            // Gaps that cost less than a part may be filled (section 15.3.7.2).
            .or_elsewhere(&[206])
            .lacks("content-range")
            .parts(&[("bytes 0-1/10", "01"), ("bytes 4-5/10", "45")]),
        range("9110 14.6 three parts of each form", "bytes=0-0,3-4,-2")
            .is(206)
            // Gaps that cost less than a part may be filled (section 15.3.7.2).
            .or_elsewhere(&[206])
            .parts(&[
                ("bytes 0-0/10", "0"),
                ("bytes 3-4/10", "34"),
                ("bytes 8-9/10", "89"),
            ]),
        range("9110 15.3.7.2 in the order asked for", "bytes=4-5,0-1")
            .is(206)
            // Gaps that cost less than a part may be filled (section 15.3.7.2).
            .or_elsewhere(&[206])
            .parts(&[("bytes 4-5/10", "45"), ("bytes 0-1/10", "01")]),
        range("9110 5.6.1.2 white space in the set", "bytes=0-1 ,\t4-5")
            .is(206)
            // Gaps that cost less than a part may be filled (section 15.3.7.2).
            .or_elsewhere(&[206])
            .parts(&[("bytes 0-1/10", "01"), ("bytes 4-5/10", "45")]),
        range("9110 14.1.2 the last part is clamped", "bytes=0-1,8-99")
            .is(206)
            // Gaps that cost less than a part may be filled (section 15.3.7.2).
            .or_elsewhere(&[206])
            .parts(&[("bytes 0-1/10", "01"), ("bytes 8-9/10", "89")]),
        part(
            "9110 15.3.7.2 one that can be had, alone",
            "bytes=0-1,20-30",
            "bytes 0-1/10",
            "01",
        ),
        none("9110 15.5.17 none that can be had", "bytes=20-30,40-50"),
        none("9110 15.5.17 none but an empty suffix", "bytes=-0,40-50"),
        part(
            "9110 15.3.7.2 adjacent ones coalesce",
            "bytes=0-1,2-3",
            "bytes 0-3/10",
            "0123",
        )
        .own(),
        part(
            "9110 15.3.7.2 overlapping ones coalesce",
            "bytes=0-5,3-7",
            "bytes 0-7/10",
            "01234567",
        )
        .own(),
        part(
            "9110 14.2 the same one a hundred times over is one",
            "bytes=0-,0-,0-,0-",
            "bytes 0-9/10",
            "0123456789",
        )
        .own(),
        range(
            "9110 15.3.7.2 two coalesce and one stays",
            "bytes=0-1,6-7,1-3",
        )
        .is(206)
        // Gaps that cost less than a part may be filled (section 15.3.7.2).
        .or_elsewhere(&[206])
        .parts(&[("bytes 0-3/10", "0123"), ("bytes 6-7/10", "67")])
        .own(),
        get("9110 14.2 sixty-four are served", "/big.bin", &many(64))
            .is(206)
            .own(),
        get("9110 14.2 sixty-five are not", "/big.bin", &many(65))
            .is(200)
            .has("content-length", "100000")
            .own(),
        head(
            "9110 14.2 HEAD ignores a set",
            "/ten.txt",
            "Range: bytes=0-1,4-5\r\n",
        )
        .is(200)
        .has("content-length", "10")
        .has("content-type", "text/plain; charset=utf-8")
        .own(),
    ]
}

fn if_range() -> Vec<Case> {
    let with = |rule, value: &str| {
        get(
            rule,
            "/ten.txt",
            &format!("Range: bytes=2-3\r\nIf-Range: {value}\r\n"),
        )
    };
    let applies = |rule, value: &str| {
        with(rule, value)
            .is(206)
            .has("content-range", "bytes 2-3/10")
            .text("23")
    };
    let ignored = |rule, value: &str| {
        with(rule, value)
            .is(200)
            .lacks("content-range")
            .text("0123456789")
    };
    vec![
        applies("9110 13.1.5 the same tag", "$ETAG"),
        ignored("9110 13.1.5 another tag", "\"other\""),
        ignored("9110 13.1.5 a weak tag", "W/$ETAG"),
        ignored("9110 13.1.5 a list", "$ETAG, \"other\""),
        ignored("9110 13.1.5 an asterisk", "*"),
        applies("9110 13.1.5 the same date", "Sun, 09 Sep 2001 01:46:40 GMT"),
        ignored(
            "9110 13.1.5 a later date is not the same",
            "Sun, 09 Sep 2001 01:46:41 GMT",
        ),
        ignored(
            "9110 13.1.5 an earlier date",
            "Sun, 09 Sep 2001 01:46:39 GMT",
        ),
        ignored("9110 13.1.5 no date and no tag", "yesterday"),
        ignored("9110 13.1.5 an empty field", ""),
        applies(
            "9110 5.6.7 the date in RFC 850's form",
            "Sunday, 09-Sep-01 01:46:40 GMT",
        ),
        applies(
            "9110 5.6.7 the date in asctime's form",
            "Sun Sep  9 01:46:40 2001",
        ),
        get(
            "9110 13.1.5 without Range it is ignored",
            "/ten.txt",
            "If-Range: \"other\"\r\n",
        )
        .is(200)
        .text("0123456789"),
        get(
            "9110 13.1.5 false, and a range that cannot be had",
            "/ten.txt",
            "Range: bytes=50-\r\nIf-Range: \"other\"\r\n",
        )
        .is(200)
        .text("0123456789"),
        get(
            "9110 13.1.5 true, and a range that cannot be had",
            "/ten.txt",
            "Range: bytes=50-\r\nIf-Range: $ETAG\r\n",
        )
        .is(416)
        .has("content-range", "bytes */10"),
        get(
            "9110 13.1.5 a set of ranges",
            "/ten.txt",
            "Range: bytes=0-1,4-5\r\nIf-Range: $ETAG\r\n",
        )
        .is(206)
        // Gaps that cost less than a part may be filled (section 15.3.7.2).
        .or_elsewhere(&[206])
        .parts(&[("bytes 0-1/10", "01"), ("bytes 4-5/10", "45")]),
        request(
            "9110 13.1.5 two of them",
            "GET",
            "/ten.txt",
            "Range: bytes=2-3\r\nIf-Range: $ETAG\r\nIf-Range: \"x\"\r\n",
        )
        .is(200)
        .text("0123456789")
        .own(),
    ]
}
