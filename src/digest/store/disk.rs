//! Digests on disk, in a file of `redb`'s.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use redb::backends::FileBackend;
use redb::{Database, DatabaseError, Durability, ReadableDatabase as _, StorageError};
use redb::{TableDefinition, TableError};

use crate::digest::blocks::BlockList;
use crate::digest::hasher::Digests;
use crate::digest::identity::Identity;
use crate::digest::store::entry;
use crate::sys::file::{make_directory, open_private};

/// The store's file, open and locked.
#[derive(Debug)]
pub(super) struct Disk {
    database: Database,
    /// When something was put that is not on disk yet.
    unsaved_since: Option<Instant>,
}

/// Why there is no store on disk.
#[derive(Debug)]
pub(super) enum OpenError {
    /// Another process has it.
    InUse,
    /// The file is no store, one of another version, or damaged.
    Damaged(String),
    /// The file cannot be opened, or is another user's.
    Io(io::Error),
}

impl Disk {
    /// Opens or creates the store. All of it is read once, so that damage is found here and not
    /// later.
    pub(super) fn open(directory: &Path, path: &Path) -> Result<Self, OpenError> {
        make_directory(directory).map_err(OpenError::Io)?;
        let file = open_private(path).map_err(OpenError::Io)?;
        let opened = guarded(|| Ok(Self::open_file(file)));
        let disk = opened.unwrap_or_else(|panic| Err(OpenError::Damaged(panic)))?;
        guarded(|| disk.check_version()).map_err(OpenError::Damaged)?;
        Ok(disk)
    }

    /// Replaces the store by an empty one.
    pub(super) fn make_anew(directory: &Path, path: &Path) -> Result<Self, OpenError> {
        fs::remove_file(path).map_err(OpenError::Io)?;
        Self::open(directory, path)
    }

    fn open_file(file: File) -> Result<Self, OpenError> {
        let is_new = file.metadata().map_err(OpenError::Io)?.len() == 0;
        let backend = FileBackend::new(file).map_err(why_not_opened)?;
        let opened = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(!is_new)
            .create_with_backend(backend);
        Ok(Self {
            database: opened.map_err(why_not_opened)?,
            unsaved_since: None,
        })
    }

    /// A new store gets this version; one of another version counts as damaged.
    fn check_version(&self) -> Result<(), String> {
        let found = {
            let transaction = self.database.begin_read().map_err(text)?;
            match transaction.open_table(VERSION) {
                Ok(table) => table
                    .get("version")
                    .map_err(text)?
                    .map(|found| found.value()),
                Err(TableError::TableDoesNotExist(_)) => None,
                Err(error) => return Err(error.to_string()),
            }
        };
        match found {
            Some(FORMAT) => Ok(()),
            Some(other) => Err(format!("it was of version {other}, this is {FORMAT}")),
            None => {
                let mut transaction = self.database.begin_write().map_err(text)?;
                transaction.set_quick_repair(true);
                transaction.open_table(DIGESTS).map_err(text)?;
                transaction.open_table(BLOCKS).map_err(text)?;
                let mut table = transaction.open_table(VERSION).map_err(text)?;
                table.insert("version", FORMAT).map_err(text)?;
                drop(table);
                transaction.commit().map_err(text)
            }
        }
    }

    pub(super) fn get(&self, identity: &Identity) -> Result<Option<Digests>, String> {
        let transaction = self.database.begin_read().map_err(text)?;
        let table = transaction.open_table(DIGESTS).map_err(text)?;
        let found = table.get(identity.file()).map_err(text)?;
        Ok(found.and_then(|found| entry::decode(identity, found.value())))
    }

    pub(super) fn blocks(&self, identity: &Identity) -> Result<Option<BlockList>, String> {
        let transaction = self.database.begin_read().map_err(text)?;
        let table = transaction.open_table(BLOCKS).map_err(text)?;
        let found = table.get(identity.file()).map_err(text)?;
        Ok(found.and_then(|found| entry::decode_blocks(identity, found.value())))
    }

    /// Keeps digests beside those of the same content, and in place of those of another one.
    pub(super) fn put(
        &mut self,
        identity: &Identity,
        digests: Digests,
        list: Option<&BlockList>,
    ) -> Result<(), String> {
        let since = *self.unsaved_since.get_or_insert_with(Instant::now);
        let is_durable = since.elapsed() >= SAVE_EVERY;
        let digests = digests.and(self.get(identity)?.unwrap_or_default());
        let transaction = self.begin(is_durable)?;
        {
            let mut table = transaction.open_table(DIGESTS).map_err(text)?;
            let entry = entry::encode(identity, &digests);
            let file = identity.file();
            table.insert(file, entry.as_slice()).map_err(text)?;
            let mut table = transaction.open_table(BLOCKS).map_err(text)?;
            match list {
                Some(list) => {
                    let entry = entry::encode_blocks(identity, list);
                    table.insert(file, entry.as_slice()).map_err(text)?;
                }
                // That of an older content would never be found again.
                None if digests.blake3.is_none() => drop(table.remove(file).map_err(text)?),
                None => {}
            }
        }
        transaction.commit().map_err(text)?;
        if is_durable {
            self.unsaved_since = None;
        }
        Ok(())
    }

    /// Makes stored digests durable.
    pub(super) fn flush(&mut self) -> Result<(), String> {
        if self.unsaved_since.take().is_some() {
            self.begin(true)?.commit().map_err(text)?;
        }
        Ok(())
    }

    /// Makes stored digests durable once the oldest has waited for [`SAVE_EVERY`]; returns how long
    /// it is still to wait.
    pub(super) fn flush_due(&mut self) -> Result<Option<Duration>, String> {
        let Some(since) = self.unsaved_since else {
            return Ok(None);
        };
        let rest = SAVE_EVERY.saturating_sub(since.elapsed());
        if rest.is_zero() {
            self.flush()?;
            return Ok(None);
        }
        Ok(Some(rest))
    }

    fn begin(&self, is_durable: bool) -> Result<redb::WriteTransaction, String> {
        let mut transaction = self.database.begin_write().map_err(text)?;
        match is_durable {
            // After a kill the store opens without a look at every page.
            true => transaction.set_quick_repair(true),
            false => transaction.set_durability(Durability::None).map_err(text)?,
        }
        Ok(transaction)
    }
}

/// Runs an operation of `redb`'s, which may panic over a file that was damaged while it was open.
pub(super) fn guarded<T>(operation: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let panicked = |_| Err("it is damaged".to_owned());
    catch_unwind(AssertUnwindSafe(operation)).unwrap_or_else(panicked)
}

fn why_not_opened(error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::InUse
        }
        // The errors of `redb` for a file that is not a database, or ends in its header.
        DatabaseError::Storage(StorageError::Io(error)) if is_of_content(&error) => {
            OpenError::Damaged(error.to_string())
        }
        DatabaseError::Storage(StorageError::Io(error)) => OpenError::Io(error),
        other => OpenError::Damaged(other.to_string()),
    }
}

fn is_of_content(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    matches!(error.kind(), InvalidData | UnexpectedEof)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

const VERSION: TableDefinition<'_, &str, u64> = TableDefinition::new("version");
const DIGESTS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("digests");
const BLOCKS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("blocks");

/// The version of the tables' content.
const FORMAT: u64 = 1;

/// A crash costs at most the digests of this time, and a tree of small files costs no fsync(2) for
/// each.
const SAVE_EVERY: Duration = Duration::from_secs(2);
const CACHE_BYTES: usize = 8 << 20;
