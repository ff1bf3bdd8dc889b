use std::{
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::PathBuf,
    sync::mpsc,
};

use bytes::Bytes;

use super::*;
use crate::store::{
    format::tests::{ID, changes, sum},
    snapshot,
};

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    (folder, path)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    path.with_file_name(format!("{}{suffix}", path.file_name().expect("a name").display()))
}

fn reopened(path: &Path) -> Saved {
    FileStore::open(path).expect("opens").load().expect("loads")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").mode() & 0o777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("allowed");
}

fn queued(n: u64) -> Change {
    Change::Queued(ID, n, Bytes::from(vec![1; 200]))
}

/// Saves until the store has taken over a smaller file; returns all changes.
fn save_until_compacted(store: &mut FileStore, from: u64) -> Vec<Change> {
    let mut saved = Vec::new();
    let mut has_begun = false;
    for n in from.. {
        for change in [queued(n), Change::Settled(ID, n)] {
            store.save(std::slice::from_ref(&change)).expect("saved");
            saved.push(change);
            if has_begun && store.snapshot.is_none() {
                return saved;
            }
            has_begun |= store.snapshot.is_some();
        }
    }
    saved
}

#[test]
fn what_was_saved_is_there_after_reopening() {
    let (_folder, path) = folder();
    let mut store = FileStore::open(&path).expect("a new store");
    for change in changes() {
        store.save(&[change]).expect("saved");
        store.save(&[]).expect("nothing to save");
    }
    assert_eq!(store.load().expect("loaded"), sum(&changes()));
    drop(store);
    assert_eq!(reopened(&path), sum(&changes()));
}

#[test]
fn a_tail_torn_anywhere_is_cut_and_the_rest_kept() {
    let (_folder, path) = folder();
    let mut whole = format::file(&sum(&changes()[..3]));
    let kept = whole.len();
    whole.extend(format::encode(&changes()[3..]));
    for cut in kept..whole.len() {
        fs::write(&path, &whole[..cut]).expect("written");
        let mut store = FileStore::open(&path).expect("opens");
        assert_eq!(store.load().expect("loaded"), sum(&changes()[..3]), "cut at {cut}");
        store.save(&changes()[3..]).expect("saved");
        drop(store);
        assert_eq!(reopened(&path), sum(&changes()), "cut at {cut}");
    }
}

#[test]
fn damage_is_an_error_that_names_the_file_and_the_way_out_and_changes_nothing() {
    let (_folder, path) = folder();
    let mut bytes = format::file(&sum(&changes()[..1]));
    let at = bytes.len();
    changes()[1..].iter().for_each(|change| bytes.extend(format::encode(std::slice::from_ref(change))));
    bytes[at + 10] ^= 1;
    fs::write(&path, &bytes).expect("written");
    let text = FileStore::open(&path).expect_err("damaged").0;
    println!("{text}");
    let length = bytes.len();
    for part in [&*path.to_string_lossy(), &format!("byte {at} of {length}"), "move it away", "new device", "lost"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(fs::read(&path).expect("still there"), bytes);
    fs::rename(&path, beside(&path, ".damaged")).expect("moved");
    assert_eq!(reopened(&path), Saved::default());
}

#[test]
fn another_version_and_another_file_are_refused() {
    let (_folder, path) = folder();
    fs::write(&path, b"quipkeep\x01").expect("written");
    assert!(FileStore::open(&path).expect_err("refused").0.contains("version"));
    for other in [&b"something else"[..], b"note"] {
        fs::write(&path, other).expect("written");
        assert!(FileStore::open(&path).expect_err("refused").0.contains("not a state file"));
        assert_eq!(fs::read(&path).expect("still there"), other);
    }
    fs::write(&path, b"").expect("written");
    assert_eq!(reopened(&path), Saved::default(), "an empty file is a new one");
}

#[test]
fn a_second_client_is_kept_away_by_whatever_name() {
    let (folder, path) = folder();
    let link = folder.path().join("link");
    symlink("state", &link).expect("linked");
    let store = FileStore::open(&link).expect("a new store");
    for name in [&path, &link, &folder.path().join(".").join("state")] {
        let text = FileStore::open(name).expect_err("locked").0;
        assert!(text.contains("in use by another client (in this or another process)"), "{text}");
    }
    drop(store);
    FileStore::open(&path).expect("free again");
}

#[test]
fn a_link_stays_a_link() {
    let (folder, path) = folder();
    let link = folder.path().join("link");
    fs::create_dir(folder.path().join("elsewhere")).expect("made");
    let target = folder.path().join("elsewhere/state");
    symlink("elsewhere/state", &link).expect("linked");
    for _ in 0..2 {
        let mut store = FileStore::open_with(&link, 1000).expect("opens");
        let saved = save_until_compacted(&mut store, 1);
        assert_eq!(store.load().expect("loads"), sum(&saved));
        store.save(&[Change::Outbox(ID, 0, Vec::new())]).expect("saved");
        drop(store);
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink() && target.is_file());
        let names = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!((names, path.exists(), beside(&target, ".lock").exists()), (2, false, true));
    }
}

#[test]
fn a_new_file_is_for_its_owner_and_another_keeps_its_mode() {
    let (_folder, path) = folder();
    let [new, lock] = [".new", ".lock"].map(|suffix| beside(&path, suffix));
    fs::write(&new, "left by a crash").expect("written");
    fs::write(&lock, "").expect("written");
    [&new, &lock].iter().for_each(|path| chmod(path, 0o666));
    drop(FileStore::open(&path).expect("a new store"));
    assert_eq!([mode(&path), mode(&lock)], [0o600; 2]);
    for kept in [0o640, 0o604, 0o400] {
        chmod(&path, kept);
        let mut store = FileStore::open_with(&path, 1000).expect("opens");
        assert_eq!(mode(&path), kept);
        while store.snapshot.is_none() {
            store.save(&[queued(1), Change::Settled(ID, 1)]).expect("saved");
        }
        assert_eq!([mode(&new), mode(&path)], [0o600, kept]);
        while store.snapshot.is_some() {
            store.save(&[queued(1), Change::Settled(ID, 1)]).expect("saved");
        }
        assert_eq!((mode(&path), new.exists()), (kept, false));
    }
}

#[test]
fn a_file_keeps_its_owner_where_that_is_possible() {
    let (_folder, path) = folder();
    drop(FileStore::open(&path).expect("a new store"));
    // Only root may give files away.
    if chown(&path, Some(1234), Some(5678)).is_err() {
        return;
    }
    chmod(&path, 0o640);
    FileStore::open(&path).expect("opens");
    let found = fs::metadata(&path).expect("there");
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (1234, 5678, 0o640));
}

#[test]
fn a_file_that_grows_is_compacted() {
    let (_folder, path) = folder();
    let mut store = FileStore::open(&path).expect("a new store");
    store.save(&changes()).expect("saved");
    let body = Bytes::from(vec![1; 16 * 1024]);
    let mut compacted = 0;
    for n in 6..600 {
        let before = store.length;
        store.save(&[Change::Queued(ID, n, body.clone())]).expect("saved");
        store.save(&[Change::Settled(ID, n)]).expect("saved");
        // How fast the disk is is not known.
        while store.snapshot.is_some() && store.length > 2 * COMPACT {
            store.compact().expect("compacted");
        }
        compacted += u32::from(store.length < before);
        assert!(fs::metadata(&path).expect("there").len() < 2 * COMPACT + 40_000);
    }
    assert!(compacted > 1);
    let mut expected = sum(&changes());
    expected.conversations.entry(ID).or_default().last_n = 599;
    assert_eq!(store.load().expect("loaded"), expected);
}

#[test]
fn saving_never_waits_for_the_disk() {
    let (_folder, path) = folder();
    let mut store = FileStore::open_with(&path, 1_000_000).expect("a new store");
    store.save(&changes()).expect("saved");
    let (ready, disk) = mpsc::channel::<()>();
    let (old, from) = (File::open(&path).expect("there"), store.length);
    let work = move |new| {
        disk.recv().map_err(io::Error::other)?;
        snapshot::write(old, from, new)
    };
    store.snapshot = Some(Snapshot::spawn(&store.place, from, work).expect("begun"));
    let mut expected = sum(&changes());
    let mut save = |store: &mut FileStore, change: Change| {
        store.save(std::slice::from_ref(&change)).expect("saved");
        expected.apply(&change);
        assert_eq!(store.load().expect("loads"), expected);
    };
    (6..50).for_each(|n| save(&mut store, queued(n)));
    assert!(store.snapshot.is_some(), "the disk is stuck");
    ready.send(()).expect("waiting");
    for n in 50.. {
        save(&mut store, queued(n));
        if store.snapshot.is_none() {
            break;
        }
    }
    save(&mut store, Change::Settled(ID, 7));
    drop(store);
    assert_eq!(reopened(&path), expected);
}

#[test]
fn each_step_of_a_compaction_leaves_a_good_file() {
    let (_folder, path) = folder();
    let new = beside(&path, ".new");
    let before = [format::file(&Saved::default()), format::encode(&changes()[..4])].concat();
    let since = format::encode(&changes()[4..]);
    let old = [before, since.clone()].concat();
    let snapshot = [format::file(&sum(&changes()[..4])), since].concat();
    // What is written of the new file, and the rename.
    for cut in 0..=snapshot.len() {
        fs::write(&path, &old).expect("written");
        fs::write(&new, &snapshot[..cut]).expect("written");
        assert_eq!(reopened(&path), sum(&changes()), "cut at {cut}");
        assert!(!new.exists());
    }
    fs::write(&path, &snapshot).expect("written");
    assert_eq!(reopened(&path), sum(&changes()), "renamed");
}

#[test]
fn a_compaction_that_fails_costs_nothing() {
    let (_folder, path) = folder();
    let mut store = FileStore::open_with(&path, 1000).expect("a new store");
    let mut saved = Vec::new();
    while store.snapshot.is_none() {
        saved.push(queued(1));
        store.save(&saved[saved.len() - 1..]).expect("saved");
    }
    fs::remove_file(beside(&path, ".new")).expect("there");
    while store.snapshot.is_some() {
        saved.push(Change::Settled(ID, 1));
        store.save(&saved[saved.len() - 1..]).expect("saved");
    }
    assert_eq!(store.load().expect("loads"), sum(&saved));
    saved.extend(save_until_compacted(&mut store, 2));
    drop(store);
    assert_eq!(reopened(&path), sum(&saved));
}

#[test]
fn a_store_that_is_dropped_meanwhile_leaves_the_place_to_the_next() {
    let (_folder, path) = folder();
    let mut store = FileStore::open(&path).expect("a new store");
    store.save(&changes()).expect("saved");
    let (ready, disk) = mpsc::channel::<()>();
    let (finished, end) = mpsc::channel();
    let (old, from) = (File::open(&path).expect("there"), store.length);
    let work = move |new| {
        disk.recv().map_err(io::Error::other)?;
        let length = snapshot::write(old, from, new);
        finished.send(()).map_err(io::Error::other)?;
        length
    };
    store.snapshot = Some(Snapshot::spawn(&store.place, from, work).expect("begun"));
    drop(store);
    assert!(!beside(&path, ".new").exists());
    let mut next = FileStore::open_with(&path, 1000).expect("free");
    let saved = save_until_compacted(&mut next, 6);
    ready.send(()).expect("waiting");
    end.recv().expect("the late thread has written");
    let expected = sum(&[changes(), saved].concat());
    assert_eq!(next.load().expect("loads"), expected);
    drop(next);
    assert_eq!(reopened(&path), expected);
}

#[test]
fn a_save_that_fails_leaves_a_good_file() {
    let (_folder, path) = folder();
    let mut store = FileStore::open(&path).expect("a new store");
    store.save(&changes()).expect("saved");
    // A handle that cannot be written to stands for a full disk, and half a record for what had room.
    let good = std::mem::replace(&mut store.file, File::open(&path).expect("read only"));
    assert!(store.save(&[Change::Settled(ID, 5)]).is_err());
    store.file = good;
    let record = format::encode(&[Change::Settled(ID, 5)]);
    store.file.write_all(&record[..record.len() / 2]).expect("written");
    assert_eq!(store.load().expect("loaded"), sum(&changes()));
    store.save(&[Change::Queued(ID, 6, Bytes::from_static(b"six"))]).expect("saved");
    drop(store);
    assert_eq!(reopened(&path).conversations[&ID].outbox.len(), 2);
}
