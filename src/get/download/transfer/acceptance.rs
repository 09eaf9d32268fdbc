//! The acceptance of a response with the whole file, given the bytes that are kept.

use std::io::Read;

use crate::get::checksum;
use crate::get::client::Response;
use crate::get::config::Existing;
use crate::get::download::block_ledger::ListSource;
use crate::get::download::holdings::Holding;
use crate::get::download::links;
use crate::get::download::session::SessionEnd;
use crate::get::download::transfer::state::Transfer;
use crate::get::error::{ErrorKind, GetError};
use crate::get::part_file::keep::{self, Decision};
use crate::get::part_file::validate::{Identity, Validator};
use crate::get::part_file::{Slot, State};
use crate::sys::receive;

impl Transfer<'_> {
    /// Begins a session with a response that has the whole file, if the kept bytes allow it.
    pub(super) fn take_response(
        &mut self,
        (mirror, response): (usize, Box<Response>),
    ) -> Result<SessionEnd, GetError> {
        let (kept, choice) = (self.holdings.kept(), self.shared.config.kept);
        let decision = match keep::decide(&kept, &response.head, choice, self.trust) {
            Decision::Begin if keep::is_page_over(&self.replaced(), &response.head, choice) => {
                Decision::Suspicious
            }
            decision => decision,
        };
        let is_in_place = |held: &Holding| held.part.slot() == Slot::InPlace;
        match decision {
            Decision::Begin => self.begin(mirror, &response)?,
            Decision::GoOn => {}
            _ if self.holdings.current.as_ref().is_some_and(is_in_place) => {
                let text = format!("{}: the file changed while it was repaired", response.url);
                let error = GetError::new(ErrorKind::Incomplete, text);
                return Err(error.and("the same command makes it what the server has now"));
            }
            Decision::Beside => {
                self.holdings.set_aside(self.target, choice)?;
                self.begin(mirror, &response)?;
            }
            decision => {
                let why = match kept.bytes {
                    0 => "a page came instead of the file that is here".to_owned(),
                    _ => keep::compare(&kept, &response.head),
                };
                let text = format!("{}: {why}", response.url);
                let error = GetError::passing(ErrorKind::Incomplete, text);
                let (mut times, bytes) = self.suspicions;
                if kept.bytes > bytes {
                    times = 0;
                }
                let again = times < SUSPICIONS.min(self.shared.config.retry.retries);
                if decision == Decision::Suspicious && again {
                    self.suspicions = (times + 1, kept.bytes);
                    let cancellation = self.shared.cancellation();
                    let waited =
                        self.reporter
                            .wait(&mut self.attempts, error, kept.bytes, &cancellation);
                    waited.map_err(|error| error.and(KEPT))?;
                    return Ok(SessionEnd::Broken);
                }
                return Err(error.and(KEPT));
            }
        }
        self.suspicions = (0, 0);
        let is_haul = response.head.is_haul();
        let digests = response.head.digests();
        let is_of_expected =
            checksum::contradiction(&[&digests, self.proof.given()].concat()).is_none();
        self.proof.note_server(is_haul, digests.into_iter().next());
        self.take_links(&response)?;
        self.keep_digest();
        self.list_source = (is_haul && is_of_expected).then(|| ListSource {
            url: response.url.clone(),
            validator: Validator::of(&response.head),
        });
        self.mirrors
            .learn(mirror, response.url.clone(), Validator::of(&response.head));
        self.session(Some((mirror, response)))
    }

    /// The beginning of a whole file that is to be updated.
    fn replaced(&self) -> Vec<u8> {
        let mut begins = Vec::new();
        if self.shared.config.existing == Existing::Update
            && let Ok(file) = receive::open_to_read(self.target)
        {
            // The user chose to replace the file, so one that cannot be read counts as empty.
            let _ = file.take(PAGE_BEGINS_BYTES).read_to_end(&mut begins);
        }
        begins
    }

    /// Starts the part file over, with the version of this response.
    fn begin(&mut self, mirror: usize, response: &Response) -> Result<(), GetError> {
        let identity = Identity::of(&response.head);
        // The target of a redirect may be another host next time, so it is not recorded.
        let url = self.mirrors.url(mirror).recorded();
        let state = State::new(url, identity, response.head.content_type.clone());
        (self.list, self.mirror_digest) = (None, None);
        let preallocation = self.shared.config.preallocation;
        self.holdings.begin(self.target, state, preallocation)
    }

    /// Takes the other addresses of the file from a response's links (RFC 6249).
    fn take_links(&mut self, response: &Response) -> Result<(), GetError> {
        let found = links::find(self.shared, self.reporter, response)?;
        if self.proof.checksums().is_empty() {
            self.proof.note_digest(found.digest);
        }
        if self.proof.checksums().is_empty() {
            // RFC 6249, section 6: nothing but a digest makes a mirror that a server names its own.
            return Ok(());
        }
        for url in found.urls {
            self.mirrors.add(url);
            self.has_proven_mirrors = true;
        }
        Ok(())
    }
}

const KEPT: &str = "what is here is kept; --restart fetches the new one";
/// Retries after which a suspicious response counts as final.
const SUSPICIONS: u32 = 3;
/// The beginning of a page, by which it is recognized.
const PAGE_BEGINS_BYTES: u64 = 256;
