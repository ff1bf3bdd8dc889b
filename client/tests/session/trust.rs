//! Certificates that are not trusted, and what the client says of each.

use quip_client::{Client, Config, ConnectError, ConnectionLost, Trust, Untrusted};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::fake::{Relay, soon};

/// What a relay shows, and what the client trusts.
struct Case {
    shown: CertificateDer<'static>,
    key: KeyPair,
    trust: Trust,
    /// What the text says to do.
    advice: &'static str,
    fits: fn(&Untrusted) -> bool,
}

fn params(name: &str) -> CertificateParams {
    CertificateParams::new([name.to_owned()]).expect("a name")
}

/// A certificate of an authority that the client trusts.
fn signed(params: CertificateParams, advice: &'static str, fits: fn(&Untrusted) -> bool) -> Case {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let shown = params.signed_by(&key, &authority).expect("a certificate").der().clone();
    Case { shown, key, trust: Trust::Ca(vec![authority.der().clone()]), advice, fits }
}

/// As `openssl req -x509` makes it, with its name.
fn authority() -> (CertificateDer<'static>, KeyPair) {
    let mut params = params("localhost");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    (params.self_signed(&key).expect("a certificate").der().clone(), key)
}

fn pin(certificate: &[u8]) -> Trust {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    Trust::Fingerprint(digest.as_ref().try_into().expect("32 bytes"))
}

fn cases() -> Vec<Case> {
    let dates = |from, to| {
        let mut params = params("localhost");
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        params
    };
    let mut for_clients = params("localhost");
    for_clients.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    let good = || signed(params("localhost"), "", |_| false);
    let (shown, key) = authority();
    vec![
        Case {
            advice: "compare both with the file fingerprint",
            fits: |why| matches!(why, Untrusted::OtherFingerprint { .. }),
            trust: pin(b"another"),
            ..good()
        },
        Case {
            advice: "pin its fingerprint",
            fits: |why| *why == Untrusted::UnknownAuthority,
            trust: good().trust,
            ..good()
        },
        Case {
            trust: Trust::Ca(vec![shown.clone()]),
            shown,
            key,
            advice: "pin its fingerprint",
            fits: |why| *why == Untrusted::Authority,
        },
        signed(params("chat.example"), "connect by a name that it has", |why| {
            let names = vec!["chat.example".to_owned()];
            *why == Untrusted::OtherName { name: "localhost".to_owned(), names }
        }),
        signed(CertificateParams::default(), "has no names", |why| matches!(why, Untrusted::OtherName { .. })),
        signed(dates(2000, 2001), "needs a new one", |why| matches!(why, Untrusted::Expired { .. })),
        signed(dates(2500, 2501), "check the clock", |why| matches!(why, Untrusted::NotYetValid { .. })),
        signed(for_clients, "needs another one", |why| *why == Untrusted::NotForServers),
        Case {
            key: KeyPair::generate().expect("a key"),
            advice: "does not have its key",
            fits: |why| *why == Untrusted::NoKey,
            ..good()
        },
        {
            let case = good();
            Case {
                trust: pin(&case.shown),
                key: KeyPair::generate().expect("a key"),
                advice: "does not have its key",
                fits: |why| *why == Untrusted::NoKey,
                ..case
            }
        },
    ]
}

fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}

#[tokio::test]
async fn each_certificate_that_is_not_trusted_has_its_own_reason_and_advice() {
    for Case { shown, key, trust, advice, fits } in cases() {
        let relay = Relay::showing(shown, private(&key), quip_protocol::ALPN);
        let config = Config::new([relay.name()], trust, "token");
        let accepting = async { relay.endpoint.accept().await.expect("an endpoint").await.err() };
        let (refused, _) = tokio::join!(soon(Client::connect(config)), accepting);
        let Err(error @ ConnectError::Refused(ConnectionLost::Untrusted(_))) = &refused else {
            panic!("instead of {advice:?}: {:?}", refused.err());
        };
        println!("{error}");
        let ConnectError::Refused(ConnectionLost::Untrusted(why)) = error else { unreachable!("it is") };
        assert!(fits(why) && error.to_string().contains(advice), "instead of {advice:?}: {error}");
    }
}

#[tokio::test]
async fn a_pinned_certificate_may_be_one_of_an_authority() {
    let (shown, key) = authority();
    let relay = Relay::showing(shown.clone(), private(&key), quip_protocol::ALPN);
    let config = Config::new([relay.address()], pin(&shown), "token");
    let (client, _session) = tokio::join!(soon(Client::connect(config)), relay.welcome(&[]));
    client.expect("its name and its kind do not matter");
}

#[tokio::test]
async fn what_is_no_quip_relay_is_not_called_untrusted() {
    let (shown, key) = authority();
    let relay = Relay::showing(shown.clone(), private(&key), b"h3");
    let config = Config::new([relay.address()], pin(&shown), "token");
    let accepting = async { relay.endpoint.accept().await.expect("an endpoint").await.err() };
    let (refused, _) = tokio::join!(soon(Client::connect(config)), accepting);
    assert!(matches!(refused, Err(ConnectError::Refused(ConnectionLost::Handshake(_)))), "{:?}", refused.err());
}
