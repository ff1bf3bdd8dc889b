//! A data folder that was copied back gets another identity, also when that is interrupted.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, process::Command};

use quip_order::{EmbeddedConfig, embedded, renew};
use quip_relay::{
    config::Config,
    identity::{DataFolder, Renewal},
    restore::restore,
    serve::{ServeError, serve},
};
use quip_store::{Store, StoreConfig};
use tempfile::tempdir;

fn config(data: &Path) -> Config {
    Config::development(Some(data.to_owned()), Some("127.0.0.1:0".parse().unwrap()))
}

/// A folder as a relay leaves it. Gives the generation of its log.
fn fill(data: &Path) -> u64 {
    let folder = DataFolder::open(data).unwrap();
    let (_submit, order) = embedded(&folder.log(), EmbeddedConfig::default()).unwrap();
    drop(Store::open(&folder.store(), StoreConfig::default(), order.generation()).unwrap());
    order.generation()
}

/// The generation of a log and a store that fit together.
fn generation(data: &Path) -> u64 {
    let folder = DataFolder::open(data).unwrap();
    let (_submit, order) = embedded(&folder.log(), EmbeddedConfig::default()).unwrap();
    drop(Store::open(&folder.store(), StoreConfig::default(), order.generation()).unwrap());
    order.generation()
}

#[test]
fn log_and_store_get_another_generation_each_time() {
    let data = tempdir().unwrap();
    let first = fill(data.path());
    let second = restore(&config(data.path())).unwrap().renewal;
    assert_eq!((second.from, second.to), (first, generation(data.path())));
    let third = restore(&config(data.path())).unwrap().renewal;
    assert_eq!((third.from, third.to), (second.to, generation(data.path())));
    assert!(first != second.to && second.to != third.to);
}

#[test]
fn after_an_interruption_at_any_step_a_start_is_refused_and_the_same_verb_completes_it() {
    for steps in 0..=2 {
        let data = tempdir().unwrap();
        let from = fill(data.path());
        let renewal = Renewal { from, to: from ^ 1 };
        let folder = DataFolder::open(data.path()).unwrap();
        folder.begin_renewal(renewal).unwrap();
        if steps > 0 {
            renew(&folder.log(), renewal.from, renewal.to).unwrap();
        }
        if steps > 1 {
            Store::renew(&folder.store(), StoreConfig::default(), renewal.to).unwrap();
        }
        drop(folder);
        let refused = serve(config(data.path()), |_| panic!("it serves after {steps} steps")).unwrap_err();
        assert!(matches!(refused, ServeError::Credentials(_)), "{refused}");
        assert!(refused.to_string().contains("run `quip-relay restore` again"), "{refused}");
        assert_eq!(restore(&config(data.path())).unwrap().renewal, renewal);
        assert_eq!(generation(data.path()), renewal.to);
    }
}

#[test]
fn what_cannot_be_restored_is_refused_and_says_why() {
    let data = tempdir().unwrap();
    let restoring = |data: &Path| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_quip-relay")).arg("restore").arg("--data").arg(data).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let absent = data.path().join("absent");
    let (code, _, error) = restoring(&absent);
    assert!(code == Some(1) && error.contains("there is no log in") && !absent.exists(), "{error}");
    fill(data.path());
    let in_use = DataFolder::open(data.path()).unwrap();
    let (code, _, error) = restoring(data.path());
    assert!(code == Some(1) && error.contains("is in use by another relay"), "{error}");
    drop(in_use);
    // Half of it was copied.
    let log = data.path().join("log");
    fs::rename(&log, data.path().join("elsewhere")).unwrap();
    drop(embedded(&log, EmbeddedConfig::default()).unwrap());
    let (code, _, error) = restoring(data.path());
    assert!(code == Some(1) && error.contains("one of the two is missing or was replaced"), "{error}");
    fs::remove_dir_all(&log).unwrap();
    fs::rename(data.path().join("elsewhere"), &log).unwrap();
    let (code, report, error) = restoring(data.path());
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(report.contains("is restored") && report.contains("Start the relay now"), "{report}");
}
