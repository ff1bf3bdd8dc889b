//! A server that wants to know who connects, over TLS.

use std::{fs, path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use quip_jetstream::{ClusterConfig, ClusterError, jetstream};
use quip_order::{Limits, system_clock};

use crate::{config, contract::OneStream, server::Servers, suite::filled};

/// A token of NATS: claims signed by a key.
fn token(signer: &KeyPair, subject: &KeyPair, kind: &str, nats: &str) -> String {
    let header = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;
    let (issuer, subject) = (signer.public_key(), subject.public_key());
    let claims = format!(
        r#"{{"jti":"{subject}","iat":1700000000,"iss":"{issuer}","name":"{kind}","sub":"{subject}","nats":{{{nats}"type":"{kind}","version":2}}}}"#
    );
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(signer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

fn credentials(path: &Path, account: &KeyPair) {
    let user = KeyPair::new_user();
    let token = token(account, &user, "user", r#""pub":{},"sub":{},"subs":-1,"data":-1,"payload":-1,"#);
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    );
    fs::write(path, text).unwrap();
}

#[test]
fn a_relay_shows_its_credentials_and_checks_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let [operator, account, system] = [KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account()];
    let limits = r#""subs":-1,"data":-1,"payload":-1,"imports":-1,"exports":-1,"conn":-1,"leaf":-1,"wildcards":true"#;
    let storage = r#""mem_storage":-1,"disk_storage":-1,"streams":-1,"consumer":-1"#;
    let with = format!(r#""limits":{{{limits},{storage}}},"#);
    let without = format!(r#""limits":{{{limits}}},"#);
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    fs::write(file("cert.pem"), certified.cert.pem()).unwrap();
    fs::write(file("key.pem"), certified.signing_key.serialize_pem()).unwrap();
    let more = format!(
        "operator: {}\nresolver: MEMORY\nsystem_account: {}\nresolver_preload {{ {}: {}, {}: {} }}\n\
         tls {{ cert_file: {:?}, key_file: {:?} }}",
        token(&operator, &operator, "operator", ""),
        system.public_key(),
        account.public_key(),
        token(&operator, &account, "account", &with),
        system.public_key(),
        token(&operator, &system, "account", &without),
        file("cert.pem"),
        file("key.pem"),
    );
    let Some(servers) = Servers::with(&more) else { return };
    credentials(&file("relay.creds"), &account);
    credentials(&file("stranger.creds"), &KeyPair::new_account());
    fs::write(file("empty.creds"), "").unwrap();

    let config = ClusterConfig {
        servers: servers.urls().iter().map(|url| url.replace("nats://", "tls://")).collect(),
        credentials: Some(file("relay.creds")),
        ca: Some(file("cert.pem")),
        patience: Duration::from_secs(1),
        ..config(&servers)
    };
    assert!(filled(&OneStream(config.clone()), 100, 0).0.len() >= 100);
    for credentials in [None, Some(file("stranger.creds")), Some(file("empty.creds")), Some(file("missing.creds"))] {
        let refused = jetstream(ClusterConfig { credentials, ..config.clone() }, Limits::default(), system_clock());
        let error = refused.err().expect("a stranger");
        assert!(matches!(error, ClusterError::Credentials(_)), "{error}");
    }
    let refused = jetstream(ClusterConfig { ca: None, ..config }, Limits::default(), system_clock());
    let error = refused.err().expect("a server that nobody knows");
    assert!(matches!(error, ClusterError::Unreachable(_)), "{error}");
    println!("{error}");
}
