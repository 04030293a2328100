//! `berth profile`: a profile of the AWS tools for this server, so that no other AWS call of a shell is redirected.

mod block;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use registry_runtime::tls::Connector;
use registry_runtime::{durable, home_dir};
use serde_json::json;

use crate::connection::{connector, read_credentials, read_endpoint};
use crate::trust::Places;
use block::{Block, name};

/// Service as the AWS configuration names it, and the prefix by which its operations are told apart.
const SERVICES: &[(&str, &str)] = &[
    ("ecr", "AmazonEC2ContainerRegistry_V20150921"),
    ("ecs", "AmazonEC2ContainerServiceV20141113"),
    ("ssm", "AmazonSSM"),
    ("secrets_manager", "secretsmanager"),
    ("cloudwatch_logs", "Logs_20140328"),
];
/// Those of the Query protocol, which every server of Berth answers.
const QUERY_SERVICES: &[&str] = &["sts", "iam"];
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Set up the AWS tools of this user for a server: `aws --profile berth`, or AWS_PROFILE=berth
#[derive(Debug, Subcommand)]
pub enum Profile {
    Install(Install),
    Remove(Remove),
    #[command(hide = true)]
    Credentials(Credentials),
}

/// Write the profile into the AWS configuration, beside everything that is there
///
/// The profile leads the services that the server speaks to it, and no other. Its credentials are read from the
/// credentials file of the server's data directory at each call, where this user can read that; else add an access
/// key to ~/.aws/credentials under [berth].
#[derive(Args, Debug)]
pub struct Install {
    /// Address of the server, such as https://registry.example [default: the server of the data directory]
    #[arg(long, value_name = "URL")]
    server: Option<String>,

    /// File with the access key, in the format of AWS's shared credentials [default: DIR/credentials]
    #[arg(long, value_name = "FILE")]
    credentials_file: Option<PathBuf>,

    /// PEM file of the CA that the server's certificate is signed by [default: the one of `berth trust`]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Data directory of the server on this machine
    /// [default: /var/lib/berth as root, else ~/.local/share/berth]
    #[arg(long, env = "BERTH_DATA", value_name = "DIR")]
    data: Option<PathBuf>,

    #[arg(long, env = "AWS_REGION", default_value = "us-east-1", value_name = "REGION")]
    region: String,

    #[command(flatten)]
    place: Place,
}

/// Take the profile away; everything else in the file stays as it is
#[derive(Args, Debug)]
pub struct Remove {
    #[command(flatten)]
    place: Place,
}

/// Print a file's access key the way that `credential_process` wants it
#[derive(Args, Debug)]
pub struct Credentials {
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
}

#[derive(Args, Debug)]
struct Place {
    /// Name of the profile
    #[arg(long, default_value = "berth", value_name = "NAME", value_parser = name)]
    name: String,

    /// The AWS configuration [default: ~/.aws/config]
    #[arg(long, env = "AWS_CONFIG_FILE", value_name = "FILE")]
    config_file: Option<PathBuf>,
}

impl Profile {
    /// Runs the command.
    ///
    /// # Errors
    /// When the server does not answer, or the file has a profile of that name that Berth did not write.
    pub async fn run(self) -> Result<()> {
        match self {
            Self::Install(install) => install.run().await,
            Self::Remove(remove) => remove.run(),
            Self::Credentials(credentials) => credentials.run(),
        }
    }
}

impl Install {
    async fn run(self) -> Result<()> {
        let data = self.data.clone().unwrap_or_else(registry_runtime::default_data_dir);
        let url = match &self.server {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => read_endpoint(&data)?,
        };
        let services = served(&url, &connector(&url, self.ca_file.as_deref(), &data)?).await?;
        let credentials = match &self.credentials_file {
            Some(file) => {
                read_credentials(file)?;
                Some(file.clone())
            }
            None => Some(data.join("credentials")).filter(|file| read_credentials(file).is_ok()),
        };
        let block = Block {
            name: self.place.name.clone(),
            url: url.clone(),
            region: self.region.clone(),
            services,
            ca_bundle: self.ca_bundle(&url, &data)?,
            credential_process: credentials.as_deref().map(credential_process).transpose()?,
        };
        let path = self.place.path()?;
        let text = block.insert(&read(&path)?).with_context(|| path.display().to_string())?;
        write(&path, &text)?;
        println!("wrote the profile {} for {url} to {}", block.name, path.display());
        println!("it leads {} there, and nothing else", block.services.join(", "));
        if credentials.is_none() {
            println!(
                "it has no access key yet: aws configure set aws_access_key_id KEY --profile {0}",
                block.name
            );
            println!(
                "                          aws configure set aws_secret_access_key SECRET --profile {0}",
                block.name
            );
        }
        println!("try: aws --profile {} sts get-caller-identity", block.name);
        Ok(())
    }

    /// The file that verifies the server's certificate; none where that is not needed.
    fn ca_bundle(&self, url: &str, data: &Path) -> Result<Option<PathBuf>> {
        let Some(host) = url.strip_prefix("https://") else { return Ok(None) };
        if let Some(file) = &self.ca_file {
            return Ok(Some(std::path::absolute(file)?));
        }
        let trusted = Places::of_this_user().map(|places| places.bundle(host));
        let own = data.join("tls/ca.pem");
        Ok(trusted.into_iter().chain([own]).find(|file| file.exists()))
    }
}

impl Remove {
    fn run(self) -> Result<()> {
        let path = self.place.path()?;
        let before = read(&path)?;
        let after = block::remove(&before, &self.place.name);
        if after == before {
            println!("{} has no profile {} that Berth wrote", path.display(), self.place.name);
            return Ok(());
        }
        write(&path, &after)?;
        println!("removed the profile {} from {}", self.place.name, path.display());
        Ok(())
    }
}

impl Credentials {
    fn run(self) -> Result<()> {
        let key = read_credentials(&self.file)?;
        let mut answer = json!({
            "Version": 1,
            "AccessKeyId": key.access_key_id,
            "SecretAccessKey": key.secret_access_key,
        });
        if let Some(token) = &key.session_token {
            answer["SessionToken"] = json!(token);
        }
        println!("{answer}");
        Ok(())
    }
}

impl Place {
    fn path(&self) -> Result<PathBuf> {
        let default = || home_dir().map(|home| home.join(".aws/config"));
        let path =
            self.config_file.clone().or_else(default).context("there is no home directory: set HOME")?;
        // A link stays a link.
        Ok(std::fs::canonicalize(&path).unwrap_or(path))
    }
}

/// The services that the server speaks: what it does not know it refuses before it asks who calls.
async fn served(url: &str, connector: &Connector) -> Result<Vec<String>> {
    let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector.clone());
    let mut services = Vec::new();
    for (service, prefix) in SERVICES {
        let request = Request::post(format!("{url}/"))
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("{prefix}.Probe"))
            .body(Full::new(Bytes::from_static(b"{}")))
            .with_context(|| format!("{url} is no address of a server"))?;
        let answer = client.request(request).await.with_context(|| format!("no answer from {url}"))?;
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body =
            body.map_err(anyhow::Error::from_boxed).with_context(|| format!("no answer from {url}"))?;
        let answer: serde_json::Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        if answer["__type"].as_str().is_some_and(|kind| kind.contains("MissingAuthenticationToken")) {
            services.push((*service).to_owned());
        }
    }
    if services.is_empty() {
        bail!("{url} does not speak ECR or ECS: is it a server of Berth?");
    }
    services.extend(QUERY_SERVICES.iter().map(|service| (*service).to_owned()));
    Ok(services)
}

fn credential_process(file: &Path) -> Result<String> {
    let program = std::env::current_exe().context("where this program lies is not known")?;
    let file = std::path::absolute(file)?;
    Ok(format!("{} profile credentials --file {}", quoted(&program)?, quoted(&file)?))
}

/// As one word of a `credential_process`, which is split like a shell's line and knows no variables.
fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().filter(|text| !text.contains(['"', '\\', '\n']));
    let text =
        text.with_context(|| format!("{} cannot be written into the configuration", path.display()))?;
    Ok(if text.contains(' ') { format!("\"{text}\"") } else { text.to_owned() })
}

fn read(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).map_or(0o600, |metadata| metadata.permissions().mode() & 0o777);
    let folder = path.parent().context("the configuration is a file")?;
    durable::create_directory(folder, 0o700)
        .and_then(|()| durable::write_file_atomically(path, text.as_bytes(), mode))
        .with_context(|| format!("cannot write {}", path.display()))
}
