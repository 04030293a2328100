//! One line on the terminal that says how far it is; nothing where nobody looks.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use registry::backup::{Phase, Progress};

const EVERY: Duration = Duration::from_millis(100);

pub(super) struct ProgressLine {
    terminal: bool,
    shown: Option<Instant>,
}

impl ProgressLine {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), shown: None }
    }

    pub(super) fn show(&mut self, progress: Progress) {
        if !self.terminal || self.shown.is_some_and(|shown| shown.elapsed() < EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let what = match progress.phase {
            Phase::Database => "database",
            Phase::Content => "content",
            Phase::Checking => "checking",
        };
        let mib = |bytes: u64| bytes >> 20;
        eprint!("\r{what:<9} {:>8} of {} MiB ", mib(progress.done_bytes), mib(progress.total_bytes));
        drop(std::io::stderr().flush());
    }

    /// Takes the line away.
    pub(super) fn end(&mut self) {
        if self.shown.take().is_some() {
            eprint!("\r{:50}\r", "");
        }
    }
}
