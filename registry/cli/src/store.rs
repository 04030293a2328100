//! `berth store`: how the content is kept, and what keeps it well.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::connection::{Api, Connection, Output};
use crate::table::{self, text, time};

/// How often a command that waits looks again.
const LOOK: Duration = Duration::from_millis(500);

/// See and mend the content store: replicas, scrub, repair
#[derive(Debug, Subcommand)]
pub enum Store {
    Status(Status),
    Findings(Findings),
    Scrub(Scrub),
    Repair(Repair),
    Purge(Purge),
    /// Add, drain and remove replicas while everything goes on
    #[command(subcommand)]
    Replica(Replica),
}

/// Show replicas, repairs and removals they are owed, scrub and open findings
#[derive(Args, Debug)]
pub struct Status {
    #[command(flatten)]
    connection: Connection,
}

/// List what scrub and reads found bad; what was repaired is shown for a month
#[derive(Args, Debug)]
pub struct Findings {
    /// damaged, missing, or unknown (objects that no row names)
    #[arg(long, value_name = "KIND", default_value = "damaged")]
    kind: String,

    #[command(flatten)]
    connection: Connection,
}

/// Walk over everything on every replica, now
///
/// A walk that was stopped goes on where it stands. It reads at the configured scrub_rate.
#[derive(Args, Debug)]
pub struct Scrub {
    /// Wait for the end of the walk
    #[arg(long, conflicts_with = "stop")]
    wait: bool,

    /// Stop the walk that is under way
    #[arg(long)]
    stop: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Try every repair that is owed again, now
#[derive(Args, Debug)]
pub struct Repair {
    /// Wait until no repair is owed and no replica is being filled
    #[arg(long)]
    wait: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Delete objects that scrub found and that no row names
///
/// Without --yes it only says what would go.
#[derive(Args, Debug)]
pub struct Purge {
    /// Delete them
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
pub enum Replica {
    Add(Add),
    Drain(Drain),
    Remove(Remove),
}

/// Add replicas: empty folders or buckets, to be filled in the background
///
/// A removed replica is taken back, and one that was moved is found again by its marker. Two replicas need a
/// write_quorum in the configuration; name several at once to go from one to three.
#[derive(Args, Debug)]
pub struct Add {
    /// Absolute path, or s3://BUCKET/PREFIX
    #[arg(value_name = "LOCATION", required = true)]
    locations: Vec<String>,

    #[command(flatten)]
    connection: Connection,
}

/// Write a replica no more; it is still read
#[derive(Args, Debug)]
pub struct Drain {
    /// Id, as `berth store status` shows it
    #[arg(value_name = "REPLICA")]
    replica: String,

    #[command(flatten)]
    connection: Connection,
}

/// Use a replica no more; its objects stay where they are
#[derive(Args, Debug)]
pub struct Remove {
    /// Id, as `berth store status` shows it
    #[arg(value_name = "REPLICA")]
    replica: String,

    /// Even though the others do not hold everything yet
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    connection: Connection,
}

impl Store {
    /// # Errors
    /// What the server refused, and why.
    pub async fn run(self) -> Result<()> {
        match self {
            Self::Status(status) => status.run().await,
            Self::Findings(findings) => findings.run().await,
            Self::Scrub(scrub) => scrub.run().await,
            Self::Repair(repair) => repair.run().await,
            Self::Purge(purge) => purge.run().await,
            Self::Replica(Replica::Add(add)) => add.run().await,
            Self::Replica(Replica::Drain(drain)) => {
                let input = json!({ "replica": drain.replica });
                steer(&drain.connection, "DrainReplica", &input, "is read only from now on").await
            }
            Self::Replica(Replica::Remove(remove)) => {
                let input = json!({ "replica": remove.replica, "force": remove.force });
                steer(&remove.connection, "RemoveReplica", &input, "is used no more").await
            }
        }
    }
}

/// Calls an operation on one replica and says what it did.
async fn steer(connection: &Connection, operation: &str, input: &Value, done: &str) -> Result<()> {
    let answer = connection.client()?.berth(operation, input).await?;
    match connection.output {
        Output::Json => println!("{answer}"),
        Output::Text => println!("{} {done}", text(&answer["replica"])),
    }
    Ok(())
}

impl Status {
    async fn run(self) -> Result<()> {
        let status = self.connection.client()?.berth("GetStoreStatus", &json!({})).await?;
        match self.connection.output {
            Output::Json => println!("{status}"),
            Output::Text => print_status(&status),
        }
        Ok(())
    }
}

fn rows(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn percent(fraction: &Value) -> String {
    fraction.as_f64().map_or_else(|| "-".to_owned(), |fraction| format!("{:.1} %", fraction * 100.0))
}

fn print_status(status: &Value) {
    let replicas = rows(&status["replicas"]).map(|replica| {
        let filled =
            if replica["backfilled"].is_null() { "all".into() } else { percent(&replica["backfilled"]) };
        let problem =
            if replica["problem"].is_null() { &replica["repairProblem"] } else { &replica["problem"] };
        [&replica["id"], &replica["state"], &replica["repairs"], &replica["removals"]]
            .map(text)
            .into_iter()
            .chain([filled, text(&replica["location"]), text(problem)])
            .collect()
    });
    table::print(&["REPLICA", "STATE", "REPAIRS", "REMOVALS", "QUEUED", "LOCATION", "PROBLEM"], replicas);
    println!("\nwrite quorum   {}", text(&status["writeQuorum"]));
    print_scrub(&status["scrub"]);
    let findings = &status["openFindings"];
    println!(
        "open findings  {} damaged, {} missing, {} unknown",
        text(&findings["damaged"]),
        text(&findings["missing"]),
        text(&findings["unknown"])
    );
    println!("to collect     {} candidates", text(&status["collectorCandidates"]));
}

fn print_scrub(scrub: &Value) {
    if scrub.is_null() {
        println!("scrub          never ran");
        return;
    }
    println!(
        "scrub          walk {} {}, {} done, since {}: {} objects, {} copies checked, {} damaged, {} missing, {} \
         unknown, {} could not be checked",
        text(&scrub["walk"]),
        text(&scrub["state"]),
        percent(&scrub["done"]),
        time(&scrub["startedAt"]),
        text(&scrub["objects"]),
        text(&scrub["copies"]),
        text(&scrub["damaged"]),
        text(&scrub["missing"]),
        text(&scrub["unknown"]),
        text(&scrub["unchecked"]),
    );
}

impl Findings {
    async fn run(self) -> Result<()> {
        let api = self.connection.client()?;
        let mut findings = Vec::new();
        let mut next = Value::Null;
        loop {
            let mut input = json!({ "kind": self.kind });
            if !next.is_null() {
                input["nextToken"] = next;
            }
            let mut page = api.berth("ListStoreFindings", &input).await?;
            findings.extend(rows(&page["findings"]).cloned());
            next = page["nextToken"].take();
            if next.is_null() {
                break;
            }
        }
        match self.connection.output {
            Output::Json => println!("{}", json!({ "findings": findings })),
            Output::Text => {
                let lines = findings.iter().map(|finding| {
                    let texts = ["fileId", "replica", "size"].map(|name| text(&finding[name]));
                    let times = ["foundAt", "repairedAt"].map(|name| time(&finding[name]));
                    texts.into_iter().chain(times).chain([text(&finding["detail"])]).collect()
                });
                table::print(&["OBJECT", "REPLICA", "BYTES", "FOUND", "REPAIRED", "WHAT"], lines);
            }
        }
        Ok(())
    }
}

impl Scrub {
    async fn run(self) -> Result<()> {
        let api = self.connection.client()?;
        let operation = if self.stop { "StopScrub" } else { "StartScrub" };
        let mut scrub = api.berth(operation, &json!({})).await?["scrub"].take();
        if self.wait {
            let walk = scrub["walk"].clone();
            while scrub["state"] == "running" && scrub["walk"] == walk {
                tokio::time::sleep(LOOK).await;
                scrub = api.berth("GetStoreStatus", &json!({})).await?["scrub"].take();
            }
        }
        match self.connection.output {
            Output::Json => println!("{}", json!({ "scrub": scrub })),
            Output::Text => print_scrub(&scrub),
        }
        Ok(())
    }
}

impl Repair {
    async fn run(self) -> Result<()> {
        let api = self.connection.client()?;
        api.berth("StartRepair", &json!({})).await?;
        let mut status = api.berth("GetStoreStatus", &json!({})).await?;
        while self.wait && is_owed(&status) {
            tokio::time::sleep(LOOK).await;
            status = api.berth("GetStoreStatus", &json!({})).await?;
        }
        match self.connection.output {
            Output::Json => println!("{status}"),
            Output::Text => print_status(&status),
        }
        Ok(())
    }
}

/// Whether a replica that is written is owed something.
fn is_owed(status: &Value) -> bool {
    rows(&status["replicas"]).any(|replica| {
        replica["state"] == "active" && (replica["repairs"] != 0 || !replica["backfilled"].is_null())
    })
}

impl Purge {
    async fn run(self) -> Result<()> {
        let api: Api = self.connection.client()?;
        let purged = api.berth("PurgeStore", &json!({ "dryRun": !self.yes })).await?;
        match self.connection.output {
            Output::Json => println!("{purged}"),
            Output::Text => {
                let what = if self.yes { "deleted" } else { "would be deleted; --yes does it" };
                println!("{} objects, {} bytes {what}", text(&purged["objects"]), text(&purged["bytes"]));
            }
        }
        if purged["unreachable"] != 0 {
            bail!("{} objects lie on replicas that cannot be asked", text(&purged["unreachable"]));
        }
        Ok(())
    }
}

impl Add {
    async fn run(self) -> Result<()> {
        let input = json!({ "locations": self.locations });
        let added = self.connection.client()?.berth("AddReplica", &input).await?;
        match self.connection.output {
            Output::Json => println!("{added}"),
            Output::Text => {
                for id in rows(&added["replicas"]) {
                    println!("{} is written from now on, and filled in the background", text(id));
                }
            }
        }
        Ok(())
    }
}
