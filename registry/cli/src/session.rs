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

/// End every session and token of a user or a role, or one session, on every server within a second
///
/// Long-lived access keys stay, and whoever may assume the role gets a new session: to keep somebody out, take the
/// right away first, or disable the key.
#[derive(Args, Debug)]
pub struct Revoke {
    /// ARN of the user or role, or user/NAME or role/NAME; or the access key id of one session, as the audit log has it
    #[arg(value_name = "PRINCIPAL|ASIA…")]
    whose: String,

    #[command(flatten)]
    connection: Connection,
}

impl Session {
    /// # Errors
    /// When the server cannot be reached or refuses, or when there is no such user or role.
    pub async fn run(self) -> Result<()> {
        let Self::Revoke(Revoke { whose, connection }) = self;
        let is_session = whose.starts_with("ASIA");
        let input = if is_session { json!({ "accessKeyId": whose }) } else { json!({ "principal": whose }) };
        let answer = connection.client()?.berth("RevokeSessions", &input).await?;
        match connection.output {
            Output::Json => println!("{answer:#}"),
            Output::Text if is_session => println!("the session {whose} and what was made with it are void"),
            Output::Text => {
                println!(
                    "the sessions and tokens of {} are void",
                    answer["principalArn"].as_str().unwrap_or(&whose)
                );
            }
        }
        Ok(())
    }
}
