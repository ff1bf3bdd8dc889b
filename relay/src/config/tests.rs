#![allow(clippy::unwrap_used)]

use std::{path::Path, time::Duration};

use quip_protocol::RoomName;
use serde::{
    Deserialize, Deserializer,
    de::{Visitor, value::Error},
};

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("/etc/quip.toml"), text, Overrides::default())
}

fn refused(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

/// The file's message without the path, which is the same everywhere.
#[track_caller]
fn assert_refused(text: &str, expected: &str) {
    let message = refused(text);
    let message = message.strip_prefix("/etc/quip.toml:").expect("a place");
    assert_eq!(message, expected, "\nthe whole message:\n{message}\n");
}

#[test]
fn an_empty_file_means_the_defaults() {
    let development = Config::development(Some("/etc/quip-data".into()), None);
    assert_eq!(parse("").unwrap(), Config { limits: Limits::default(), ..development });
}

#[test]
fn the_defaults_are_within_their_own_ranges() {
    let every = settings(EXAMPLE);
    assert_eq!(parse(&every).expect("the example with every line in force"), parse("").unwrap());
    assert_eq!(parse(EXAMPLE).expect("the example as it stands"), parse("").unwrap());
}

/// The example with the `#` of every `#key = value` taken away.
fn settings(example: &str) -> String {
    let uncommented = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest.to_owned(),
        _ => line.to_owned(),
    };
    example.lines().map(|line| uncommented(line) + "\n").collect()
}

/// The deeper indented lines of the example, with the section headers that they stand under.
fn examples(example: &str) -> String {
    let shown =
        example.lines().filter_map(|line| line.strip_prefix("#     ").or(line.starts_with('[').then_some(line)));
    shown.map(|line| line.to_owned() + "\n").collect()
}

#[test]
fn the_examples_in_the_example_are_good() {
    let config = parse(&examples(EXAMPLE)).unwrap();
    assert_eq!(config.tls, TlsConfig::Files { cert: "/etc/quip/cert.pem".into(), key: "/etc/quip/key.pem".into() });
    let AuthConfig::Token(token) = config.auth else { panic!("tokens") };
    assert_eq!(token.issuer.as_deref(), Some("https://login.example.org"));
    let keys = vec![
        KeyConfig { kid: Some("2026-a".into()), material: KeyMaterial::EdDsa("/etc/quip/login.pub.pem".into()) },
        KeyConfig { kid: None, material: KeyMaterial::Hs256File("/etc/quip/backend.secret".into()) },
    ];
    assert_eq!(token.keys, KeySource::Listed(keys));
    let url = "https://login.example.org/.well-known/jwks.json".parse().unwrap();
    let from_server = JwksPlace::Url { url, ca: Some("/etc/quip/login-ca.pem".into()) };
    let from_file = JwksPlace::File("/run/quip/jwks.json".into());
    assert_eq!(token.jwks, [from_server, from_file].map(JwksConfig::new), "with the defaults that the example says");
    let cluster = config.cluster.unwrap();
    assert_eq!(cluster.servers[2], "nats://nats-3:4222");
    assert_eq!(cluster.monitors[0], "http://nats-1:8222");
    assert_eq!(cluster.credentials.as_deref(), Some(Path::new("/etc/quip/nats.creds")));
    assert_eq!(cluster.ca.as_deref(), Some(Path::new("/etc/quip/nats-ca.pem")));
    let least = parse("[cluster]\nservers = [\"tls://a:1\"]\nmonitors = [\"http://a:2\"]\n").unwrap().cluster.unwrap();
    let said = (cluster.stream, cluster.replicas, cluster.patience);
    assert_eq!(said, (least.stream, least.replicas, least.patience), "with the defaults that the example says");
    let lobby = config.namespaces.policy(&RoomName::parse("lobby:main").unwrap());
    assert_eq!(lobby, NamespacePolicy { history: HistoryPolicy::Joined, joins_shown: false });
    let other = config.namespaces.policy(&RoomName::parse("lobby2:main").unwrap());
    assert_eq!(other, NamespacePolicy { history: HistoryPolicy::All, joins_shown: true });
}

#[test]
fn every_key_stands_in_the_example() {
    let (settings, examples) = (settings(EXAMPLE), examples(EXAMPLE));
    let documented = |text: &str, section: &str, key: &str| {
        let table: toml::Table = text.parse().unwrap();
        if section.is_empty() { table.contains_key(key) } else { table[section].as_table().unwrap().contains_key(key) }
    };
    for (section, keys) in [
        ("", keys_of::<RawConfig>()),
        ("tls", keys_of::<RawTls>()),
        ("auth", keys_of::<RawAuth>()),
        ("limits", keys_of::<RawLimits>()),
        ("presence", keys_of::<RawPresence>()),
        ("store", keys_of::<RawStore>()),
        ("cluster", keys_of::<RawCluster>()),
        ("log", keys_of::<RawLog>()),
    ] {
        for key in keys {
            assert!(
                documented(&settings, section, key) || documented(&examples, section, key),
                "[{section}] {key} is missing in quip.example.toml"
            );
        }
    }
    let examples: toml::Table = examples.parse().unwrap();
    let key_sets = examples["auth"]["jwks"].as_array().unwrap();
    for key in keys_of::<jwks::RawJwks>() {
        assert!(
            key_sets.iter().any(|set| set.get(key).is_some()),
            "[[auth.jwks]] {key} is missing in quip.example.toml"
        );
    }
}

/// The keys that a raw section accepts, asked of its own deserializer.
fn keys_of<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    struct Ask<'a>(&'a mut &'static [&'static str]);
    impl<'de> Deserializer<'de> for Ask<'_> {
        type Error = Error;
        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(serde::de::Error::custom("not a struct"))
        }
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Error> {
            *self.0 = fields;
            Err(serde::de::Error::custom("asked"))
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut keys: &'static [&'static str] = &[];
    let _ = T::deserialize(Ask(&mut keys));
    assert!(!keys.is_empty());
    keys
}

#[test]
fn every_kind_of_value_is_read() {
    let config = parse(concat!(
        "listen = \"[::]:1\"\ndata = \"store\"\nname = \"eu-1\"\nrelays = [\"b.example:4433\", \"[::1]:2\"]\n",
        "[limits]\nframe_bytes = \"32KiB\"\nmessages_per_second = 0\n[presence]\nkeepalive = \"500ms\"\nsweep = \"100ms\"\n",
        "[log]\nformat = \"json\"\nlevel = \"warn,quip_relay=debug\"\nlines_per_second = 3\nwaiting_bytes = \"4KiB\"\n",
    ))
    .unwrap();
    assert_eq!(config.listen, "[::]:1".parse().unwrap());
    assert_eq!(config.data, Path::new("/etc/store"));
    assert_eq!(config.name, "eu-1");
    assert_eq!(config.relays, ["b.example:4433", "[::1]:2"]);
    assert_eq!((config.limits.frame_bytes, config.limits.message_rate()), (32_768, None));
    assert_eq!(config.presence.keepalive, Duration::from_millis(500));
    let level = "warn,quip_relay=debug".to_owned();
    let log = LogConfig { format: LogFormat::Json, level, lines_per_second: 3, waiting_bytes: 4096 };
    assert_eq!(config.log, log);
}

#[test]
fn the_command_line_wins_over_the_file() {
    let overrides = Overrides { data: Some("here".into()), listen: Some("127.0.0.1:0".parse().unwrap()) };
    let text = "listen = \"0.0.0.0:1\"\ndata = \"there\"\n[auth]\nmode = \"none\"\n";
    let config = Config::parse(Path::new("/etc/quip.toml"), text, overrides).unwrap();
    assert_eq!((config.listen, config.data), ("127.0.0.1:0".parse().unwrap(), "here".into()));
    assert_eq!(config.auth, AuthConfig::None, "decided on the address in force, not on the one in the file");
}

#[test]
fn development_lifts_the_rate_on_loopback_only() {
    assert_eq!(Config::development(None, None).limits.message_rate(), None);
    let open = Config::development(None, Some("0.0.0.0:4433".parse().unwrap()));
    assert_eq!(open.limits.message_rate(), Some(MessageRate { per_second: 50, burst: 100 }));
}

#[test]
fn unknown_keys_get_a_suggestion() {
    assert_refused(
        "# comment\nlisen = \"127.0.0.1:1\"\n",
        "2:1: unknown key `lisen`\n  |\n2 | lisen = \"127.0.0.1:1\"\n  | ^^^^^ did you mean `listen`?",
    );
    assert_refused(
        "[limits]\n[presence]\n\tkeepalve = \"10s\" # often\n",
        concat!(
            "3:2: unknown key `keepalve` in [presence]\n  |\n",
            "3 | \tkeepalve = \"10s\" # often\n  | \t^^^^^^^^ did you mean `keepalive`?"
        ),
    );
    assert_refused("[limit]\n", "1:2: unknown key `limit`\n  |\n1 | [limit]\n  |  ^^^^^ did you mean `limits`?");
    assert_refused(
        "[[auth.keys]]\nalgo = \"EdDSA\"\n",
        concat!(
            "2:1: unknown key `algo` in [[auth.keys]]\n  |\n",
            "2 | algo = \"EdDSA\"\n  | ^^^^ did you mean `alg`?"
        ),
    );
    assert_refused(
        "[presence]\nheartbeat = 1\n",
        concat!(
            "2:1: unknown key `heartbeat` in [presence]\n  |\n2 | heartbeat = 1\n",
            "  | ^^^^^^^^^ the keys here are keepalive, idle_timeout, sweep, offline_after, last_seen_every"
        ),
    );
    assert_refused(
        "[limits]\nheartbeat = 1\n",
        concat!(
            "2:1: unknown key `heartbeat` in [limits]\n  |\n2 | heartbeat = 1\n",
            "  | ^^^^^^^^^ `quip-relay config` prints every key"
        ),
    );
}

/// Each: the file, the place and message, and what stands from the first caret on.
const REFUSED: &[(&str, &str, &str)] = &[
    // Wrong types.
    ("listen = 5", "1:10: invalid type: integer `5`", "^ expected a string"),
    ("listen = [\n 1,\n]", "1:10: invalid type: sequence", "^ expected a string"),
    ("limits = 5", "1:10: invalid type: integer `5`", "^ expected a section with keys"),
    ("[limits]\nconnections = -1", "2:15: invalid value: integer `-1`", "^^ expected a whole number, not negative"),
    (
        "[limits]\nconnections = \"many\"",
        "2:15: invalid type: string \"many\"",
        "^^^^^^ expected a whole number, not negative",
    ),
    (
        "[limits]\nframe_bytes = 65536",
        "2:15: invalid type: integer `65536`",
        "^^^^^ expected a size such as \"64KiB\" (units: B, KiB, MiB, GiB)",
    ),
    (
        "[limits]\nframe_bytes = \"64KB\"",
        "2:15: invalid value: string \"64KB\"",
        "^^^^^^ expected a size such as \"64KiB\" (units: B, KiB, MiB, GiB)",
    ),
    (
        "[limits]\nunauthenticated = 5",
        "2:19: invalid type: integer `5`",
        "^ expected a period such as \"10s\" (units: ms, s, m, h, d)",
    ),
    (
        "[namespaces]\nname = \"a\"",
        "1:1: invalid type: map",
        "^^^^^^^^^^^^ expected a list, or sections with double brackets",
    ),
    ("[log]\nformat = \"yaml\"", "2:10: unknown value \"yaml\"", "^^^^^^ expected \"text\" or \"json\""),
    ("[auth]\nmode = \"nome\"", "2:8: unknown value \"nome\"", "^^^^^^ expected \"token\" or \"none\""),
    // Not TOML.
    ("listen", "1:7: key with no value", "^ expected `=`"),
    ("name = \"a\"\nname = \"b\"", "2:1: duplicate key", "^^^^"),
    // Out of range.
    (
        "[limits]\nframe_bytes = \"128KiB\"",
        "2:15: frame_bytes is out of range",
        "^^^^^^^^ must be between \"16KiB\" and \"64KiB\"",
    ),
    ("[limits]\nconnections = 0", "2:15: connections is out of range", "^ must be between 1 and 10000000"),
    (
        "[limits]\nunauthenticated = \"1h\"",
        "2:19: unauthenticated is out of range",
        "^^^^ must be between \"100ms\" and \"1m\"",
    ),
    (
        "[log]\nwaiting_bytes = \"1KiB\"",
        "2:17: waiting_bytes is out of range",
        "^^^^^^ must be between \"4KiB\" and \"1GiB\"",
    ),
    ("[auth]\nleeway = \"11m\"", "2:10: leeway is out of range", "^^^^^ must be between \"0s\" and \"10m\""),
    // Not what the key wants.
    ("listen = \"here\"", "1:10: listen is not an address", "^^^^^^ write ip:port, such as \"0.0.0.0:4433\""),
    ("name = \"\"", "1:8: not a name for a relay", "^^ 1 to 256 bytes without control characters"),
    (
        "relays = [\"a:1\", \"b\"]",
        "1:18: not the address of a relay",
        "^^^ write host:port, such as \"chat2.example.org:4433\"",
    ),
    (
        "[log]\nlevel = \"infoo\"",
        "2:9: level is not a log filter",
        "^^^^^^^ use error, warn, info, debug, trace, or pairs such as \"warn,quip_relay=debug\"",
    ),
    ("[auth]\nissuer = \"\"", "2:10: issuer is empty", "^^ leave it out, or name one"),
    (
        "[[namespaces]]\nname = \"lobby:*\"",
        "2:8: not the name of a namespace",
        "^^^^^^^^^ 1 to 63 of a-z, 0-9, '.', '_', '-', starting with a letter or digit; no colon, no *",
    ),
    // Contradictions.
    (
        "[limits]\nframe_bytes = \"16KiB\"",
        "2:15: message_bytes must not be more than frame_bytes less 256 bytes",
        "^^^^^^^",
    ),
    (
        "[limits]\nwaiting_bytes_per_conversation = \"32MiB\"",
        "2:34: waiting_bytes_per_conversation must not be more than waiting_bytes",
        "^^^^^^^",
    ),
    ("[presence]\nkeepalive = \"20s\"", "2:13: idle_timeout must be at least twice keepalive", "^^^^^"),
    ("[presence]\nsweep = \"20s\"", "2:9: sweep must not be longer than keepalive", "^^^^^"),
    ("[tls]\ncert = \"a\"", "2:8: cert without key", "^^^ name the private key too"),
    ("[tls]\nkey = \"a\"", "2:7: key without cert", "^^^ name the certificate too"),
    (
        "listen = \"0.0.0.0:1\"\n[auth]\nmode = \"none\"",
        "3:8: mode \"none\" lets anyone be any user, and the relay would listen on 0.0.0.0:1",
        "^^^^^^ use \"token\", or listen on 127.0.0.1",
    ),
    ("[auth]\nmode = \"none\"\naudience = \"x\"", "3:12: mode \"none\" verifies nothing", "^^^ remove this, or mode"),
    (
        "[[namespaces]]\nname = \"a\"\n[[namespaces]]\nname = \"a\"",
        "4:8: this namespace is listed twice",
        "^^^ keep one of them",
    ),
    // Keys.
    ("[[auth.keys]]\nkid = \"a\"", "1:1: the key `alg` is missing", "^^^^^^^^^^^^^"),
    (
        "[[auth.keys]]\nalg = \"EdDSA\"",
        "1:1: a key without file or secret",
        "^^^^^^^^^^^^^ name a file with the public key, or for HS256 a file or secret",
    ),
    (
        "[[auth.keys]]\nalg = \"none\"",
        "2:7: unknown value \"none\"",
        "^^^^^^ expected \"EdDSA\" or \"ES256\" or \"RS256\" or \"HS256\"",
    ),
    (
        "[[auth.keys]]\nalg = \"HS256\"\nsecret = \"hunter2\"",
        "3:10: the secret is too short",
        "^^^ at least 32 bytes; `openssl rand -base64 32` prints a good one",
    ),
    (
        "[[auth.keys]]\nalg = \"ES256\"\nsecret = \"hunter2\"",
        "3:10: secret is only for HS256",
        "^^^ name a file with the public key",
    ),
    (
        "[[auth.keys]]\nalg = \"HS256\"\nfile = \"f\"\nsecret = \"hunter2\"",
        "4:10: file and secret in one key",
        "^^^ keep one of them",
    ),
    // Key sets.
    ("[[auth.jwks]]\nrefresh = \"1m\"", "1:1: a key set without file or url", "^^^^^^^^^^^^^ name one of them"),
    (
        "[[auth.jwks]]\nfile = \"f\"\nurl = \"https://a/b\"",
        "3:7: file and url in one key set",
        "^^^^^^^^^^^^^ keep one of them",
    ),
    ("[[auth.jwks]]\nfile = \"f\"\nca = \"c\"", "3:6: ca is only for a url", "^^^ remove it"),
    ("[[auth.jwks]]\nfile = \"f\"\ntimeout = \"1s\"", "3:11: timeout is only for a url", "^^^^ remove it"),
    ("[[auth.jwks]]\nurl = \"a b\"", "2:7: url is not a URL", "^^^^^ write https://host/path"),
    ("[[auth.jwks]]\nurl = \"/jwks.json\"", "2:7: url names no host", "^^^^^^^^^^^^ write https://host/path"),
    ("[[auth.jwks]]\nurl = \"ftp://a/b\"", "2:7: url is neither https nor http", "^^^^^^^^^^^ write https://host/path"),
    (
        "[[auth.jwks]]\nurl = \"http://login.example.org/k\"",
        "2:7: plain http over a network",
        "^^^^^^^^^^^^^^^^^^^^^^^^^^^^ use https; http is for this machine's own addresses",
    ),
    (
        "[[auth.jwks]]\nurl = \"http://localhost.example.org/\"",
        "2:7: plain http over a network",
        "^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ use https; http is for this machine's own addresses",
    ),
    (
        "[[auth.jwks]]\nurl = \"https://me:pw@a/\"",
        "2:7: a user or password in url would appear in logs",
        "^^^^^^^^^^^^^^^^^^ remove it: keys are public",
    ),
    ("[[auth.jwks]]\nfile = \"f\"\nrefresh = \"5s\"", "3:11: refetch_after must not be longer than refresh", "^^^^"),
    ("[[auth.jwks]]\nfile = \"f\"\nkeys = 65", "3:8: keys is out of range", "^^ must be between 1 and 64"),
    (
        "[auth]\nmode = \"none\"\n[[auth.jwks]]\nfile = \"f\"",
        "3:1: mode \"none\" verifies nothing",
        "^^^^^^^^^^^^^ remove this, or mode",
    ),
    // The cluster.
    ("[cluster]\nreplicas = 3", "2:12: a cluster without servers", "^ name the NATS servers"),
    (
        "[cluster]\nservers = [\"nats://a:1\"]",
        "2:11: servers without monitors",
        "^^^^^^^^^^^^^^ name the monitoring port of each NATS server, where the relay checks its sync_interval",
    ),
    ("[cluster]\nservers = []\nmonitors = []", "2:11: not a list of servers", "^^ 1 to 16"),
    (
        "[cluster]\nmonitors = [\"http://a:1\"]\nservers = [\"nats://ann:pw@a:1\"]",
        "3:12: not an address for servers",
        "^^^^^^^^^^^^^^^^^^^ write nats://host:port or tls://host:port",
    ),
    (
        "[cluster]\nservers = [\"nats://a:1\"]\nmonitors = [\"https://a:1\"]",
        "3:13: not an address for monitors",
        "^^^^^^^^^^^^^ write http://host:port",
    ),
    (
        "[cluster]\nservers = [\"nats://a:1\"]\nmonitors = [\"http://a:1\"]\nreplicas = 2",
        "4:12: replicas is even",
        "^ use 1, 3 or 5",
    ),
    (
        "[cluster]\nservers = [\"nats://a:1\"]\nmonitors = [\"http://a:1\"]\nstream = \"a.b\"",
        "4:10: not a name for a stream",
        "^^^^^ 1 to 32 letters, digits, - and _",
    ),
    (
        "auth = { keys = [{ alg = \"HS256\", \"secret\" = \"hunter2\" }] }",
        "1:46: the secret is too short",
        "^^^ at least 32 bytes; `openssl rand -base64 32` prints a good one",
    ),
];

#[test]
fn what_cannot_be_is_refused_where_it_stands() {
    for (text, head, mark) in REFUSED {
        let message = refused(text);
        let mut lines = message.lines();
        assert_eq!(lines.next(), Some(format!("/etc/quip.toml:{head}").as_str()), "{text}\n{message}");
        let marked = lines.next_back().expect("the carets");
        let carets = marked.find('^').expect("a caret");
        assert_eq!(&marked[carets..], *mark, "{text}\n{message}");
        let column: usize = head.split(':').nth(1).unwrap().parse().unwrap();
        assert_eq!(carets, "1 | ".len() + column - 1, "{text}\n{message}");
        assert!(!message.contains("hunter2"), "a secret is never shown:\n{message}");
    }
}

#[test]
fn a_key_set_may_come_over_plain_http_from_this_machine() {
    for url in
        ["http://localhost:8080/k", "http://127.0.0.1/k", "http://127.8.8.8/k", "http://[::1]:1/k", "HTTPS://a/k"]
    {
        let config = parse(&format!("[[auth.jwks]]\nurl = \"{url}\"\n")).expect(url);
        let AuthConfig::Token(token) = config.auth else { panic!("tokens") };
        assert_eq!(token.keys, KeySource::Listed(Vec::new()), "the data folder's own key is not taken beside a set");
    }
    for url in ["http://10.0.0.1/k", "http://127.0.0.1.example.org/k", "http://0.0.0.0/k", "http://[::2]/k"] {
        assert!(refused(&format!("[[auth.jwks]]\nurl = \"{url}\"\n")).contains("plain http over a network"), "{url}");
    }
}

#[test]
fn a_secret_is_not_in_the_debug_text() {
    let text = "[[auth.keys]]\nalg = \"HS256\"\nsecret = \"hunter2-hunter2-hunter2-hunter2-\"\n";
    let config = parse(text).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn lists_are_bounded() {
    let many = |n: usize, one: &str| (0..n).map(|_| one).collect::<String>();
    let relays = |n| format!("relays = [{}]", many(n, "\"a:1\","));
    assert!(parse(&relays(16)).is_ok());
    assert!(refused(&relays(17)).contains("more than 16 other relays"));
    let keys = |n| many(n, "[[auth.keys]]\nalg = \"RS256\"\nfile = \"f\"\n");
    assert!(parse(&keys(16)).is_ok());
    assert!(refused(&keys(17)).contains("more than 16 keys"));
    let sets = |n| many(n, "[[auth.jwks]]\nfile = \"f\"\n");
    assert!(parse(&sets(4)).is_ok());
    assert!(refused(&sets(5)).contains("more than 4 key sets"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/nonexistent/quip.toml")).expect_err("no such file");
    assert_eq!(
        error.to_string(),
        "cannot read the config file /nonexistent/quip.toml: No such file or directory (os error 2)"
    );
}
