//! The part files of one target: the version that is being filled, and an older one until that is
//! whole.

use std::path::Path;

use crate::get::config::{KeptChoice, Preallocation};
use crate::get::error::GetError;
use crate::get::part_file::keep::Kept;
use crate::get::part_file::validate::Trust;
use crate::get::part_file::{PartFile, Slot, State, slots};

/// The part files of one target.
pub(super) struct Holdings {
    /// Where the first part file goes, and the one of another version.
    slots: (Slot, Slot),
    /// The version that is being filled.
    pub(super) current: Option<Holding>,
    /// An older version's bytes, until the current one is whole.
    pub(super) old: Option<Holding>,
}

/// A part file, and its state.
pub(super) struct Holding {
    pub(super) part: PartFile,
    pub(super) state: State,
    pub(super) has_wrong_checksum: bool,
}

impl Holdings {
    /// No part files so far.
    pub(super) fn none() -> Self {
        Self {
            slots: slots(false),
            current: None,
            old: None,
        }
    }

    /// Opens what earlier runs left of `target`. A part file that another source's download left
    /// (`is_foreign`) is not touched.
    ///
    /// # Errors
    /// LocalFile: a part file is locked, not ours, or cannot be opened.
    pub(super) fn open(target: &Path, is_foreign: bool) -> Result<Self, GetError> {
        let slots = slots(is_foreign);
        let old = PartFile::open_existing(target, slots.0)?.map(Holding::new);
        let new = PartFile::open_existing(target, slots.1)?.map(Holding::new);
        let (current, old) = match (old, new) {
            (old, Some(new)) if new.state.identity.is_some() && new.kept().bytes > 0 => {
                (Some(new), old)
            }
            (Some(old), Some(new)) => (Some(longer(old, new)?), None),
            (None, Some(new)) => (Some(new), None),
            (old, None) => (old, None),
        };
        Ok(Self {
            slots,
            current,
            old,
        })
    }

    /// The bytes that must not become fewer: of the current version, or of the one before it.
    pub(super) fn kept(&self) -> Kept {
        let held = [&self.current, &self.old];
        let mut kept = held.into_iter().flatten().map(Holding::kept);
        let first = kept.next().unwrap_or_default();
        match first.bytes {
            0 => kept.next().unwrap_or(first),
            _ => first,
        }
    }

    /// Makes an empty part file beside the one with the kept bytes.
    pub(super) fn set_aside(&mut self, target: &Path, choice: KeptChoice) -> Result<(), GetError> {
        if let Some(current) = self.current.take() {
            self.old = Some(match self.old.take() {
                Some(old) if choice == KeptChoice::Keep => longer(old, current)?,
                Some(old) => old,
                None => current,
            });
        }
        let part = PartFile::create(target, self.slots.1)?;
        self.current = Some(Holding::new((part, State::default())));
        Ok(())
    }

    /// Empties the current part file, for the version that `state` describes.
    pub(super) fn begin(
        &mut self,
        target: &Path,
        state: State,
        preallocation: Preallocation,
    ) -> Result<(), GetError> {
        if self.current.is_none() {
            let part = PartFile::create(target, self.slots.0)?;
            self.current = Some(Holding::new((part, State::default())));
        }
        let held = self.current.as_mut().expect("made above");
        held.state = state;
        let begun = held
            .part
            .begin(&held.state, held.state.length(), preallocation);
        begun.inspect_err(|_| {
            // An empty file and a state that claims nothing are of no use.
            if let Some(held) = self.current.take() {
                held.part.discard();
            }
        })
    }

    /// Keeps the longer of two attempts that cannot be resumed.
    pub(super) fn give_up(&mut self, trust: Trust) -> Result<(), GetError> {
        let Some(held) = self.current.take() else {
            return Ok(());
        };
        let identity = held.state.identity.as_ref();
        if held.part.slot() == self.slots.1
            && identity.is_none_or(|known| !known.is_enough(trust))
            && let Some(old) = self.old.take()
        {
            longer(old, held)?;
        }
        Ok(())
    }
}

impl Holding {
    pub(super) fn new((part, state): (PartFile, State)) -> Self {
        Self {
            part,
            state,
            has_wrong_checksum: false,
        }
    }

    pub(super) fn kept(&self) -> Kept {
        Kept {
            bytes: self.state.done.total(),
            identity: self.state.identity.clone(),
            content_type: self.state.content_type.clone(),
            has_wrong_checksum: self.has_wrong_checksum,
        }
    }
}

/// The one with more bytes, in the first slot; the other one goes.
fn longer(old: Holding, new: Holding) -> Result<Holding, GetError> {
    if new.kept().bytes <= old.kept().bytes {
        new.part.discard();
        return Ok(old);
    }
    let part = new.part.replace(&old.part)?;
    Ok(Holding { part, ..new })
}
