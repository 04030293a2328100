//! `berth cluster join-token`: the one command that brings a host into a cluster.

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use crate::connection::{Connection, Output};

/// Print the command that joins a host to a cluster
///
/// The printed command is run as root on the new host. Its token can be used once, within an hour,
/// and is exchanged for a key that only that host has.
#[derive(Args, Debug)]
pub struct JoinToken {
    /// Cluster that the host joins
    #[arg(value_name = "CLUSTER")]
    cluster: String,

    #[command(flatten)]
    connection: Connection,
}

impl JoinToken {
    /// Makes a token and prints the whole command.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn run(self) -> Result<()> {
        let api = self.connection.client()?;
        let mut answer = api.berth("CreateJoinToken", &json!({ "cluster": self.cluster })).await?;
        let token = answer["token"].as_str().context("the answer holds no token")?;
        let command = format!("berth agent --server {} --join {token}", api.endpoint());
        match self.connection.output {
            Output::Text => println!("{command}"),
            Output::Json => {
                answer["command"] = command.into();
                println!("{answer:#}");
            }
        }
        Ok(())
    }
}
