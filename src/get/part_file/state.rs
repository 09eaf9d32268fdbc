//! The state file: which bytes of a part file belong to which version.

use serde::{Deserialize, Serialize};

use crate::digest::{Algorithm, Checksum};
use crate::get::part_file::extents::Extents;
use crate::get::part_file::validate::Identity;

/// The content of the state file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    version: u32,
    pub(crate) url: String,
    /// `None`: the file's length is not known.
    pub(crate) identity: Option<Identity>,
    #[serde(default)]
    pub(crate) content_type: Option<String>,
    pub(crate) done: Extents,
    /// The whole file is here, whether or not a length was given.
    #[serde(default)]
    pub(crate) whole: bool,
    /// What the server said of the whole file: the algorithm's name and hexadecimal digits. A later
    /// run may finish the file without asking again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

impl State {
    /// A state that claims nothing yet.
    pub(crate) fn new(
        url: String,
        identity: Option<Identity>,
        content_type: Option<String>,
    ) -> Self {
        Self {
            version: STATE_VERSION,
            url,
            identity,
            content_type,
            ..Self::default()
        }
    }

    /// Whether the validators show that the two are of different versions.
    pub(crate) fn is_of_other_version(&self, other: &Self) -> bool {
        let validator = |state: &Self| state.identity.as_ref()?.validator.clone();
        match (validator(self), validator(other)) {
            (Some(own), Some(other)) => own != other,
            _ => false,
        }
    }

    /// The digest that the server gave of the file.
    pub(crate) fn digest(&self) -> Option<Checksum> {
        let (name, hex) = self.digest.as_ref()?.split_once(' ')?;
        Checksum::parse(Algorithm::named(name)?, hex).ok()
    }

    /// Notes the digest that the server gave of the file.
    pub(crate) fn note_digest(&mut self, digest: &Checksum) {
        self.digest = Some(digest.to_string());
    }

    /// The state in the text of a state file, as far as it can be believed of a part file of this
    /// length. Where it cannot, all bytes are claimed of an unknown version, and are not thrown
    /// away.
    pub(crate) fn parse(text: &[u8], length: u64) -> Self {
        let state: Option<Self> = serde_json::from_slice(text).ok();
        match state.filter(|state| state.version == STATE_VERSION) {
            Some(state) if state.done.as_slice().is_empty() && !state.whole => state,
            Some(state) if state.is_sound(length) => state,
            _ => {
                let mut unknown = Self::new(String::new(), None, None);
                unknown.done.insert(0, length);
                unknown
            }
        }
    }

    /// The state describes a part file of this length.
    fn is_sound(&self, length: u64) -> bool {
        let told = self.identity.as_ref().map(|identity| identity.length);
        told.is_none_or(|told| told == length) && self.done.is_sound(length)
    }

    /// The file's length, where it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        let told = self.identity.as_ref().map(|identity| identity.length);
        told.or_else(|| self.whole.then(|| self.done.total()))
    }

    /// Every byte of the file is claimed.
    pub(crate) fn is_whole(&self) -> bool {
        self.length() == Some(self.done.total())
    }
}

const STATE_VERSION: u32 = 1;
