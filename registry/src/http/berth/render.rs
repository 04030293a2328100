//! The store's values as JSON.

use registry_aws::timestamp::epoch_seconds;
use registry_core::{Epoch, Finding, Scrub, StoreStatus};
use serde_json::{Value, json};

pub(in crate::http) fn status(status: &StoreStatus) -> Value {
    let replicas = status.replicas.iter().map(|replica| {
        json!({
            "id": replica.id,
            "location": replica.location,
            "state": replica.state.as_str(),
            "problem": replica.problem,
            "repairs": replica.repairs,
            "removals": replica.removals,
            "repairProblem": replica.repair_problem,
            "backfilled": replica.backfilled,
        })
    });
    let findings: serde_json::Map<String, Value> = status
        .open_findings
        .iter()
        .map(|(kind, count)| (kind.as_str().to_owned(), (*count).into()))
        .collect();
    json!({
        "writeQuorum": status.write_quorum,
        "replicas": replicas.collect::<Vec<_>>(),
        "scrub": status.scrub.as_ref().map(scrub),
        "openFindings": findings,
        "collectorCandidates": status.candidates,
    })
}

pub(super) fn scrub(scrub: &Scrub) -> Value {
    json!({
        "walk": scrub.walk,
        "state": scrub.state.as_str(),
        "done": scrub.fraction(),
        "startedAt": epoch_seconds(scrub.started_at_ms),
        "finishedAt": scrub.finished_at_ms.map(epoch_seconds),
        "objects": scrub.tally.objects,
        "copies": scrub.tally.copies,
        "copyBytes": scrub.tally.copy_bytes,
        "damaged": scrub.tally.damaged,
        "missing": scrub.tally.missing,
        "unknown": scrub.tally.unknown,
        "unchecked": scrub.tally.unchecked,
    })
}

pub(super) fn finding(finding: &Finding) -> Value {
    let file_id: String = finding.file_id.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "fileId": file_id,
        "replica": finding.replica,
        "kind": finding.kind.as_str(),
        "detail": finding.detail,
        "size": finding.size,
        "foundAt": epoch_seconds(finding.found_at_ms),
        "repairedAt": finding.repaired_at_ms.map(epoch_seconds),
    })
}

pub(super) fn epoch(epoch: &Epoch) -> Value {
    json!({
        "domain": epoch.domain.as_str(),
        "epoch": epoch.epoch,
        "state": epoch.state.as_str(),
        "createdAt": epoch_seconds(epoch.created_at_ms),
        "changedAt": epoch_seconds(epoch.changed_at_ms),
        "rewrapping": epoch.rewrapped_after.is_some(),
    })
}
