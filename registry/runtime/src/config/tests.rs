//! What a configuration may look like, and how its mistakes are told.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde::Deserialize;

use super::*;
use crate::SecretString;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Config {
    listen: SocketAddr,
    #[serde(default)]
    account_id: Option<String>,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    plain_http: bool,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    tls: Tls,
    #[serde(default)]
    agent: Agent,
    #[serde(default)]
    bootstrap_secret: Option<SecretString>,
}

#[derive(Debug, Deserialize, PartialEq, Default)]
#[serde(rename_all = "lowercase")]
enum Tls {
    #[default]
    Off,
    Auto,
}

#[derive(Debug, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
struct Agent {
    #[serde(default)]
    cpu: u32,
}

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    let environment = |name: &str| variables.get(name).map(|&text| text.to_owned());
    load_from(Some(file.path()), "BERTH_", &environment)
        .map_err(|error| error.to_string().replace(&*file.path().to_string_lossy(), "berth.toml"))
}

#[test]
fn variables_win_over_the_file_and_take_the_type_of_their_key() {
    let config = load(
        "listen = \"127.0.0.1:5000\"\nport = 1\nnames = [\"a\"]\n[agent]\ncpu = 1\n",
        &[
            ("BERTH_ACCOUNT_ID", "123456789012"),
            ("BERTH_PORT", "7"),
            ("BERTH_PLAIN_HTTP", "true"),
            ("BERTH_NAMES", "x, y"),
            ("BERTH_TLS", "auto"),
            ("BERTH_AGENT", "{ cpu = 4 }"),
            ("BERTH_BOOTSTRAP_SECRET", "canary"),
            ("BERTH_LISTEN", ""),
        ],
    )
    .unwrap();
    assert_eq!(config.account_id.as_deref(), Some("123456789012"));
    assert_eq!((config.port, config.plain_http, config.agent.cpu), (7, true, 4));
    assert_eq!((config.names, config.tls), (vec!["x".to_owned(), "y".to_owned()], Tls::Auto));
    assert_eq!(config.listen.to_string(), "127.0.0.1:5000");
}

#[test]
fn a_list_may_be_written_as_toml_in_a_variable() {
    let config = load("listen = \"[::1]:1\"", &[("BERTH_NAMES", "[\"a,b\", 'c']")]).unwrap();
    assert_eq!(config.names, ["a,b", "c"]);
}

#[test]
fn mistakes_are_named_with_file_line_and_key() {
    for (text, variables, expected) in [
        (
            "listen = \"127.0.0.1:1\"\n\nlisten_on = 1\n",
            &[][..],
            "berth.toml:3: key `listen_on`: unknown field",
        ),
        ("port = 70000\nlisten = \"127.0.0.1:1\"", &[], "berth.toml:1: key `port`: invalid value"),
        ("listen = 5\n", &[], "berth.toml:1: key `listen`: invalid type"),
        ("port = 1\n", &[], "berth.toml: missing field `listen`"),
        (
            "listen = \"127.0.0.1:1\"\n[agent]\ncpu = 1\nmemory = 2\n",
            &[],
            "berth.toml:4: key `agent`: unknown field `memory`",
        ),
        ("listen = \n", &[], "berth.toml:1: "),
        ("port = 1\nport = 2\n", &[], "berth.toml:2: duplicate key"),
        ("", &[("BERTH_LISTEN", "nonsense")], "environment variable BERTH_LISTEN: invalid socket address"),
        (
            "listen = \"[::1]:1\"",
            &[("BERTH_PORT", "x")],
            "environment variable BERTH_PORT: expected an integer",
        ),
        ("listen = \"[::1]:1\"", &[("BERTH_TLS", "no")], "environment variable BERTH_TLS: unknown variant"),
    ] {
        let error = load(text, variables).unwrap_err();
        assert!(error.starts_with(expected), "{error:?} does not start with {expected:?}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = load_from::<Config>(Some(Path::new("/nowhere/berth.toml")), "BERTH_", &|_| None).unwrap_err();
    assert_eq!(error.to_string(), "/nowhere/berth.toml cannot be read");
}

#[test]
fn no_file_is_needed_when_the_environment_says_all() {
    let environment = |name: &str| (name == "BERTH_LISTEN").then(|| "127.0.0.1:5000".to_owned());
    assert!(load_from::<Config>(None, "BERTH_", &environment).is_ok());
    let error = load_from::<Config>(None, "BERTH_", &|_| None).unwrap_err();
    assert_eq!(error.to_string(), "configuration: missing field `listen`");
}
