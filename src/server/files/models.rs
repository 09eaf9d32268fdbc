//! The shared state of a file's holders, and a replaced root, under the scheduler of
//! `server::models`.

use std::fs;

use super::*;
use crate::server::models::{CONTENT, check, directory};

#[test]
fn a_file_of_the_old_root_is_never_taken_for_one_of_the_new() {
    let (old, new) = (directory(CONTENT), directory(CONTENT));
    check(move || {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("root");
        std::os::unix::fs::symlink(old.path(), &path).expect("a link");
        let (closer, _) = crossbeam_channel::unbounded();
        let root = Root::open(&path, &[], DotNames::Hidden, closer).expect("a root");
        let root = Arc::new(root);
        let inode = |path: &Path| {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(path.join("f")).expect("a file").ino()
        };
        let new_inode = inode(new.path());
        let looks = (0..2).map(|_| {
            let root = Arc::clone(&root);
            shuttle::thread::spawn(move || {
                let target = Target::from_path(b"f").expect("a path");
                match root.look_up(&target, Blocking::Allowed) {
                    LookUp::Found(Found::File(file)) => file,
                    other => panic!("{other:?}"),
                }
            })
        });
        let looks: Vec<_> = looks.collect();
        fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink(new.path(), &path).expect("a link");
        assert!(root.refresh());
        for look in looks {
            let file = look.join().expect("no panic");
            assert!(!root.is_current(&file) || file.meta.inode == new_inode);
        }
    });
}

#[test]
fn the_holders_of_a_version_share_it() {
    check(|| {
        let registry = Arc::new(Registry::default());
        let meta = |len| Meta {
            inode: 1,
            len,
            ..Meta::default()
        };
        let opens = [1, 1, 2].map(|len| {
            let registry = Arc::clone(&registry);
            shuttle::thread::spawn(move || registry.version(meta(len)))
        });
        let opens = opens.map(|open| open.join().expect("no panic"));
        assert!(
            opens
                .iter()
                .all(|it| Arc::ptr_eq(&it.inode, &opens[0].inode))
        );
        assert_eq!(opens.each_ref().map(|it| it.meta.len), [1, 1, 2]);
    });
}
