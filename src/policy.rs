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
                    let dir = self.dir.display().to_string();
                    let between = if finding.file.is_empty() { ": " } else { "/" };
                    println!("{}{between}{finding}", dir.trim_end_matches('/'));
                }
                let warnings = findings.iter().filter(|finding| !finding.is_error()).count();
                match &checked {
                    Ok(files) if warnings == 0 => println!("{}", summary(files)),
                    Ok(files) => println!("{}; {}", summary(files), counted(warnings, "warning")),
                    Err(findings) => {
                        let errors = counted(findings.len() - warnings, "error");
                        let warnings = if warnings == 0 {
                            String::new()
                        } else {
                            format!(", {}", counted(warnings, "warning"))
                        };
                        println!("{errors}{warnings}");
                    }
                }
            }
        }
        Ok(if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn summary(files: &PolicyFiles) -> String {
    let policies = match files.policies.len() {
        1 => "1 policy".to_owned(),
        number => format!("{number} policies"),
    };
    let of_repositories = match files.repositories.len() {
        1 => "1 repository policy".to_owned(),
        number => format!("{number} repository policies"),
    };
    format!(
        "valid: {}, {}, {}, {policies}, {of_repositories}",
        counted(files.users.len(), "user"),
        counted(files.groups.len(), "group"),
        counted(files.roles.len(), "role"),
    )
}

/// "1 error", "2 errors".
fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn lines(findings: &[FileFinding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
