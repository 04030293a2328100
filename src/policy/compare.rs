//! `berth policy diff` and `berth policy who-can`: what policies mean, for everybody who exists on a server, or without
//! one for those whom files name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use policies_identity::files::{self, Circumstances, Difference, Permitted, PolicyFiles};
use registry_cli::{Connection, Output};
use registry_types::{Region, RepositoryName};
use serde_json::{Value, json};

const FILES_ONLY: &str = "without a server these are the principals and repositories of files alone";

/// Tell what a change of policy files would newly allow and newly deny
///
/// Compares DIR with the generation that is in effect on the server, for the principals of both, those that the IAM API
/// made, and the repositories that exist; or, with --against, with another directory: then without a server, and for
/// those whom the files name alone.
#[derive(Args, Debug)]
pub(crate) struct Diff {
    /// Directory with berth-policies.json in it: the new state
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// The old state: another directory
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,

    #[command(flatten)]
    connection: Connection,
}

impl Diff {
    /// Asks, and prints the differences by principal.
    pub(crate) async fn run(self) -> Result<()> {
        let new = checked(&self.dir)?;
        let region: Region = self.connection.region.parse()?;
        let (old, new, repositories) = match &self.against {
            Some(dir) => {
                eprintln!("note: {FILES_ONLY}");
                (checked(dir)?, new, Vec::new())
            }
            None => self.in_effect(&new).await?,
        };
        let differences = files::diff(&old, &new, &repositories, &circumstances(&region))?;
        match self.connection.output {
            Output::Json => println!("{}", serde_json::to_string_pretty(&differences)?),
            Output::Text if differences.is_empty() => println!("nothing changes for anybody"),
            Output::Text => differences.iter().for_each(print_difference),
        }
        Ok(())
    }

    /// What is in effect on the server, what would be with the new files, and the server's repositories.
    async fn in_effect(&self, new: &PolicyFiles) -> Result<(PolicyFiles, PolicyFiles, Vec<RepositoryName>)> {
        let api = self.connection.client()?;
        let answer = api.berth("GetPolicyFiles", &json!({ "includeExisting": true })).await?;
        let texts = |list: &Value| {
            let mut texts = BTreeMap::new();
            for file in list.as_array().into_iter().flatten() {
                let text = |field: &str| file[field].as_str().map(str::to_owned);
                texts.extend(text("path").zip(text("content")));
            }
            texts
        };
        let (mut published, existing) = (texts(&answer["files"]), texts(&answer["existing"]));
        if published.is_empty() {
            let marker = json!({ "format": 1, "account": new.account.as_str() }).to_string();
            published.insert("berth-policies.json".to_owned(), marker);
        }
        let with = |what: &str, files: &BTreeMap<String, String>| match files::with_existing(files, &existing)
        {
            Ok(everybody) => Ok(everybody),
            Err(findings) => bail!("{what} does not pass this check:\n{}", super::lines(&findings)),
        };
        let old = with("the generation in effect", &published)?;
        for finding in &old.left_out {
            eprintln!("note: left out: {finding}");
        }
        let new = with("the directory, with what the IAM API owns,", &new.texts())?;
        let (old, new) = (old.files, new.files);
        let mut repositories = Vec::new();
        let mut input = json!({ "maxResults": 1000 });
        loop {
            let page = api.ecr("DescribeRepositories", &input).await?;
            let names = page["repositories"].as_array().into_iter().flatten();
            repositories.extend(names.filter_map(|one| one["repositoryName"].as_str()?.parse().ok()));
            match &page["nextToken"] {
                Value::String(token) => input["nextToken"] = token.as_str().into(),
                _ => return Ok((old, new, repositories)),
            }
        }
    }
}

/// Tell who may do something
///
/// Asks the server about everybody who exists there, or with --dir a directory about those whom its files name, without
/// a server. A principal whose permission has conditions on a request is listed with the keys that they speak of.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  berth policy who-can ecr:PutImage repository/web/app")]
pub(crate) struct WhoCan {
    /// IAM action, such as ecr:PutImage
    #[arg(value_name = "ACTION")]
    action: String,

    /// repository/NAME, cluster/NAME, role/NAME, '*' or an ARN
    #[arg(value_name = "RESOURCE", default_value = "*")]
    resource: String,

    /// Directory with berth-policies.json in it
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    #[command(flatten)]
    connection: Connection,
}

impl WhoCan {
    /// Asks, and prints one principal a line.
    pub(crate) async fn run(self) -> Result<()> {
        let principals = match &self.dir {
            Some(dir) => {
                eprintln!("note: {FILES_ONLY}");
                let region: Region = self.connection.region.parse()?;
                let found: Vec<Permitted> =
                    files::who_can(&checked(dir)?, &self.action, &self.resource, &circumstances(&region))?;
                serde_json::to_value(found)?
            }
            None => {
                let input = json!({ "action": self.action, "resource": self.resource });
                let mut answer = self.connection.client()?.berth("WhoCan", &input).await?;
                for finding in answer["leftOut"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                    eprintln!("note: left out: {finding}");
                }
                answer["principals"].take()
            }
        };
        if let Output::Json = self.connection.output {
            println!("{principals:#}");
            return Ok(());
        }
        for who in principals.as_array().context("the server answers with a list")? {
            let name = who["principal"].as_str().unwrap_or_default();
            let needs: Vec<&str> =
                who["needs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if needs.is_empty() {
                println!("{name}  {}", who["policy"].as_str().unwrap_or("needs no policy"));
            } else {
                println!("{name}  depending on {}", needs.join(", "));
            }
        }
        Ok(())
    }
}

fn checked(dir: &Path) -> Result<PolicyFiles> {
    match files::check(dir) {
        Ok(files) => Ok(files),
        Err(findings) => bail!("{} is not valid:\n{}", dir.display(), super::lines(&findings)),
    }
}

fn circumstances(region: &Region) -> Circumstances<'_> {
    Circumstances { region, now_ms: registry_runtime::Clock::system().now_ms() }
}

fn print_difference(difference: &Difference) {
    println!("{}  {}", difference.principal, difference.resource);
    for (sign, actions) in [("+", &difference.newly_allowed), ("-", &difference.newly_denied)] {
        for action in actions {
            println!("  {sign} {action}");
        }
    }
}
