//! The official conformance program of the distribution specification, with everything switched on.
//!
//! It ends well whatever it skips, so its report is what is asserted: every API and every kind of data passed.

use std::process::Command;

use test_support::{Server, go_tool};

/// The entries of one section of the report, `Name: Status`.
fn section<'a>(report: &'a str, name: &str) -> Vec<(&'a str, &'a str)> {
    let lines = report.lines().skip_while(|line| line.strip_suffix(':') != Some(name)).skip(1);
    lines.map_while(|line| line.strip_prefix("  ")).filter_map(|line| line.split_once(": ")).collect()
}

/// An attribute of the first element `testsuites` of the other report.
fn count(report: &str, attribute: &str) -> Option<u32> {
    let (_, rest) = report.split_once(&format!(" {attribute}=\""))?;
    rest.split('"').next()?.parse().ok()
}

#[test]
fn the_official_program_passes_and_skips_nothing() {
    let server = Server::builder().env("BERTH_SPARSE_MANIFESTS", "true").start();
    let results = tempfile::tempdir().unwrap();
    let output = Command::new(go_tool("conformance"))
        .env("OCI_REGISTRY", server.authority())
        .env("OCI_TLS", "disabled")
        .env("OCI_VERSION", "dev")
        .env("OCI_DATA_SPARSE", "true")
        .env("OCI_USERNAME", server.access_key_id())
        .env("OCI_PASSWORD", server.secret())
        .env("OCI_RESULTS_DIR", results.path())
        .current_dir(results.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let report = std::fs::read_to_string(results.path().join("results.yaml")).unwrap_or_default();
    let (apis, data) = (section(&report, "apis"), section(&report, "data"));
    assert!(apis.len() >= 28 && data.len() >= 20, "{report}\n{said}");
    let passed = |entry: &&(&str, &str)| entry.1 != "Pass";
    let others: Vec<_> = apis.iter().chain(&data).filter(passed).collect();
    assert!(others.is_empty(), "{others:?}\n{said}");
    let tests = std::fs::read_to_string(results.path().join("junit.xml")).unwrap();
    assert!(count(&tests, "tests") > Some(900), "{:.300}", tests);
    for none in ["failures", "errors", "skipped"] {
        assert_eq!(count(&tests, none).unwrap_or(0), 0, "{none}\n{said}");
    }
}
