//! The admin interface: metrics, readiness, transfers, the page.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use haul::server::config::{AdminAddress, LocalAddress};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::process::{Program, haul, run};
use crate::slowfs::{Call, SlowFs};
use crate::support::{Answer, Client, PATIENCE, TestServer, noise, own_address, transport};

/// A server whose admin interface is on a Unix socket.
fn server(directory: &tempfile::TempDir) -> TestServer {
    TestServer::with(|config| {
        let path = directory.path().join("admin");
        config.admin = Some(AdminAddress::Local(LocalAddress::Path(path)));
    })
}

fn ask(directory: &tempfile::TempDir, path: &str) -> Answer {
    ask_with(directory, path, "")
}

fn ask_with(directory: &tempfile::TempDir, path: &str, fields: &str) -> Answer {
    let mut stream = UnixStream::connect(directory.path().join("admin")).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let request = format!("GET {path} HTTP/1.1\r\nHost: any.name\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).expect("taken");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an orderly end");
    Answer::parse(&answer)
}

/// Samples by their name and labels, after a look at the format.
pub fn metrics(directory: &tempfile::TempDir) -> HashMap<String, f64> {
    let wish = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let answer = ask_with(directory, "/metrics", wish);
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains("application/openmetrics-text"),
        "{}",
        answer.head
    );
    let text = String::from_utf8(answer.body).expect("text");
    assert!(text.ends_with("# EOF\n"));
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            (name.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !reached() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn metrics_tell_what_was_served_and_what_arrived() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = server(&directory);
    let content = noise(8 << 20, 1);
    server.put("large", &content);
    assert!(server.get("/large", "").body == content);
    assert_eq!(server.get("/missing", "").status, 404);
    assert!(server.by_name("large") == content);
    server.counters_when(|counters| counters.closed_in_all() == 3);
    let found = metrics(&directory);
    let value = |name: &str| {
        *found
            .get(name)
            .unwrap_or_else(|| panic!("no {name}: {found:#?}"))
    };
    let is = |name: &str, expected: f64| {
        let found = value(name);
        assert!((found - expected).abs() < f64::EPSILON, "{name}: {found}");
    };
    is("haul_requests_total", 3.0);
    is(
        "haul_responses_total{protocol=\"http\",status=\"2xx\"}",
        1.0,
    );
    is(
        "haul_responses_total{protocol=\"http\",status=\"4xx\"}",
        1.0,
    );
    is(
        "haul_responses_total{protocol=\"name\",status=\"none\"}",
        1.0,
    );
    is("haul_response_outcomes_total{outcome=\"complete\"}", 2.0);
    is("haul_response_duration_seconds_count", 3.0);
    is("haul_response_first_byte_seconds_count", 3.0);
    is("haul_connections_closed_total{reason=\"complete\"}", 2.0);
    let sent = value("haul_sent_bytes_total");
    assert!(sent > 2.0 * content.len() as f64);
    // All was read to the end.
    let arrived = value("haul_acknowledged_bytes_total");
    assert!((sent - arrived).abs() <= 3.0, "{sent} {arrived}");
    assert!(value("process_resident_memory_bytes") > 0.0);
    assert!(value("process_open_fds") > 3.0);
}

#[test]
fn promtool_has_nothing_against_the_metrics() {
    if Command::new("promtool").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no promtool here");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let server = server(&directory);
    server.put("f", "content");
    server.get("/f", "");
    let Answer {
        head,
        body: metrics,
        ..
    } = ask(&directory, "/metrics");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let text = String::from_utf8_lossy(&metrics);
    assert!(text.contains("\n# TYPE haul_requests_total counter\nhaul_requests_total 1\n"));
    assert!(!text.contains("# EOF"), "that is OpenMetrics");
    let mut check = Command::new("promtool");
    let check = check.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut child = check
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(&metrics)
        .expect("taken");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said, "");
    assert!(output.status.success());
}

#[test]
fn transfers_show_client_request_and_progress() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = server(&directory);
    server.put("large", noise(32 << 20, 1));
    let mut client = Client::with_small_window(server.address());
    client.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut found = Value::Null;
    until("a transfer that waits for its peer", || {
        found = serde_json::from_slice(&ask(&directory, "/transfers").body).expect("JSON");
        found["transfers"][0]["waits_for"] == "peer"
    });
    let transfer = &found["transfers"][0];
    assert_eq!(transfer["request"], "GET /large HTTP/1.1");
    assert_eq!(transfer["protocol"], "http");
    assert_eq!(transfer["status"], 200);
    assert!(
        transfer["client"]
            .as_str()
            .is_some_and(|it| it.starts_with("127."))
    );
    let number = |name: &str| transfer[name].as_u64().expect("a number");
    assert!(number("acknowledged") <= number("sent"));
    assert!(number("sent") < 32 << 20 && number("intended") > 32 << 20);
    drop(client);
    until("no transfer", || {
        let found = ask(&directory, "/transfers").body;
        let found: Value = serde_json::from_slice(&found).expect("JSON");
        found["transfers"] == Value::Array(Vec::new())
    });
}

#[test]
fn it_is_ready_until_it_drains_or_the_root_is_gone() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = server(&directory);
    server.put("large", noise(32 << 20, 1));
    until("ready", || ask(&directory, "/readyz").status == 200);
    assert_eq!(ask(&directory, "/healthz").status, 200);
    let away = server.root().with_extension("away");
    std::fs::rename(server.root(), &away).expect("moved");
    until("the root is gone", || {
        ask(&directory, "/readyz").status == 503
    });
    let why = ask(&directory, "/readyz").body;
    assert_eq!(why, b"the root cannot be read\n");
    assert_eq!(ask(&directory, "/healthz").status, 200);
    std::fs::rename(&away, server.root()).expect("moved back");
    until("ready again", || ask(&directory, "/readyz").status == 200);
    let mut client = Client::with_small_window(server.address());
    client.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    server.wait_until_under_way();
    server.handle().shut_down();
    assert_eq!(ask(&directory, "/readyz").body, b"draining\n");
    assert_eq!(ask(&directory, "/healthz").status, 200);
}

#[test]
fn the_page_loads_nothing_from_other_hosts() {
    let directory = tempfile::tempdir().expect("a directory");
    let _server = server(&directory);
    let page = ask(&directory, "/");
    assert_eq!(page.status, 200);
    let policy = page.field("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'"));
    let text = String::from_utf8(page.body).expect("text");
    assert!(
        !text.contains("://") && !text.contains("src=") && !text.contains("<link"),
        "{text}"
    );
}

#[test]
fn clients_that_never_ask_stop_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = server(&directory);
    server.put("f", "content");
    let silent: Vec<_> = (0..32)
        .map(|_| UnixStream::connect(directory.path().join("admin")).expect("it listens"))
        .collect();
    assert_eq!(server.get("/f", "").body, b"content");
    drop(silent);
    until("ready", || ask(&directory, "/readyz").status == 200);
}

#[test]
fn clients_that_never_ask_keep_no_other_waiting() {
    let directory = tempfile::tempdir().expect("a directory");
    let _server = server(&directory);
    let connect = || UnixStream::connect(directory.path().join("admin")).expect("it listens");
    let silent: Vec<_> = (0..100).map(|_| connect()).collect();
    assert_eq!(ask(&directory, "/healthz").status, 200);
    let begun: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = connect();
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n");
            stream
        })
        .collect();
    assert_eq!(ask(&directory, "/healthz").status, 200);
    let unread: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = connect();
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
            stream
        })
        .collect();
    assert_eq!(ask(&directory, "/healthz").status, 200);
    drop((silent, begun, unread));
}

fn ask_by_tcp(address: SocketAddr, request: &str) -> u16 {
    Answer::parse(&Client::connect(address).ask(request)).status
}

#[test]
fn other_hosts_and_names_from_elsewhere_are_not_answered_unless_told() {
    let output = run(haul().args(["serve", "--admin", "0.0.0.0:0"]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("--admin-allow-remote"), "{said}");

    let root = tempfile::tempdir().expect("a directory");
    let mut program = Program::start(
        haul()
            .args(["serve", "--listen", &own_address().to_string()])
            .args(["--admin", "0", "--root"])
            .arg(root.path()),
    );
    let url = program.line("admin on http://");
    let address: SocketAddr = url.trim_end_matches('/').parse().expect("an address");
    let status = |host: &str| {
        ask_by_tcp(
            address,
            &format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        )
    };
    assert_eq!(status(&address.to_string()), 200);
    assert_eq!(status("localhost"), 200);
    assert_eq!(status("rebound.example"), 421);
    assert_eq!(
        ask_by_tcp(address, "POST / HTTP/1.1\r\nHost: [::1]\r\n\r\n"),
        405
    );
    assert_eq!(
        ask_by_tcp(address, "GET /nothing HTTP/1.1\r\nHost: [::1]\r\n\r\n"),
        404
    );
    assert_eq!(ask_by_tcp(address, "rubbish\r\n\r\n"), 400);
    program.signal(Signal::SIGTERM);
    assert!(program.end().success());
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what is in memory, and what may hang"
)]
fn jobs_whose_clients_have_left_do_not_count_as_waiting() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = server(&directory);
    let Some(mut slow) = SlowFs::mount(&server.root().join("slow")) else {
        return;
    };
    slow.hold(Call::Read);
    let ask = |number| {
        let mut client = server.connect();
        client.send(format!("GET /slow/f{number} HTTP/1.1\r\nHost: x\r\n\r\n"));
        client
    };
    let leaving: Vec<_> = (0..40).map(ask).collect();
    let waiting = || {
        let found = metrics(&directory);
        let of_a_disk = |(name, _): &(String, f64)| name.starts_with("haul_disk_jobs_waiting");
        found
            .into_iter()
            .filter(of_a_disk)
            .map(|(_, jobs)| jobs)
            .sum::<f64>()
    };
    // Once all files are open, those in line wait for a read, which is held.
    slow.wait_for(Call::Open, 40);
    // The others have a disk worker that waits for them.
    until("most are in line", || waiting() >= 30.0);
    leaving.into_iter().for_each(Client::reset);
    server.counters_when(|counters| counters.open <= 5 && counters.swept > 0);
    slow.release(Call::Read);
    server.counters_when(|counters| counters.open == 0);
    until("no job waits", || waiting() < 1.0);
}

#[test]
fn alerts_and_the_dashboard_ask_for_metrics_that_there_are() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_identity, files) = transport::identity();
    let server = TestServer::with(|config| {
        let path = directory.path().join("admin");
        config.admin = Some(AdminAddress::Local(LocalAddress::Path(path)));
        config.tls.identities = vec![files];
        config.listen_tls = vec![own_address()];
    });
    server.put("f", "content");
    server.get("/f", "");
    let metrics = String::from_utf8(ask(&directory, "/metrics").body).expect("UTF-8");
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/monitoring");
    for name in ["alerts.yml", "dashboard.json"] {
        let text = std::fs::read_to_string(format!("{place}/{name}")).expect("there");
        let is_of_a_name = |byte: char| byte.is_ascii_alphanumeric() || byte == '_';
        let words = text.split(|byte| !is_of_a_name(byte));
        let asked = words.filter(|word| word.starts_with("haul_") || word.starts_with("process_"));
        for word in asked {
            assert!(metrics.contains(&format!("\n{word}")), "{name}: {word}");
        }
    }
    if Command::new("promtool").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no promtool here");
        return;
    }
    let rules = format!("{place}/alerts.yml");
    let output = run(Command::new("promtool").args(["check", "rules", &rules]));
    assert!(output.status.success(), "{output:?}");
}
