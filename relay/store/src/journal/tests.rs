use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use tempfile::TempDir;

use super::*;

const BATCHES: u64 = 4;
const NAME: &str = "0.jnl";

/// A journal of four synced batches of four rows, one of them large, written by the engine itself.
fn written() -> (TempDir, Vec<u8>, Vec<usize>) {
    let folder = tempfile::tempdir().unwrap();
    let (database, rows) = open(folder.path()).unwrap();
    for batch in 0..BATCHES {
        write(&database, &rows, batch, value(batch));
    }
    drop((database, rows));
    let mut bytes = fs::read(folder.path().join(NAME)).unwrap();
    let mut ends = Vec::new();
    let mut from = &bytes[..];
    while let Some(batch) = batch(&mut from, &(0..=u64::MAX)).unwrap() {
        ends.push(ends.last().unwrap_or(&0) + batch.length as usize);
    }
    assert_eq!(ends.len() as u64, BATCHES);
    assert!(bytes.len() > ends[3] && bytes[ends[3]..].iter().all(|byte| *byte == 0), "preallocated");
    // A shorter rest will do.
    bytes.truncate(ends[3] + 100_000);
    (folder, bytes, ends)
}

fn open(folder: &Path) -> Result<(Database, Keyspace), fjall::Error> {
    let builder = Database::builder(folder).journal_compression(CompressionType::None).manual_journal_persist(true);
    let database = builder.worker_threads(1).open()?;
    let rows = database.keyspace("rows", KeyspaceCreateOptions::default)?;
    Ok((database, rows))
}

fn write(database: &Database, rows: &Keyspace, batch: u64, large: Vec<u8>) {
    let mut items = database.batch().durability(Some(PersistMode::SyncData));
    (0..3).for_each(|i| items.insert(rows, format!("{batch} {i}"), "small"));
    items.insert(rows, format!("{batch} large"), large);
    items.commit().unwrap();
}

fn value(batch: u64) -> Vec<u8> {
    // Neither zeros nor tags.
    (0..16 << 10).map(|i| (i * (batch + 7) % 200 + 50) as u8).collect()
}

/// How many rows there are after a repair, or why not.
fn repaired(folder: &TempDir, bytes: &[u8]) -> Result<usize, OpenError> {
    fs::write(folder.path().join(NAME), bytes).unwrap();
    repair(folder.path(), false)?;
    let (database, rows) = open(folder.path()).unwrap();
    let count = rows.len().unwrap();
    drop((database, rows));
    Ok(count)
}

fn is_damage(result: &Result<usize, OpenError>) -> bool {
    matches!(result, Err(OpenError::Damaged { what, .. }) if what.contains(NAME))
}

#[test]
fn an_intact_journal_is_left_alone() {
    let (folder, bytes, _) = written();
    fs::write(folder.path().join(NAME), &bytes).unwrap();
    repair(folder.path(), false).unwrap();
    assert!(fs::read(folder.path().join(NAME)).unwrap() == bytes);
    assert_eq!(repaired(&folder, &bytes).unwrap(), 16);
}

#[test]
fn no_journal_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    repair(folder.path(), false).unwrap();
    fs::write(folder.path().join(NAME), b"").unwrap();
    repair(folder.path(), false).unwrap();
}

#[test]
fn any_sector_of_the_last_batch_may_be_missing() {
    let (folder, bytes, ends) = written();
    for start in (ends[2]..ends[3]).step_by(512) {
        let mut torn = bytes.clone();
        torn[start..(start + 512).min(ends[3])].fill(0);
        assert_eq!(repaired(&folder, &torn).unwrap(), 12, "sector at {start}");
    }
}

#[test]
fn the_last_batch_may_end_anywhere() {
    let (folder, bytes, ends) = written();
    for end in (ends[2]..ends[3]).step_by(1001).chain([ends[2] + 1, ends[3] - 1]) {
        let mut torn = bytes.clone();
        torn[end..].fill(0);
        assert_eq!(repaired(&folder, &torn).unwrap(), 12, "zeros after {end}");
        assert_eq!(repaired(&folder, &bytes[..end]).unwrap(), 12, "nothing after {end}");
    }
}

#[test]
fn damage_before_an_intact_batch_is_refused_and_nothing_is_touched() {
    let (folder, bytes, ends) = written();
    let first = ends[0];
    // Tag, count, seqno, the first item's tag and lengths, a value, the end's tag, hash and magic.
    let places = [0, 1, 13, 24, 26, 30, 500, ends[1] - first - 13, ends[1] - first - 12, ends[1] - first - 1];
    for place in places {
        let mut damaged = bytes.clone();
        damaged[first + place] ^= 0x40;
        assert!(is_damage(&repaired(&folder, &damaged)), "byte {place} of the second batch");
        assert!(fs::read(folder.path().join(NAME)).unwrap() == damaged);
    }
}

#[test]
fn with_a_log_everything_behind_a_damage_goes_and_a_copy_stays() {
    let (folder, bytes, ends) = written();
    for (end, rows) in [(0, 0), (ends[0], 4), (ends[1], 8), (ends[2], 12)] {
        let mut damaged = bytes.clone();
        damaged[end + 500] ^= 0x40;
        fs::write(folder.path().join(NAME), &damaged).unwrap();
        let Repaired::Cut(seqno) = repair(folder.path(), true).unwrap() else { panic!("nothing was cut") };
        assert_eq!(seqno.is_some(), rows > 0);
        assert!(fs::read(folder.path().join("0.cut")).unwrap() == damaged[end..]);
        let cut = fs::read(folder.path().join(NAME)).unwrap();
        assert_eq!(repaired(&folder, &cut).unwrap(), rows, "damage behind {end}");
        forget_cut(folder.path()).unwrap();
        assert!(!folder.path().join("0.cut").exists());
    }
    fs::write(folder.path().join("1.jnl"), b"").unwrap();
    let mut damaged = bytes;
    damaged[ends[0] + 500] ^= 0x40;
    fs::write(folder.path().join(NAME), damaged).unwrap();
    assert!(
        matches!(repair(folder.path(), true), Err(OpenError::Damaged { .. })),
        "an older one was synced as a whole"
    );
}

#[test]
fn only_the_newest_journal_may_be_torn() {
    let (folder, mut bytes, ends) = written();
    bytes[ends[3] - 100] ^= 1;
    fs::write(folder.path().join("1.jnl"), b"").unwrap();
    assert!(is_damage(&repaired(&folder, &bytes)));
    fs::remove_file(folder.path().join("1.jnl")).unwrap();
    assert_eq!(repaired(&folder, &bytes).unwrap(), 12);
}

#[test]
fn more_than_one_commit_is_not_torn() {
    let (folder, mut bytes, ends) = written();
    bytes.resize(ends[3] + LARGEST_COMMIT as usize, 0);
    bytes[ends[3]] = 9;
    assert_eq!(repaired(&folder, &bytes).unwrap(), 16);
    bytes.push(9);
    assert!(is_damage(&repaired(&folder, &bytes)));
}

#[test]
fn content_that_looks_like_a_batch_is_not_taken_for_one() {
    let (folder, bytes, ends) = written();
    let (database, rows) = open(folder.path()).unwrap();
    // The first batch again, inside of a message.
    write(&database, &rows, 9, [&bytes[..ends[0]], b"and so on"].concat());
    drop((database, rows));
    let mut torn = fs::read(folder.path().join(NAME)).unwrap();
    let last = torn.iter().rposition(|byte| *byte != 0).unwrap();
    assert!(last > ends[3] + ends[0]);
    assert_eq!(repaired(&folder, &torn).unwrap(), 20);
    torn[last] ^= 1;
    assert_eq!(repaired(&folder, &torn).unwrap(), 16);
}
