//! `berth key`: the epochs of keys, rolled and destroyed.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::connection::{Api, Connection, Output};
use crate::table::{self, text, time};

/// How often a command that waits looks again.
const LOOK: Duration = Duration::from_millis(300);

/// Make, roll and destroy the keys that wrap everything
#[derive(Debug, Subcommand)]
pub enum Key {
    List(List),
    Create(Create),
    Rotate(Rotate),
    Roll(Roll),
    Shred(Shred),
}

/// List the key domains and their epochs
#[derive(Args, Debug)]
pub struct List {
    #[command(flatten)]
    connection: Connection,
}

/// Make a key of its own for repositories
///
/// Repositories are created under it with `aws ecr create-repository --encryption-configuration
/// encryptionType=KMS,kmsKey=NAME`. It is rolled and destroyed apart from all others, with --domain NAME. Like every
/// key it lies in the key directory: copy it to the other servers' and into a new recovery key.
#[derive(Args, Debug)]
pub struct Create {
    /// Up to 48 letters, digits, '-' and '_'; or the ARN or alias/… of a KMS key that your tools name
    name: String,

    #[command(flatten)]
    connection: Connection,
}

/// Wrap everything under a new key, without touching content; the old one is kept
#[derive(Args, Debug)]
pub struct Rotate {
    /// Wait until everything is wrapped anew
    #[arg(long)]
    wait: bool,

    #[command(flatten)]
    of: OfDomain,
}

/// Rotate, wait, and destroy the old key
///
/// From copies of database and content made before, nothing can be read any more, unless they include the key
/// directory. Backups made before become unreadable.
#[derive(Args, Debug)]
pub struct Roll {
    /// Yes: backups made before this moment may become unreadable
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    of: OfDomain,
}

/// Destroy the old keys of a domain, under which nothing is wrapped any more
///
/// From copies of database and content made before the last rotation, nothing can be read any more, unless they
/// include the key directory. Backups made before it become unreadable.
#[derive(Args, Debug)]
pub struct Shred {
    /// Yes: backups made before the last rotation may become unreadable
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    of: OfDomain,
}

#[derive(Args, Debug)]
struct OfDomain {
    /// Key domain
    #[arg(long, value_name = "DOMAIN", default_value = "default")]
    domain: String,

    #[command(flatten)]
    connection: Connection,
}

impl Key {
    /// # Errors
    /// What the server refused, and why.
    pub async fn run(self) -> Result<()> {
        match self {
            Self::List(list) => list.run().await,
            Self::Create(create) => create.run().await,
            Self::Rotate(rotate) => rotate.run().await,
            Self::Roll(roll) => roll.run().await,
            Self::Shred(shred) => shred.run().await,
        }
    }
}

impl List {
    async fn run(self) -> Result<()> {
        let keys = self.connection.client()?.berth("ListKeys", &json!({})).await?;
        match self.connection.output {
            Output::Json => println!("{keys}"),
            Output::Text => {
                let rows = keys["epochs"].as_array().into_iter().flatten().map(|epoch| {
                    let state = match epoch["rewrapping"].as_bool() {
                        Some(true) => format!("{}, rewrapping", text(&epoch["state"])),
                        _ => text(&epoch["state"]),
                    };
                    let times = ["createdAt", "changedAt"].map(|name| time(&epoch[name]));
                    [text(&epoch["domain"]), text(&epoch["epoch"]), state].into_iter().chain(times).collect()
                });
                table::print(&["DOMAIN", "EPOCH", "STATE", "CREATED", "CHANGED"], rows);
            }
        }
        Ok(())
    }
}

impl Create {
    async fn run(self) -> Result<()> {
        let created = self.connection.client()?.berth("CreateKey", &json!({ "name": self.name })).await?;
        match self.connection.output {
            Output::Json => println!("{created}"),
            Output::Text => println!(
                "{}: epoch 1 is active; run `berth key export` again to have it in a recovery key",
                self.name
            ),
        }
        Ok(())
    }
}

impl OfDomain {
    fn input(&self) -> Value {
        json!({ "domain": self.domain })
    }

    /// Begins a new epoch; with `wait`, until every row is wrapped under it.
    async fn rotate(&self, api: &Api, wait: bool) -> Result<Value> {
        let rotated = api.berth("RotateKey", &self.input()).await?;
        while wait && self.is_rewrapping(api).await? {
            tokio::time::sleep(LOOK).await;
        }
        Ok(rotated)
    }

    async fn is_rewrapping(&self, api: &Api) -> Result<bool> {
        let keys = api.berth("ListKeys", &json!({})).await?;
        let epochs = keys["epochs"].as_array().context("the server lists no epochs")?;
        Ok(epochs.iter().any(|epoch| epoch["domain"] == *self.domain && epoch["rewrapping"] == true))
    }

    async fn shred(&self, api: &Api) -> Result<()> {
        let shredded = api.berth("ShredKey", &self.input()).await?;
        match self.connection.output {
            Output::Json => println!("{shredded}"),
            Output::Text => {
                let epochs = shredded["destroyedEpochs"].as_array().into_iter().flatten();
                let epochs: Vec<String> = epochs.map(text).collect();
                println!("{}: epoch {} is destroyed", self.domain, epochs.join(", "));
            }
        }
        Ok(())
    }
}

impl Rotate {
    async fn run(self) -> Result<()> {
        let rotated = self.of.rotate(&self.of.connection.client()?, self.wait).await?;
        match self.of.connection.output {
            Output::Json => println!("{rotated}"),
            Output::Text => println!("{}: epoch {} is active", self.of.domain, text(&rotated["epoch"])),
        }
        Ok(())
    }
}

impl Roll {
    async fn run(self) -> Result<()> {
        confirm(self.yes)?;
        let api = self.of.connection.client()?;
        self.of.rotate(&api, true).await?;
        self.of.shred(&api).await
    }
}

impl Shred {
    async fn run(self) -> Result<()> {
        confirm(self.yes)?;
        self.of.shred(&self.of.connection.client()?).await
    }
}

fn confirm(yes: bool) -> Result<()> {
    if !yes {
        bail!(
            "this cannot be undone: every backup and snapshot made before the rotation becomes unreadable. Make a \
             new one first, then say --yes"
        );
    }
    Ok(())
}
