//! The configuration file: every key, its default, and what is made of it before a port is bound.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ::agent::AgentSettings;
use anyhow::{Context, Result, bail};
use policies_identity::BootstrapKey;
use registry_runtime::SecretString;
use registry_types::{AccountId, Region, RepositoryName};
use serde::Deserialize;

use crate::arguments::ServeArguments;
use crate::listen::{Listen, Tls, TlsMode};
use crate::observe::AccessLogSetting;
use crate::peers;
use crate::places::{Replica, S3Settings};

/// The keys of the configuration file. Unknown ones are errors; each top-level key can be set by
/// an environment variable `BERTH_<KEY>`, which wins over the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Addresses and ports that are served, all alike.
    pub(crate) listen: Listen,
    /// TLS off loopback; the default is `auto`, or `off` with `plain_http`.
    pub(crate) tls: Option<TlsMode>,
    /// PEM files for `tls = "files"`; `tls_ca` is what clients are to trust, where they do not already.
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    pub(crate) tls_ca: Option<PathBuf>,
    /// `HOST[:PORT]` under which clients reach this server; without it, the Host they used.
    pub(crate) advertise: Option<String>,
    /// Further host names that stand for this registry in image names.
    pub(crate) registry_names: Vec<String>,
    pub(crate) account_id: String,
    pub(crate) region: String,
    /// Allow plain HTTP off loopback, where Basic and Bearer credentials are then refused, and signed requests
    /// answered. Without it none that asks for a secret is, even where a trusted proxy speaks plain HTTP.
    pub(crate) plain_http: bool,
    /// Addresses of proxies whose forwarded headers count.
    pub(crate) trusted_proxies: Vec<IpAddr>,
    /// Other registries that clients may take this one for, as `?ns=`, each with the prefix of the repositories
    /// that are theirs here.
    pub(crate) mirrors: BTreeMap<String, String>,
    /// `HOST` or `HOST:PORT` of upstreams that may lie at addresses which are not public, with `http://` before it
    /// where they speak plain HTTP.
    pub(crate) pull_through_private_hosts: Vec<String>,
    /// Seconds for which a tag that came from an upstream is served without asking there again.
    pub(crate) pull_through_revalidate: u64,
    /// `postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full` for several servers; the default is a file,
    /// `DIR/berth.db`.
    pub(crate) database: Option<SecretString>,
    /// That every server sees the folders among `replicas`, on a file system that they share.
    pub(crate) shared_filesystem: bool,
    /// `ADDRESS:PORT` for the other servers of this database, by mutual TLS.
    pub(crate) peer_listen: Option<String>,
    /// `HOST:PORT` where the other servers reach `peer_listen`; the default is its address.
    pub(crate) peer_advertise: Option<String>,
    /// Folder of the keys that seal everything; in no backup.
    pub(crate) key_dir: Option<PathBuf>,
    /// Folder of policy files to publish and to watch.
    pub(crate) policy_dir: Option<PathBuf>,
    /// PEM file of CAs that issuers of OIDC tokens may have their certificates from, beside those that this machine
    /// trusts.
    pub(crate) oidc_ca_file: Option<PathBuf>,
    /// `HOST` or `HOST:PORT` of issuers that may lie at private addresses.
    pub(crate) oidc_private_hosts: Vec<String>,
    /// Places that each hold a whole copy of the content; the default is one, `DIR/content`.
    pub(crate) replicas: Vec<Replica>,
    /// The S3 service of replicas `s3://BUCKET/PREFIX` that name none of their own.
    pub(crate) s3: S3Settings,
    /// Its credentials, where `s3` holds none: so that an environment can hold them.
    pub(crate) s3_access_key_id: Option<String>,
    pub(crate) s3_secret_access_key: Option<SecretString>,
    /// How many copies must be durable before a push is acknowledged; the default is a majority.
    pub(crate) write_quorum: Option<usize>,
    /// How fast scrub reads, MiB a second over all replicas; 0 is no bound.
    pub(crate) scrub_rate: u64,
    /// Seconds from the beginning of one walk of scrub to that of the next; 0: only when asked.
    pub(crate) scrub_interval: u64,
    /// Seconds from when a lifecycle policy is set until it is applied, and from then to the next time.
    pub(crate) lifecycle_interval: u64,
    /// Accept manifests that name blobs which are not there.
    pub(crate) sparse_manifests: bool,
    /// Requests a second of one client address, and of one principal, with ten times as many at once; 0 is no
    /// bound. Loopback is not counted.
    pub(crate) requests_per_address: u32,
    pub(crate) requests_per_principal: u32,
    /// Where a line for each request goes: `stderr`, `off`, or the path of a file.
    pub(crate) access_log: AccessLogSetting,
    /// Addresses where everybody may read `/metrics`, and nothing else is served.
    pub(crate) metrics_listen: Option<Listen>,
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
            listen: Listen(vec!["127.0.0.1:5000".to_owned()]),
            tls: None,
            tls_cert: None,
            tls_key: None,
            tls_ca: None,
            advertise: None,
            registry_names: Vec::new(),
            account_id: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
            plain_http: false,
            trusted_proxies: Vec::new(),
            database: None,
            shared_filesystem: false,
            peer_listen: None,
            peer_advertise: None,
            key_dir: None,
            policy_dir: None,
            oidc_ca_file: None,
            oidc_private_hosts: Vec::new(),
            replicas: Vec::new(),
            s3: S3Settings::default(),
            s3_access_key_id: None,
            s3_secret_access_key: None,
            write_quorum: None,
            scrub_rate: 32,
            scrub_interval: 30 * 24 * 3600,
            lifecycle_interval: 3600,
            sparse_manifests: false,
            mirrors: BTreeMap::new(),
            pull_through_private_hosts: Vec::new(),
            pull_through_revalidate: 3600,
            requests_per_address: 1000,
            requests_per_principal: 2000,
            access_log: AccessLogSetting::Stderr,
            metrics_listen: None,
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
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) metrics_listen: Vec<SocketAddr>,
    pub(crate) tls: Tls,
    pub(crate) account_id: AccountId,
    pub(crate) region: Region,
    pub(crate) config: Config,
}

impl Settings {
    /// Reads the file, the environment and the arguments, the last winning.
    pub(crate) fn load(arguments: &ServeArguments) -> Result<Self> {
        let mut config: Config = registry_runtime::config::load(arguments.config.as_deref(), "BERTH_")?;
        if !arguments.listen.is_empty() {
            config.listen = Listen(arguments.listen.clone());
        }
        let data = arguments.data.clone().unwrap_or_else(registry_runtime::default_data_dir);
        let data = std::path::absolute(&data).with_context(|| format!("{} is no path", data.display()))?;
        let listen = config.listen.addresses()?;
        let metrics = config.metrics_listen.as_ref().map(Listen::addresses).transpose();
        let metrics_listen = metrics.context("metrics_listen")?.unwrap_or_default();
        let served: Vec<SocketAddr> = listen.iter().chain(&metrics_listen).copied().collect();
        let tls = Tls::of(&config, &served)?;
        let account_id = config.account_id.parse().context("account_id")?;
        let region = config.region.parse().context("region")?;
        let settings = Self { data, listen, metrics_listen, tls, account_id, region, config };
        settings.check_sharing()?;
        settings.check_hosts()?;
        settings.check_mirrors()?;
        settings.check_folders()?;
        settings.check_numbers()?;
        settings.check_listening()?;
        settings.bootstrap()?;
        Ok(settings)
    }

    /// A host that is written otherwise than it is looked for would never be found.
    fn check_hosts(&self) -> Result<()> {
        let bad = |host: &str| host.is_empty() || host.contains(['/', '@', ' ']);
        for host in &self.config.pull_through_private_hosts {
            if bad(host.strip_prefix("http://").unwrap_or(host)) {
                bail!(
                    "pull_through_private_hosts: '{host}' is not HOST or HOST:PORT, with http:// before it where it \
                     speaks plain HTTP"
                );
            }
        }
        if let Some(host) = self.config.oidc_private_hosts.iter().find(|host| bad(host)) {
            bail!("oidc_private_hosts: '{host}' is not HOST or HOST:PORT");
        }
        if let Some(host) = self.config.mirrors.keys().find(|host| bad(host)) {
            bail!("mirrors: '{host}' is not HOST or HOST:PORT, as clients name the registry in ?ns=");
        }
        Ok(())
    }

    /// What depends on where somebody stood when they typed the command would be another folder the next time.
    fn check_folders(&self) -> Result<()> {
        let folders = [("key_dir", &self.config.key_dir), ("policy_dir", &self.config.policy_dir)];
        for (name, folder) in folders {
            if let Some(folder) = folder.as_ref().filter(|folder| !folder.is_absolute()) {
                bail!("{name}: {} is no absolute path", folder.display());
            }
        }
        Ok(())
    }

    /// Numbers with which nothing would work.
    fn check_numbers(&self) -> Result<()> {
        if self.config.instance_lease == 0 {
            bail!("instance_lease: at least 1 second, or every container instance is lost at once");
        }
        if self.config.s3.part_buffers == 0 {
            bail!("s3.part_buffers: at least 1, or no upload could begin");
        }
        if let Some((first, last)) = self.config.agent.dynamic_ports.filter(|(first, last)| first > last) {
            bail!("agent.dynamic_ports: {first} comes after {last}");
        }
        Ok(())
    }

    /// A prefix that no repository can have would fail each pull by its mirror.
    fn check_mirrors(&self) -> Result<()> {
        for (registry, prefix) in self.config.mirrors.iter().filter(|(_, prefix)| !prefix.is_empty()) {
            let checked = prefix.parse::<RepositoryName>();
            checked.with_context(|| {
                format!("mirrors: '{prefix}', for {registry}, is no prefix of repositories")
            })?;
        }
        Ok(())
    }

    fn check_listening(&self) -> Result<()> {
        let both =
            self.metrics_listen.iter().find(|metrics| metrics.port() != 0 && self.listen.contains(metrics));
        if let Some(both) = both {
            bail!(
                "metrics_listen: {both} is in listen too, where /metrics is served to whoever may read it: choose \
                 another port, or leave metrics_listen out"
            );
        }
        Ok(())
    }

    /// What other servers of the installation could not reach is refused.
    fn check_sharing(&self) -> Result<()> {
        let Some(url) = &self.config.database else {
            if self.config.peer_listen.is_some() || self.config.peer_advertise.is_some() {
                bail!(
                    "peer_listen and peer_advertise are for several servers: set database = \"postgres://…\" too"
                );
            }
            return Ok(());
        };
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme)) {
            bail!("database: postgres://USER:PASSWORD@HOST/DATABASE is expected");
        }
        let of_this_machine = self.replica_locations().into_iter().find(|location| !location.contains("://"));
        if let Some(folder) = of_this_machine.filter(|_| !self.config.shared_filesystem) {
            bail!(
                "database: PostgreSQL is for several servers, and the replica {folder} is a folder of this one: use \
                 s3 replicas, or a file system that all of them share, with shared_filesystem = true"
            );
        }
        Ok(())
    }

    /// Where other servers are listened to.
    pub(crate) fn peer_listen(&self) -> Result<Option<SocketAddr>> {
        self.config.peer_listen.as_deref().map(peers::parse_listen).transpose()
    }

    pub(crate) fn key_dir(&self) -> PathBuf {
        self.config.key_dir.clone().unwrap_or_else(|| self.data.join("keys"))
    }

    /// The lock between those who delete objects and those who copy them.
    pub(crate) fn deletion_lock(&self) -> PathBuf {
        self.data.join("deletions.lock")
    }

    /// The SQLite file of an installation that was served before.
    pub(crate) fn existing_database(&self) -> Result<PathBuf> {
        if self.config.database.is_some() {
            bail!(
                "the database is a PostgreSQL: back it up with its own means, and the replicas with theirs"
            );
        }
        let path = self.data.join("berth.db");
        if !path.exists() {
            bail!("{} does not exist: there is nothing to back up", path.display());
        }
        Ok(path)
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.data.join("audit.log")
    }

    pub(crate) fn policy_dir(&self) -> PathBuf {
        self.config.policy_dir.clone().unwrap_or_else(|| self.data.join("policies"))
    }

    /// The directory whose changes are published by themselves. Of several servers only those watch one that
    /// were told to: each of them would publish its own.
    pub(crate) fn watched_policy_dir(&self) -> Option<PathBuf> {
        (self.config.policy_dir.is_some() || self.config.database.is_none()).then(|| self.policy_dir())
    }

    /// Where the configuration has the content lie.
    pub(crate) fn replica_locations(&self) -> Vec<String> {
        if self.config.replicas.is_empty() {
            vec![self.data.join("content").to_string_lossy().into_owned()]
        } else {
            self.config.replicas.iter().map(|replica| replica.location().to_owned()).collect()
        }
    }

    pub(crate) fn bootstrap(&self) -> Result<Option<BootstrapKey>> {
        match (&self.config.bootstrap_access_key_id, &self.config.bootstrap_secret_access_key) {
            (Some(access_key_id), Some(secret)) => {
                let access_key_id = access_key_id.clone();
                let key = BootstrapKey { access_key_id, secret_access_key: secret.clone() };
                key.check()?;
                Ok(Some(key))
            }
            (None, None) => Ok(None),
            _ => bail!("BERTH_BOOTSTRAP_ACCESS_KEY_ID and BERTH_BOOTSTRAP_SECRET_ACCESS_KEY go together"),
        }
    }

    /// Folders that no task may ever see.
    pub(crate) fn protected_paths(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.data.clone(), self.key_dir(), self.policy_dir()];
        paths.extend(
            self.replica_locations().into_iter().map(PathBuf::from).filter(|path| path.is_absolute()),
        );
        paths
    }
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

    use super::{Config, Settings};
    use crate::arguments::ServeArguments;

    #[test]
    fn what_cannot_work_is_refused_with_the_key_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("berth.toml");
        for (text, told) in [
            ("mirrors = { \"x.io\" = \"UPPER\" }", "mirrors: 'UPPER', for x.io, is no prefix"),
            ("mirrors = { \"\" = \"hub\" }", "mirrors: '' is not HOST"),
            ("oidc_private_hosts = [\"http://x\"]", "oidc_private_hosts: 'http://x' is not HOST"),
            ("key_dir = \"keys\"", "key_dir: keys is no absolute path"),
            ("policy_dir = \"./policies\"", "policy_dir: ./policies is no absolute path"),
            ("instance_lease = 0", "instance_lease: at least 1 second"),
            ("[s3]\npart_buffers = 0", "s3.part_buffers: at least 1"),
            ("[agent]\ndynamic_ports = [5, 1]", "agent.dynamic_ports: 5 comes after 1"),
            ("peer_advertise = \"a:1\"", "peer_listen and peer_advertise are for several servers"),
            (
                "listen = \"127.0.0.1:5009\"\nmetrics_listen = \"127.0.0.1:5009\"",
                "metrics_listen: 127.0.0.1:5009 is in",
            ),
            (
                "bootstrap_access_key_id = \"AKIAFOO\"\nbootstrap_secret_access_key = \"s\"",
                "the bootstrap access key id must be 16 to 128",
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            let arguments = ServeArguments { config: Some(path.clone()), ..ServeArguments::default() };
            let error = format!("{:#}", Settings::load(&arguments).err().unwrap());
            assert!(error.contains(told), "{text}: {error}");
        }
    }

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
