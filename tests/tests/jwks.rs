//! Keys from a login server over HTTPS: they are learnt, retired and kept, and nothing that the server does harms the
//! relay.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use quinn::ConnectionError;
use quip_client::{Client, Config, Trust};
use quip_protocol::{Code, DeviceId, InstanceId};
use quip_tests::{
    login::{Answer, HOST, Login, Signer, key_set},
    raw::Raw,
    relay::{PATIENCE, Relay, relay_binary},
    talk::room,
};

/// Nothing but tokens has the keys read again, and those at once.
const WHEN_ASKED: &str = "refresh = \"1h\"\nrefetch_after = \"100ms\"\n";

struct World {
    login: Login,
    relay: Relay,
    old: Signer,
}

/// A login server with one key, and a relay that follows it.
fn world(more: &str) -> Result<World> {
    let old = Signer::new()?;
    let login = Login::start(Answer::Document(key_set(&[&old])))?;
    let relay = Relay::with(&login.section(more))?;
    Ok(World { login, relay, old })
}

/// Says hello once: the user, or the code with which the relay closes. On a starved machine the relay has forgotten a
/// closed connection before the client reads why, and a stateless reset hides the code: then it is said again.
async fn hello(relay: &Relay, token: &str) -> Result<Result<String, Code>> {
    loop {
        let mut raw = Raw::connect(relay).await?;
        if let Ok(user) = raw.hello(token, DeviceId(rand::random()), InstanceId(rand::random())).await {
            return Ok(Ok(user));
        }
        if raw.quic.closed().await != ConnectionError::Reset {
            return Ok(Err(raw.close_code().await?));
        }
    }
}

/// Says hello until the answer is not "try again".
async fn hello_in_the_end(relay: &Relay, token: &str) -> Result<Result<String, Code>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match hello(relay, token).await? {
            Err(Code::KEY_PENDING) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(20)).await,
            other => return Ok(other),
        }
    }
}

/// Brings a token of a key that nobody has until the log says something that it did not say before.
async fn asked_until_logged(relay: &Relay, text: &str) -> Result<()> {
    let token = Signer::new()?.token("mallory")?;
    let count = |relay: &Relay| relay.log().matches(text).count();
    let (before, deadline) = (count(relay), Instant::now() + PATIENCE);
    while count(relay) == before {
        ensure!(hello(relay, &token).await? == Err(Code::KEY_PENDING));
        tokio::time::sleep(Duration::from_millis(20)).await;
        ensure!(Instant::now() < deadline, "no {text:?} in the log: {}", relay.log());
    }
    Ok(())
}

#[tokio::test]
async fn a_client_with_a_new_key_is_let_in_while_old_ones_talk_on() -> Result<()> {
    let World { login, relay, old } = world(WHEN_ASKED)?;
    let mut alice = Raw::connect(&relay).await?;
    alice.hello(&old.token("alice")?, DeviceId([1; 16]), InstanceId([1; 16])).await?;
    let (mut talk, _) = alice.enter(&room("lobby:main")).await?;

    let new = Signer::new()?;
    login.answer(Answer::Document(key_set(&[&new])));
    assert_eq!(login.asked(), 1, "once, at the start");
    assert_eq!(hello(&relay, &new.token("bob")?).await?, Err(Code::KEY_PENDING));
    assert_eq!(hello_in_the_end(&relay, &new.token("bob")?).await?, Ok("bob".to_owned()));
    assert_eq!(hello_in_the_end(&relay, &old.token("carol")?).await?, Err(Code::UNAUTHENTICATED), "it is retired");
    talk.post_accepted(2, "a session outlives the key of its token").await?;
    Ok(())
}

#[tokio::test]
async fn the_client_library_waits_for_a_new_key_by_itself() -> Result<()> {
    let World { login, relay, old: _ } = world(WHEN_ASKED)?;
    let new = Signer::new()?;
    login.answer(Answer::Document(key_set(&[&new])));
    let trust = Trust::Fingerprint(relay.fingerprint()?);
    let client = Client::connect(Config::new([relay.address.to_string()], trust, new.token("bob")?)).await?;
    assert_eq!(client.user().as_str(), "bob");
    let nobody = Signer::new()?.token("bob")?;
    let trust = Trust::Fingerprint(relay.fingerprint()?);
    let refused = Client::connect(Config::new([relay.address.to_string()], trust, nobody)).await;
    let error = refused.err().context("a key that nobody has")?;
    assert!(error.to_string().contains(&Code::UNAUTHENTICATED.to_string()), "an end, and why: {error}");
    Ok(())
}

#[tokio::test]
async fn keys_are_read_again_by_the_clock_too() -> Result<()> {
    let World { login, relay, old } = world("refresh = \"1s\"\nrefetch_after = \"1s\"\n")?;
    login.answer(Answer::Document(key_set(&[&Signer::new()?])));
    let deadline = Instant::now() + PATIENCE;
    while hello(&relay, &old.token("alice")?).await?.is_ok() {
        ensure!(Instant::now() < deadline, "a retired key stays good");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test]
async fn known_keys_stay_good_when_the_server_is_gone() -> Result<()> {
    let World { mut login, relay, old } = world(WHEN_ASKED)?;
    login.close();
    asked_until_logged(&relay, "could not update a key set; keeping the known keys").await?;
    assert_eq!(hello(&relay, &old.token("alice")?).await?, Ok("alice".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_flood_of_unknown_keys_asks_the_server_no_more_often_than_allowed() -> Result<()> {
    let World { login, relay, old } = world("refresh = \"1h\"\nrefetch_after = \"1h\"\n")?;
    for _ in 0..100 {
        assert_eq!(hello(&relay, &Signer::new()?.token("mallory")?).await?, Err(Code::KEY_PENDING));
    }
    assert_eq!(login.asked(), 1, "at the start, and not before an hour is over");
    assert_eq!(hello(&relay, &old.token("alice")?).await?, Ok("alice".to_owned()));
    Ok(())
}

#[tokio::test]
async fn hostile_answers_do_no_harm() -> Result<()> {
    let World { login, relay, old } = world(&format!("{WHEN_ASKED}timeout = \"1s\"\n"))?;
    let before = relay.resident_bytes().context("a process")?;
    let with_secret = key_set(&[&old]).replace('[', r#"[{"kty":"oct","k":"c2VjcmV0","kid":"s"},"#);
    let document = |text: &str| Answer::Document(text.to_owned());
    for (answer, logged) in [
        (Answer::Endless, "longer than 65536 bytes"),
        (document(&" ".repeat(1 << 20)), "longer than 65536 bytes"),
        (document("<html>moved</html>"), "not a JSON Web Key Set"),
        (document(&"[".repeat(60_000)), "not a JSON Web Key Set"),
        (document(&format!("{{\"keys\":[{}0]}}", "0,".repeat(9_999))), "10000 keys and at most 16"),
        (document("{\"keys\":[]}"), "none of its 0 keys"),
        (document(&with_secret), "symmetric key"),
        (Answer::Status("500 Oops"), "answers 500"),
        (Answer::Status("302 Found\r\nLocation: http://127.0.0.1:1/keys"), "answers 302"),
        (Answer::Headers, "no answer"),
        (Answer::Trickle, "no complete answer within 1s"),
        (Answer::Silent, "no complete answer within 1s"),
    ] {
        login.answer(answer);
        asked_until_logged(&relay, logged).await.context(logged)?;
        assert_eq!(hello(&relay, &old.token("alice")?).await?, Ok("alice".to_owned()), "{logged}");
    }
    let grown = relay.resident_bytes().context("a process")?.saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more in memory");
    let new = Signer::new()?;
    login.answer(Answer::Document(key_set(&[&new])));
    assert_eq!(hello_in_the_end(&relay, &new.token("bob")?).await?, Ok("bob".to_owned()), "it recovers");
    assert!(!relay.log().contains("panicked"), "{}", relay.log());
    Ok(())
}

/// While the login server is slow, others are served at once.
#[tokio::test]
async fn a_slow_server_holds_up_nobody() -> Result<()> {
    let World { login, relay, old } = world(&format!("{WHEN_ASKED}timeout = \"60s\"\n"))?;
    login.answer(Answer::Trickle);
    let unknown = Signer::new()?.token("mallory")?;
    while login.asked() < 2 {
        assert_eq!(hello(&relay, &unknown).await?, Err(Code::KEY_PENDING));
    }
    for _ in 0..10 {
        assert_eq!(hello(&relay, &old.token("alice")?).await?, Ok("alice".to_owned()));
        assert_eq!(hello(&relay, &unknown).await?, Err(Code::KEY_PENDING));
    }
    assert_eq!(login.asked(), 2, "the slow reading goes on");
    Ok(())
}

/// Login servers of companies are not all new.
#[tokio::test]
async fn a_server_with_tls_1_2_will_do() -> Result<()> {
    let old = Signer::new()?;
    let login = Login::with_versions(Answer::Document(key_set(&[&old])), &[&rustls::version::TLS12])?;
    let relay = Relay::with(&login.section(""))?;
    assert_eq!(hello(&relay, &old.token("alice")?).await?, Ok("alice".to_owned()));
    Ok(())
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_used_for_other_machines() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let old = Signer::new()?;
    let login = Login::start(Answer::Document(key_set(&[&old])))?;
    let section = login.section("").replace(&login.address.to_string(), HOST);
    let mut relay = Relay::prepare(folder.path(), &section);
    relay.set_environment(vec![("HTTPS_PROXY".to_owned(), format!("http://{}", login.address))]);
    relay.run()?;
    assert_eq!(hello(&relay, &old.token("alice")?).await?, Ok("alice".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_relay_without_any_key_says_why_it_does_not_start() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let login = Login::start(Answer::Status("503 Later"))?;
    let section = login.section("");
    let (status, log) = Relay::prepare(folder.path(), &section).run_to_end()?;
    assert!(!status.success());
    let expected = format!("error: no keys from https://{}/keys: the server answers 503", login.address);
    assert!(log.contains(&expected), "{log}");

    // With another key it starts, and goes on trying.
    let secret = "[[auth.keys]]\nalg = \"HS256\"\nsecret = \"0123456789abcdef0123456789abcdef\"\n";
    let mut relay = Relay::prepare(folder.path(), &(secret.to_owned() + &section + WHEN_ASKED));
    relay.run()?;
    let new = Signer::new()?;
    assert_eq!(hello(&relay, &new.token("alice")?).await?, Err(Code::KEY_PENDING));
    login.answer(Answer::Document(key_set(&[&new])));
    assert_eq!(hello_in_the_end(&relay, &new.token("alice")?).await?, Ok("alice".to_owned()));
    Ok(())
}

fn check(folder: &Path, config: &str) -> Result<(bool, String)> {
    let file = folder.join("quip.toml");
    fs::write(&file, config)?;
    let output = Command::new(relay_binary()).arg("check").arg("--config").arg(&file).output()?;
    let said = if output.status.success() { output.stdout } else { output.stderr };
    Ok((output.status.success(), String::from_utf8(said)?))
}

#[test]
fn checking_says_what_the_server_has() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (first, second) = (Signer::new()?, Signer::new()?);
    let set = key_set(&[&first, &second]).replace('[', "[{\"kty\":\"RSA\",\"use\":\"enc\"},");
    let login = Login::start(Answer::Document(set))?;
    let section = login.section("");
    let url = format!("https://{}/keys", login.address);
    let (good, report) = check(folder.path(), &section)?;
    let expected = format!(
        "  auth    tokens, 0 keys, 1 key set\n  keys    {url}: EdDSA \"{}\", EdDSA \"{}\"; 1 key skipped\n",
        first.kid(),
        second.kid()
    );
    assert!(good && report.ends_with(&expected), "{report}");

    login.answer(Answer::Status("404 Not Found"));
    let (good, error) = check(folder.path(), &section)?;
    assert!(!good && error.starts_with(&format!("error: no keys from {url}: the server answers 404")), "{error}");

    // Another authority than the one that signed, and that of the system.
    let other = Login::start(Answer::Silent)?;
    fs::copy(other.ca(), login.ca())?;
    for section in
        [section.clone(), section.lines().filter(|line| !line.starts_with("ca")).collect::<Vec<_>>().join("\n")]
    {
        let (good, error) = check(folder.path(), &section)?;
        let untrusted = error.contains("invalid peer certificate") || error.contains("no CA certificates");
        assert!(!good && untrusted, "{error}");
    }
    Ok(())
}
