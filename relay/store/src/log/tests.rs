use quip_core::{Action, Authority, By, Command, JoinAs, NO_CONVERSATION, command::BESIDE};
use quip_order::BatchLimit;
use quip_protocol::{ConversationId, DeviceId, UserId};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use super::*;

const GENERATION: u64 = 0x0123_4567_89ab_cdef;
const SIZE: u64 = 64 << 10;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn command(position: u64, size: usize) -> Ordered {
    let by = By::Device { user: UserId::parse("ann").unwrap(), device: DeviceId([1; 16]), n: position };
    let action = Action::Post { kind: 1, body: vec![position as u8 | 0x80; size].into() };
    let command = Command { conversation: ConversationId::group([7; 15]), by, authority: Authority::default(), action };
    Ordered { partition: 0, position, at: 1_750_000_000_000 + position, command }
}

fn batch(positions: std::ops::RangeInclusive<u64>, size: usize) -> Vec<Ordered> {
    positions.map(|position| command(position, size)).collect()
}

fn open(folder: &TempDir, applied: u64) -> Result<(Log, Vec<Ordered>), LogError> {
    let mut log = Log::open(folder.path(), SIZE)?;
    let found = log.after(GENERATION, applied)?;
    log.synced(applied);
    Ok((log, found))
}

/// A log of three batches in one file; and that file, its bytes, and where the batches end.
fn three() -> (TempDir, PathBuf, Vec<u8>, Vec<u64>) {
    let folder = folder();
    let (mut log, _) = open(&folder, 0).unwrap();
    let mut ends = Vec::new();
    for positions in [1..=3, 4..=4, 5..=9] {
        log.keep(&batch(positions, 700)).unwrap();
        ends.push(log.files[log.writing.unwrap()].end);
    }
    let path = log.files[log.writing.unwrap()].path.clone();
    let bytes = fs::read(&path).unwrap();
    (folder, path, bytes, ends)
}

fn damage(result: Result<(Log, Vec<Ordered>), LogError>) -> String {
    match result {
        Err(error @ LogError::Damaged { .. }) => error.to_string(),
        other => panic!("{:?}", other.map(|(_, found)| found.len())),
    }
}

#[test]
fn what_is_kept_is_found_again_beyond_what_is_applied() {
    let (folder, ..) = three();
    for applied in 0..=9 {
        let (_, found) = open(&folder, applied).unwrap();
        assert!(found == batch(applied + 1..=9, 700), "after {applied}");
    }
}

#[test]
fn a_log_must_go_on_where_the_store_ends() {
    let (folder, ..) = three();
    assert!(damage(open(&folder, 10)).contains("1 to 9"), "the log ends before the store");
    let empty = self::folder();
    open(&empty, 0).unwrap();
    assert!(damage(open(&empty, 3)).contains("nothing"), "the log is not this store's");
    let mut log = Log::open(folder.path(), SIZE).unwrap();
    let error = log.after(GENERATION + 1, 9).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }) && error.to_string().contains("cdef"), "{error}");
}

#[test]
fn any_part_of_the_last_batch_may_be_missing() {
    let (folder, path, bytes, ends) = three();
    let (from, to) = (ends[1] as usize, ends[2] as usize);
    for start in (from..to).step_by(97) {
        let mut torn = bytes.clone();
        torn[start..(start + 512).min(to)].fill(0);
        fs::write(&path, &torn).unwrap();
        assert!(open(&folder, 2).unwrap().1 == batch(3..=4, 700), "zeros at {start}");
    }
}

#[test]
fn a_damaged_batch_before_another_is_refused() {
    let (folder, path, bytes, ends) = three();
    for at in (HEADER..ends[1] as usize).step_by(61).chain([HEADER, ends[0] as usize, ends[1] as usize - 1]) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        let error = damage(open(&folder, 0));
        assert!(error.contains(&*path.to_string_lossy()), "byte {at}: {error}");
    }
}

#[test]
fn files_are_written_in_turn_once_the_engine_is_synced() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let random = &mut StdRng::seed_from_u64(seed);
    let folder = folder();
    let (mut log, _) = open(&folder, 0).unwrap();
    let (mut last, mut synced, mut was_full) = (0, 0, 0);
    for _ in 0..400 {
        let batch = batch(last + 1..=last + random.random_range(1..=9), random.random_range(1..900));
        if log.is_full(&batch) {
            was_full += 1;
            // As little as is possible: what is in the file that is begun anew.
            synced = random.random_range(log.files[1 - log.writing.unwrap()].last..=last);
            log.synced(synced);
        }
        log.keep(&batch).unwrap();
        last += batch.len() as u64;
        if random.random_ratio(1, 20) {
            let found = Log::open(folder.path(), SIZE).unwrap().after(GENERATION, synced).unwrap();
            let positions = found.iter().map(|ordered| ordered.position);
            assert!(positions.eq(synced + 1..=last), "{synced} to {last}");
        }
    }
    assert!(was_full > 5 && log.files.iter().all(|file| file.size == SIZE / 2));
}

#[test]
fn after_a_start_what_the_files_held_before_is_not_taken_for_new() {
    let (folder, ..) = three();
    for last in 9..15 {
        let (mut log, found) = open(&folder, last).unwrap();
        assert!(found.is_empty());
        log.keep(&batch(last + 1..=last + 1, 10)).unwrap();
    }
    assert_eq!(open(&folder, 14).unwrap().1, batch(15..=15, 10));
}

#[test]
fn a_start_begins_the_older_file_and_a_sector_that_did_not_make_it_changes_nothing() {
    let (folder, path, ..) = three();
    for last in 9..12 {
        let older = folder.path().join(if path.ends_with("0.log") == (last % 2 == 0) { "0.log" } else { "1.log" });
        let before = fs::read(&older).unwrap();
        let (mut log, _) = open(&folder, last).unwrap();
        log.keep(&batch(last + 1..=last + 1, 10)).unwrap();
        assert_eq!(log.files[log.writing.unwrap()].path, older);
        let kept = fs::read(&older).unwrap();
        // The power fails before its header is on the disk, or before what follows it is.
        fs::write(&older, before).unwrap();
        assert!(open(&folder, last).unwrap().1.is_empty());
        let mut header = kept.clone();
        header[HEADER..].fill(0);
        fs::write(&older, header).unwrap();
        assert!(open(&folder, last).unwrap().1.is_empty());
        fs::write(&older, kept).unwrap();
        assert_eq!(open(&folder, last).unwrap().1, batch(last + 1..=last + 1, 10));
    }
}

#[test]
fn a_header_that_is_not_what_was_written_is_damage() {
    let (folder, path, bytes, _) = three();
    for at in (0..56).step_by(5) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        assert!(damage(open(&folder, 0)).contains("beginning"), "byte {at}");
    }
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(damage(open(&folder, 0)).contains("length"));
    fs::remove_file(&path).unwrap();
    assert!(damage(open(&folder, 0)).contains("missing"));
    fs::write(&path, bytes).unwrap();
    fs::remove_file(folder.path().join("1.log")).unwrap();
    assert!(damage(open(&folder, 0)).contains("missing"));
}

/// The newest file has a header and nothing else yet, and the end of the other one is gone.
#[test]
fn the_end_of_the_older_file_is_missed() {
    let (folder, path, mut bytes, ends) = three();
    let (mut log, _) = open(&folder, 9).unwrap();
    log.begin(log.older(), 10).unwrap();
    assert!(open(&folder, 5).is_ok());
    bytes[ends[1] as usize..].fill(0);
    fs::write(&path, bytes).unwrap();
    assert!(damage(open(&folder, 4)).contains("what follows command 4"));
}

#[test]
fn an_interrupted_first_start_is_repeated() {
    let folder = folder();
    fs::write(folder.path().join("0.new"), b"half a log").unwrap();
    let (mut log, _) = open(&folder, 0).unwrap();
    log.keep(&batch(1..=1, 10)).unwrap();
    assert_eq!(open(&folder, 0).unwrap().1, batch(1..=1, 10));
    assert!(!folder.path().join("0.new").exists());
}

#[test]
fn a_command_of_another_version_is_refused() {
    let (folder, path, mut bytes, ends) = three();
    let header = Header::decode(&bytes).unwrap().unwrap();
    // The last batch again, with another version in its first command.
    let at = ends[1] as usize;
    bytes[at + 24] += 1;
    let sum = ends[2] as usize - 8;
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes[at..sum], header.salt);
    bytes[sum..][..8].copy_from_slice(&hash.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = open(&folder, 0).err().unwrap();
    assert!(matches!(error, LogError::Command { .. }) && error.to_string().contains("SIGTERM"), "{error}");
    assert!(open(&folder, 9).is_ok(), "after a clean stop nothing is decided again");
}

#[test]
fn another_format_is_refused() {
    let (folder, path, mut bytes, _) = three();
    bytes[7] += 1;
    let sum = xxhash_rust::xxh3::xxh3_64(&bytes[..48]);
    bytes[48..56].copy_from_slice(&sum.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    assert!(matches!(open(&folder, 0), Err(LogError::Format(found)) if found == path));
}

/// The store's format is a promise.
#[test]
fn the_bytes_of_a_file_are_fixed() {
    let header = Header { generation: GENERATION, number: 3, first: 7, salt: 11, size: 591 };
    let mut file = header.encode().to_vec();
    let mut block = Vec::new();
    segment::encode(&[command(7, 2)], header.salt, &mut block);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&file[..56]), GOLDEN_HEADER);
    assert!(file[56..].iter().all(|byte| *byte == 0) && file.len() == 512);
    assert_eq!(hex(&block), GOLDEN_BLOCK);
    file.extend(block);
    let read = segment::read(&file, Header::decode(&file).unwrap().unwrap());
    assert_eq!(read.commands, [(1_750_000_000_007, Ok(command(7, 2).command))]);
    assert_eq!((read.end, read.tail), (file.len() as u64, Tail::Free));
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

#[test]
fn the_largest_batch_fits_into_the_smallest_log() {
    let most = BatchLimit::default();
    // One more command than the bytes allow, as a batch holds at least one.
    let bytes = HEADER + most.bytes + (most.commands + 1) * (12 + BESIDE) + quip_protocol::limit::FRAME + 1024;
    assert!(bytes < 4 << 20);
}

const GOLDEN_HEADER: &str =
    "515549504c4f4701efcdab8967452301030000000000000007000000000000000b000000000000004f02000000000000adc3b44cd160bf2e";
const GOLDEN_BLOCK: &str = "3b0000000c000000000000002f00000007dc20749701000001020707070707070707070707070707070103616e6e010101010101010101010101010101010700000002010287877c87cefa82eade88";
