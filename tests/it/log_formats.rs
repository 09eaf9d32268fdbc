//! The forms of the access log's lines, as other programs read them.

use std::fs;

use haul::server::telemetry::access_log::Destination;
use haul::server::telemetry::log_format::LogFormat;
use serde_json::Value;

use crate::support::transport::scheme;
use crate::support::{Client, TestServer};

/// The log of a server after requests by HTTP and by name, and garbage.
fn log_in(format: LogFormat) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let server = TestServer::with(|config| {
        config.access_log = Destination::File(path.clone());
        config.log_format = format;
    });
    server.put("a b", "content");
    let fields = "User-Agent: test/1 (\"x\")\r\nReferer: http://there/\r\n";
    assert_eq!(server.get("/a%20b", fields).body, b"content");
    server.counters_when(|counters| counters.closed_in_all() == 1);
    assert_eq!(server.by_name("a b"), b"content");
    server.counters_when(|counters| counters.closed_in_all() == 2);
    Client::connect(server.address()).ask(b"bad \xff\n");
    server.shut_down();
    let text = fs::read_to_string(path).expect("the log");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn combined_has_the_form_that_analysers_know() {
    let lines = log_in(LogFormat::Combined);
    assert_eq!(lines.len(), 3, "{lines:#?}");
    let expected = [
        "\"GET /a%20b HTTP/1.1\" 200 7 \"http://there/\" \"test/1 (\\x22x\\x22)\"",
        "\"a b\" 200 7 \"-\" \"-\"",
        "\"bad \\xFF\" 400 0 \"-\" \"-\"",
    ];
    for (line, expected) in lines.iter().zip(expected) {
        let (front, rest) = line.split_once("] ").expect("a date");
        assert_eq!(rest, expected);
        let date = front
            .strip_prefix("127.")
            .and_then(|it| it.split_once(" - - ["));
        let (_, date) = date.unwrap_or_else(|| panic!("{line}"));
        assert!(
            jiff::ZonedDateTime::strptime("%d/%b/%Y:%H:%M:%S %z", date).is_ok(),
            "{line}"
        );
    }
}

#[test]
fn json_is_an_object_a_line() {
    let lines = log_in(LogFormat::Json);
    let objects: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).expect("an object"))
        .collect();
    assert_eq!(objects.len(), 3, "{lines:#?}");
    assert_eq!(objects[0]["user_agent"], "test/1 (\"x\")");
    assert_eq!(objects[0]["bytes"], 7);
    assert_eq!(objects[0]["status"], 200);
    assert_eq!(objects[0]["outcome"], "complete");
    assert_eq!(objects[1]["protocol"], "name");
    assert_eq!(objects[1]["request"], "a b");
    assert!(objects[1].get("status").is_none());
    assert_eq!(objects[2]["outcome"], "malformed");
    assert_eq!(objects[2]["request_base64"], "YmFkIP8=");
}

#[test]
fn haul_s_own_form_keeps_nothing_of_what_clients_say_of_themselves() {
    let lines = log_in(LogFormat::Haul);
    assert!(lines.iter().all(|line| !line.contains("test/1")));
    let expected = format!("{} \"GET /a%20b HTTP/1.1\" 200 7/7", scheme());
    assert!(lines[0].contains(&expected), "{}", lines[0]);
}
