//! Where the server is and who calls it, from flags, the environment or the data directory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use registry_aws::{Client, Credentials};
use registry_runtime::tls::{Certificate, Connector, Trust};
use serde_json::Value;

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

    /// Access key id to sign with [default: the one in DIR/credentials]
    #[arg(long, env = "AWS_ACCESS_KEY_ID", value_name = "ID")]
    access_key_id: Option<String>,

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
            (Some(id), Some(secret)) => credentials(id, secret, self.session_token.clone()),
            (Some(_), None) => bail!("an access key id without its secret: set AWS_SECRET_ACCESS_KEY too"),
            _ => read_credentials(&data.join("credentials"))?,
        };
        let connector = connector(&endpoint, self.ca_file.as_deref(), &data)?;
        let client = Client::with_connector(&endpoint, &self.region, credentials, connector)
            .with_context(|| format!("{endpoint} is no address of a server"))?;
        Ok(Api { client, endpoint })
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

/// Reads the access key out of a file in the format of AWS's shared credentials.
pub(crate) fn read_credentials(path: &Path) -> Result<Credentials> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "no access key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run this where {} can be read",
            path.display()
        )
    })?;
    let field = |name: &str| {
        let mut pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
    };
    match (field("aws_access_key_id"), field("aws_secret_access_key")) {
        (Some(id), Some(secret)) => Ok(credentials(&id, &secret, field("aws_session_token"))),
        _ => bail!("{} holds no aws_access_key_id and aws_secret_access_key", path.display()),
    }
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
