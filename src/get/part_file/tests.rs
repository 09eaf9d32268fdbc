//! States, locks and names of part files.

use super::*;
use crate::get::part_file::extents::Extents;
use crate::get::part_file::validate::{Identity, Validator};

fn state(length: u64, done: &[(u64, u64)]) -> State {
    let mut extents = Extents::default();
    for &(start, end) in done {
        extents.insert(start, end);
    }
    let identity = Identity {
        length,
        validator: Some(Validator::Etag("\"a\"".to_owned())),
        weak_tag: None,
        last_modified: None,
    };
    let mut state = State::new("http://x/y".to_owned(), Some(identity), None);
    state.done = extents;
    state
}

#[test]
fn a_state_comes_back_only_for_a_part_file_of_its_length() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("f");
    let part = PartFile::create(&target, Slot::Part).unwrap();
    part.begin(&state(10, &[]), Some(10), Preallocation::On)
        .unwrap();
    part.save(&state(10, &[(0, 4)])).unwrap();
    drop(part);
    let (part, loaded) = PartFile::open_existing(&target, Slot::Part)
        .unwrap()
        .unwrap();
    assert_eq!(loaded, state(10, &[(0, 4)]));
    part.file().set_len(0).unwrap();
    drop(part);
    let (_, loaded) = PartFile::open_existing(&target, Slot::Part)
        .unwrap()
        .unwrap();
    assert_eq!((loaded.identity, loaded.done.total()), (None, 0));
}

#[test]
fn states_that_claim_too_much_are_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("f");
    let part = PartFile::create(&target, Slot::Part).unwrap();
    part.begin(&state(10, &[]), Some(10), Preallocation::On)
        .unwrap();
    part.save(&state(10, &[(0, 11)])).unwrap();
    assert_eq!(part.load().unwrap().identity, None);
    fs::write(&part.state_path, b"{\"version\":1").unwrap();
    assert_eq!(part.load().unwrap().identity, None);
    let endless = File::create(&part.state_path).unwrap();
    endless.set_len(1 << 40).unwrap();
    assert_eq!(part.load().unwrap().identity, None);
}

#[test]
fn one_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("f");
    let first = PartFile::create(&target, Slot::Part).unwrap();
    let second = PartFile::create(&target, Slot::Part).unwrap_err();
    assert!(second.to_string().contains("another haul get"), "{second}");
    drop(first);
    PartFile::create(&target, Slot::Part).unwrap();
}

#[test]
fn what_is_not_ours_stays() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("f");
    fs::write(directory.path().join("f.part"), b"precious").unwrap();
    assert!(PartFile::create(&target, Slot::Part).is_err());
    assert!(PartFile::open_existing(&target, Slot::Part).is_err());
    let link = directory.path().join("g.part");
    std::os::unix::fs::symlink(directory.path().join("elsewhere"), link).unwrap();
    assert!(PartFile::create(&directory.path().join("g"), Slot::Part).is_err());
    assert!(!directory.path().join("elsewhere").exists());
}

#[test]
fn a_link_in_the_place_of_the_next_state_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (target, victim) = (directory.path().join("f"), directory.path().join("victim"));
    fs::write(&victim, b"precious").unwrap();
    std::os::unix::fs::symlink(&victim, directory.path().join("f.part.state.part.state")).unwrap();
    let part = PartFile::create(&target, Slot::Part).unwrap();
    part.begin(&state(10, &[]), Some(10), Preallocation::On)
        .unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn only_its_own_part_gets_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("f");
    let part = PartFile::create(&target, Slot::Part).unwrap();
    fs::write(directory.path().join("other"), b"another file").unwrap();
    fs::rename(
        directory.path().join("other"),
        directory.path().join("f.part"),
    )
    .unwrap();
    let error = part.finish(None, Existing::Overwrite).unwrap_err();
    assert_eq!(error.kind, ErrorKind::LocalFile);
    assert!(!target.exists());
}

#[test]
fn a_file_that_appeared_meanwhile_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("f");
    let part = PartFile::create(&target, Slot::Part).unwrap();
    fs::write(&target, b"precious").unwrap();
    let error = part.finish(None, Existing::Refuse).unwrap_err();
    assert_eq!(error.kind, ErrorKind::LocalFile);
    assert_eq!(fs::read(&target).unwrap(), b"precious");
}

#[test]
fn a_part_file_makes_way_with_all_that_its_state_claims() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("f");
    let path = directory.path().join("f.part");
    let fill = |slot, done| {
        let part = PartFile::create(&target, slot).unwrap();
        let preallocation = Preallocation::On;
        part.begin(&state(10, &[]), Some(10), preallocation)
            .unwrap();
        part.save(&state(10, &[(0, done)])).unwrap();
    };
    let claims = |slot| {
        let found = PartFile::open_existing(&target, slot).unwrap();
        found.map(|(_, state)| state.done.total())
    };
    let all = || [Slot::Part, Slot::New, Slot::Alternative].map(claims);
    fill(Slot::Part, 4);
    fill(Slot::New, 5);
    make_way(&path).unwrap();
    assert_eq!(all(), [None, Some(4), Some(5)]);
    make_way(&path).unwrap();
    // A part file that has nothing is no reason to fail, another one is.
    fill(Slot::Part, 0);
    make_way(&path).unwrap();
    assert_eq!(all(), [None, Some(4), Some(5)]);
    fill(Slot::Part, 3);
    assert!(make_way(&path).is_err());
    assert_eq!(all(), [Some(3), Some(4), Some(5)]);
    // Of another program.
    fs::write(directory.path().join("f.part.state"), b"{}").unwrap();
    make_way(&path).unwrap();
    assert!(path.exists());
    // A kill between the last two steps of a download.
    fs::remove_file(&path).unwrap();
    make_way(&path).unwrap();
    assert!(!directory.path().join("f.part.state").exists());
}
