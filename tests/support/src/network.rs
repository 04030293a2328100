//! Machines of a network that exists for one test: namespaces on one switch.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::{run, try_run};

/// A switch, and machines that reach each other through it and nobody else.
pub struct Network {
    switch: Namespace,
    machines: Vec<Namespace>,
}

/// One machine's view of the network: interfaces, addresses and ports of its own.
pub struct Namespace {
    name: String,
    address: Ipv4Addr,
}

impl Network {
    /// Makes a network of so many machines; needs root.
    pub fn new(machines: u8) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = (std::process::id() * 8 + NEXT.fetch_add(1, Ordering::Relaxed)) % 60_000;
        let third = u8::try_from(number % 250).unwrap();
        let address = |last: u8| Ipv4Addr::new(10, 99, third, last);
        let switch = Namespace::new(format!("bn{number}s"), address(0));
        switch.ip("link add switch type bridge");
        switch.ip("link set switch up");
        let mut network = Self { switch, machines: Vec::new() };
        for index in 1..=machines {
            let machine = Namespace::new(format!("bn{number}m{index}"), address(index));
            let (port, name) = (format!("port{index}"), &network.switch.name);
            machine.ip(&format!("link add eth0 type veth peer name {port} netns {name}"));
            machine.ip(&format!("addr add {}/24 dev eth0", machine.address));
            machine.ip("link set eth0 up");
            network.switch.ip(&format!("link set {port} master switch up"));
            network.machines.push(machine);
        }
        network
    }

    /// By number, from 0.
    pub fn machine(&self, index: usize) -> &Namespace {
        &self.machines[index]
    }
}

impl Namespace {
    fn new(name: String, address: Ipv4Addr) -> Self {
        run(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Self { name, address };
        namespace.ip("link set lo up");
        namespace
    }

    /// `ip ARGS` in here; the words are split at blanks.
    pub fn ip(&self, args: &str) {
        run(self.command("ip").args(args.split(' ')));
    }

    pub fn address(&self) -> IpAddr {
        IpAddr::V4(self.address)
    }

    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// A program in here.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        in_namespace(&self.path(), program)
    }

    /// Runs `action` on a thread whose sockets are this machine's.
    pub fn within<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.path()).unwrap();
        std::thread::scope(|scope| {
            let entered = scope.spawn(|| {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                action()
            });
            entered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Not by `ip netns exec`, which hides the control groups that an engine needs.
pub(crate) fn in_namespace(path: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", path.display())).arg("--").arg(program);
    command
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = try_run(Command::new("ip").args(["netns", "del", &self.name]));
    }
}
