//! Logging drivers of containers, as task definitions name them.
//!
//! `awslogs` is kept on this host: Docker's own driver of that name sends to Amazon. The lines lie in the
//! engine's json-file, bounded in size, and labels name the group and stream that the definition asked for.

use serde_json::{Map, Value, json};

/// Bounds of what `awslogs` keeps of one container: 5 files of 10 MiB.
const MAX_SIZE: &str = "10m";
const MAX_FILES: &str = "5";
/// ECS's buffer for `mode=non-blocking`; Docker's own is smaller.
const BUFFER: &str = "10m";

/// Names that a container's logs go by; put into its labels.
pub(crate) type LogLabels = Vec<(&'static str, String)>;

/// Turns the `LogConfig` of a host configuration into what the engine of this host has.
pub(crate) fn translate(
    host_config: &mut Map<String, Value>,
    container: &str,
    task_id: &str,
) -> Result<LogLabels, String> {
    let Some(Value::Object(log)) = host_config.get_mut("LogConfig") else {
        return Ok(Vec::new());
    };
    let driver = log.get("Type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut options = log.get("Config").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut labels = Vec::new();
    match driver.as_str() {
        "awsfirelens" => return Err("the logging driver awsfirelens is not supported by this agent".into()),
        "awslogs" => {
            let text = |name: &str| options.get(name).and_then(Value::as_str).map(str::to_owned);
            if let Some(group) = text("awslogs-group") {
                labels.push(("berth.log-group", group));
            }
            let stream = match text("awslogs-stream-prefix") {
                Some(prefix) => format!("{prefix}/{container}/{task_id}"),
                None => format!("{container}/{task_id}"),
            };
            labels.push(("berth.log-stream", stream));
            let mode = options.get("mode").cloned();
            options = Map::new();
            options.insert("max-size".into(), json!(MAX_SIZE));
            options.insert("max-file".into(), json!(MAX_FILES));
            if let Some(mode) = mode {
                options.insert("mode".into(), mode);
            }
            log.insert("Type".into(), json!("json-file"));
        }
        _ => {}
    }
    let non_blocking = options.get("mode").and_then(Value::as_str) == Some("non-blocking");
    if non_blocking && !options.contains_key("max-buffer-size") {
        options.insert("max-buffer-size".into(), json!(BUFFER));
    }
    log.insert("Config".into(), Value::Object(options));
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::translate;

    fn translated(log: Value) -> (Value, super::LogLabels) {
        let mut host = json!({ "LogConfig": log }).as_object().unwrap().clone();
        let labels = translate(&mut host, "web", "abc").unwrap();
        (host["LogConfig"].clone(), labels)
    }

    #[test]
    fn awslogs_stays_on_the_host_under_its_names() {
        let options =
            json!({ "awslogs-group": "/ecs/app", "awslogs-region": "r", "awslogs-stream-prefix": "p" });
        let (log, labels) = translated(json!({ "Type": "awslogs", "Config": options }));
        assert_eq!(log, json!({ "Type": "json-file", "Config": { "max-size": "10m", "max-file": "5" } }));
        assert_eq!(
            labels,
            [("berth.log-group", "/ecs/app".to_owned()), ("berth.log-stream", "p/web/abc".to_owned())]
        );
    }

    #[test]
    fn non_blocking_gets_the_buffer_of_ecs() {
        let (log, _) = translated(json!({ "Type": "json-file", "Config": { "mode": "non-blocking" } }));
        assert_eq!(log["Config"]["max-buffer-size"], "10m");
        let own = json!({ "mode": "non-blocking", "max-buffer-size": "1m" });
        let (log, _) = translated(json!({ "Type": "json-file", "Config": own }));
        assert_eq!(log["Config"]["max-buffer-size"], "1m");
    }
}
