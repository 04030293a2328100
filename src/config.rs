//! The configuration file: every key, its default, and what is made of it before a port is bound.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ::agent::AgentSettings;
use anyhow::{Context, Result, bail};
use policies_identity::BootstrapKey;
use registry_runtime::SecretString;
use registry_types::{AccountId, Region};
use serde::Deserialize;

use crate::arguments::ServeArguments;

/// The keys of the configuration file. Unknown ones are errors; each top-level key can be set by
/// an environment variable `BERTH_<KEY>`, which wins over the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Address and port of the one listener.
    pub(crate) listen: String,
    /// `HOST[:PORT]` under which clients reach this server; without it, the Host they used.
    pub(crate) advertise: Option<String>,
    /// Further host names that stand for this registry in image names.
    pub(crate) registry_names: Vec<String>,
    pub(crate) account_id: String,
    pub(crate) region: String,
    /// Allow plain HTTP off loopback, where Basic and Bearer credentials are then refused.
    pub(crate) plain_http: bool,
    /// Addresses of proxies whose forwarded headers count.
    pub(crate) trusted_proxies: Vec<IpAddr>,
    /// Folder of the keys that seal everything; in no backup.
    pub(crate) key_dir: Option<PathBuf>,
    /// Folder of policy files to publish and to watch.
    pub(crate) policy_dir: Option<PathBuf>,
    /// Folders that each hold a whole copy of the content; the default is one, `DIR/content`.
    pub(crate) replicas: Vec<PathBuf>,
    /// How many copies must be durable before a push is acknowledged; the default is a majority.
    pub(crate) write_quorum: Option<usize>,
    /// Accept manifests that name blobs which are not there.
    pub(crate) sparse_manifests: bool,
    /// Seconds that requests have to finish when the server is told to stop.
    pub(crate) shutdown_grace: u64,
    /// Seconds of silence after which an instance is lost.
    pub(crate) instance_lease: u64,
    /// The administrator's first access key; used at the first start only.
    pub(crate) bootstrap_access_key_id: Option<String>,
    pub(crate) bootstrap_secret_access_key: Option<SecretString>,
    /// What the agent of `berth up` offers and opens.
    pub(crate) agent: AgentSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:5000".to_owned(),
            advertise: None,
            registry_names: Vec::new(),
            account_id: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
            plain_http: false,
            trusted_proxies: Vec::new(),
            key_dir: None,
            policy_dir: None,
            replicas: Vec::new(),
            write_quorum: None,
            sparse_manifests: false,
            shutdown_grace: 10,
            instance_lease: 30,
            bootstrap_access_key_id: None,
            bootstrap_secret_access_key: None,
            agent: AgentSettings::default(),
        }
    }
}

/// The configuration, resolved: everything is checked, nothing is bound.
pub(crate) struct Settings {
    pub(crate) data: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) account_id: AccountId,
    pub(crate) region: Region,
    pub(crate) config: Config,
}

impl Settings {
    /// Reads the file, the environment and the arguments, the last winning.
    pub(crate) fn load(arguments: &ServeArguments) -> Result<Self> {
        let mut config: Config = registry_runtime::config::load(arguments.config.as_deref(), "BERTH_")?;
        if let Some(listen) = &arguments.listen {
            config.listen.clone_from(listen);
        }
        let data = arguments.data.clone().unwrap_or_else(registry_runtime::default_data_dir);
        let data = std::path::absolute(&data).with_context(|| format!("{} is no path", data.display()))?;
        let listen = listen_address(&config.listen)?;
        if !listen.ip().is_loopback() && !config.plain_http {
            bail!(
                "{listen} is not loopback, and credentials would cross the network in clear: listen on 127.0.0.1, \
                 or set plain_http = true (then password and token logins are refused but from a trusted proxy)"
            );
        }
        let account_id = config.account_id.parse().context("account_id")?;
        let region = config.region.parse().context("region")?;
        Ok(Self { data, listen, account_id, region, config })
    }

    pub(crate) fn key_dir(&self) -> PathBuf {
        self.config.key_dir.clone().unwrap_or_else(|| self.data.join("keys"))
    }

    pub(crate) fn policy_dir(&self) -> PathBuf {
        self.config.policy_dir.clone().unwrap_or_else(|| self.data.join("policies"))
    }

    pub(crate) fn replicas(&self) -> Vec<PathBuf> {
        if self.config.replicas.is_empty() {
            vec![self.data.join("content")]
        } else {
            self.config.replicas.clone()
        }
    }

    pub(crate) fn bootstrap(&self) -> Result<Option<BootstrapKey>> {
        match (&self.config.bootstrap_access_key_id, &self.config.bootstrap_secret_access_key) {
            (Some(access_key_id), Some(secret)) => {
                let access_key_id = access_key_id.clone();
                Ok(Some(BootstrapKey { access_key_id, secret_access_key: secret.clone() }))
            }
            (None, None) => Ok(None),
            _ => bail!("BERTH_BOOTSTRAP_ACCESS_KEY_ID and BERTH_BOOTSTRAP_SECRET_ACCESS_KEY go together"),
        }
    }

    /// Folders that no task may ever see.
    pub(crate) fn protected_paths(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.data.clone(), self.key_dir(), self.policy_dir()];
        paths.extend(self.replicas());
        paths
    }
}

/// `ADDRESS:PORT`; a name such as `localhost` stands for its first address.
fn listen_address(text: &str) -> Result<SocketAddr> {
    use std::net::ToSocketAddrs;
    let mut addresses =
        text.to_socket_addrs().with_context(|| format!("listen: {text} is not ADDRESS:PORT"))?;
    addresses.next().with_context(|| format!("listen: {text} has no address"))
}

/// Makes `dir` with mode 0700 if it is not there.
pub(crate) fn private_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("cannot make {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Config;

    #[test]
    fn every_example_loads() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/config");
        let mut loaded = 0;
        for entry in std::fs::read_dir(examples).unwrap() {
            let path = entry.unwrap().path();
            if let Err(error) =
                registry_runtime::config::load_from::<Config>(Some(&path), "BERTH_", &|_| None)
            {
                panic!("{error}");
            }
            loaded += 1;
        }
        assert!(loaded > 0, "deploy/config holds examples");
    }
}
