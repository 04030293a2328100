//! What a task needs before its first container: volumes, its cgroup, the values of its secrets.
//!
//! Idempotent: an agent that starts again prepares again and finds what is there.

use std::collections::BTreeMap;

use registry_aws::{Client, Credentials};
use scheduler_protocol::{RoleCredentials, RoleType, SecretReference, Volume};
use serde_json::{Value, json};

use crate::cgroup::Limits;
use crate::engine::EngineVolume;
use crate::host::Host;
use crate::task::body::{Prepared, VolumeSource};
use crate::task::context::TaskContext;
use crate::task::event::Failure;

/// Marks volumes of Berth's making; the value is the task's ARN, or `shared`.
const VOLUME_LABEL: &str = "berth.volume";
const SHARED: &str = "shared";
const CANNOT_CREATE_VOLUME: &str = "CannotCreateVolumeError";

pub(crate) async fn prepare(host: &Host, context: &TaskContext) -> Result<Prepared, Failure> {
    let mut prepared = Prepared::default();
    for volume in &context.task().volumes {
        let source = source(host, context, volume).await?;
        prepared.volumes.insert(volume.name.clone(), source);
    }
    let limits = Limits {
        cpu: context.task().cpu,
        memory_bytes: context.task().memory.map(|mib| mib.saturating_mul(1 << 20)),
    };
    if limits.cpu.is_some() || limits.memory_bytes.is_some() {
        prepared.cgroup_parent = match host.cgroups.create(&context.id, limits) {
            Ok(parent) => parent,
            Err(error) => {
                tracing::warn!(task.arn = context.arn(), %error, "no cgroup for the task: its containers are bounded one by one");
                None
            }
        };
    }
    prepared.secrets = secrets(host, context).await?;
    Ok(prepared)
}

/// Removes what `prepare` made for this task alone.
pub(crate) async fn clean_up(host: &Host, context: &TaskContext) {
    for volume in context.task().volumes.iter().filter(|volume| is_of_task(volume)) {
        let name = task_volume_name(context, volume);
        if let Err(error) = host.engine.remove_volume(&name).await {
            tracing::warn!(volume.name = name, %error, "a volume of a task that is over could not be removed");
        }
    }
    host.cgroups.remove(&context.id);
}

/// No path of the host, and not shared with other tasks: made for the task, removed with it.
fn is_of_task(volume: &Volume) -> bool {
    let has_path = volume.host.as_ref().is_some_and(|host| !host.source_path.is_empty());
    let shared = volume.docker_volume_configuration.as_ref().is_some_and(|docker| docker.scope == SHARED);
    !has_path && !shared
}

/// `ecs-<family>-<revision>-<name>-<task id>`
fn task_volume_name(context: &TaskContext, volume: &Volume) -> String {
    let task = context.task();
    format!("ecs-{}-{}-{}-{}", task.family, task.version, volume.name, context.id)
}

async fn source(host: &Host, context: &TaskContext, volume: &Volume) -> Result<VolumeSource, Failure> {
    if let Some(path) = volume.host.as_ref().map(|host| &host.source_path).filter(|path| !path.is_empty()) {
        return host.gate.host_path(path).map(VolumeSource::Path);
    }
    let docker = volume.docker_volume_configuration.clone().unwrap_or_default();
    let driver = if docker.driver.is_empty() { "local".to_owned() } else { docker.driver.clone() };
    let shared = docker.scope == SHARED;
    let name = if shared { volume.name.clone() } else { task_volume_name(context, volume) };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !name.starts_with(|first: char| first.is_ascii_alphanumeric()) || !name.bytes().all(plain) {
        return Err(Failure::new(CANNOT_CREATE_VOLUME, format!("{name} is no name of a volume")));
    }
    let failed = |error: crate::engine::EngineError| {
        Failure::new(CANNOT_CREATE_VOLUME, format!("volume {}: {error}", volume.name))
    };
    if let Some(existing) = host.engine.volume(&name).await.map_err(failed)? {
        let owner = existing.labels.get(VOLUME_LABEL).map(String::as_str);
        let own = if shared { owner == Some(SHARED) } else { owner == Some(context.arn()) };
        if !own {
            host.gate.existing_volume(&name)?;
        }
        return Ok(VolumeSource::Named(name));
    }
    if shared && !docker.autoprovision {
        let why = format!("the shared volume {name} does not exist on this host, and autoprovision is off");
        return Err(Failure::new(CANNOT_CREATE_VOLUME, why));
    }
    host.gate.volume(&name, &driver, !docker.driver_opts.is_empty())?;
    let mut labels = docker.labels.clone();
    labels.insert(VOLUME_LABEL.into(), if shared { SHARED.into() } else { context.arn().to_owned() });
    let made = EngineVolume { driver, labels, options: docker.driver_opts };
    host.engine.create_volume(&name, &made).await.map_err(failed)?;
    Ok(VolumeSource::Named(name))
}

async fn secrets(host: &Host, context: &TaskContext) -> Result<BTreeMap<(usize, String), String>, Failure> {
    let mut values = BTreeMap::new();
    let containers = context.task().containers.iter().enumerate();
    let wanted: Vec<(usize, &SecretReference)> = containers
        .flat_map(|(index, container)| container.secrets.iter().map(move |secret| (index, secret)))
        .collect();
    if wanted.is_empty() {
        return Ok(values);
    }
    let unavailable = |why: String| Failure::new("ResourceInitializationError", why);
    let role = context
        .credentials(RoleType::TaskExecution)
        .ok_or_else(|| unavailable("secrets need an execution role, and the task has none".into()))?;
    let client =
        Client::with_connector(&host.server_url, &host.region, to_credentials(&role), host.connector.clone())
            .map_err(|error| unavailable(error.to_string()))?;
    for (index, secret) in wanted {
        let value = fetch(&client, secret).await.map_err(|why| {
            unavailable(format!("unable to pull secrets: {} ({}): {why}", secret.name, secret.value_from))
        })?;
        values.insert((index, secret.name.clone()), value);
    }
    Ok(values)
}

/// `name`, an ARN, or for a secret `ARN:json-key:version-stage:version-id`.
async fn fetch(client: &Client, secret: &SecretReference) -> Result<String, String> {
    if secret.provider == "ssm" {
        let name =
            secret.value_from.split_once(":parameter").map_or(secret.value_from.as_str(), |(_, name)| name);
        let input = json!({ "Name": name, "WithDecryption": true });
        let answer = client.call("ssm", "AmazonSSM", "GetParameter", &input).await;
        let answer = answer.map_err(|error| error.to_string())?;
        return answer["Parameter"]["Value"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| "it has no value".into());
    }
    let parts: Vec<&str> = secret.value_from.split(':').collect();
    let (id, options) = if parts.len() > 7 { parts.split_at(7) } else { (parts.as_slice(), &[][..]) };
    let mut input = json!({ "SecretId": id.join(":") });
    for (name, option) in [("VersionStage", options.get(1)), ("VersionId", options.get(2))] {
        if let Some(option) = option.filter(|option| !option.is_empty()) {
            input[name] = json!(option);
        }
    }
    let answer = client.call("secretsmanager", "secretsmanager", "GetSecretValue", &input).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let text = answer["SecretString"].as_str().ok_or("it has no text")?;
    match options.first().filter(|key| !key.is_empty()) {
        None => Ok(text.to_owned()),
        Some(key) => {
            let object: Value = serde_json::from_str(text).map_err(|_| "it is no JSON object".to_owned())?;
            match &object[*key] {
                Value::Null => Err(format!("it has no key {key}")),
                Value::String(text) => Ok(text.clone()),
                other => Ok(other.to_string()),
            }
        }
    }
}

fn to_credentials(role: &RoleCredentials) -> Credentials {
    Credentials {
        access_key_id: role.access_key_id.clone(),
        secret_access_key: role.secret_access_key.clone(),
        session_token: Some(role.session_token.clone()),
    }
}
