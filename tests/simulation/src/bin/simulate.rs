//! `simulate [N] [FIRST_SEED]`: runs N seeds. The first that breaks a promise ends it: its history is printed, and what
//! it broke.

use std::{process::ExitCode, time::Instant};

use quip_simulation::runs;

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|arg| arg.parse::<u64>());
    let (Ok(count), Ok(first)) = (numbers.next().unwrap_or(Ok(1000)), numbers.next().unwrap_or(Ok(1))) else {
        eprintln!("usage: simulate [N] [FIRST_SEED]");
        return ExitCode::from(2);
    };
    let began = Instant::now();
    match runs::many(first, count) {
        Ok(totals) => {
            println!("{totals}, in {:.1} s", began.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(broken) => {
            println!("{broken}");
            ExitCode::FAILURE
        }
    }
}
