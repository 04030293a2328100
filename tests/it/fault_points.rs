//! Kills and errors at the system calls of a change: nothing is acknowledged that is not kept, and a restart is clean.
//!
//! `strace` lets the Nth call of a kind end the server, or fail. N counts in each thread by itself, so one N stands for
//! that call in every thread that comes so far.

use std::process::Command;
use std::time::Duration;

use test_support::{Process, Server, eventually_within};

use crate::shelf::{Client, Random, Shelf};

/// Changes of each round.
const CHANGES: u64 = 12;

/// What changes make the system do, and what of it can fail.
const KILLS: [&str; 9] = [
    "fsync",
    "fdatasync",
    "write",
    "pwrite64",
    "ftruncate",
    "renameat2,rename,renameat",
    "unlink,unlinkat",
    "openat",
    "linkat,link",
];
const FAILURES: [(&str, &str); 6] = [
    ("fsync", "EIO"),
    ("fdatasync", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("pwrite64", "EIO"),
    ("renameat2,rename,renameat", "EIO"),
    ("ftruncate", "ENOSPC"),
];

#[test]
fn a_server_that_dies_or_fails_in_a_sync_keeps_what_it_acknowledged() {
    let mut site = Site::start();
    for nth in [1, 2, 5, 9] {
        site.round("fsync,fdatasync", "signal=KILL", nth);
        site.round("fsync,fdatasync", "error=EIO", nth);
    }
    assert_eq!(site.hit, site.rounds);
    site.report();
}

#[test]
#[ignore = "long: kills and errors at every system call of changes"]
fn a_server_that_dies_or_fails_anywhere_keeps_what_it_acknowledged() {
    let mut site = Site::start();
    for calls in KILLS {
        site.rounds(calls, "signal=KILL");
    }
    for (calls, error) in FAILURES {
        site.rounds(calls, &format!("error={error}"));
    }
    site.report();
}

struct Site {
    server: Server,
    shelf: Shelf,
    random: Random,
    rounds: u64,
    hit: u64,
}

impl Site {
    fn start() -> Self {
        let mut random = Random(0x0123_4567_89ab_cdef);
        let shelf = Shelf::new(0, random.next());
        Self { server: Server::start(), shelf, random, rounds: 0, hit: 0 }
    }

    /// From the first call on, until no thread comes so far any more.
    fn rounds(&mut self, calls: &str, fault: &str) {
        for nth in 1..=40 {
            if !self.round(calls, fault, nth) {
                return;
            }
        }
    }

    /// Makes changes while the nth of the calls is struck, restarts the server and looks. Whether anything was struck.
    fn round(&mut self, calls: &str, fault: &str, nth: u32) -> bool {
        let mut strace = self.attach(calls, &format!("{fault}:when={nth}"));
        let answered = self.shelf.work(&Client::new(&self.server), CHANGES);
        self.server.kill();
        eventually_within(Duration::from_secs(30), "strace ends", || strace.exited());
        let struck = !answered || strace.log().contains("INJECTED");
        self.server.start_again();
        let client = Client::new(&self.server);
        self.shelf.settle(&client);
        self.shelf.check(&client, &mut self.random);
        self.rounds += 1;
        self.hit += u64::from(struck);
        struck
    }

    fn attach(&mut self, calls: &str, fault: &str) -> Process {
        let id = self.server.process().id();
        let log = self.server.data().join("strace.log");
        let _ = std::fs::remove_file(&log);
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-p", &id.to_string(), "-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={calls}:{fault}")]);
        let strace = Process::start(&mut command, &log);
        eventually_within(Duration::from_secs(30), "every thread is traced", || {
            // An idle server makes calls too, and may have been struck at once.
            if self.server.process().exited().is_some() {
                return Some(());
            }
            let mut threads = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
            let traced = threads.all(|thread| {
                let status = std::fs::read_to_string(thread.unwrap().path().join("status"));
                status.is_ok_and(|status| !status.contains("TracerPid:\t0\n"))
            });
            traced.then_some(())
        });
        strace
    }

    fn report(&self) {
        let Self { rounds, hit, .. } = self;
        let (acknowledged, refused) = (self.shelf.acknowledged, self.shelf.refused);
        println!(
            "{rounds} rounds, {hit} struck: {acknowledged} changes acknowledged and kept, {refused} refused"
        );
    }
}
