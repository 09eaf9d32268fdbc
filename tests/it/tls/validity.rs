//! Certificates that clients refuse, or will refuse soon: what the start, the check and a reload say.

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use haul::server::config::{AdminAddress, IdentityFiles, LocalAddress};
use nix::sys::signal::Signal;
use rcgen::KeyPair;

use super::support::{Authority, TlsServer};
use crate::admin::metrics;
use crate::process::{Program, haul, run};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate that is valid between these times.
fn valid(authority: &Authority, name: &str, from: SystemTime, until: SystemTime) -> IdentityFiles {
    let key = KeyPair::generate().expect("a key");
    authority.sign_with(name, &["localhost"], &key, |parameters| {
        (parameters.not_before, parameters.not_after) = (from.into(), until.into());
    })
}

fn serve(files: &IdentityFiles, root: &tempfile::TempDir) -> Command {
    let mut command = haul();
    command.args(["serve", "--listen-tls", "127.0.0.1:0", "--tls-cert"]);
    command.arg(&files.certificate).arg("--tls-key");
    command.arg(&files.key).arg("--root").arg(root.path());
    command
}

/// What the start and the check say of these files, without the path.
fn said(files: &IdentityFiles) -> Vec<String> {
    let root = tempfile::tempdir().expect("a directory");
    let mut program = Program::start(&mut serve(files, &root));
    program.line("listening on ");
    let check = run(serve(files, &root).arg("--check"));
    let checked = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(check.status.success(), "{checked}");
    let start = format!("haul: --tls-cert {}: ", files.certificate.display());
    let of = |line: &str| line.strip_prefix(&start).map(str::to_owned);
    let at_start: Vec<_> = program.said.iter().filter_map(|it| of(it)).collect();
    let at_check: Vec<_> = checked.lines().filter_map(of).collect();
    assert_eq!(at_start, at_check);
    at_start
}

#[test]
fn dates_that_clients_refuse_are_told_by_the_start_and_the_check() {
    let authority = Authority::new();
    let now = SystemTime::now();
    let long_ago = UNIX_EPOCH + 10_000 * DAY;
    for (from, until, expected) in [
        (now - DAY, now + 365 * DAY, None),
        (
            long_ago,
            long_ago + DAY,
            Some("certificate 1 expired on 1997-05-20T00:00:00Z: "),
        ),
        (
            now - 365 * DAY,
            now + 13 * DAY,
            Some("certificate 1 expires on 20"),
        ),
        (now - 365 * DAY, now + 15 * DAY, None),
        (
            now + DAY,
            now + 365 * DAY,
            Some("certificate 1 is not valid before 20"),
        ),
        // Of six days in all: a third is left, and less.
        (now - 3 * DAY, now + 3 * DAY, None),
        (
            now - 5 * DAY,
            now + DAY,
            Some("certificate 1 expires on 20"),
        ),
    ] {
        let said = said(&valid(&authority, "x", from, until));
        assert_eq!(said.len(), usize::from(expected.is_some()), "{said:?}");
        let fits = said
            .iter()
            .all(|it| it.starts_with(expected.unwrap_or_default()));
        assert!(fits, "{expected:?}: {said:?}");
    }
}

#[test]
fn a_chain_that_is_out_of_order_or_has_an_expired_issuer_is_told() {
    let authority = Authority::new();
    let read = |path| fs::read_to_string(path).expect("PEM");
    let issuer = read(authority.path("ca.pem"));
    let files = authority.identity("x", &["localhost"]);
    let own = read(files.certificate.clone());
    let chain = |parts: &[&str]| {
        fs::write(&files.certificate, parts.concat()).expect("written");
        said(&files)
    };
    assert_eq!(chain(&[&own, &issuer]), [""; 0]);
    let now = SystemTime::now();
    let other = valid(&authority, "other", now - 2 * DAY, now - DAY);
    let said = chain(&[&own, &read(other.certificate)]);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("certificate 2 expired on "), "{said:?}");
    assert!(
        said[1].starts_with("certificate 1 is not issued by the next one"),
        "{said:?}"
    );
}

#[test]
fn a_reload_tells_of_the_new_dates_and_serves_with_them() {
    let authority = Authority::new();
    let root = tempfile::tempdir().expect("a directory");
    let now = SystemTime::now();
    let files = valid(&authority, "x", now - DAY, now + 365 * DAY);
    let mut program = Program::start(&mut serve(&files, &root));
    program.line("listening on ");
    assert!(!program.said.join("\n").contains("certificate 1"));
    valid(&authority, "x", now - 2 * DAY, now - DAY);
    program.signal(Signal::SIGHUP);
    program.line("certificates loaded anew");
    let said = program.line("haul: --tls-cert ");
    assert!(said.contains("certificate 1 expired on "), "{said}");
}

#[test]
fn the_end_of_each_certificate_is_a_metric_that_a_reload_changes() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |day: u32| UNIX_EPOCH + (40_000 + day) * DAY;
    let mut made = Vec::new();
    let tls = TlsServer::with(|config, authority| {
        let path = directory.path().join("admin");
        config.admin = Some(AdminAddress::Local(LocalAddress::Path(path)));
        made = vec![
            valid(authority, "one", UNIX_EPOCH, at(1)),
            valid(authority, "two", UNIX_EPOCH, at(2)),
        ];
        config.tls.identities.clone_from(&made);
    });
    let ends = || {
        let found = metrics(&directory);
        let end = |files: &IdentityFiles| {
            let file = files.certificate.display();
            found[&format!("haul_tls_certificate_not_after_seconds{{file=\"{file}\"}}")]
        };
        made.iter().map(end).collect::<Vec<_>>()
    };
    let seconds = |day| (f64::from(40_000 + day)) * DAY.as_secs_f64();
    assert_eq!(ends(), [seconds(1), seconds(2)]);
    valid(&tls.authority, "two", UNIX_EPOCH, at(3));
    tls.server.handle().reload_certificates().expect("a pair");
    assert_eq!(ends(), [seconds(1), seconds(3)]);
}
