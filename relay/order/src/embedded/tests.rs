use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use quip_core::{Action, Authority, By, Command, FOLD_VERSION, JoinAs, NO_CONVERSATION, command::BESIDE};
use quip_protocol::{ConversationId, DeviceId, UserId};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{
    CommandLog, LogError,
    log::{Log, SEGMENTS},
    renew,
    segment::{self, Block, Content, Header, SECTOR},
};
use crate::{BatchLimit, Ordered, Watch, draw_generation};

const SEGMENT: u64 = 8 << 10;

fn command(position: u64, size: usize) -> Ordered {
    let by = By::Device { user: UserId::parse("ann").unwrap(), device: DeviceId([1; 16]), n: position };
    let action = Action::Post { kind: 1, body: vec![position as u8 | 0x80; size].into() };
    let command = Command { conversation: ConversationId::group([7; 15]), by, authority: Authority::default(), action };
    Ordered { position, at: 0, command }
}

/// Commands that were ordered together.
fn batch(positions: std::ops::RangeInclusive<u64>, size: usize) -> Vec<Ordered> {
    let at = 1_750_000_000_000 + positions.start();
    positions.map(|position| Ordered { at, ..command(position, size) }).collect()
}

struct Folder {
    _parent: TempDir,
    path: PathBuf,
}

impl Folder {
    fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        Self { path: parent.path().join("log"), _parent: parent }
    }

    fn segment(&self, i: usize) -> PathBuf {
        self.path.join(format!("{i}.log"))
    }

    /// Opens the log behind a position, and returns what is replayed.
    fn open(&self, after: u64) -> Result<(Log, Vec<Ordered>), LogError> {
        self.open_by(after, BatchLimit::default())
    }

    fn open_by(&self, after: u64, limit: BatchLimit) -> Result<(Log, Vec<Ordered>), LogError> {
        let mut log = Log::open(&self.path, SEGMENT, Watch::default())?;
        let last = log.start(after)?;
        let (mut found, mut part) = (Vec::new(), Vec::new());
        loop {
            log.replay(limit, &mut part)?;
            if part.is_empty() {
                break;
            }
            found.append(&mut part);
        }
        assert_eq!(last, after + found.len() as u64);
        Ok((log, found))
    }

    fn damage(&self, after: u64) -> String {
        match self.open(after) {
            Err(error @ LogError::Damaged { .. }) => error.to_string(),
            other => panic!("{:?}", other.map(|(_, found)| found.len())),
        }
    }
}

/// A log of three batches in its first segment; the bytes of that, and where the batches end.
fn three() -> (Folder, PathBuf, Vec<u8>, Vec<usize>) {
    let folder = Folder::new();
    let (mut log, _) = folder.open(0).unwrap();
    let (path, mut ends) = (folder.segment(0), Vec::new());
    for positions in [1..=2, 3..=3, 4..=6] {
        log.append(&batch(positions, 700)).unwrap();
        let bytes = fs::read(&path).unwrap();
        ends.push(end(&bytes));
    }
    let bytes = fs::read(&path).unwrap();
    (folder, path, bytes, ends)
}

fn header(bytes: &[u8]) -> Header {
    Header::decode(bytes.first_chunk().unwrap()).unwrap().unwrap()
}

fn end(bytes: &[u8]) -> usize {
    segment::scan(bytes, header(bytes)).unwrap().end
}

fn kept() -> Vec<Ordered> {
    [batch(1..=2, 700), batch(3..=3, 700), batch(4..=6, 700)].concat()
}

#[test]
fn what_is_appended_is_replayed_from_any_position_and_in_any_steps() {
    let (folder, ..) = three();
    for after in 0..=6 {
        for commands in [1, 2, 100] {
            let (_, found) = folder.open_by(after, BatchLimit { commands, bytes: usize::MAX }).unwrap();
            assert!(found == kept()[after as usize..], "after {after}");
        }
    }
}

#[test]
fn a_log_must_go_on_where_the_store_ends() {
    let (folder, ..) = three();
    assert!(folder.damage(7).contains("1 to 6"), "the log ends before the store");
    let empty = Folder::new();
    empty.open(0).unwrap();
    assert!(empty.damage(3).contains("nothing"), "the log is not this store's");
}

#[test]
fn any_part_of_the_last_batch_may_be_missing() {
    let (folder, path, bytes, ends) = three();
    let (from, to) = (ends[1], ends[2]);
    for start in (from..to - SECTOR).step_by(97) {
        let mut torn = bytes.clone();
        torn[start..(start + 512).min(to)].fill(0);
        fs::write(&path, &torn).unwrap();
        assert!(folder.open(1).unwrap().1 == kept()[1..3], "zeros at {start}");
    }
}

#[test]
fn a_damaged_batch_before_another_is_refused() {
    let (folder, path, bytes, ends) = three();
    let sums: Vec<usize> = (0..2).map(|i| bytes[..ends[i]].iter().rposition(|byte| *byte != 0).unwrap()).collect();
    for at in (SECTOR..sums[0]).step_by(61).chain((ends[0]..sums[1]).step_by(61)).chain(sums.iter().copied()) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        let error = folder.damage(0);
        assert!(error.contains(&*path.to_string_lossy()), "byte {at}: {error}");
    }
}

#[test]
fn segments_are_recycled_once_they_are_not_needed() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let random = &mut StdRng::seed_from_u64(seed);
    let folder = Folder::new();
    let (mut log, _) = folder.open(0).unwrap();
    let (mut all, mut checkpoint, mut was_full) = (Vec::new(), 0, 0);
    for _ in 0..600 {
        let last = all.len() as u64;
        if log.is_full() {
            was_full += 1;
            assert!(log.is_half_full());
            checkpoint = random.random_range(checkpoint..=last);
            log.checkpoint(checkpoint);
            continue;
        }
        let next = batch(last + 1..=last + random.random_range(1..=4), random.random_range(1..900));
        log.append(&next).unwrap();
        all.extend(next);
        if random.random_ratio(1, 20) {
            drop(log);
            let found;
            (log, found) = folder.open(checkpoint).unwrap();
            assert!(found == all[checkpoint as usize..], "{checkpoint} to {}", all.len());
        }
    }
    assert!(was_full > 5 && fs::read_dir(&folder.path).unwrap().count() == SEGMENTS);
}

#[test]
fn what_a_segment_held_before_is_not_taken_for_new() {
    let folder = Folder::new();
    for last in 0..4 * SEGMENTS as u64 {
        let (mut log, found) = folder.open(last).unwrap();
        assert!(found.is_empty());
        let next = batch(last + 1..=last + 1, 10 + 40 * last as usize);
        log.append(&next).unwrap();
        drop(log);
        assert_eq!(folder.open(last).unwrap().1, next);
    }
}

#[test]
fn a_header_that_did_not_reach_the_disk_changes_nothing() {
    let (folder, first, bytes, _) = three();
    let (mut log, _) = folder.open(6).unwrap();
    log.append(&batch(7..=7, 10)).unwrap();
    drop(log);
    let begun = (0..SEGMENTS).map(|i| folder.segment(i)).find(|path| header_number(path) == Some(2)).unwrap();
    let written = fs::read(&begun).unwrap();
    // Nothing of it, its header alone, its content alone.
    let before = if begun == first { bytes } else { vec![0; SEGMENT as usize] };
    let header_alone = [&written[..SECTOR], &before[SECTOR..]].concat();
    let content_alone = [&before[..SECTOR], &written[SECTOR..]].concat();
    for torn in [before, header_alone, content_alone] {
        fs::write(&begun, torn).unwrap();
        assert!(folder.open(6).unwrap().1.is_empty());
    }
    fs::write(&begun, written).unwrap();
    assert_eq!(folder.open(6).unwrap().1, batch(7..=7, 10));
}

fn header_number(path: &Path) -> Option<u64> {
    let bytes = fs::read(path).unwrap();
    Header::decode(bytes.first_chunk().unwrap()).unwrap().map(|header| header.number)
}

#[test]
fn a_segment_that_is_not_what_was_written_is_damage() {
    let (folder, path, bytes, _) = three();
    for at in (0..64).step_by(5).filter(|at| *at != 7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        assert!(folder.damage(0).contains("beginning"), "byte {at}");
    }
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(folder.damage(0).contains("length"));
    fs::remove_file(&path).unwrap();
    assert!(folder.damage(0).contains("missing"));
    fs::write(&path, &bytes).unwrap();
    fs::remove_file(folder.segment(5)).unwrap();
    assert!(folder.damage(0).contains("missing"));
    // One that was never begun is not what was made.
    for size in [0, SECTOR as u64, SEGMENT - SECTOR as u64, SEGMENT + SECTOR as u64] {
        fs::write(folder.segment(5), vec![0; size as usize]).unwrap();
        assert!(folder.damage(0).contains("length"), "{size} bytes");
    }
    // Zeros in the place of a segment in use.
    fs::write(folder.segment(5), vec![0; SEGMENT as usize]).unwrap();
    fs::write(&path, vec![0; SEGMENT as usize]).unwrap();
    assert!(folder.damage(0).contains("empty"));
}

#[test]
fn a_log_in_use_is_not_looked_at() {
    let (folder, ..) = three();
    let (log, _) = folder.open(6).unwrap();
    // As while its owner writes.
    for i in [0, 3] {
        fs::write(folder.segment(i), b"half a header").unwrap();
        let error = folder.open(6).err().unwrap();
        assert!(matches!(error, LogError::InUse(_)), "{error}");
    }
    drop(log);
    assert!(folder.damage(6).contains("length"));
}

#[test]
fn a_segment_of_another_log_or_a_missing_one_is_noticed() {
    let folder = Folder::new();
    let (mut log, _) = folder.open(0).unwrap();
    (1..=40).for_each(|position| log.append(&batch(position..=position, 500)).unwrap());
    drop(log);
    let used: Vec<_> = (0..SEGMENTS).filter(|i| header_number(&folder.segment(*i)).is_some()).collect();
    assert!(used.len() >= 4, "{used:?}");
    for i in &used[..used.len() - 1] {
        let path = folder.segment(*i);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, vec![0; SEGMENT as usize]).unwrap();
        folder.damage(0);
        let other = Header { generation: header(&bytes).generation + 1, ..header(&bytes) };
        fs::write(&path, [&other.encode()[..], &bytes[SECTOR..]].concat()).unwrap();
        assert!(folder.damage(0).contains("different logs"));
        // The end of it is gone, and another segment follows.
        let mut cut = bytes.clone();
        cut[end(&bytes) - 1024..].fill(0);
        fs::write(&path, cut).unwrap();
        assert!(folder.damage(0).contains("what follows command"));
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(folder.open(0).unwrap().1.len(), 40);
}

#[test]
fn a_renewed_log_holds_the_same_and_an_interruption_is_completed() {
    let folder = Folder::new();
    let (mut log, _) = folder.open(0).unwrap();
    (1..=40).for_each(|position| log.append(&batch(position..=position, 500)).unwrap());
    let (from, to) = (log.generation(), log.generation() ^ 1);
    assert!(matches!(renew(&folder.path, from, to), Err(LogError::InUse(_))));
    drop(log);
    assert!(matches!(renew(&folder.path, from + 2, to), Err(LogError::Damaged { .. })), "of another log");
    assert_eq!(folder.open(0).unwrap().0.generation(), from, "nothing has changed");
    // The first of the segments has it already.
    let path = folder.segment(0);
    let bytes = fs::read(&path).unwrap();
    let first = Header { generation: to, ..header(&bytes) };
    fs::write(&path, [&first.encode()[..], &bytes[SECTOR..]].concat()).unwrap();
    assert!(folder.damage(0).contains("different logs"));
    for _ in 0..2 {
        renew(&folder.path, from, to).unwrap();
        let (log, found) = folder.open(0).unwrap();
        assert_eq!((log.generation(), found.len()), (to, 40));
    }
}

#[test]
fn generations_are_numbers_that_every_language_has() {
    let drawn: Vec<_> = (0..100).map(|_| draw_generation()).collect();
    assert!(drawn.iter().all(|generation| (1..1 << 53).contains(generation)), "{drawn:?}");
    assert!(drawn.iter().any(|generation| *generation > 1 << 50), "{drawn:?}");
}

#[test]
fn a_log_is_closed_to_other_users() {
    let folder = Folder::new();
    folder.open(0).unwrap();
    assert_eq!(fs::metadata(&folder.path).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn an_interrupted_first_start_is_repeated() {
    // Segments that are not complete, and segments of which some are in their place.
    for moved in 0..SEGMENTS {
        let folder = Folder::new();
        fs::create_dir_all(folder.path.join("new")).unwrap();
        (1..=moved).rev().for_each(|i| fs::write(folder.segment(i), vec![0; SEGMENT as usize]).unwrap());
        fs::write(folder.path.join("new/7.log"), b"half a segment").unwrap();
        let (mut log, _) = folder.open(0).unwrap();
        log.append(&batch(1..=1, 10)).unwrap();
        drop(log);
        assert_eq!(folder.open(0).unwrap().1, batch(1..=1, 10));
        assert_eq!(fs::read_dir(&folder.path).unwrap().count(), SEGMENTS, "nothing is left beside");
    }
}

#[test]
fn a_log_that_is_made_is_not_made_again() {
    let (folder, ..) = three();
    fs::create_dir(folder.path.join("new")).unwrap();
    assert!(folder.open(0).unwrap().1 == kept());
}

/// As where another disk is mounted for the log.
#[test]
fn a_log_is_made_in_an_empty_folder_and_closed_to_other_users_there_too() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path.join("lost+found")).unwrap();
    let (mut log, _) = folder.open(0).unwrap();
    log.append(&batch(1..=1, 10)).unwrap();
    drop(log);
    assert_eq!(folder.open(0).unwrap().1, batch(1..=1, 10));
    for i in 0..SEGMENTS {
        assert_eq!(fs::metadata(folder.segment(i)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn what_another_version_decided_or_wrote_is_refused() {
    let (folder, path, bytes, ends) = three();
    let header = header(&bytes);
    let other = Header { fold: FOLD_VERSION + 1, ..header };
    fs::write(&path, [&other.encode()[..], &bytes[SECTOR..]].concat()).unwrap();
    let error = folder.open(5).err().unwrap();
    assert!(matches!(error, LogError::FoldVersion { .. }) && error.to_string().contains("SIGTERM"), "{error}");
    assert!(folder.open(6).is_ok(), "after a clean stop nothing is decided again");
    // The last batch with another version in its first command.
    let (at, mut changed) = (ends[1], bytes.clone());
    changed[at + 24] += 1;
    let length = u32::from_le_bytes(*changed[at..].first_chunk().unwrap()) as usize;
    let sum = at + 20 + length;
    let hash = xxh3_64_with_seed(&changed[at..sum], header.salt);
    changed[sum..][..8].copy_from_slice(&hash.to_le_bytes());
    fs::write(&path, changed).unwrap();
    let error = folder.open(3).err().unwrap();
    assert!(matches!(error, LogError::Command { .. }) && error.to_string().contains("SIGTERM"), "{error}");
    // Another format.
    let mut changed = bytes;
    changed[7] += 1;
    let sum = xxh3_64(&changed[..56]);
    changed[56..64].copy_from_slice(&sum.to_le_bytes());
    fs::write(&path, changed).unwrap();
    assert!(matches!(folder.open(6), Err(LogError::Format(found)) if found == path));
}

/// The format of the log is a promise.
#[test]
fn the_bytes_of_a_segment_are_fixed() {
    let header = Header { generation: 0x0123_4567_89ab_cdef, number: 3, first: 7, salt: 11, size: 1024, fold: 1 };
    let mut file = header.encode().to_vec();
    segment::encode(&batch(7..=7, 2), header.salt, &mut file);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&file[..64]), GOLDEN_HEADER);
    assert!(file[64..SECTOR].iter().all(|byte| *byte == 0) && file.len() == 2 * SECTOR);
    let used = file.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    assert_eq!(hex(&file[SECTOR..used]), GOLDEN_BLOCK);
    assert_eq!(segment::scan(&file, header), Ok(Content { last: 7, end: 1024 }));
    let block = Block::read(&file[SECTOR..], header.salt, |first| first == 7).unwrap();
    assert_eq!((block.first, block.at, block.len()), (7, 1_750_000_000_007, SECTOR));
    assert!(block.commands().eq([Ok(command(7, 2).command)]));
}

#[test]
fn no_command_is_longer_than_the_room_that_is_counted_for_it() {
    let user = |letter: &str| UserId::parse(&letter.repeat(64)).unwrap();
    let name = format!("{}:{}", "a".repeat(63), "b".repeat(63));
    let actions = [
        Action::Join(JoinAs::Room(name)),
        Action::Join(JoinAs::Direct(user("b"))),
        Action::React { target: u64::MAX, add: true, reaction: "x".repeat(32) },
        Action::Remove { user: user("b"), ban: true },
        Action::Edit { target: u64::MAX, body: vec![0; 10].into() },
        Action::SetTitle { title: "t".repeat(128) },
    ];
    let by = By::Device { user: user("a"), device: DeviceId([1; 16]), n: u64::MAX };
    let authority = Authority { group_members: u32::MAX, ..Authority::default() };
    for action in actions {
        let command = Command { conversation: NO_CONVERSATION, by: by.clone(), authority, action };
        assert!(command.encode().len() <= command.weight() + BESIDE, "{command:?}");
    }
}

const GOLDEN_HEADER: &str = "515549504c4f4702efcdab8967452301030000000000000007000000000000000b0000000000000000040000000000000100000000000000b8011a4e0583de4d";
const GOLDEN_BLOCK: &str = "330000000c0000000000000007dc2074970100002f00000001020707070707070707070707070707070103616e6e01010101010101010101010101010101070000000201028787195258e5eb32c8a7";
