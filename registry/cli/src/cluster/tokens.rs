//! `berth cluster join-tokens`: which tokens are out, and the end of one.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::connection::{Connection, Output};
use crate::table::{self, text};

/// List and revoke join tokens
#[derive(Debug, Subcommand)]
pub enum JoinTokens {
    List(List),
    Revoke(Revoke),
}

/// List the join tokens of a cluster, without their secrets
///
/// Tokens that ended are listed for another day.
#[derive(Args, Debug)]
pub struct List {
    #[arg(value_name = "CLUSTER", default_value = "default")]
    cluster: String,

    #[command(flatten)]
    connection: Connection,
}

/// End a join token before its time; hosts that joined by it stay
#[derive(Args, Debug)]
pub struct Revoke {
    /// Id of the token, as `berth cluster join-tokens list` shows it
    #[arg(value_name = "ID")]
    id: String,

    #[arg(long, value_name = "CLUSTER", default_value = "default")]
    cluster: String,

    #[command(flatten)]
    connection: Connection,
}

impl JoinTokens {
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn run(self) -> Result<()> {
        match self {
            Self::List(list) => list.run().await,
            Self::Revoke(revoke) => revoke.run().await,
        }
    }
}

impl List {
    async fn run(self) -> Result<()> {
        let api = self.connection.client()?;
        let mut tokens: Vec<Value> = Vec::new();
        let mut input = json!({ "cluster": self.cluster });
        loop {
            let mut answer = api.berth("ListJoinTokens", &input).await?;
            if let Value::Array(page) = answer["joinTokens"].take() {
                tokens.extend(page);
            }
            if answer["nextToken"].is_null() {
                break;
            }
            input["nextToken"] = answer["nextToken"].take();
        }
        match self.connection.output {
            Output::Text => table::print(
                &["ID", "STATUS", "USED", "EXPIRES", "ZONE", "CPU", "MEMORY", "ATTRIBUTES", "BY"],
                tokens.iter().map(row),
            ),
            Output::Json => println!("{:#}", json!({ "joinTokens": tokens })),
        }
        Ok(())
    }
}

fn row(token: &Value) -> Vec<String> {
    let attributes: Vec<String> = token["attributes"].as_array().into_iter().flatten().map(name).collect();
    vec![
        text(&token["joinTokenId"]),
        text(&token["status"]),
        format!("{}/{}", token["used"], token["uses"]),
        table::time(&token["expiresAt"]),
        text(&token["availabilityZone"]),
        text(&token["maxCpu"]),
        text(&token["maxMemory"]),
        if attributes.is_empty() { "-".to_owned() } else { attributes.join(",") },
        text(&token["createdBy"]),
    ]
}

fn name(attribute: &Value) -> String {
    match attribute["value"].as_str() {
        Some(value) => format!("{}={value}", text(&attribute["name"])),
        None => text(&attribute["name"]),
    }
}

impl Revoke {
    async fn run(self) -> Result<()> {
        let api = self.connection.client()?;
        let input = json!({ "cluster": self.cluster, "joinTokenId": self.id });
        let answer = api.berth("RevokeJoinToken", &input).await?;
        match self.connection.output {
            Output::Text => println!("join token {} is revoked", self.id),
            Output::Json => println!("{answer:#}"),
        }
        Ok(())
    }
}
