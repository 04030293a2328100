//! Each file in `golden/` is a message as it stands on the wire; reading and writing it again changes nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, with the place it happened")]

use scheduler_protocol::{
    AgentMessage, JoinResponse, RegisterContainerInstanceRequest, ServerMessage,
    SubmitTaskStateChangeRequest, TelemetryAgentMessage, TelemetryServerMessage,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("../golden/", $name, ".json"))
    };
}

fn same(name: &str, wire: &str, written: &str) {
    let expected: Value = serde_json::from_str(wire).unwrap();
    let found: Value = serde_json::from_str(written).unwrap();
    assert_eq!(found, expected, "{name}");
}

#[test]
fn scheduler_messages_keep_their_wire_form() {
    for (name, wire) in [
        ("heartbeat", golden!("heartbeat")),
        ("payload_start", golden!("payload_start")),
        ("payload_stop", golden!("payload_stop")),
        ("task_manifest", golden!("task_manifest")),
        ("task_stop_verification_ack", golden!("task_stop_verification_ack")),
        ("role_credentials", golden!("role_credentials")),
        ("berth_endpoints", golden!("berth_endpoints")),
    ] {
        same(name, wire, &ServerMessage::decode(wire).unwrap().unwrap().encode());
    }
}

#[test]
fn agent_messages_keep_their_wire_form() {
    for (name, wire) in [
        ("heartbeat_ack", golden!("heartbeat_ack")),
        ("ack", golden!("ack")),
        ("task_stop_verification", golden!("task_stop_verification")),
        ("role_credentials_ack", golden!("role_credentials_ack")),
        ("berth_endpoints_report", golden!("berth_endpoints_report")),
    ] {
        same(name, wire, &AgentMessage::decode(wire).unwrap().unwrap().encode());
    }
}

#[test]
fn telemetry_keeps_its_wire_form() {
    for (name, wire) in
        [("publish_health", golden!("publish_health")), ("publish_metrics", golden!("publish_metrics"))]
    {
        same(name, wire, &TelemetryAgentMessage::decode(wire).unwrap().unwrap().encode());
    }
    let wire = golden!("ack_publish_health");
    same("ack_publish_health", wire, &TelemetryServerMessage::decode(wire).unwrap().unwrap().encode());
}

#[test]
fn http_bodies_keep_their_wire_form() {
    fn body<T: Serialize + DeserializeOwned>(name: &str, wire: &str) {
        let value: T = serde_json::from_str(wire).unwrap();
        same(name, wire, &serde_json::to_string(&value).unwrap());
    }
    body::<RegisterContainerInstanceRequest>(
        "register_container_instance",
        golden!("register_container_instance"),
    );
    body::<SubmitTaskStateChangeRequest>("submit_task_state_change", golden!("submit_task_state_change"));
    body::<JoinResponse>("join_response", golden!("join_response"));
}
