//! `berth cluster join-token`: the one command that brings a host into a cluster.

mod amazon;
mod tokens;

pub use tokens::JoinTokens;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::connection::{Api, Connection, Output};

/// Print the command that joins a host to a cluster
///
/// The printed command is run as root on the new host. Its token is exchanged for a key that only that
/// host has. What is fixed here a host cannot change.
#[derive(Args, Debug)]
pub struct JoinToken {
    /// Cluster that the host joins
    #[arg(value_name = "CLUSTER")]
    cluster: String,

    /// How long the token is good for: 90s, 30m, 12h, 7d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = seconds)]
    ttl: i64,

    /// How many hosts may join by it
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: i64,

    /// Availability zone of the hosts
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,

    /// Attribute of the hosts, for placement constraints; no agent of the cluster can set one of this name
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<Value>,

    /// Most CPU units (1024 a core) that a host may register
    #[arg(long, value_name = "UNITS")]
    max_cpu: Option<i64>,

    /// Most memory that a host may register
    #[arg(long, value_name = "MIB")]
    max_memory: Option<i64>,

    /// Let the host of this container instance join again: it stays that instance, and the key it had is void
    #[arg(long, value_name = "INSTANCE")]
    instance: Option<String>,

    /// Address of the server as the host reaches it [default: the one the server advertises, or --endpoint]
    #[arg(long, value_name = "URL")]
    server: Option<String>,

    /// Make the key now, and print a script that sets up Amazon's ECS agent with it
    #[arg(long, conflicts_with_all = ["ttl", "uses"])]
    for_amazon_agent: bool,

    #[command(flatten)]
    connection: Connection,
}

impl JoinToken {
    /// Makes a token, or for Amazon's agent a key, and prints what to do with it.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn run(self) -> Result<()> {
        let api = self.connection.client()?;
        let instance = match &self.instance {
            Some(named) => Some(crate::instance::resolve(&api, &self.cluster, named).await?),
            None => None,
        };
        let mut input = self.limits(instance);
        if self.for_amazon_agent {
            return self.enrol(&api, &Value::Object(input)).await;
        }
        input.insert("expiresInSeconds".into(), json!(self.ttl));
        input.insert("uses".into(), json!(self.uses));
        let mut answer = api.berth("CreateJoinToken", &Value::Object(input)).await?;
        let token = answer["token"].as_str().context("the answer holds no token")?;
        let server = self.server.as_deref().or(answer["endpoint"].as_str()).unwrap_or(api.endpoint());
        let command = format!("berth agent --server {server} --join {token}");
        match self.connection.output {
            Output::Text => println!("{command}"),
            Output::Json => {
                answer["command"] = command.into();
                println!("{answer:#}");
            }
        }
        Ok(())
    }

    fn limits(&self, instance: Option<String>) -> Map<String, Value> {
        let members = [
            ("cluster", Some(json!(self.cluster))),
            ("availabilityZone", self.zone.as_ref().map(|zone| json!(zone))),
            ("attributes", Some(json!(self.attributes))),
            ("maxCpu", self.max_cpu.map(|most| json!(most))),
            ("maxMemory", self.max_memory.map(|most| json!(most))),
            ("containerInstance", instance.map(|arn| json!(arn))),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    async fn enrol(&self, api: &Api, limits: &Value) -> Result<()> {
        // Where the server sends agents, asked before a key is made that would be of no use.
        let discovered = api.ecs("DiscoverPollEndpoint", &json!({ "cluster": self.cluster })).await?;
        let discovered = discovered["endpoint"].as_str().unwrap_or(api.endpoint());
        let server = self.server.as_deref().unwrap_or(discovered);
        amazon::check_server(server)?;
        let mut answer = api.berth("EnrolHost", limits).await?;
        let host = amazon::Host::read(&answer, server)?;
        match self.connection.output {
            Output::Text => print!("{}", host.script()),
            Output::Json => {
                answer["ecsConfig"] = host.config().into();
                answer["script"] = host.script().into();
                println!("{answer:#}");
            }
        }
        Ok(())
    }
}

/// A number of seconds, written with a unit: `90s`, `30m`, `12h`, `7d`.
fn seconds(text: &str) -> Result<i64> {
    let (number, unit) = match text.char_indices().find(|(_, one)| !one.is_ascii_digit()) {
        Some((end, _)) => text.split_at(end),
        None => (text, "s"),
    };
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => bail!("write 90s, 30m, 12h or 7d"),
    };
    let number: i64 = number.parse().ok().context("write 90s, 30m, 12h or 7d")?;
    number.checked_mul(factor).context("that is too long")
}

fn attribute(text: &str) -> Result<Value> {
    match text.split_once('=') {
        Some(("", _)) => bail!("write NAME=VALUE, or NAME alone"),
        Some((name, value)) => Ok(json!({ "name": name, "value": value })),
        None => Ok(json!({ "name": text })),
    }
}

#[cfg(test)]
mod tests {
    use super::{attribute, seconds};

    #[test]
    fn times_have_units() {
        for (text, expected) in
            [("90", 90), ("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800), ("0s", 0)]
        {
            assert_eq!(seconds(text).unwrap(), expected, "{text}");
        }
        for text in ["", "h", "1w", "1h30m", "-1s", "99999999999999999999d", "9223372036854775807d"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_attribute_has_a_name() {
        assert_eq!(attribute("disk=ssd=fast").unwrap()["value"], "ssd=fast");
        assert!(attribute("gpu").unwrap().get("value").is_none());
        assert!(attribute("=x").is_err());
    }
}
