//! The checker finds every fault that is planted, and soon.

use quip_simulation::{plant::Plant, runs};

/// Each fault is found within this many seeds.
const SEEDS: u64 = 200;

fn finds(plant: Plant) {
    let found = (1..=SEEDS).find_map(|seed| runs::one(seed, Some(plant)).err());
    let broken = found.unwrap_or_else(|| panic!("{plant:?} is not found within {SEEDS} seeds"));
    let promise = plant.breaks();
    let named = broken.violations.iter().find(|violation| violation.promise == promise);
    let named = named.unwrap_or_else(|| panic!("{plant:?} is found as another fault: {broken}"));
    println!("{plant:?} is found with seed {}: {named}", broken.seed);
}

macro_rules! plants {
    ($($test:ident: $plant:ident,)*) => {
        $(
            #[test]
            fn $test() {
                finds(Plant::$plant);
            }
        )*
    };
}

plants! {
    a_lost_event_is_found: EventLost,
    a_repeated_event_is_found: EventRepeated,
    swapped_events_are_found: EventsSwapped,
    a_leaked_event_is_found: EventLeaked,
    an_ack_before_durability_is_found: AckBeforeDurability,
    a_final_code_without_a_reason_is_found: FinalCode,
    presence_of_a_stranger_is_found: PresenceLeaked,
    news_for_a_stranger_is_found: NotificationLeaked,
    an_unhandled_event_that_is_acknowledged_is_found: UnhandledAcknowledged,
    a_kept_event_that_is_skipped_is_found: SkippedKept,
    a_lost_reset_is_found: ResetLost,
    a_token_that_is_not_renewed_is_found: TokenNotRenewed,
    a_client_served_after_its_token_is_found: TokenOutlived,
    a_client_that_trusts_anyone_is_found: Fooled,
    a_wrong_clock_that_is_believed_is_found: ClockBelieved,
}
