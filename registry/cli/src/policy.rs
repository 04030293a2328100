//! `berth policy apply`: publishes a directory of policy files as one generation.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use crate::connection::{Connection, Output};

/// Publish a directory of policy files as one generation
///
/// The server checks the whole set first; with one error nothing changes and every finding is printed.
/// See also `berth policy check DIR`, which needs no server.
#[derive(Args, Debug)]
pub struct Apply {
    /// Directory with berth-policies.json in it
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    #[command(flatten)]
    connection: Connection,
}

impl Apply {
    /// Sends the files and prints the new generation.
    ///
    /// # Errors
    /// When a file cannot be read, or the server refuses the set.
    pub async fn run(self) -> Result<()> {
        let mut files = Vec::new();
        collect(&self.dir, &self.dir, &mut files)?;
        let answer = self.connection.client()?.berth("PublishPolicies", &json!({ "files": files })).await?;
        match self.connection.output {
            Output::Text => println!("policy generation {} is live", answer["generation"]),
            Output::Json => println!("{answer:#}"),
        }
        Ok(())
    }
}

/// Adds every file below `dir` with its path relative to `root`; folders whose names begin with a dot are left out.
fn collect(root: &Path, dir: &Path, files: &mut Vec<Value>) -> Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(dir)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot read {}", dir.display()))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files)?;
            continue;
        }
        let content =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let relative = path.strip_prefix(root).context("a file below the directory")?;
        files.push(json!({ "path": relative.to_string_lossy(), "content": content }));
    }
    Ok(())
}
