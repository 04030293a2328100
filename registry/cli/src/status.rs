//! `berth status`: how a server is, on one screen.

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use crate::connection::{Connection, Output};
use crate::table::text;

/// Show how the server is: replicas, repairs, what is stored, instances and tasks
#[derive(Args, Debug)]
pub struct Status {
    #[command(flatten)]
    connection: Connection,
}

impl Status {
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn run(self) -> Result<()> {
        let status = self.connection.client()?.berth("GetStatus", &json!({})).await?;
        match self.connection.output {
            Output::Json => println!("{status:#}"),
            Output::Text => print!("{}", describe(&status)),
        }
        Ok(())
    }
}

fn describe(status: &Value) -> String {
    let ready = if status["ready"] == true { "ready" } else { "NOT READY" };
    let mut lines = vec![
        ("berth", format!("{}  {ready}", text(&status["version"]))),
        (
            "stored",
            format!(
                "{} repositories, {} images, {}; {} open uploads",
                text(&status["repositories"]),
                text(&status["images"]),
                size(status["bytes"].as_u64().unwrap_or_default()),
                text(&status["openUploads"])
            ),
        ),
    ];
    let store = &status["store"];
    let replicas = store["replicas"].as_array().map(Vec::as_slice).unwrap_or_default();
    let usable = replicas.iter().filter(|replica| replica["problem"].is_null()).count();
    let owed = |what: &str| replicas.iter().filter_map(|replica| replica[what].as_u64()).sum::<u64>();
    let (repairs, removals) = (owed("repairs"), owed("removals"));
    let quorum = text(&store["writeQuorum"]);
    lines.push((
        "replicas",
        format!(
            "{usable} of {} usable, write quorum {quorum}, {repairs} repairs and {removals} removals pending",
            replicas.len()
        ),
    ));
    if let Some(done) = store["scrub"]["done"].as_f64() {
        let state = text(&store["scrub"]["state"]);
        lines.push(("scrub", format!("{state}, {:.1} %", done * 100.0)));
    }
    let log = &status["changeLog"];
    if !log.is_null() {
        let waits = match log["quorum"].as_u64() {
            Some(0) | None => "no change waits for a replica".to_owned(),
            Some(quorum) => format!("each waits for {quorum}"),
        };
        lines.push((
            "changes",
            format!(
                "{} of {} replicas hold every one, {waits}; {} not there for {:.1} s, \
                 {} not on the slowest for {:.1} s",
                text(&log["inSync"]),
                text(&log["replicas"]),
                text(&log["lagChanges"]),
                log["lagSeconds"].as_f64().unwrap_or_default(),
                text(&log["behindChanges"]),
                log["behindSeconds"].as_f64().unwrap_or_default()
            ),
        ));
    }
    let fleet = &status["scheduler"];
    let count = |name: &str| text(&fleet[name]);
    lines.push((
        "scheduler",
        if fleet.is_null() {
            "another server leads".to_owned()
        } else {
            format!(
                "{} clusters, {} services, {} of {} instances connected, {} tasks running, {} pending",
                count("clusters"),
                count("services"),
                count("connectedInstances"),
                count("instances"),
                count("runningTasks"),
                count("pendingTasks")
            )
        },
    ));
    let down = replicas.iter().filter(|replica| !replica["problem"].is_null());
    let down = down.map(|replica| format!("{}: {}", text(&replica["id"]), text(&replica["problem"])));
    let others = status["problems"].as_array().into_iter().flatten().map(text);
    lines.extend(down.chain(others).map(|problem| ("problem", problem)));
    lines.iter().map(|(name, value)| format!("{name:<11}{value}\n")).collect()
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{describe, size};

    #[test]
    fn a_status_fits_on_a_screen_and_ends_with_what_is_wrong() {
        let status = json!({
            "version": "0.1.0", "ready": true, "problems": ["look here"], "repositories": 2, "images": 3,
            "bytes": 1536, "openUploads": 0,
            "store": {"writeQuorum": 2, "scrub": null, "replicas": [
                {"id": "replica0", "problem": null, "repairs": 0, "removals": 0},
                {"id": "replica1", "problem": "it does not answer", "repairs": 7, "removals": 3},
            ]},
            "changeLog": {"replicas": 3, "inSync": 2, "quorum": 2, "lagChanges": 4, "lagSeconds": 0.25,
                          "behindChanges": 9, "behindSeconds": 0.75},
            "scheduler": {"clusters": 1, "services": 0, "instances": 2, "connectedInstances": 1,
                          "runningTasks": 4, "pendingTasks": 0},
        });
        assert_eq!(
            describe(&status),
            "berth      0.1.0  ready\n\
             stored     2 repositories, 3 images, 1.5 KiB; 0 open uploads\n\
             replicas   1 of 2 usable, write quorum 2, 7 repairs and 3 removals pending\n\
             changes    2 of 3 replicas hold every one, each waits for 2; 4 not there for 0.2 s, 9 not on the slowest \
             for 0.8 s\n\
             scheduler  1 clusters, 0 services, 1 of 2 instances connected, 4 tasks running, 0 pending\n\
             problem    replica1: it does not answer\n\
             problem    look here\n"
        );
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(
            [size(0), size(1023), size(1 << 20), size(5 << 40)],
            ["0 B", "1023 B", "1.0 MiB", "5.0 TiB"]
        );
    }
}
