//! `berth policy diff` and `berth policy who-can`: what policy files mean for those whom they name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use policies_identity::files::{self, Circumstances, Difference, Permitted, PolicyFiles};
use registry_cli::{Connection, Output};
use registry_types::{Region, RepositoryName};
use serde_json::{Value, json};

/// Tell what a change of policy files would newly allow and newly deny
///
/// Compares DIR with the generation that is in effect on the server, for the principals of both and the repositories
/// that exist; or, with --against, with another directory and without a server.
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
        let (old, repositories) = match &self.against {
            Some(dir) => (checked(dir)?, Vec::new()),
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

    /// The files of the newest generation and the repositories of the server.
    async fn in_effect(&self, new: &PolicyFiles) -> Result<(PolicyFiles, Vec<RepositoryName>)> {
        let api = self.connection.client()?;
        let answer = api.berth("GetPolicyFiles", &json!({})).await?;
        let mut texts = BTreeMap::new();
        for file in answer["files"].as_array().into_iter().flatten() {
            let text = |field: &str| file[field].as_str().map(str::to_owned);
            texts.extend(text("path").zip(text("content")));
        }
        if texts.is_empty() {
            let marker = json!({ "format": 1, "account": new.account.as_str() }).to_string();
            texts.insert("berth-policies.json".to_owned(), marker);
        }
        let old = files::check_texts(&texts).map_err(|findings| {
            anyhow::anyhow!("the generation in effect does not pass this check:\n{}", super::lines(&findings))
        })?;
        let mut repositories = Vec::new();
        let mut input = json!({ "maxResults": 1000 });
        loop {
            let page = api.ecr("DescribeRepositories", &input).await?;
            let names = page["repositories"].as_array().into_iter().flatten();
            repositories.extend(names.filter_map(|one| one["repositoryName"].as_str()?.parse().ok()));
            match &page["nextToken"] {
                Value::String(token) => input["nextToken"] = token.as_str().into(),
                _ => return Ok((old, repositories)),
            }
        }
    }
}

/// Tell who may do something
///
/// Asks the files that are in effect on the server, or with --dir a directory, without a server. A principal whose
/// permission has conditions on a request is listed with the keys that they speak of.
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
                let region: Region = self.connection.region.parse()?;
                let found: Vec<Permitted> =
                    files::who_can(&checked(dir)?, &self.action, &self.resource, &circumstances(&region))?;
                serde_json::to_value(found)?
            }
            None => {
                let input = json!({ "action": self.action, "resource": self.resource });
                self.connection.client()?.berth("WhoCan", &input).await?["principals"].take()
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
