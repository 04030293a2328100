//! `berth store adopt`: the operator is content with what was restored.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::connection::{Connection, Output};

/// Take what was restored for good
///
/// Until then a restored server deletes nothing and destroys no key, so that a better backup can still be taken.
#[derive(Args, Debug)]
pub struct Adopt {
    #[command(flatten)]
    connection: Connection,
}

impl Adopt {
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn run(self) -> Result<()> {
        let answer = self.connection.client()?.berth("AdoptStore", &json!({})).await?;
        match self.connection.output {
            Output::Json => println!("{answer:#}"),
            Output::Text if answer["adopted"] == true => println!("what was restored is adopted"),
            Output::Text => println!("nothing waited to be adopted"),
        }
        Ok(())
    }
}
