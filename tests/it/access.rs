//! Access: passwords, links that expire, and protected paths in every spelling.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use haul::server::config::ServeConfig;
use haul::server::telemetry::access_log::Destination;
use haul::signed_link::{self, Keys, LinkGrant, Scope};

use crate::support::{Answer, Client, TestServer};

mod file_links;
mod guesses;
mod links;
mod passwords;
mod program;
mod spellings;

/// A directory for files of passwords and keys.
struct Secrets(tempfile::TempDir);

const KEY: &str = "0123456789abcdef0123456789abcdef";

impl Secrets {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Users with passwords, hashed as quickly as bcrypt allows.
    fn htpasswd(&self, users: &[(&str, &str)]) -> PathBuf {
        let line = |(user, password): &(&str, &str)| {
            let hash = bcrypt::hash(password, 4).expect("hashed");
            format!("{user}:{hash}\n")
        };
        let path = self.path("htpasswd");
        fs::write(&path, users.iter().map(line).collect::<String>()).expect("written");
        path
    }

    fn keys(&self, keys: &[&str]) -> PathBuf {
        let path = self.path("keys");
        fs::write(&path, keys.join("\n")).expect("written");
        path
    }
}

/// A server with one user, `anna` with the password `s3cret`, over these protected globs.
fn with_user(protect: &[&str]) -> (TestServer, Secrets) {
    with_user_and(protect, |_| {})
}

fn with_user_and(protect: &[&str], adjust: impl FnOnce(&mut ServeConfig)) -> (TestServer, Secrets) {
    let secrets = Secrets::new();
    let htpasswd = secrets.htpasswd(&[("anna", "s3cret")]);
    let server = TestServer::with(|config| {
        config.access.htpasswd = Some(htpasswd);
        config.access.protect = protect.iter().map(|glob| (*glob).to_owned()).collect();
        adjust(config);
    });
    (server, secrets)
}

/// The field with a user and a password.
fn login(pair: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(pair))
}

/// A link's path and query, good for so many seconds from now.
fn link(path: &str, scope: Scope, seconds: i64) -> String {
    link_for(path, scope, seconds, None, KEY)
}

fn link_for(path: &str, scope: Scope, seconds: i64, client: Option<&str>, key: &str) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let grant = LinkGrant {
        path: path.as_bytes(),
        scope,
        expires: now.as_secs().saturating_add_signed(seconds),
        client: client.map(|net| net.parse().expect("a net")),
    };
    let keys = Keys::parse(key).expect("a key");
    signed_link::make(&grant, &keys).to_string()
}

/// Asserts that two responses differ in nothing but the time.
#[track_caller]
fn assert_alike(one: &Answer, other: &Answer) {
    let head = |answer: &Answer| {
        let lines = answer
            .head
            .lines()
            .filter(|line| !line.starts_with("Date: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(head(one), head(other));
    assert_eq!(one.body, other.body);
}

fn log_of(path: &Path) -> String {
    fs::read_to_string(path).expect("the log")
}
