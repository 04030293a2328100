//! The house stands as the README draws it: which room may use which, and what the pure rooms never see.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use test_support::run;

/// Room -> rooms it may use. `berth` (src/) may use all.
const EDGES: &[(&str, &str)] = &[
    ("agent", "registry-types registry-aws registry-runtime scheduler-protocol"),
    ("policies", "registry-types"),
    ("policies-identity", "registry-types registry-aws registry-sql registry-runtime policies"),
    (
        "registry",
        "registry-types registry-aws registry-sql registry-runtime policies policies-identity registry-blob registry-metadata registry-core",
    ),
    ("registry-aws", ""),
    ("registry-blob", "registry-types registry-runtime"),
    ("registry-cli", "registry-types registry-aws registry-runtime policies"),
    ("registry-core", "registry-types registry-runtime registry-blob registry-metadata"),
    ("registry-metadata", "registry-types registry-sql"),
    ("registry-runtime", ""),
    ("registry-sql", ""),
    ("registry-types", ""),
    (
        "scheduler",
        "registry-types registry-aws registry-sql registry-runtime policies-identity scheduler-engine scheduler-protocol",
    ),
    ("scheduler-engine", ""),
    ("scheduler-protocol", ""),
    ("test-support", ""),
];

/// What the pure rooms must not link: they know no runtime, server, database, clock or randomness.
const PURE: &[&str] = &["registry-types", "policies", "scheduler-engine", "scheduler-protocol"];
const IMPURE: &[&str] = &["tokio", "axum", "hyper", "rusqlite", "getrandom", "rand", "rustix"];

/// Every package of the workspace with the names of its normal dependencies.
fn packages() -> BTreeMap<String, BTreeSet<String>> {
    let output = run(Command::new("cargo").args([
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
        "--locked",
        "--offline",
    ]));
    let metadata: Value = serde_json::from_str(&output).unwrap();
    let normal = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap();
        let normal = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
        normal.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = metadata["packages"].as_array().unwrap();
    all.iter().map(|package| (package["name"].as_str().unwrap().to_owned(), normal(package))).collect()
}

#[test]
fn rooms_use_only_the_rooms_they_may() {
    let packages = packages();
    let rooms: BTreeSet<&String> = packages.keys().collect();
    for (room, uses) in packages.iter().filter(|(room, _)| *room != "berth") {
        let (_, allowed) = EDGES
            .iter()
            .find(|(name, _)| name == room)
            .unwrap_or_else(|| panic!("{room} is not in the table"));
        let allowed: BTreeSet<&str> = allowed.split_whitespace().collect();
        for used in uses.iter().filter(|used| rooms.contains(used)) {
            assert!(allowed.contains(used.as_str()), "{room} must not use {used}");
        }
    }
}

#[test]
fn pure_rooms_link_nothing_impure() {
    for room in PURE {
        let tree = run(Command::new("cargo").args([
            "tree",
            "--offline",
            "--locked",
            "-p",
            room,
            "-e",
            "normal",
            "--prefix",
            "none",
        ]));
        for line in tree.lines() {
            let name = line.split(' ').next().unwrap();
            assert!(!IMPURE.contains(&name), "{room} links {name}");
        }
    }
}

#[test]
fn docker_is_seen_in_one_place_only() {
    let found = run(Command::new("grep").args([
        "-rlE",
        "--include=*.rs",
        r"\bbollard::",
        "agent/src",
        "src",
        "registry",
        "scheduler",
        "policies",
    ]));
    for path in found.lines() {
        assert!(path.starts_with("agent/src/engine/docker"), "{path} uses bollard");
    }
    assert!(!found.is_empty(), "the engine's driver uses bollard");
}

#[test]
fn secrets_are_compared_in_constant_time_alone() {
    // Their types compare so; what they expose is text, which `==` gives up on at the first difference.
    let all = ["agent/src", "src", "registry", "scheduler/src", "policies"];
    let exposed =
        run(Command::new("grep").args(["-rnE", "--include=*.rs", r"expose\(\)|signature"]).args(all));
    let mut looked_at = 0;
    for line in exposed.lines() {
        let (path, code) = line.split_once(':').unwrap();
        let of_tests = path.contains("test") || path.contains("bench") || code.contains("assert");
        let secret = code.contains("expose()") || path.contains("sigv4/verify");
        if of_tests || !secret {
            continue;
        }
        looked_at += 1;
        assert!(!code.contains(" == ") && !code.contains(" != "), "{line}");
    }
    assert!(looked_at > 20, "{looked_at}");
    for path in [
        "registry/runtime/src/secret.rs",
        "registry/aws/src/sigv4/verify.rs",
        "policies/identity/src/authenticate/docker.rs",
    ] {
        assert!(std::fs::read_to_string(path).unwrap().contains(".ct_eq("), "{path}");
    }
}

#[test]
fn the_agent_links_no_database() {
    let tree = run(Command::new("cargo").args([
        "tree",
        "--offline",
        "--locked",
        "-p",
        "agent",
        "-e",
        "normal",
        "--prefix",
        "none",
    ]));
    assert!(!tree.lines().any(|line| line.starts_with("rusqlite ")), "the agent links SQLite");
}
