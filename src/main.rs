//! The binary `berth`: takes the arguments, runs what they say, and prints an error with its causes.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where the command line is spoken")]

mod admin;
mod agent;
mod arguments;
mod audit;
mod certificate;
mod change_log;
mod checkpoints;
mod config;
mod content;
mod dispatch;
mod drain;
mod health;
mod images;
mod issuers;
mod listen;
mod names;
mod observe;
mod output;
mod peers;
mod places;
mod policy;
mod recovery;
mod repositories;
mod secret;
mod serve;
mod storage;
mod up;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    output::end_with_its_reader();
    match arguments::Arguments::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
