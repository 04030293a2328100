//! `berth audit`: what the log of this server's decisions says of itself.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use policies_identity::{AuditEvidence, AuditReport, audit_files, verify_audit_log};
use registry_sql::Database;

use crate::arguments::ServeArguments;
use crate::checkpoints::Roots;
use crate::config::Settings;
use crate::places::ReplicaPlaces;
use crate::serve::open_keys;
use crate::storage::Storage;

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Check the audit log for edits, gaps, reordering and a missing end
    ///
    /// Reads DIR/audit.log and the files that were moved away from it (audit.log.1, …), and changes nothing. Every
    /// line carries a number and a code that only the line before allows; every minute a checkpoint is signed with
    /// a key that is then erased, and written to the metadata and to the replicas. Lines of the last minute, which
    /// none covers yet, can be checked but their removal cannot be noticed. Without the database the replicas of the
    /// configuration tell how far the log went. Ends with 1 when anything is found.
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
        let (_, sealer) = open_keys(&settings, false)?;
        let database = match open(&settings).await {
            Ok(database) => Some(database),
            Err(error) => {
                eprintln!("warning: {error:#}: only what the replicas hold is compared");
                None
            }
        };
        let places = ReplicaPlaces::new(&settings, &sealer)?;
        let roots = Roots::find(Arc::new(places), locations(&settings, database.as_ref()).await?).await;
        let evidence = AuditEvidence { database: database.as_ref(), sealer: &sealer, places: Some(&roots) };
        let report = verify_audit_log(evidence, files).await;
        if let Some(database) = database {
            database.close().await;
        }
        let report = report?;
        match self.output {
            Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
            Output::Text => print(&report),
        }
        Ok(if report.is_intact() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

async fn open(settings: &Settings) -> Result<Database> {
    Storage::existing(settings).await?.open().await
}

/// Where replicas lie: those of the configuration, and those that the database knows of.
async fn locations(settings: &Settings, database: Option<&Database>) -> Result<Vec<String>> {
    let mut locations = settings.replica_locations();
    if let Some(database) = database {
        for row in database.read(|tx| registry_metadata::replicas::all(tx)).await? {
            locations.extend(row.location.filter(|location| !locations.contains(location)));
        }
    }
    Ok(locations)
}

fn print(report: &AuditReport) {
    for finding in &report.findings {
        match (&finding.file, finding.line) {
            (Some(file), Some(line)) => println!("{}:{line}: {}", file.display(), finding.message),
            _ => println!("{}", finding.message),
        }
    }
    for place in &report.unread {
        println!("not compared with {place}");
    }
    if report.unchecked > 0 {
        println!(
            "{} lines after the last checkpoint can only be checked with the database",
            report.unchecked
        );
    }
    let AuditReport { files, lines, checkpoints, .. } = report;
    let compared = match report.compared.is_empty() {
        true => "no checkpoint elsewhere".to_owned(),
        false => report.compared.join(", "),
    };
    let verdict = match report.found {
        0 => "nothing was changed".to_owned(),
        1 => "1 finding".to_owned(),
        found => format!("{found} findings"),
    };
    println!(
        "{verdict}: {lines} lines, {checkpoints} checkpoints, in {files} files; compared with {compared}"
    );
}
