//! `berth policy check` and `berth policy simulate`: policy files, without a server.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use policies_identity::files::{self, FileFinding, PolicyFiles, Question};
use registry_cli::Output;
use registry_types::Region;
use serde_json::json;

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

/// Ask what a directory of policy files decides, and why
///
/// Prints the decision, the statement that made it, and for every statement about the action what it matched or what
/// stood against it. Ends with status 0 when the answer is yes, 1 when it is no.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  berth policy simulate --dir policies/examples --principal user/alice \\\n    \
                        --action ecr:PutImage --resource repository/web/app"
)]
pub(crate) struct Simulate {
    /// Directory with berth-policies.json in it
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// user/NAME, role/NAME, role/NAME/SESSION, service/NAME, root, anonymous, or an ARN
    #[arg(long, value_name = "WHO")]
    principal: String,

    /// IAM action, such as ecr:PutImage
    #[arg(long, value_name = "ACTION")]
    action: String,

    /// repository/NAME, cluster/NAME, '*' or an ARN
    #[arg(long, default_value = "*", value_name = "RESOURCE")]
    resource: String,

    /// Condition key and value, such as aws:SourceIp=10.0.0.1; a key given several times is a list
    #[arg(long, value_name = "KEY=VALUE")]
    context: Vec<String>,

    #[arg(long, default_value = "us-east-1", value_name = "REGION")]
    region: String,

    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl Simulate {
    /// Decides by the files and prints why.
    pub(crate) fn run(self) -> Result<ExitCode> {
        let files = match files::check(&self.dir) {
            Ok(files) => files,
            Err(findings) => bail!("{} is not valid:\n{}", self.dir.display(), lines(&findings)),
        };
        let mut context = Vec::new();
        for pair in &self.context {
            let Some((key, value)) = pair.split_once('=') else { bail!("--context {pair} is not KEY=VALUE") };
            context.push((key.to_owned(), value.to_owned()));
        }
        let region: Region = self.region.parse()?;
        let question = Question {
            principal: &self.principal,
            action: &self.action,
            resource: &self.resource,
            context: &context,
            region: &region,
            now_ms: registry_runtime::Clock::system().now_ms(),
        };
        let answer = files::simulate(&files, &question)?;
        match self.output {
            Output::Text => println!("{}", answer.text().trim_end()),
            Output::Json => println!("{}", serde_json::to_string_pretty(&answer)?),
        }
        Ok(if answer.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn lines(findings: &[FileFinding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
