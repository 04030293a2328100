//! `berth audit`: what the log of this server's decisions says of itself.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use policies_identity::{AuditReport, audit_files, verify_audit_log};

use crate::arguments::ServeArguments;
use crate::config::Settings;
use crate::serve::open_keys;
use crate::storage::Storage;

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Check the audit log for edits, gaps, reordering and a missing end
    ///
    /// Reads DIR/audit.log and the files that were moved away from it (audit.log.1, …), and changes nothing. Every
    /// line carries a number and a code that only the line before allows; every minute a checkpoint is signed with
    /// a key that is then erased and written to the metadata. Lines of the last minute, which none covers yet, can
    /// be checked but their removal cannot be noticed. Ends with 1 when anything is found.
    Verify(Verify),
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    #[command(flatten)]
    server: ServeArguments,

    /// Files of one log, oldest first, instead of those in DIR
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
}

impl Verify {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let settings = Settings::load(&self.server)?;
        let files = match self.files.is_empty() {
            true => audit_files(&settings.audit_log()).context("cannot look for the audit log")?,
            false => self.files,
        };
        let storage = Storage::existing(&settings).await?;
        let (_, sealer) = open_keys(&settings, false)?;
        let database = storage.open().await?;
        let report = verify_audit_log(&database, &sealer, files).await;
        database.close().await;
        let report = report?;
        match self.output {
            Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
            Output::Text => print(&report),
        }
        Ok(if report.is_intact() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn print(report: &AuditReport) {
    for finding in &report.findings {
        match (&finding.file, finding.line) {
            (Some(file), Some(line)) => println!("{}:{line}: {}", file.display(), finding.message),
            _ => println!("{}", finding.message),
        }
    }
    let AuditReport { files, lines, checkpoints, .. } = report;
    let verdict = match report.found {
        0 => "nothing was changed".to_owned(),
        1 => "1 finding".to_owned(),
        found => format!("{found} findings"),
    };
    println!("{verdict}: {lines} lines, {checkpoints} checkpoints, in {files} files");
}
