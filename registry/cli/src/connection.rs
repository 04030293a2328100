//! Where the server is and who calls it, from flags, the environment or the data directory.

mod profiles;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use registry_aws::{Client, Credentials};
use registry_runtime::tls::{Certificate, Connector, Trust};
use serde_json::Value;

use self::profiles::{Profiles, default_key, key_in};
use crate::trust::Places;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON document.
    Json,
}

/// Options every command has that talks to a server.
#[derive(Args, Clone, Debug)]
pub struct Connection {
    /// Address of the server, such as http://127.0.0.1:5000 [default: the server of the data directory]
    #[arg(long, env = "AWS_ENDPOINT_URL", value_name = "URL")]
    pub endpoint: Option<String>,

    /// Data directory of the server on this machine, read for its address and credentials
    /// [default: /var/lib/berth as root, else ~/.local/share/berth]
    #[arg(long, env = "BERTH_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// PEM file of the CA that the server's certificate is signed by [default: the one of `berth trust`, the
    /// data directory's, and what this machine trusts]
    #[arg(long, env = "AWS_CA_BUNDLE", value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Access key id to sign with [default: the one of the profile, or in DIR/credentials]
    #[arg(long, env = "AWS_ACCESS_KEY_ID", value_name = "ID")]
    access_key_id: Option<String>,

    /// Profile of ~/.aws/credentials or ~/.aws/config to sign with, whatever other keys there are; AWS_PROFILE counts
    /// where --endpoint or AWS_ENDPOINT_URL names the server, and for that of the data directory its own key
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,

    #[arg(long, env = "AWS_PROFILE", hide = true)]
    environment_profile: Option<String>,

    #[arg(long, env = "AWS_CONFIG_FILE", hide = true)]
    shared_config_file: Option<PathBuf>,

    #[arg(long, env = "AWS_SHARED_CREDENTIALS_FILE", hide = true)]
    shared_credentials_file: Option<PathBuf>,

    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide = true, hide_env_values = true)]
    secret_access_key: Option<String>,

    #[arg(long, env = "AWS_SESSION_TOKEN", hide = true, hide_env_values = true)]
    session_token: Option<String>,

    /// Region the requests are signed for
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1", value_name = "REGION")]
    pub region: String,

    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

impl Connection {
    /// A client for the server that the options, the environment or the data directory name.
    ///
    /// # Errors
    /// Says where endpoint and credentials were looked for when one of them is not found.
    pub fn client(&self) -> Result<Api> {
        let data = match &self.data {
            Some(data) => data.clone(),
            None => registry_runtime::default_data_dir(),
        };
        let endpoint = match &self.endpoint {
            Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
            None => read_endpoint(&data)?,
        };
        let credentials = match (&self.access_key_id, &self.secret_access_key) {
            _ if self.profile.is_some() => self.stored_credentials(&data)?,
            (Some(id), Some(secret)) => credentials(id, secret, self.session_token.clone()),
            (Some(_), None) => bail!("an access key id without its secret: set AWS_SECRET_ACCESS_KEY too"),
            _ => self.stored_credentials(&data)?,
        };
        let sent = [Some(&credentials.access_key_id), credentials.session_token.as_ref()];
        if sent.into_iter().flatten().any(|text| !text.bytes().all(|byte| byte.is_ascii_graphic())) {
            bail!("the access key id or the session token holds characters that none of them has");
        }
        let connector = connector(&endpoint, self.ca_file.as_deref(), &data)?;
        let client = Client::with_connector(&endpoint, &self.region, credentials, connector)
            .with_context(|| format!("{endpoint} is no address of a server"))?;
        Ok(Api { client, endpoint })
    }

    /// The key of a file. A profile that was named is the one; else the server of the data directory has its own
    /// there, and for one that was named, what AWS's tools were told counts before that.
    fn stored_credentials(&self, data: &Path) -> Result<Credentials> {
        let home = registry_runtime::home_dir();
        let place = |told: &Option<PathBuf>, default: &str| {
            told.clone().or_else(|| Some(home.as_ref()?.join(default)))
        };
        let shared = place(&self.shared_credentials_file, ".aws/credentials");
        let of_environment = self.environment_profile.as_ref();
        let of_environment = of_environment.filter(|name| !name.is_empty() && self.endpoint.is_some());
        if let Some(name) = self.profile.as_ref().or(of_environment) {
            let config = place(&self.shared_config_file, ".aws/config");
            let (credentials, config) = shared.zip(config).context("there is no home directory: set HOME")?;
            return Profiles { credentials, config }.key_of(name);
        }
        let own = data.join("credentials");
        if self.endpoint.is_none() {
            return read_credentials(&own);
        }
        let told = shared.and_then(|file| default_key(&file).transpose());
        match (told, read_credentials(&own)) {
            (Some(told), _) if self.shared_credentials_file.is_some() => told,
            (_, Ok(own)) => Ok(own),
            (Some(told), Err(_)) => told,
            (None, Err(error)) => Err(error),
        }
    }
}

/// What connects to `endpoint`. Beside the CAs of the file, or what this machine trusts, the one counts that this
/// machine was told of for that server: `AWS_CA_BUNDLE` may be there for the sake of others.
pub(crate) fn connector(endpoint: &str, ca_file: Option<&Path>, data: &Path) -> Result<Connector> {
    let general = ca_file.map(Trust::file).transpose().context("--ca-file")?.unwrap_or_else(Trust::system);
    let installed = Places::of_this_user().and_then(|places| places.ca_of(endpoint));
    let own = Certificate::all_from_file(&data.join("tls/ca.pem")).unwrap_or_default();
    Ok(Connector::new(endpoint, &installed.into_iter().chain(own).fold(general, Trust::and))?)
}

pub(crate) fn read_endpoint(data: &Path) -> Result<String> {
    let path = data.join("endpoint");
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "no server found: {} cannot be read. Name the server with --endpoint URL or AWS_ENDPOINT_URL, \
             or its data directory with --data DIR",
            path.display()
        )
    })?;
    Ok(text.trim().to_owned())
}

fn credentials(id: &str, secret: &str, session_token: Option<String>) -> Credentials {
    let mut credentials = Credentials::new(id, secret);
    credentials.session_token = session_token;
    credentials
}

/// Reads the access key out of a file in the format of AWS's shared credentials, whatever profile it is in.
pub(crate) fn read_credentials(path: &Path) -> Result<Credentials> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "no access key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run this where {} can \
             be read",
            path.display()
        )
    })?;
    key_in(text.lines())
        .with_context(|| format!("{} holds no aws_access_key_id and aws_secret_access_key", path.display()))
}

/// A signed connection to one server.
pub struct Api {
    client: Client,
    endpoint: String,
}

impl Api {
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Calls an ECS operation.
    pub(crate) async fn ecs(&self, operation: &str, input: &Value) -> Result<Value> {
        self.call("ecs", "AmazonEC2ContainerServiceV20141113", operation, input).await
    }

    /// Calls one of Berth's own operations.
    ///
    /// # Errors
    /// What the server answers, or that it cannot be reached.
    pub async fn berth(&self, operation: &str, input: &Value) -> Result<Value> {
        self.call("berth", "Berth_20261101", operation, input).await
    }

    /// Calls an ECR operation.
    ///
    /// # Errors
    /// As [`Api::berth`].
    pub async fn ecr(&self, operation: &str, input: &Value) -> Result<Value> {
        self.call("ecr", "AmazonEC2ContainerRegistry_V20150921", operation, input).await
    }

    async fn call(&self, service: &str, target: &str, operation: &str, input: &Value) -> Result<Value> {
        let answer = self.client.call(service, target, operation, input).await;
        answer.with_context(|| format!("{operation} failed at {}", self.endpoint))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Connection, Output};

    fn write(path: &Path, id: &str, more: &str) {
        let text =
            format!("# comment\n[default]\naws_access_key_id = {id}\naws_secret_access_key = s\n\n{more}");
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn the_key_is_of_the_profile_that_is_named_or_the_servers_own_or_what_awss_tools_were_told() {
        let folder = tempfile::tempdir().unwrap();
        let (own, shared) = (folder.path().join("credentials"), folder.path().join("shared"));
        write(&own, "OWN", "");
        write(
            &shared,
            "SHARED",
            "[ work ]\naws_secret_access_key=t\naws_access_key_id=WORK\n[empty]\nregion=x\n",
        );
        let connection =
            |endpoint: Option<&str>, profile: Option<&str>, of_environment: Option<&str>| Connection {
                endpoint: endpoint.map(str::to_owned),
                data: Some(folder.path().to_owned()),
                ca_file: None,
                access_key_id: None,
                profile: profile.map(str::to_owned),
                environment_profile: of_environment.map(str::to_owned),
                shared_config_file: Some(folder.path().join("config")),
                shared_credentials_file: Some(shared.clone()),
                secret_access_key: None,
                session_token: None,
                region: "us-east-1".to_owned(),
                output: Output::Text,
            };
        let id = |endpoint, profile, of_environment| {
            let key = connection(endpoint, profile, of_environment).stored_credentials(folder.path());
            key.map(|key| key.access_key_id.clone())
        };
        let server = Some("http://127.0.0.1:5000");
        for (endpoint, profile, of_environment, expected) in [
            (None, None, None, "OWN"),
            (None, Some("work"), None, "WORK"),
            (None, Some("work"), Some("none"), "WORK"),
            // Of a server that nobody named, the profile that is there for the sake of others says nothing.
            (None, None, Some("work"), "OWN"),
            (None, None, Some("none"), "OWN"),
            (server, None, None, "SHARED"),
            (server, None, Some(""), "SHARED"),
            (server, None, Some("work"), "WORK"),
            (server, Some("work"), Some("none"), "WORK"),
        ] {
            let found = id(endpoint, profile, of_environment).unwrap();
            assert_eq!(found, expected, "{endpoint:?} {profile:?} {of_environment:?}");
        }
        for (endpoint, profile, of_environment) in [
            (None, Some("none"), None),
            (None, Some(""), None),
            (server, Some("none"), Some("work")),
            (server, None, Some("none")),
        ] {
            let problem = id(endpoint, profile, of_environment).unwrap_err().to_string();
            assert!(problem.contains("could not be found") && problem.contains("AWS_PROFILE"), "{problem}");
        }
        let problem = id(server, Some("empty"), None).unwrap_err().to_string();
        assert!(problem.starts_with("profile empty of "), "{problem}");
        std::fs::remove_file(&own).unwrap();
        assert_eq!(id(server, None, None).unwrap(), "SHARED");
        let problem = id(None, None, Some("work")).unwrap_err().to_string();
        assert!(problem.contains("AWS_PROFILE"), "{problem}");
        // A key of the environment does not take the place of a profile that is named.
        let mut connection = connection(server, Some("none"), None);
        connection.access_key_id = Some("KEY".to_owned());
        connection.secret_access_key = Some("s".to_owned());
        let problem = connection.client().err().expect("there is no such profile").to_string();
        assert!(problem.starts_with("The config profile (none)"), "{problem}");
    }
}
