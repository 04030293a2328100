//! `berth session`: ending what was made with somebody's credentials.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::connection::{Connection, Output};

/// End sessions before their time
#[derive(Debug, Subcommand)]
pub enum Session {
    Revoke(Revoke),
}

/// End every session and token of a user or a role, on every server within a second
///
/// Long-lived access keys stay, and whoever may assume the role gets a new session: to keep somebody out, take the
/// right away first, or disable the key.
#[derive(Args, Debug)]
pub struct Revoke {
    /// ARN of the user or role, or user/NAME or role/NAME
    #[arg(value_name = "PRINCIPAL")]
    principal: String,

    #[command(flatten)]
    connection: Connection,
}

impl Session {
    /// # Errors
    /// When the server cannot be reached or refuses, or when there is no such user or role.
    pub async fn run(self) -> Result<()> {
        let Self::Revoke(Revoke { principal, connection }) = self;
        let input = json!({ "principal": principal });
        let answer = connection.client()?.berth("RevokeSessions", &input).await?;
        match connection.output {
            Output::Json => println!("{answer:#}"),
            Output::Text => {
                println!(
                    "the sessions and tokens of {} are void",
                    answer["principalArn"].as_str().unwrap_or(&principal)
                );
            }
        }
        Ok(())
    }
}
