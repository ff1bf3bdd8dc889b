//! Many runs keep every promise, and the same seed gives the same run.

use std::time::{Duration, Instant};

use quip_simulation::{
    runs,
    world::{Options, run},
};

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 1..=8 {
        let [one, other] = [(); 2].map(|()| run(Options { seed, time: runs::TIME, plant: None, text: true }));
        if let Some((line, (here, there))) =
            (1_usize..).zip(one.lines.iter().zip(&other.lines)).find(|(_, (here, there))| here != there)
        {
            let near =
                |lines: &[String]| lines[line.saturating_sub(CONTEXT)..(line + CONTEXT).min(lines.len())].join("\n");
            let (one, other) = (near(&one.lines), near(&other.lines));
            panic!("seed {seed} differs in line {line}:\n{here}\n{there}\nIn context:\n{one}\nand\n{other}");
        }
        assert_eq!((one.lines.len(), one.trace), (other.lines.len(), other.trace), "seed {seed}");
    }
}

#[test]
fn every_promise_is_kept() {
    let began = Instant::now();
    let totals = runs::many(1, SEEDS).unwrap_or_else(|broken| panic!("{broken}"));
    println!("{totals}, in {:.1} s", began.elapsed().as_secs_f64());
    assert!(totals.packets > SEEDS * 500, "hardly anything happened: {totals}");
    assert!(totals.time > Duration::from_secs(60) * SEEDS as u32);
}

/// Lines that are shown around the first that differs.
const CONTEXT: usize = 12;
/// As many as fit well into three minutes.
const SEEDS: u64 = 2000;
