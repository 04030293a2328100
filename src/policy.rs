//! `berth policy check` and `berth policy simulate`: policies, without a server.

mod compare;
mod simulate;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use policies_identity::files::{self, FileFinding, PolicyFiles};
use registry_cli::Output;
use serde_json::json;

pub(crate) use compare::{Diff, WhoCan};
pub(crate) use simulate::Simulate;

/// Check a directory of policy files
///
/// Prints every error and warning with file, line and column. Ends with status 1 when there is an error.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Directory with berth-policies.json in it
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl Check {
    /// Checks the whole set and prints all findings.
    pub(crate) fn run(self) -> Result<ExitCode> {
        let checked = files::check(&self.dir);
        let (findings, valid) = match &checked {
            Ok(files) => (&files.warnings, true),
            Err(findings) => (findings, false),
        };
        match self.output {
            Output::Json => println!("{:#}", json!({ "valid": valid, "findings": findings })),
            Output::Text => {
                for finding in findings {
                    println!("{}/{finding}", self.dir.display());
                }
                match &checked {
                    Ok(files) => println!("{}", summary(files)),
                    Err(findings) => {
                        println!("{} errors", findings.iter().filter(|finding| finding.is_error()).count())
                    }
                }
            }
        }
        Ok(if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn summary(files: &PolicyFiles) -> String {
    format!(
        "valid: {} users, {} groups, {} roles, {} policies, {} repository policies",
        files.users.len(),
        files.groups.len(),
        files.roles.len(),
        files.policies.len(),
        files.repositories.len()
    )
}

fn lines(findings: &[FileFinding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
