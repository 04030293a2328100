//! What the tests and benchmarks of the whole binary share: a real server process, Docker Engines of
//! their own, and the clients that talk to both.
//!
//! Everything started here is stopped on drop, and nothing is left on the machine.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test fails by panicking, with the place it happened"
)]

mod command;
mod disk;
mod engine;
mod http;
mod image;
mod network;
mod postgres;
mod process;
mod server;
mod wait;

pub use command::{aws, go_tool, run, run_with_input, try_run};
pub use disk::{Disk, Picture};
pub use engine::Engine;
pub use http::{Http, Response};
pub use image::{Hasher, Layer, image_archive, sha256, sha512, static_image};
pub use network::{Namespace, Network};
pub use postgres::{Postgres, database_in};
pub use process::Process;
pub use server::{Agent, Server, ServerBuilder, binary};
pub use wait::{eventually, eventually_within};
