//! `berth upstream`: how this registry logs in at those it is filled from.

use std::io::Read;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::connection::{Connection, Output};
use crate::table::text;

/// Log in at the registries that pull-through cache rules lead to
#[derive(Debug, Subcommand)]
pub enum Upstream {
    Login(Login),
    Logout(Logout),
}

/// Give the rule of a prefix a user name and a password, which is read from standard input
///
/// They are sealed, shown to nobody, and sent to the rule's upstream alone.
#[derive(Args, Debug)]
pub struct Login {
    /// Prefix of the rule, as `aws ecr describe-pull-through-cache-rules` shows it
    #[arg(value_name = "PREFIX")]
    prefix: String,

    #[arg(long, value_name = "NAME")]
    username: String,

    #[command(flatten)]
    connection: Connection,
}

/// Let the rule of a prefix ask its upstream without credentials
#[derive(Args, Debug)]
pub struct Logout {
    #[arg(value_name = "PREFIX")]
    prefix: String,

    #[command(flatten)]
    connection: Connection,
}

impl Upstream {
    /// # Errors
    /// When the server cannot be reached or refuses, or when there is no password.
    pub async fn run(self) -> Result<()> {
        let (connection, input, done) = match self {
            Self::Login(login) => {
                let mut password = String::new();
                std::io::stdin().read_to_string(&mut password).context("the password cannot be read")?;
                let password = password.trim_end_matches(['\r', '\n']);
                if password.is_empty() {
                    bail!("no password came from standard input");
                }
                let input = json!({
                    "ecrRepositoryPrefix": login.prefix, "username": login.username, "password": password,
                });
                (login.connection, input, "logs in from now on")
            }
            Self::Logout(logout) => {
                let input = json!({ "ecrRepositoryPrefix": logout.prefix });
                (logout.connection, input, "asks without credentials from now on")
            }
        };
        let answer = connection.client()?.berth("PutUpstreamCredentials", &input).await?;
        match connection.output {
            Output::Json => println!("{answer}"),
            Output::Text => println!("{} {done}", text(&answer["ecrRepositoryPrefix"])),
        }
        Ok(())
    }
}
