//! `berth trust`: lets the programs of this machine trust a server's CA.

mod places;

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, Result, bail};
use clap::Args;
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use registry_runtime::base_url;
use registry_runtime::tls::{
    Certificate, CertificateName, Connector, Fingerprint, Trust as Trusted, fetch_ca,
};

pub(crate) use places::Places;

/// Let docker, podman, buildah, skopeo and the AWS tools of this machine trust a server
///
/// Fetches the CA of the server and writes it where these programs look for it, for this server alone. The
/// fingerprint is in the server's log, which says the whole command at start; without --fingerprint it is shown
/// and asked for. As root for every user and for Docker, else for this user's rootless programs.
#[derive(Args, Debug)]
pub struct Trust {
    /// The server: HOST for port 443, or HOST:PORT
    #[arg(value_name = "HOST[:PORT]")]
    server: String,

    /// Fingerprint that the CA must have, as the server's log shows it
    #[arg(long, value_name = "sha256:HEX")]
    fingerprint: Option<Fingerprint>,

    /// Take away what an earlier `berth trust` wrote for this server
    #[arg(long, conflicts_with = "fingerprint")]
    remove: bool,
}

impl Trust {
    /// Fetches, checks and installs the CA, or removes it.
    ///
    /// # Errors
    /// When the server has no CA, another one than expected, or a certificate that is not of it; then nothing is
    /// written.
    pub async fn run(self) -> Result<()> {
        let host = self.server.trim_start_matches("https://").trim_end_matches('/');
        CertificateName::parse(host).with_context(|| format!("'{host}' is not HOST or HOST:PORT"))?;
        let places = Places::of_this_user().context("there is no home directory to write to: set HOME")?;
        if self.remove {
            return remove(&places, host);
        }
        let url = base_url(true, host);
        let ca = fetch_ca(&url).await?;
        self.confirm(host, ca.fingerprint())?;
        answers(&url, &ca).await?;

        println!("CA of {host}: {}", ca.fingerprint());
        for (path, reader) in places.install(host, &ca)? {
            println!("wrote {} for {reader}", path.display());
        }
        if !places.for_everybody() {
            println!("Docker's own daemon reads /etc/docker/certs.d alone: run this as root for it");
        }
        println!("AWS tools that are pointed at {url} need:");
        println!("export AWS_CA_BUNDLE={}", places.bundle(host).display());
        Ok(())
    }

    /// Whether this is the CA that the operator means.
    fn confirm(&self, host: &str, found: Fingerprint) -> Result<()> {
        if let Some(expected) = self.fingerprint {
            if expected != found {
                bail!(
                    "the CA of {host} has the fingerprint {found}, not {expected}: this is another server, or it has \
                     made a new CA; nothing was written"
                );
            }
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            bail!(
                "the CA of {host} has the fingerprint {found}; compare it with the server's log, then run: \
                 berth trust {host} --fingerprint {found}"
            );
        }
        println!("The CA of {host} has the fingerprint\n  {found}");
        print!("Is it the one in the server's log? [y/N] ");
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            bail!("nothing was written");
        }
        Ok(())
    }
}

/// Asks the server once over a connection that counts: a CA that does not fit is found here, not by docker.
async fn answers(url: &str, ca: &Certificate) -> Result<()> {
    let client = Client::builder(TokioExecutor::new())
        .build::<_, Empty<&[u8]>>(Connector::new(url, &Trusted::only(vec![ca.clone()]))?);
    client
        .get(format!("{url}/healthz").parse()?)
        .await
        .with_context(|| format!("the CA of {url} does not help; nothing was written"))?;
    Ok(())
}

fn remove(places: &Places, host: &str) -> Result<()> {
    let removed = places.remove(host)?;
    if removed.is_empty() {
        println!("nothing of `berth trust {host}` was here");
    }
    for path in removed {
        println!("removed {}", path.display());
    }
    Ok(())
}
