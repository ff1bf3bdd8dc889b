//! A configuration of the relay: the defaults, or limits as tight as they may be.

use std::path::Path;

use quip_relay::config::{Config, Overrides};
use rand::{Rng, rngs::StdRng};

use crate::world::issuer::Issuer;

/// Draws a configuration for clients that bring this issuer's tokens, or who without one name themselves.
pub(super) fn draw(rng: &mut StdRng, issuer: Option<&Issuer>) -> Config {
    let mut text = issuer.map_or_else(|| "[auth]\nmode = \"none\"\n".to_owned(), Issuer::config);
    text += FIXED;
    for (section, settings) in SETTINGS {
        text += section;
        for (key, values) in *settings {
            text += &format!("{key} = {}\n", values[rng.random_range(0..values.len())]);
        }
    }
    Config::parse(Path::new("drawn.toml"), &text, Overrides::default()).expect("every value is allowed")
}

/// The rooms of three namespaces are not like the others.
const FIXED: &str = r#"
[[namespaces]]
name = "club"
history = "joined"
[[namespaces]]
name = "quiet"
joins_shown = false
[[namespaces]]
name = "secret"
history = "joined"
joins_shown = false
"#;

type Settings = &'static [(&'static str, &'static [&'static str])];

/// What is drawn, one value each.
const SETTINGS: &[(&str, Settings)] = &[
    (
        "[limits]\n",
        &[
            ("messages_per_second", &["0", "50", "5"]),
            ("messages_burst", &["100", "5"]),
            ("unanswered_per_stream", &["64", "8", "1"]),
            ("reads_per_user", &["4", "1"]),
            ("connections_per_user", &["32", "2"]),
            ("created_per_hour", &["1000", "10"]),
            ("added_per_hour", &["100", "4"]),
            ("added_by_one_per_hour", &["20", "2"]),
            ("waiting_per_conversation", &["64", "4"]),
            ("send_window_bytes", &["\"1MiB\"", "\"64KiB\""]),
            ("stream_receive_window_bytes", &["\"64KiB\"", "\"16KiB\""]),
            ("ring_bytes_per_conversation", &["\"256KiB\"", "\"64KiB\""]),
            ("inbox_bytes", &["\"16MiB\"", "\"4KiB\""]),
            ("presence_group_members", &["64", "2"]),
            ("answer_timeout", &["\"15s\"", "\"1s\""]),
            ("history_page", &["100", "3"]),
            ("go_away_within", &["\"1s\"", "\"0s\"", "\"10s\""]),
        ],
    ),
    ("[presence]\n", &[("offline_after", &["\"3s\"", "\"0s\""]), ("last_seen_every", &["\"300s\"", "\"1s\""])]),
    ("[store]\n", &[("reads_waiting", &["4096", "2"]), ("cached_records", &["32768", "16"])]),
];

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_value_can_be_drawn() {
        let drawn = (0..100).map(|seed| draw(&mut StdRng::seed_from_u64(seed), None));
        assert!(drawn.filter(|config| config.limits.unanswered_per_stream == 1).count() > 10);
    }
}
