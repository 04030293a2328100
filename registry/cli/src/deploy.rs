//! `berth deploy`: makes a service be as a file says, and waits until it is.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::connection::{Api, Connection, Output};

/// Tag of a task definition that says which file contents it was registered from.
const SOURCE_TAG: &str = "berth:source";

/// Hosts have so long to say whether they listen.
const LISTENING: Duration = Duration::from_secs(5);
/// What the file says of a service that is there already.
const UPDATED: [&str; 4] =
    ["desiredCount", "deploymentConfiguration", "placementStrategy", "placementConstraints"];
/// Addresses that are printed of a service that has one on every host.
const MOST_ADDRESSES: usize = 5;

/// Make a service be as a file says, and wait until it is stable
///
/// FILE is JSON with two members: "taskDefinition", the input of RegisterTaskDefinition, and "service", the
/// input of CreateService without its task definition. A revision is registered only when the file has
/// changed, so the command can be run again at any time.
#[derive(Args, Debug)]
pub struct Deploy {
    /// The service's file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// How long to wait for the service to be stable, in seconds
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    timeout: u64,

    #[command(flatten)]
    connection: Connection,
}

impl Deploy {
    /// Registers, creates or updates, waits, prints.
    ///
    /// # Errors
    /// When the file is not of the form, the server refuses, or the service is not stable in time: then with
    /// its newest events, which say why.
    pub async fn run(self) -> Result<()> {
        let file = File::read(&self.file)?;
        let api = self.connection.client()?;
        let existing = file.describe(&api).await?;
        let task_definition = file.task_definition(&api, existing.as_ref()).await?;
        file.create_or_update(&api, existing.as_ref(), &task_definition).await?;
        file.tag(&api, existing.as_ref()).await?;
        let limit = Duration::from_secs(self.timeout);
        let service = file.wait_until_stable(&api, &task_definition, limit).await?;
        let service = file.wait_until_heard(&api, service).await?;
        let tasks = file.tasks(&api).await?;
        match self.connection.output {
            Output::Text => print_text(&service, &tasks),
            Output::Json => println!("{:#}", json!({ "service": service, "tasks": tasks })),
        }
        Ok(())
    }
}

/// A service's file, taken apart.
struct File {
    task_definition: Value,
    service: Value,
    name: String,
    cluster: String,
    source: String,
}

impl File {
    fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut value: Value =
            serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
        let mut member = |name: &str| match value.get_mut(name).map(Value::take) {
            Some(member @ Value::Object(_)) => Ok(member),
            _ => bail!("{} has no object \"{name}\"", path.display()),
        };
        let task_definition = member("taskDefinition")?;
        let service = member("service")?;
        let name = service["serviceName"].as_str().context("\"service\" has no \"serviceName\"")?.to_owned();
        let cluster = service["cluster"].as_str().unwrap_or("default").to_owned();
        let source = hex::encode(Sha256::digest(task_definition.to_string()));
        Ok(Self { task_definition, service, name, cluster, source })
    }

    /// The service as it is, if it is there and active.
    async fn describe(&self, api: &Api) -> Result<Option<Value>> {
        let input = json!({ "cluster": self.cluster, "services": [self.name], "include": ["TAGS"] });
        let mut answer = api.ecs("DescribeServices", &input).await?;
        let service = answer["services"].get_mut(0).map(Value::take).unwrap_or_default();
        Ok((service["status"] == "ACTIVE").then_some(service))
    }

    /// The revision made from this file: the service's present one if the file has not changed.
    async fn task_definition(&self, api: &Api, existing: Option<&Value>) -> Result<String> {
        if let Some(present) = existing.and_then(|service| service["taskDefinition"].as_str()) {
            let input = json!({ "taskDefinition": present, "include": ["TAGS"] });
            let described = api.ecs("DescribeTaskDefinition", &input).await?;
            let tags = described["tags"].as_array().cloned().unwrap_or_default();
            if tags.iter().any(|tag| tag["key"] == SOURCE_TAG && tag["value"] == self.source.as_str()) {
                return Ok(present.to_owned());
            }
        }
        let mut input = self.task_definition.clone();
        let tag = json!({ "key": SOURCE_TAG, "value": self.source });
        match input["tags"].as_array_mut() {
            Some(tags) => tags.push(tag),
            None => input["tags"] = json!([tag]),
        }
        let registered = api.ecs("RegisterTaskDefinition", &input).await?;
        let arn = registered["taskDefinition"]["taskDefinitionArn"].as_str();
        Ok(arn.context("the answer holds no taskDefinitionArn")?.to_owned())
    }

    async fn create_or_update(
        &self,
        api: &Api,
        existing: Option<&Value>,
        task_definition: &str,
    ) -> Result<()> {
        let Some(existing) = existing else {
            let mut input = self.service.clone();
            input["taskDefinition"] = task_definition.into();
            api.ecs("CreateService", &input).await?;
            return Ok(());
        };
        let mut input =
            json!({ "cluster": self.cluster, "service": self.name, "taskDefinition": task_definition });
        for member in UPDATED {
            if !self.service[member].is_null() {
                input[member] = self.service[member].clone();
            }
        }
        let is_as_said = UPDATED.iter().all(|member| holds(&existing[*member], &self.service[*member]));
        if is_as_said && existing["taskDefinition"] == task_definition {
            return Ok(());
        }
        api.ecs("UpdateService", &input).await?;
        Ok(())
    }

    /// Sets the file's tags that the service lacks or has otherwise; among them is its address.
    async fn tag(&self, api: &Api, existing: Option<&Value>) -> Result<()> {
        let Some(existing) = existing else { return Ok(()) };
        let known = existing["tags"].as_array().cloned().unwrap_or_default();
        let wanted = self.service["tags"].as_array().into_iter().flatten();
        let missing: Vec<&Value> = wanted.filter(|tag| !known.contains(tag)).collect();
        if !missing.is_empty() {
            let input = json!({ "resourceArn": existing["serviceArn"], "tags": missing });
            api.ecs("TagResource", &input).await?;
        }
        Ok(())
    }

    /// Waits a moment for every connected host to say whether it listens for the service.
    async fn wait_until_heard(&self, api: &Api, mut service: Value) -> Result<Value> {
        let deadline = Instant::now() + LISTENING;
        let silent = |service: &Value| {
            let hosts = service["berthAddress"]["hosts"].as_array().cloned().unwrap_or_default();
            hosts.iter().any(|host| host["connected"] == true && host["status"] == "UNKNOWN")
        };
        while silent(&service) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
            service = self.describe(api).await?.context("the service is gone")?;
        }
        Ok(service)
    }

    /// The waiter `services-stable` of the AWS CLI: one deployment, and as many tasks running as desired.
    async fn wait_until_stable(&self, api: &Api, task_definition: &str, limit: Duration) -> Result<Value> {
        let deadline = Instant::now() + limit;
        loop {
            let service = self.describe(api).await?.context("the service is gone")?;
            let deployments = service["deployments"].as_array().map(Vec::as_slice).unwrap_or_default();
            let problem = match deployments {
                [only] if service["runningCount"] == service["desiredCount"] => {
                    match only["taskDefinition"].as_str() {
                        Some(other) if other != task_definition => format!("went back to {other}"),
                        _ => return Ok(service),
                    }
                }
                _ if Instant::now() > deadline => format!("is not stable after {} s", limit.as_secs()),
                _ => {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                    continue;
                }
            };
            let events = service["events"].as_array().cloned().unwrap_or_default();
            let newest: Vec<&str> =
                events.iter().take(5).filter_map(|event| event["message"].as_str()).collect();
            bail!("the service {problem}. Its newest events:\n{}", newest.join("\n"));
        }
    }

    async fn tasks(&self, api: &Api) -> Result<Value> {
        let listed =
            api.ecs("ListTasks", &json!({ "cluster": self.cluster, "serviceName": self.name })).await?;
        if listed["taskArns"].as_array().is_none_or(Vec::is_empty) {
            return Ok(json!([]));
        }
        let input = json!({ "cluster": self.cluster, "tasks": listed["taskArns"] });
        Ok(api.ecs("DescribeTasks", &input).await?["tasks"].take())
    }
}

/// Whether what is there has everything that is wanted; it may have more.
fn holds(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (_, Value::Null) => true,
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| there.get(name).is_some_and(|there| holds(there, wanted)))
        }
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len()
                && there.iter().zip(wanted).all(|(there, wanted)| holds(there, wanted))
        }
        (there, wanted) => there == wanted,
    }
}

fn print_text(service: &Value, tasks: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let last = |value: &Value| text(value).rsplit('/').next().unwrap_or("-").to_owned();
    println!(
        "service    {}  {}/{} running  {}",
        text(&service["serviceName"]),
        service["runningCount"],
        service["desiredCount"],
        last(&service["taskDefinition"])
    );
    let addresses = addresses(&service["berthAddress"]);
    for line in &addresses {
        println!("{line}");
    }
    let has_address = addresses.iter().any(|line| line.starts_with("address"));
    for task in tasks.as_array().into_iter().flatten() {
        println!("task       {}", last(&task["taskArn"]));
        for container in task["containers"].as_array().into_iter().flatten() {
            println!(
                "container  {}  {}  {}",
                text(&container["name"]),
                text(&container["runtimeId"]),
                text(&container["imageDigest"])
            );
            let bindings = container["networkBindings"].as_array().filter(|_| !has_address);
            for binding in bindings.into_iter().flatten() {
                let address = match binding["bindIP"].as_str() {
                    None | Some("" | "0.0.0.0" | "::") => "127.0.0.1",
                    Some(address) => address,
                };
                println!("address    http://{address}:{}", binding["hostPort"]);
            }
        }
    }
}

/// Where a service with `berth:listen` is reached: on its hosts, and by its name inside tasks; and where not, why.
fn addresses(address: &Value) -> Vec<String> {
    let port = &address["port"];
    let mut lines = Vec::new();
    let hosts = || address["hosts"].as_array().into_iter().flatten();
    let listening = hosts().filter(|host| host["status"] == "LISTENING");
    let texts = listening.flat_map(|host| host["addresses"].as_array().into_iter().flatten());
    for text in texts.filter_map(Value::as_str).take(MOST_ADDRESSES) {
        let text = if text.contains(':') { format!("[{text}]") } else { text.to_owned() };
        lines.push(format!("address    http://{text}:{port}"));
    }
    for host in hosts().filter(|host| host["status"] == "FAILED").take(MOST_ADDRESSES) {
        lines.push(format!("no address {}", host["reason"].as_str().unwrap_or("-")));
    }
    if let Some(name) = address["name"].as_str() {
        lines.push(format!("in tasks   {name}:{port}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{File, addresses, holds};

    fn read(text: &str) -> Result<File, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        File::read(file.path()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_file_of_another_form_is_an_error() {
        for (text, expected) in [
            ("[]", "no object \"taskDefinition\""),
            (r#"{"taskDefinition": {}}"#, "no object \"service\""),
            (r#"{"taskDefinition": {}, "service": {}}"#, "serviceName"),
            ("{", "not JSON"),
        ] {
            let error = read(text).err().unwrap_or_default();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn an_address_is_printed_where_it_is_listened_on() {
        let host = |status: &str, address: &str, reason: &str| serde_json::json!({"status": status, "addresses": [address], "reason": reason});
        let address = serde_json::json!({"port": 8080, "name": "web.default.berth.internal", "hosts": [
            host("LISTENING", "10.0.0.5", ""), host("FAILED", "10.0.0.6", "0.0.0.0:8080 is taken by nginx (pid 5)"),
            host("LISTENING", "::1", ""), host("UNKNOWN", "10.0.0.7", ""),
        ]});
        assert_eq!(
            addresses(&address),
            [
                "address    http://10.0.0.5:8080",
                "address    http://[::1]:8080",
                "no address 0.0.0.0:8080 is taken by nginx (pid 5)",
                "in tasks   web.default.berth.internal:8080",
            ]
        );
        assert!(addresses(&serde_json::Value::Null).is_empty());
    }

    #[test]
    fn a_service_is_updated_when_it_lacks_what_its_file_says() {
        let there = json!({"maximumPercent": 200, "circuit": {"enable": true, "rollback": false}, "list": [{"type": "x"}]});
        for (wanted, expected) in [
            (json!(null), true),
            (json!({}), true),
            (json!({"maximumPercent": 200, "circuit": {"enable": true}}), true),
            (json!({"maximumPercent": 150}), false),
            (json!({"circuit": {"rollback": true}}), false),
            (json!({"list": []}), false),
            (json!({"new": 1}), false),
        ] {
            assert_eq!(holds(&there, &wanted), expected, "{wanted}");
        }
    }

    #[test]
    fn another_task_definition_has_another_source() {
        let of = |image: &str| {
            let text =
                format!(r#"{{"taskDefinition": {{"image": "{image}"}}, "service": {{"serviceName": "s"}}}}"#);
            read(&text).unwrap().source
        };
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
    }
}
