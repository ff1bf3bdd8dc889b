//! The data folder: what it holds, that it stays, and that one relay has it.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, thread};

use quip_relay::{
    config::TlsConfig,
    identity::{Certificate, DataFolder, IdentityError, SigningKey},
};
use rcgen::KeyPair;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tempfile::tempdir;

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

#[test]
fn everything_is_the_same_after_a_restart() {
    let root = tempdir().unwrap();
    let data = root.path().join("deep/data");
    let start = || {
        let folder = DataFolder::open(&data).unwrap();
        let certificate = folder.certificate(&TlsConfig::SelfSigned).unwrap();
        let signing = SigningKey::read_or_create(&data).unwrap();
        (certificate.chain, certificate.key.secret_der().to_vec(), folder.node_keys().unwrap(), signing)
    };
    let first = start();
    assert_eq!(start(), first);
    let keys = &first.2;
    assert!(keys.reset != keys.connection_id && keys.connection_id != keys.token && keys.reset != [0; 32]);
}

#[test]
fn two_folders_share_nothing() {
    let [one, other] = [(); 2].map(|()| tempdir().unwrap());
    let [one, other] = [&one, &other].map(|dir| DataFolder::open(dir.path()).unwrap());
    let fingerprint = |folder: &DataFolder| folder.certificate(&TlsConfig::SelfSigned).unwrap().fingerprint();
    assert_ne!(fingerprint(&one), fingerprint(&other));
    assert_ne!(one.node_keys().unwrap(), other.node_keys().unwrap());
    let kid = |folder: &DataFolder| SigningKey::read_or_create(folder.path()).unwrap().kid();
    assert_ne!(kid(&one), kid(&other));
}

#[cfg(unix)]
#[test]
fn secrets_are_for_the_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let data = tempdir().unwrap();
    let folder = DataFolder::open(data.path()).unwrap();
    folder.certificate(&TlsConfig::SelfSigned).unwrap();
    folder.node_keys().unwrap();
    SigningKey::read_or_create(data.path()).unwrap();
    let mode = |name: &str| fs::metadata(data.path().join(name)).unwrap().permissions().mode() & 0o777;
    for secret in ["tls/key.pem", "keys/signing.pem", "keys/node.key"] {
        assert_eq!(mode(secret), 0o600, "{secret}");
    }
    for folder in ["tls", "keys", "store"] {
        assert_eq!(mode(folder), 0o700, "{folder}");
    }
    assert_ne!(mode("fingerprint") & 0o400, 0);
}

#[test]
fn the_files_for_clients_on_this_machine() {
    let data = tempdir().unwrap();
    let folder = DataFolder::open(data.path()).unwrap();
    let certificate = folder.certificate(&TlsConfig::SelfSigned).unwrap();
    folder.write_endpoint("127.0.0.1:4433".parse().unwrap()).unwrap();
    assert_eq!(text(data.path().join("listen")), "127.0.0.1:4433\n");
    let pem = text(data.path().join("tls/cert.pem"));
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    assert_eq!(certificate.chain[..], *std::slice::from_ref(&der));
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    let hex: String = sha256.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(text(data.path().join("fingerprint")), hex + "\n");
    folder.write_endpoint("127.0.0.1:1".parse().unwrap()).unwrap();
    assert_eq!(text(data.path().join("listen")), "127.0.0.1:1\n", "the newest start wins");
}

#[test]
fn a_second_relay_on_the_same_folder_is_refused() {
    let data = tempdir().unwrap();
    let first = DataFolder::open(data.path()).unwrap();
    let error = DataFolder::open(data.path()).expect_err("in use");
    assert!(matches!(error, IdentityError::InUse { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        format!(
            "the data folder {} is in use by another relay (pid {}); stop that one, or give this one its own folder with \
             --data",
            data.path().display(),
            std::process::id()
        )
    );
    drop(first);
    DataFolder::open(data.path()).expect("free again; the file that is left means nothing");
}

#[test]
fn the_first_process_creates_the_signing_key() {
    let data = tempdir().unwrap();
    let make = || SigningKey::read_or_create(data.path()).unwrap();
    let keys: Vec<_> =
        thread::scope(|scope| [(); 8].map(|()| scope.spawn(make)).map(|thread| thread.join().unwrap()).into());
    assert!(keys.iter().all(|key| *key == keys[0]), "all use the one that is kept");
    assert_eq!(SigningKey::read(data.path()).unwrap().as_ref(), Some(&keys[0]));
}

#[test]
fn reading_makes_nothing() {
    let data = tempdir().unwrap();
    assert_eq!(SigningKey::read(data.path()).unwrap(), None);
    assert!(Certificate::read(data.path(), &TlsConfig::SelfSigned).is_err());
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
}

#[test]
fn damaged_or_foreign_files_are_refused_by_name() {
    let data = tempdir().unwrap();
    let folder = DataFolder::open(data.path()).unwrap();
    folder.node_keys().unwrap();
    fs::write(data.path().join("keys/node.key"), "short").unwrap();
    let error = folder.node_keys().expect_err("damaged").to_string();
    let path = data.path().join("keys/node.key");
    let expected = format!("{} is not a usable key: 96 bytes expected; delete it to get a new one", path.display());
    assert_eq!(error, expected);
    fs::write(data.path().join("keys/signing.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let error = SigningKey::read(data.path()).expect_err("not Ed25519");
    assert!(error.to_string().ends_with("an Ed25519 key expected; delete it to get a new one"), "{error}");
}

#[test]
fn an_operators_certificate_is_used_when_it_fits_its_key() {
    let data = tempdir().unwrap();
    let folder = DataFolder::open(data.path()).unwrap();
    let (cert, key, other) = (data.path().join("c.pem"), data.path().join("k.pem"), data.path().join("o.pem"));
    let signed = rcgen::generate_simple_self_signed(["chat.example.org".to_owned()]).unwrap();
    fs::write(&cert, signed.cert.pem()).unwrap();
    fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    fs::write(&other, KeyPair::generate().unwrap().serialize_pem()).unwrap();

    let files = |cert: &Path, key: &Path| TlsConfig::Files { cert: cert.to_owned(), key: key.to_owned() };
    let certificate = folder.certificate(&files(&cert, &key)).unwrap();
    assert_eq!(certificate.chain, [signed.cert.der().clone()]);
    assert_eq!(text(data.path().join("fingerprint")).trim_end(), certificate.fingerprint());
    assert!(!data.path().join("tls").exists(), "no self-signed one is made beside it");

    let error = folder.certificate(&files(&cert, &other)).expect_err("another pair");
    assert!(matches!(error, IdentityError::NotAPair { .. }), "{error}");
    let error = folder.certificate(&files(&key, &key)).expect_err("no certificate");
    assert_eq!(error.to_string(), format!("{} is not a certificate chain in PEM: no CERTIFICATE in it", key.display()));
    let error = folder.certificate(&files(&cert, &cert)).expect_err("no key");
    assert!(matches!(error, IdentityError::BadKey { .. }), "{error}");
    let error = folder.certificate(&files(&data.path().join("none.pem"), &key)).expect_err("no file");
    assert!(error.to_string().starts_with("cannot read "), "{error}");
}
