//! A relay with the certificate that `openssl req -x509` makes.

use std::fs;

use anyhow::{Result, ensure};
use quip_client::{Client, Config, ConnectError, ConnectionLost, Trust, Untrusted};
use quip_tests::relay::Relay;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

#[tokio::test]
async fn a_self_signed_authority_is_trusted_when_it_is_pinned_and_otherwise_both_sides_say_why() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let mut params = CertificateParams::new(["localhost".to_owned()])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pair = KeyPair::generate()?;
    let certificate = params.self_signed(&pair)?;
    fs::write(&cert, certificate.pem())?;
    fs::write(&key, pair.serialize_pem())?;
    let tls = format!("[tls]\ncert = \"{}\"\nkey = \"{}\"\n", cert.display(), key.display());
    let mut relay = Relay::prepare(folder.path(), &tls);
    relay.run()?;

    let token = relay.token("alice")?;
    let address = format!("localhost:{}", relay.address.port());
    let connect = |trust| Client::connect(Config::new([address.clone()], trust, token.clone()));
    connect(Trust::Fingerprint(relay.fingerprint()?)).await?;
    let refused = connect(Trust::Ca(vec![certificate.der().clone()])).await;
    let Err(ConnectError::Refused(ConnectionLost::Untrusted(Untrusted::Authority))) = &refused else {
        anyhow::bail!("{:?}", refused.err());
    };
    relay.terminate()?;
    ensure!(relay.log().contains("WARN") && relay.log().contains("(CA:TRUE)"), "{}", relay.log());
    Ok(())
}
