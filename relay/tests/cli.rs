//! What an operator sees of the binary.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::SystemTime,
};

use quip_relay::{
    auth::{Authenticator, Grants},
    config::{AuthConfig, EXAMPLE, TokenConfig},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
use tempfile::tempdir;

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quip-relay")).current_dir(folder).args(arguments).output().unwrap()
}

/// Exit code, standard output, standard error.
fn outcome(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = run(folder, arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn config_prints_the_example() {
    let folder = tempdir().unwrap();
    assert_eq!(outcome(folder.path(), &["config"]), (0, EXAMPLE.to_owned(), String::new()));
}

#[test]
fn check_says_what_is_good() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("quip.toml"), EXAMPLE).unwrap();
    let expected = concat!(
        "quip.toml is good\n  listen  127.0.0.1:4433\n  data    quip-data\n",
        "  tls     self-signed, created at the first start\n",
        "  auth    tokens of `quip-relay token`, signed with the data folder's own key\n",
    );
    let checked = outcome(folder.path(), &["check", "--config", "quip.toml"]);
    assert_eq!(checked, (0, expected.to_owned(), String::new()));
    assert!(!folder.path().join("quip-data").exists(), "checking makes nothing");
}

#[test]
fn check_says_what_is_wrong() {
    let folder = tempdir().unwrap();
    let check = |text: &str| {
        fs::write(folder.path().join("quip.toml"), text).unwrap();
        outcome(folder.path(), &["check", "--config", "quip.toml"])
    };
    let (code, _, error) = check("lisen = 1\n");
    let expected = "error: quip.toml:1:1: unknown key `lisen`\n  |\n1 | lisen = 1\n  | ^^^^^ did you mean `listen`?\n";
    assert_eq!((code, error.as_str()), (2, expected));
    let (code, _, error) = check("[[auth.keys]]\nalg = \"EdDSA\"\nfile = \"no.pem\"\n");
    assert_eq!(
        (code, error.as_str()),
        (1, "error: cannot read the key no.pem: No such file or directory (os error 2)\n")
    );
    let (code, _, error) = check("[tls]\ncert = \"no.pem\"\nkey = \"no.key\"\n");
    assert_eq!(
        (code, error.as_str()),
        (
            1,
            "error: cannot read no.pem: No such file or directory (os error 2); check the disk and the rights on the folder\n"
        )
    );
}

#[test]
fn check_says_what_clients_object_to() {
    let folder = tempdir().unwrap();
    let config = "[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n";
    fs::write(folder.path().join("quip.toml"), config).unwrap();
    let key = KeyPair::generate().unwrap();
    fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
    let check = |change: fn(&mut CertificateParams)| {
        let mut params = CertificateParams::new(["chat.example".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        params.not_after = date_time_ymd(3000, 1, 1);
        change(&mut params);
        fs::write(folder.path().join("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        outcome(folder.path(), &["check", "--config", "quip.toml"])
    };
    let (code, report, _) = check(|_| ());
    assert_eq!(code, 0);
    assert!(
        report.contains(", for chat.example, 10.0.0.1, until 3000-01-01\n") && !report.contains("warning"),
        "{report}"
    );
    let (code, report, _) = check(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    assert_eq!(code, 0);
    for warning in
        ["warning: the certificate is that of an authority (CA:TRUE)", "warning: the certificate expired on 2020-01-01"]
    {
        assert!(report.contains(warning), "{report}");
    }
    fs::write(folder.path().join("key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let (code, _, error) = outcome(folder.path(), &["check", "--config", "quip.toml"]);
    let expected = "error: cert.pem does not belong to the key key.pem; replace one of them\n";
    assert_eq!((code, error.as_str()), (1, expected));
}

#[test]
fn serving_with_a_wrong_config_ends_at_once_with_or_without_the_subcommand() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("quip.toml"), "[auth]\nmode = \"none\"\n").unwrap();
    for start in [&["serve"][..], &[]] {
        let arguments = [start, &["--config", "quip.toml", "--listen", "0.0.0.0:0"]].concat();
        let (code, _, error) = outcome(folder.path(), &arguments);
        assert_eq!(code, 2);
        assert!(error.contains("quip.toml:2:8: mode \"none\" lets anyone be any user"), "{error}");
        assert!(!folder.path().join("quip-data").exists());
    }
}

#[test]
fn token_makes_a_token_that_a_relay_on_the_same_folder_takes() {
    let folder = tempdir().unwrap();
    let (code, token, error) = outcome(folder.path(), &["token", "--user", "alice"]);
    assert_eq!((code, error.as_str()), (0, ""));
    let data = folder.path().join("quip-data");
    let relay = Authenticator::open(&AuthConfig::Token(TokenConfig::default()), &data).unwrap();
    let alice = relay.authenticate(token.trim_end(), SystemTime::now()).unwrap();
    assert_eq!(alice.user.as_str(), "alice");
    assert!(alice.grants != Grants::everything(), "moderating is not given by default");

    let room = quip_protocol::RoomName::parse("lobby:main").unwrap();
    let grants = |arguments: &[&str]| {
        let (code, token, error) = outcome(folder.path(), &[&["token", "--user", "bob"], arguments].concat());
        assert_eq!((code, error.as_str()), (0, ""));
        let grants = relay.authenticate(token.trim_end(), SystemTime::now()).unwrap().grants;
        quip_relay::auth::Permission::ALL.map(|permission| grants.allows(permission, &room))
    };
    assert_eq!(grants(&[]), [true, true, true, false]);
    assert_eq!(grants(&["--join", "a:*", "--join", "lobby:*", "--post", "other:*"]), [true, false, true, false]);
    assert_eq!(grants(&["--post", "", "--create", "", "--moderate", "lobby:main"]), [true, false, false, true]);
}

#[test]
fn token_refuses_what_no_relay_would_take() {
    let folder = tempdir().unwrap();
    let (code, output, error) = outcome(folder.path(), &["token", "--user", "alice", "--join", "lobby"]);
    assert_eq!((code, output.as_str()), (1, ""));
    let expected =
        "error: could not create a token: \"lobby\" is not a pattern; use \"*\", \"lobby:*\" or \"lobby:main\"\n";
    assert_eq!(error, expected);
    let (code, _, error) = outcome(folder.path(), &["token", "--user", "alice", "--ttl", "soon"]);
    assert_eq!(code, 2);
    assert!(error.contains("write a period such as 90s, 15m, 1h or 30d"), "{error}");
}
