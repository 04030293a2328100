//! Threats 56 to 59: everything that leads from a task to the host, closed and opened.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::Gate;
use crate::config::{HostAccess, HostNamespace};

fn gate(access: HostAccess) -> Gate {
    Gate::new(access, vec!["json-file".into(), "syslog".into()], vec![PathBuf::from("/var/lib/berth")])
}

fn host(config: Value) -> Value {
    json!({ "Image": "sha256:1", "HostConfig": config })
}

#[test]
fn everything_is_closed_by_default_and_the_error_names_the_line() {
    let closed = gate(HostAccess::default());
    for (config, line) in [
        (json!({ "Privileged": true }), "privileged = true"),
        (json!({ "CapAdd": ["NET_ADMIN"] }), r#"capabilities = ["NET_ADMIN"]"#),
        (json!({ "CapAdd": ["cap_sys_admin"] }), r#"capabilities = ["SYS_ADMIN"]"#),
        (json!({ "CapAdd": ["ALL"] }), r#"capabilities = ["ALL"]"#),
        (json!({ "NetworkMode": "host" }), r#"namespaces = ["network"]"#),
        (json!({ "PidMode": "host" }), r#"namespaces = ["pid"]"#),
        (json!({ "IpcMode": "host" }), r#"namespaces = ["ipc"]"#),
        (json!({ "Binds": ["/srv:/srv"] }), r#"host_paths = ["/srv"]"#),
        (json!({ "Devices": [{ "PathOnHost": "/dev/null" }] }), r#"devices = ["/dev/null"]"#),
        (json!({ "SecurityOpt": ["seccomp:unconfined"] }), r#"security_options = ["seccomp=unconfined"]"#),
    ] {
        let failure = closed.judge("web", &host(config.clone())).unwrap_err();
        assert_eq!(failure.name, "HostConfigError");
        assert!(failure.message.contains(line), "{config}: {}", failure.message);
        assert!(failure.message.contains("[agent.host]"), "{}", failure.message);
    }
}

#[test]
fn what_the_operator_opens_is_open() {
    let open = gate(HostAccess {
        host_paths: vec!["/srv".into()],
        devices: vec!["/dev/null".into()],
        capabilities: vec!["NET_ADMIN".into()],
        privileged: true,
        namespaces: vec![HostNamespace::Network, HostNamespace::Pid, HostNamespace::Ipc],
        security_options: vec!["seccomp=unconfined".into()],
        ..HostAccess::default()
    });
    let config = json!({
        "Privileged": true, "CapAdd": ["CAP_NET_ADMIN", "CHOWN"], "NetworkMode": "host", "PidMode": "host",
        "IpcMode": "host", "Binds": ["/srv:/srv:ro"], "Devices": [{ "PathOnHost": "/dev/null" }],
        "SecurityOpt": ["seccomp:unconfined", "no-new-privileges"], "Memory": 1000, "Runtime": "",
    });
    open.judge("web", &host(config)).unwrap();
    assert!(open.judge("web", &host(json!({ "CapAdd": ["ALL"] }))).is_err());
}

#[test]
fn system_engine_and_berth_can_never_be_opened() {
    let open = gate(HostAccess {
        host_paths: ["/", "/proc", "/sys", "/dev", "/etc", "/var", "/run"].map(PathBuf::from).to_vec(),
        ..HostAccess::default()
    });
    for path in [
        "/",
        "/etc",
        "/etc/passwd",
        "/proc/1/root",
        "/proc/self/cwd",
        "/sys/fs/cgroup",
        "/dev/sda",
        "/run",
        "/var/run/docker.sock",
        "/run/docker.sock",
        "/run/containerd/containerd.sock",
        "/var/lib",
        "/var/lib/docker",
        "/var/lib/docker/volumes/x",
        "/var/lib/berth",
        "/var/lib/berth/keys",
        "/var",
    ] {
        let failure = open.host_path(path).unwrap_err();
        assert!(failure.message.contains("never"), "{path}: {}", failure.message);
    }
    assert!(open.host_path("/var/log").is_ok());
}

#[test]
fn links_are_followed_before_the_comparison() {
    let folder = tempfile::tempdir().unwrap();
    let (open, closed) = (folder.path().join("open"), folder.path().join("closed"));
    std::fs::create_dir_all(&open).unwrap();
    std::fs::create_dir_all(&closed).unwrap();
    symlink(&closed, open.join("way-out")).unwrap();
    symlink("/etc", open.join("etc")).unwrap();
    symlink(folder.path().join("nowhere"), open.join("dangling")).unwrap();
    let gate = gate(HostAccess { host_paths: vec![open.clone()], ..HostAccess::default() });
    let judge = |path: PathBuf| gate.host_path(path.to_str().unwrap());
    assert!(judge(open.join("new/folder")).is_ok());
    for path in ["way-out", "way-out/x", "etc", "etc/passwd", "dangling", "dangling/x"] {
        assert!(judge(open.join(path)).is_err(), "{path}");
    }
    assert!(gate.host_path(&format!("{}/../closed", open.display())).is_err());
    assert!(gate.host_path("open").is_err());
}

#[test]
fn unknown_keys_are_refused_unless_they_say_nothing() {
    let gate = gate(HostAccess::default());
    for key in
        ["Mounts", "VolumeDriver", "Runtime", "UsernsMode", "UTSMode", "CgroupnsMode", "OomScoreAdj", "Later"]
    {
        assert!(gate.judge("web", &host(json!({ (key): "x" }))).is_err(), "{key}");
        assert!(gate.judge("web", &host(json!({ (key): null }))).is_ok(), "{key}");
    }
    assert!(gate.judge("web", &json!({ "MacAddress": "x" })).is_err());
    assert!(gate.judge("web", &json!({ "User": "4294967296" })).is_err());
    assert!(gate.judge("web", &json!({ "User": "1000:1000" })).is_ok());
    for sysctl in ["kernel.core_pattern", "vm.overcommit_memory"] {
        assert!(gate.judge("web", &host(json!({ "Sysctls": { (sysctl): "1" } }))).is_err());
    }
    assert!(gate.judge("web", &host(json!({ "Sysctls": { "net.core.somaxconn": "1" } }))).is_ok());
}

#[test]
fn log_drivers_reach_no_file_or_socket_of_the_host() {
    let gate = gate(HostAccess::default());
    let log = |driver: &str, option: &str| {
        let config = json!({ "LogConfig": { "Type": driver, "Config": { "x": option } } });
        gate.judge("web", &host(config))
    };
    assert!(log("json-file", "10m").is_ok());
    assert!(log("syslog", "tcp://10.0.0.1:514").is_ok());
    for option in ["unix:///var/run/docker.sock", "unixgram:///dev/log", "/etc/shadow"] {
        assert!(log("syslog", option).is_err(), "{option}");
    }
    assert!(log("gcplogs", "").is_err());
}

#[test]
fn volumes_with_drivers_or_options_are_closed() {
    let gate = gate(HostAccess::default());
    assert!(gate.volume("data", "local", false).is_ok());
    assert!(
        gate.volume("data", "local", true).unwrap_err().message.contains(r#"volume_drivers = ["local"]"#)
    );
    assert!(gate.volume("data", "nfs", false).is_err());
    assert!(gate.existing_volume("postgres").unwrap_err().message.contains(r#"volumes = ["postgres"]"#));
}
