//! Medians over the rounds, as a table.

use std::collections::BTreeMap;
use std::time::Duration;

/// One round of one workload on one server.
pub(crate) struct Measured {
    pub(crate) requests: usize,
    pub(crate) bytes: u64,
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) latencies: Vec<Duration>,
}

/// The figures of one round.
#[derive(Clone, Copy)]
struct Figures {
    /// CPU microseconds a request, or CPU seconds a GiB where content is moved.
    cpu: f64,
    per_gib: bool,
    rate: f64,
    p50: Duration,
    p99: Duration,
}

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<(String, BTreeMap<String, Vec<Figures>>)>,
    servers: Vec<String>,
    memory: Vec<(String, (u64, u64))>,
}

impl Report {
    pub(crate) fn add(&mut self, workload: &str, server: &str, mut measured: Measured) {
        measured.latencies.sort_unstable();
        let at = |share: f64| measured.latencies[((measured.latencies.len() - 1) as f64 * share) as usize];
        let cpu = measured.cpu.as_secs_f64();
        let per_gib = measured.bytes > 0;
        let figures = Figures {
            cpu: if per_gib {
                cpu / (measured.bytes as f64 / (1u64 << 30) as f64)
            } else {
                cpu * 1e6 / measured.requests as f64
            },
            per_gib,
            rate: measured.requests as f64 / measured.wall.as_secs_f64(),
            p50: at(0.5),
            p99: at(0.99),
        };
        if !self.servers.iter().any(|name| name == server) {
            self.servers.push(server.to_owned());
        }
        if self.rows.last().is_none_or(|(name, _)| name != workload) {
            self.rows.push((workload.to_owned(), BTreeMap::new()));
        }
        let (_, row) = self.rows.last_mut().expect("a row was just pushed");
        row.entry(server.to_owned()).or_default().push(figures);
    }

    pub(crate) fn memory(&mut self, server: &str, kib: (u64, u64)) {
        self.memory.push((server.to_owned(), kib));
    }

    pub(crate) fn print(&self) {
        let reference = self.servers.get(1);
        println!(
            "{:<24} {:<16} {:>16} {:>10} {:>10} {:>10} {:>10}",
            "", "", "server CPU", "of peer", "req/s", "p50 ms", "p99 ms"
        );
        for (workload, row) in &self.rows {
            let reference =
                reference.and_then(|name| row.get(name)).map(|rounds| median(rounds, |figures| figures.cpu));
            for server in &self.servers {
                let Some(rounds) = row.get(server) else { continue };
                let cpu = median(rounds, |figures| figures.cpu);
                let unit = if rounds[0].per_gib { "s/GiB" } else { "us/req" };
                println!(
                    "{workload:<24} {server:<16} {cpu:>9.3} {unit:<6} {:>10} {:>10.0} {:>10.2} {:>10.2}",
                    reference.map(|reference| format!("{:.3}", cpu / reference)).unwrap_or_default(),
                    median(rounds, |figures| figures.rate),
                    median(rounds, |figures| figures.p50.as_secs_f64() * 1e3),
                    median(rounds, |figures| figures.p99.as_secs_f64() * 1e3),
                );
            }
        }
        for (server, (now, highest)) in &self.memory {
            println!("{:<24} {server:<16} now {} MiB, at most {} MiB", "memory", now / 1024, highest / 1024);
        }
    }
}

fn median(rounds: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
