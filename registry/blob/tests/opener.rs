//! The opener of BRF1 objects under hostile changes: every program of the fuzz target's corpus, and random ones.
//!
//! `BRF1_SEED` and `BRF1_CASES` set the seed and the number of random programs; the long form takes its seed from the
//! clock.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and the long form tells its seed"
)]

#[path = "opener/program.rs"]
mod program;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use program::{Opener, Read};

/// The inputs that are kept, by their names.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/brf1_opener");
    let mut inputs: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        })
        .collect();
    inputs.sort();
    inputs
}

/// Numbers that are the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }
}

/// A program out of kept ones: steps of two of them, bytes changed, steps of its own.
fn program(corpus: &[(String, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    let mut program = corpus[random.below(corpus.len())].1.clone();
    for _ in 0..=random.below(3) {
        match random.below(4) {
            0 => {
                let other = &corpus[random.below(corpus.len())].1;
                program.extend_from_slice(&other[other.len().min(1)..]);
            }
            1 if !program.is_empty() => {
                let at = random.below(program.len());
                program[at] ^= 1 << random.below(8);
            }
            2 if program.len() > 1 => {
                let at = 1 + random.below(program.len() - 1);
                program.truncate(at);
            }
            _ => {
                if program.is_empty() {
                    program.push(random.below(5) as u8);
                }
                let mut step = random.bytes(6);
                // Places within the objects, which have far less than 16 MiB.
                step[1] %= 3;
                program.extend(step);
            }
        }
    }
    program
}

/// Runs so many random programs; what was refused, and what was as good as unchanged.
fn run(seed: u64, cases: u64) -> (u64, u64) {
    let (opener, corpus) = (Opener::new(), corpus());
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut refused, mut unchanged) = (0, 0);
    for case in 0..cases {
        let program = program(&corpus, &mut random);
        let read = catch_unwind(AssertUnwindSafe(|| opener.run(&program)));
        match read.unwrap_or_else(|_| panic!("case {case} of seed {seed}: {program:?}")) {
            Some(Read::Refused) => refused += 1,
            Some(Read::Unchanged) | None => unchanged += 1,
        }
    }
    (refused, unchanged)
}

#[allow(clippy::disallowed_methods, reason = "seed and number of cases of a test come from its environment")]
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn every_kept_input_is_read_right_or_refused() {
    let opener = Opener::new();
    for (name, input) in corpus() {
        let expected = if name == "unchanged" { Read::Unchanged } else { Read::Refused };
        assert_eq!(opener.run(&input), Some(expected), "{name}");
    }
}

#[test]
fn random_programs_are_read_right_or_refused() {
    let (refused, unchanged) = run(number("BRF1_SEED", 1), number("BRF1_CASES", 10_000));
    assert!(refused > unchanged, "{refused} of {} did something", refused + unchanged);
}

#[test]
#[ignore = "long: a million random programs"]
fn a_million_random_programs_are_read_right_or_refused() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("BRF1_SEED", clock);
    println!("seed {seed}");
    let (refused, unchanged) = run(seed, number("BRF1_CASES", 1_000_000));
    println!("{refused} refused, {unchanged} as good as unchanged");
}
