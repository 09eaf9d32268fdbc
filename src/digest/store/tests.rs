//! Stores over a restart, with damage, and without a disk.

use std::fs;
use std::os::unix::fs::{FileExt as _, symlink};

use super::*;
use crate::digest::blocks::BLOCK_BYTES;
use crate::meta::Meta;

fn identity(inode: u64, len: u64) -> Identity {
    Identity::from(&Meta {
        inode,
        len,
        ..Meta::default()
    })
}

fn digests(byte: u8) -> Digests {
    Digests {
        sha256: Some([byte; 32]),
        ..Digests::default()
    }
}

fn list() -> BlockList {
    BlockList::new(BLOCK_BYTES + 1, vec![[7; 32], [8; 32]]).unwrap()
}

#[test]
fn what_was_put_is_there_after_a_restart_under_its_identity_only() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("a/b");
    let (store, notice) = Store::open(Some(&deep));
    assert!(notice.is_none(), "{notice:?}");
    let file = identity(1, BLOCK_BYTES + 1);
    store.put(&file, digests(1), Some(list()));
    store.flush();
    drop(store);

    let (store, notice) = Store::open(Some(&deep));
    assert!(notice.is_none(), "{notice:?}");
    assert_eq!(store.get(&file), digests(1));
    assert_eq!(store.blocks(&file), Some(list()));
    let changed = identity(1, 5);
    assert_eq!(store.get(&changed), Digests::default());
    assert_eq!(store.blocks(&changed), None);
    // Another algorithm is added, another content replaces.
    let sha512 = Digests {
        sha512: Some([9; 64]),
        ..Digests::default()
    };
    store.put(&file, sha512, None);
    assert_eq!(store.get(&file), digests(1).and(sha512));
    store.put(&changed, digests(2), None);
    assert_eq!(store.get(&file), Digests::default());
    assert_eq!(store.get(&changed), digests(2));
}

#[test]
fn a_second_store_works_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let (_first, _) = Store::open(Some(directory.path()));
    let (second, notice) = Store::open(Some(directory.path()));
    assert!(matches!(notice, Some(Notice::InUse(_))), "{notice:?}");
    second.put(&identity(1, 1), digests(1), None);
    assert_eq!(second.get(&identity(1, 1)), digests(1));
}

#[test]
fn garbage_is_made_anew_with_a_word() {
    for len in [1_usize, 512, 4096, 1 << 20, 3 << 20] {
        let directory = tempfile::tempdir().unwrap();
        let garbage: Vec<u8> = (0..len).map(|_| fastrand::u8(..)).collect();
        fs::write(directory.path().join(FILE_NAME), garbage).unwrap();
        let (store, notice) = Store::open(Some(directory.path()));
        assert!(matches!(notice, Some(Notice::MadeAnew(..))), "{notice:?}");
        store.put(&identity(1, 1), digests(1), None);
        drop(store);
        let (store, notice) = Store::open(Some(directory.path()));
        assert!(notice.is_none(), "{notice:?}");
        assert_eq!(store.get(&identity(1, 1)), digests(1));
    }
}

/// As a full disk may leave it.
#[test]
fn a_store_that_was_cut_off_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    let (store, _) = Store::open(Some(directory.path()));
    store.put(&identity(1, 1), digests(1), None);
    store.flush();
    drop(store);
    let whole = fs::read(&path).unwrap();
    for len in [9, 64, 319, 4096, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..len]).unwrap();
        let (_, notice) = Store::open(Some(directory.path()));
        assert!(
            matches!(notice, Some(Notice::MadeAnew(..))),
            "{len} bytes: {notice:?}"
        );
    }
}

/// A flipped bit is found, or is where it does no harm: never another digest.
#[test]
fn a_damaged_store_gives_no_wrong_digest() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    let (store, _) = Store::open(Some(directory.path()));
    for inode in 0..200 {
        store.put(&identity(inode, 1), digests(inode as u8), Some(list()));
    }
    store.flush();
    drop(store);
    let whole = fs::read(&path).unwrap();
    for _ in 0..40 {
        fs::write(&path, &whole).unwrap();
        let at = fastrand::usize(..whole.len());
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[whole[at] ^ 0x10], at as u64).unwrap();
        drop(file);
        let (store, _) = Store::open(Some(directory.path()));
        for inode in 0..200 {
            let found = store.get(&identity(inode, 1));
            let is_right = found == Digests::default() || found == digests(inode as u8);
            assert!(is_right, "byte {at}: {found:?}");
        }
    }
}

#[test]
fn what_cannot_be_trusted_or_had_leaves_the_store_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    let elsewhere = directory.path().join("elsewhere");
    fs::write(&elsewhere, "precious").unwrap();
    symlink(&elsewhere, &path).unwrap();
    let (_, notice) = Store::open(Some(directory.path()));
    assert!(matches!(notice, Some(Notice::Unusable(..))), "{notice:?}");
    assert_eq!(fs::read(&elsewhere).unwrap(), b"precious");

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let (_, notice) = Store::open(Some(directory.path()));
    assert!(matches!(notice, Some(Notice::Unusable(..))), "{notice:?}");

    let (store, notice) = Store::open(Some(&elsewhere));
    assert!(matches!(notice, Some(Notice::Unusable(..))), "{notice:?}");
    store.put(&identity(1, 1), digests(1), Some(list()));
    assert_eq!(store.blocks(&identity(1, 1)), Some(list()));
}

#[test]
fn a_store_of_another_version_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let table = redb::TableDefinition::<&str, u64>::new("version");
    transaction
        .open_table(table)
        .unwrap()
        .insert("version", 99)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let (_, notice) = Store::open(Some(directory.path()));
    assert!(matches!(notice, Some(Notice::MadeAnew(..))), "{notice:?}");
}
