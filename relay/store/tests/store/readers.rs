//! The pool of reader threads.

use std::sync::mpsc;

use quip_store::{Busy, Readers, ReadersConfig};

use crate::harness::{PATIENCE, open};

#[test]
fn jobs_run_beside_each_other_and_too_many_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), 7).unwrap();
    let readers = Readers::start(store.view(), ReadersConfig { threads: 2, waiting: 3 }).unwrap();
    let (begun, begins) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    let mut gates = Vec::new();
    for _ in 0..2 {
        let (open, gate) = mpsc::channel::<()>();
        gates.push(open);
        let begun = begun.clone();
        let job = move |_: &_| {
            begun.send(()).unwrap();
            gate.recv().unwrap_err();
        };
        readers.run(Box::new(job)).unwrap();
    }
    // Both threads are in the middle of a job.
    (0..2).for_each(|_| begins.recv_timeout(PATIENCE).unwrap());
    for i in 0..3 {
        let answer = answer.clone();
        readers.run(Box::new(move |view| answer.send((i, view.generation())).unwrap())).unwrap();
    }
    assert_eq!(readers.run(Box::new(|_| ())), Err(Busy));
    drop(gates);
    let mut answers: Vec<_> = (0..3).map(|_| answers.recv_timeout(PATIENCE).unwrap()).collect();
    answers.sort_unstable();
    let generation = store.view().generation();
    assert_eq!(answers, [(0, generation), (1, generation), (2, generation)]);
}

#[test]
fn dropping_the_pool_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), 7).unwrap();
    let readers = Readers::start(store.view(), ReadersConfig::default()).unwrap();
    drop(store);
    drop(readers);
    open(folder.path(), 7).expect("no thread holds the store any more");
}
