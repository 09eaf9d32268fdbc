//! Access: a decision over the request, the peer and the time, made before any look-up.
//!
//! A path that is not open to a client has one answer, whether or not a file exists: 401 if a
//! password would open it, else 404. Links are verified by the hot worker; an uncached password by
//! a disk worker ([`Decision::CheckPassword`]).
//!
//! Response times reveal nothing either. Credentials are found by a hash under a random key, and
//! signatures compared in constant time. An unknown user's password is hashed against another
//! user's entry, which takes as long.
//!
//! A resolved path is decided a second time ([`Access::permits`]): a symbolic link may lead from an
//! open directory to a protected one.

mod attempts;
mod globs;
mod passwords;
mod pending_checks;
pub(crate) mod secret_files;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::http::{Audience, ListingFormat, Refusal, Request, Target};
use crate::server::client_share::network_of;
use crate::server::config::{IndexChoice, ServeConfig};
use crate::server::files::RealPath;
use crate::server::telemetry::Counters;
use crate::signed_link::{self, Keys, Presented, Rejection};
use crate::sys::file::read_bounded;
use crate::sys::peer::Peer;

use attempts::Attempts;
use globs::Protected;
use passwords::{Passwords, Recalled};
use pending_checks::PendingChecks;
pub(crate) use pending_checks::{PastGuesses, PendingCheck};

/// The operator's rules, and the passwords that were proved a short time ago.
#[derive(Debug)]
pub(crate) struct Access {
    protected: Protected,
    index: IndexChoice,
    passwords: Option<Reloaded<Passwords>>,
    keys: Option<Reloaded<Keys>>,
    attempts: Attempts,
    /// Requests whose passwords wait to be looked at.
    waiting: Arc<PendingChecks>,
    counters: Arc<Counters>,
}

/// The content of files that are read again on the operator's signal.
#[derive(Debug)]
struct Reloaded<T> {
    path: PathBuf,
    current: RwLock<Arc<T>>,
}

/// The decision over a request.
#[derive(Debug)]
pub(crate) enum Decision {
    /// The request has this grant.
    Granted(Grant),
    /// Its password has to be hashed, by a disk worker.
    CheckPassword(PendingCheck),
    /// The request is refused.
    Refused(Refusal),
}

/// A decision without hashing a password.
enum Verdict {
    Decided(Decision),
    /// The password has to be hashed.
    Unproven(Arc<Passwords>),
}

/// The paths that a request has access to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Grant {
    /// The paths that need no login.
    Open,
    /// Everything, since this user has logged in.
    User(Box<[u8]>),
    /// This path, and its target if it is a link.
    Path(Box<[u8]>),
    /// This path, and all paths beneath it.
    Subtree(Box<[u8]>),
}

impl Grant {
    /// The caches that may keep an answer to a request with this grant.
    pub(crate) fn audience(&self) -> Audience {
        match self {
            Self::Open => Audience::Public,
            Self::User(_) => Audience::User,
            Self::Path(_) | Self::Subtree(_) => Audience::LinkHolder,
        }
    }

    /// The user that has logged in.
    pub(crate) fn user(&self) -> Option<&[u8]> {
        match self {
            Self::User(user) => Some(user),
            Self::Open | Self::Path(_) | Self::Subtree(_) => None,
        }
    }

    /// Whether the grant covers this path, protected or not.
    fn covers(&self, path: &[u8]) -> bool {
        match self {
            Self::Open => false,
            Self::User(_) => true,
            Self::Path(granted) => is_index_of(path, granted) || path == &**granted,
            Self::Subtree(granted) => is_beneath(path, granted),
        }
    }
}

impl Access {
    /// Reads the files that the settings name; `None` if they name none.
    ///
    /// # Errors
    /// The file with a fault, and the fault, for the operator.
    pub(crate) fn load(
        settings: &ServeConfig,
        counters: Arc<Counters>,
    ) -> Result<Option<Self>, String> {
        let config = &settings.access;
        if config.htpasswd.is_none() && config.link_keys.is_none() {
            return match config.protect.is_empty() {
                true => Ok(None),
                false => {
                    Err("--protect needs --htpasswd or --link-key, or nobody may have it".into())
                }
            };
        }
        let mut fields = settings.http.fields.iter();
        if fields.any(|field| field.name.eq_ignore_ascii_case("Cache-Control")) {
            // Two lines of the field would contradict each other.
            return Err(
                "--header Cache-Control would let caches keep what is protected; use --cache-control"
                    .into(),
            );
        }
        Ok(Some(Self {
            protected: Protected::new(&config.protect, settings.precompressed)?,
            index: settings.index,
            passwords: Reloaded::load(config.htpasswd.as_deref(), read_passwords)?,
            keys: Reloaded::load(config.link_keys.as_deref(), read_keys)?,
            attempts: Attempts::default(),
            waiting: Arc::default(),
            counters,
        }))
    }

    /// Reads the files again. A file with a fault leaves the old content in place; returns the
    /// faults.
    pub(crate) fn reload(&self) -> Vec<String> {
        let passwords = self.passwords.as_ref().map(|it| it.reload(read_passwords));
        let keys = self.keys.as_ref().map(|it| it.reload(read_keys));
        let results = [passwords, keys].into_iter().flatten();
        results.filter_map(Result::err).collect()
    }

    /// Whether the target is open to all clients. A directory counts as its index as well, present
    /// or not, unless the request is for a listing in a form for programs.
    pub(crate) fn is_open(&self, target: &Target, form: ListingFormat) -> bool {
        let may_be_index = target.trailing_slash && form == ListingFormat::Html;
        let may_be_index = may_be_index && self.index == IndexChoice::Serve;
        let index = may_be_index.then(|| beneath(&target.path, INDEX));
        !self.protected.contains(&target.path)
            && index.is_none_or(|index| !self.protected.contains(&index))
    }

    /// Decides without a wait.
    pub(crate) fn decide(&self, request: &Request, peer: Peer, now: Instant) -> Decision {
        match self.judge(request, peer, now) {
            Verdict::Decided(decision) => decision,
            Verdict::Unproven(_) => {
                let client = network_of(peer.into());
                let guesses = self.attempts.past_guesses(client, now);
                match self.waiting.begin(client, guesses) {
                    Some(pending) => Decision::CheckPassword(pending),
                    None => self.without_login(request, Refusal::Overloaded),
                }
            }
        }
    }

    /// Decides, and looks at the password if need be: takes a tenth of a second on purpose.
    pub(crate) fn check_password(&self, request: &Request, peer: Peer) -> Decision {
        // Another request of the client may have been checked meanwhile.
        let passwords = match self.judge(request, peer, Instant::now()) {
            Verdict::Decided(decision) => return decision,
            Verdict::Unproven(passwords) => passwords,
        };
        Counters::add_one(&self.counters.passwords_checked);
        if let Some(credentials) = &request.credentials
            && passwords.verify(credentials, Instant::now())
        {
            return Decision::Granted(Grant::User(credentials.user().into()));
        }
        Counters::add_one(&self.counters.passwords_wrong);
        self.attempts
            .note_failure(network_of(peer.into()), Instant::now());
        self.without_login(
            request,
            Refusal::Unauthorized("the user or the password is wrong"),
        )
    }

    /// Decides what can be decided without hashing a password.
    fn judge(&self, request: &Request, peer: Peer, now: Instant) -> Verdict {
        let rejected = match self.open_by_link(request, peer) {
            Some(Ok(grant)) => return Verdict::Decided(Decision::Granted(grant)),
            Some(Err(rejected)) => Some(refusal_of(rejected)),
            None => None,
        };
        let passwords = self.passwords.as_ref().map(Reloaded::current);
        let refused = |refusal| Verdict::Decided(self.without_login(request, refusal));
        let (passwords, credentials) = match (passwords, request.credentials.as_deref()) {
            (Some(passwords), Some(credentials)) => (passwords, credentials),
            (Some(_), None) => {
                let unknown = Refusal::Unauthorized("it takes a user and a password");
                return refused(rejected.unwrap_or(unknown));
            }
            (None, _) => return refused(rejected.unwrap_or(Refusal::NotFound)),
        };
        let granted = || {
            let user = Grant::User(credentials.user().into());
            Verdict::Decided(Decision::Granted(user))
        };
        match passwords.recall(credentials, now) {
            Recalled::Right => granted(),
            // The file was not read again since: a look would find the same, behind many guesses.
            Recalled::RightBefore if self.waiting.are_many() => granted(),
            // Guesses from the same address do not lock this user out.
            Recalled::RightBefore => Verdict::Unproven(passwords),
            Recalled::Unknown => match self.attempts.wait(network_of(peer.into()), now) {
                Some(wait) => {
                    Counters::add_one(&self.counters.guesses_slowed);
                    let seconds = u32::try_from(wait.as_secs().saturating_add(1));
                    refused(Refusal::TooManyGuesses(seconds.unwrap_or(u32::MAX)))
                }
                None => Verdict::Unproven(passwords),
            },
        }
    }

    /// Open paths are open to requests with a wrong password or link as well.
    fn without_login(&self, request: &Request, refusal: Refusal) -> Decision {
        match self.is_open(&request.target, request.listing_format()) {
            true => Decision::Granted(Grant::Open),
            false => Decision::Refused(refusal),
        }
    }

    fn open_by_link(&self, request: &Request, peer: Peer) -> Option<Result<Grant, Rejection>> {
        let keys = self.keys.as_ref()?.current();
        let verify = |presented: &Presented| {
            let path = &request.target.path;
            let opened = presented.verify(&keys, path, peer.ip(), unix_time())?;
            Ok(match presented.depth {
                None => Grant::Path(opened.into()),
                Some(_) => Grant::Subtree(opened.into()),
            })
        };
        let link = request.query.link.as_deref()?;
        Some(link.clone().and_then(|presented| verify(&presented)))
    }

    /// Whether a grant for `path` also covers the real path behind it.
    pub(crate) fn permits(&self, grant: &Grant, path: &[u8], real: &RealPath) -> bool {
        if *grant != Grant::Open && !self.wants_real_path(grant, path) {
            return true;
        }
        match real {
            RealPath::AsAsked | RealPath::Outside => self.may_see(grant, path),
            RealPath::Other(real) => self.may_see(grant, path) && self.may_see(grant, real),
            RealPath::Unknown => false,
        }
    }

    /// Whether a request with this grant has access to this path.
    pub(crate) fn may_see(&self, grant: &Grant, path: &[u8]) -> bool {
        grant.covers(path) || !self.protected.contains(path)
    }

    /// Whether the access to this path with this grant depends on the target of links.
    pub(crate) fn wants_real_path(&self, grant: &Grant, path: &[u8]) -> bool {
        match grant {
            Grant::Open => !self.protected.is_everything(),
            // The signature of a path covers the target of its links, but no other path.
            Grant::Path(_) => !grant.covers(path),
            Grant::Subtree(granted) => !granted.is_empty(),
            Grant::User(_) => false,
        }
    }
}

impl<T> Reloaded<T> {
    fn load(path: Option<&Path>, read: Read<T>) -> Result<Option<Self>, String> {
        let Some(path) = path else { return Ok(None) };
        let current = RwLock::new(Arc::new(read(path)?));
        let path = path.to_owned();
        Ok(Some(Self { path, current }))
    }

    fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn reload(&self, read: Read<T>) -> Result<(), String> {
        let found = Arc::new(read(&self.path)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(())
    }
}

type Read<T> = fn(&Path) -> Result<T, String>;

fn read_passwords(path: &Path) -> Result<Passwords, String> {
    let blame = |why: &dyn std::fmt::Display| format!("--htpasswd {}: {why}", path.display());
    let text = read_bounded(path, MAX_PASSWORD_FILE_BYTES).map_err(|error| blame(&error))?;
    let mut key = [0; blake3::KEY_LEN];
    getrandom::fill(&mut key).map_err(|error| blame(&error))?;
    Passwords::parse(&text, key).map_err(|error| blame(&error))
}

fn read_keys(path: &Path) -> Result<Keys, String> {
    signed_link::read_keys(path).map_err(|error| format!("--link-key {error}"))
}

fn refusal_of(rejection: Rejection) -> Refusal {
    match rejection {
        Rejection::Altered => Refusal::Forbidden("the link is not one that was given out here"),
        Rejection::Expired => Refusal::LinkExpired,
        Rejection::OtherClient => Refusal::Forbidden("the link is for clients of another network"),
    }
}

fn unix_time() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The path of a name in a directory.
pub(crate) fn beneath(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        b"" => name.to_vec(),
        _ => [directory, b"/", name].concat(),
    }
}

/// Whether `path` is `directory`, or lies beneath it.
pub(crate) fn is_beneath(path: &[u8], directory: &[u8]) -> bool {
    let rest = path.strip_prefix(directory);
    directory.is_empty() || rest.is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
}

fn is_index_of(path: &[u8], directory: &[u8]) -> bool {
    path == beneath(directory, INDEX)
}

/// The name of a directory's index.
pub(crate) const INDEX: &[u8] = b"index.html";

/// Some 200,000 users, at 80 bytes a line.
const MAX_PASSWORD_FILE_BYTES: u64 = 16 << 20;
