//! `berth quota`: what the repositories below a prefix may hold.

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::connection::{Connection, Output};
use crate::table::{self, text};

/// Bound what repositories hold
#[derive(Debug, Subcommand)]
pub enum Quota {
    Set(Set),
    List(List),
    Remove(Remove),
}

/// Bound the bytes or images of a repository and those below it
///
/// What is there already stays; what would exceed the bound is refused from now on.
#[derive(Args, Debug)]
pub struct Set {
    /// Name of the repository, or the beginning of names up to a slash; "" for the whole registry
    #[arg(value_name = "PREFIX")]
    prefix: String,

    /// Most bytes of blobs and manifests: 500MiB, 20GiB, 1TiB
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    bytes: Option<u64>,

    /// Most images
    #[arg(long, value_name = "N")]
    images: Option<u64>,

    #[command(flatten)]
    connection: Connection,
}

/// List quotas and what is held of them
#[derive(Args, Debug)]
pub struct List {
    #[command(flatten)]
    connection: Connection,
}

/// Remove the quota of a prefix
#[derive(Args, Debug)]
pub struct Remove {
    #[arg(value_name = "PREFIX")]
    prefix: String,

    #[command(flatten)]
    connection: Connection,
}

impl Quota {
    /// # Errors
    /// When the server cannot be reached or refuses, or when there is no such quota.
    pub async fn run(self) -> Result<()> {
        match self {
            Self::Set(set) => set.run().await,
            Self::List(list) => list.run().await,
            Self::Remove(remove) => remove.run().await,
        }
    }
}

impl Set {
    async fn run(self) -> Result<()> {
        if self.bytes.is_none() && self.images.is_none() {
            bail!("give --bytes, --images or both");
        }
        let input = json!({ "prefix": self.prefix, "maxBytes": self.bytes, "maxImages": self.images });
        let answer = self.connection.client()?.berth("PutQuota", &input).await?;
        show(&self.connection, &answer, &[answer["quota"].clone()]);
        Ok(())
    }
}

impl List {
    async fn run(self) -> Result<()> {
        let api = self.connection.client()?;
        let (mut quotas, mut input) = (Vec::new(), json!({}));
        loop {
            let mut answer = api.berth("ListQuotas", &input).await?;
            if let Value::Array(page) = answer["quotas"].take() {
                quotas.extend(page);
            }
            if answer["nextToken"].is_null() {
                break;
            }
            input["nextToken"] = answer["nextToken"].take();
        }
        show(&self.connection, &json!({ "quotas": quotas }), &quotas);
        Ok(())
    }
}

impl Remove {
    async fn run(self) -> Result<()> {
        let input = json!({ "prefix": self.prefix });
        let answer = self.connection.client()?.berth("DeleteQuota", &input).await?;
        match self.connection.output {
            Output::Json => println!("{answer:#}"),
            Output::Text => println!("{} is bound no more", named(&answer["prefix"])),
        }
        Ok(())
    }
}

fn show(connection: &Connection, answer: &Value, quotas: &[Value]) {
    match connection.output {
        Output::Json => println!("{answer:#}"),
        Output::Text => {
            table::print(
                &["PREFIX", "BYTES", "OF", "IMAGES", "OF"],
                quotas.iter().map(|quota| {
                    vec![
                        named(&quota["prefix"]).to_owned(),
                        text(&quota["bytes"]),
                        text(&quota["maxBytes"]),
                        text(&quota["images"]),
                        text(&quota["maxImages"]),
                    ]
                }),
            );
        }
    }
}

/// A prefix as people read it.
fn named(prefix: &Value) -> &str {
    prefix.as_str().filter(|prefix| !prefix.is_empty()).unwrap_or("(all)")
}

/// A size such as `500MiB`; a bare number counts bytes.
fn bytes(size: &str) -> Result<u64> {
    let digits = size.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = size.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => bail!("'{unit}' is no unit: use KiB, MiB, GiB or TiB"),
    };
    let number: u64 = number.parse().with_context(|| format!("'{size}' begins with no number"))?;
    number.checked_mul(1 << shift).with_context(|| format!("'{size}' is too large"))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("0", 0),
            ("17", 17),
            ("5B", 5),
            ("2KiB", 2048),
            ("3 MiB", 3 << 20),
            ("4GiB", 4 << 30),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(bytes(text).unwrap(), expected, "{text}");
        }
        for wrong in ["", "x", "-1", "1.5GiB", "1GB", "99999999999999999999", "99999999TiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
