//! What Amazon's ECS agent needs to be one of the hosts: its configuration, its key, and how it is started.
//!
//! The key is a file that the agent reads again now and then, not a variable: variables of a container are for
//! everybody to see who may ask Docker, and a host that gets another key need not start its agent anew.

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Below /etc/ecs on the host, mounted where the agent looks for keys that change.
const KEYS: &str = "/etc/ecs/berth";
const IN_AGENT: &str = "/rotatingcreds";

/// One host's key and where it belongs.
pub(super) struct Host {
    server: String,
    cluster: String,
    region: String,
    access_key_id: String,
    secret_access_key: String,
    /// PEM, when the server's certificate is signed by a CA of its own.
    ca_certificate: Option<String>,
}

/// Amazon's agent verifies the certificate of a websocket against HOST:PORT, which no certificate can name.
///
/// # Errors
/// For an address that it could not verify.
pub(super) fn check_server(server: &str) -> Result<()> {
    let Some(host) = server.strip_prefix("https://") else { return Ok(()) };
    let port = host.trim_end_matches('/').rsplit_once(':').map(|(_, port)| port);
    // The end of an IPv6 address in brackets is no port.
    let port = port.filter(|port| !port.ends_with(']'));
    if port.is_some_and(|port| port != "443") {
        bail!(
            "Amazon's agent cannot verify {server}: it connects over TLS to port 443 only. Let the server listen \
             there too, and name it with --server https://HOST"
        );
    }
    Ok(())
}

impl Host {
    /// Reads the answer of EnrolHost.
    ///
    /// # Errors
    /// When something is missing in it.
    pub(super) fn read(answer: &Value, server: &str) -> Result<Self> {
        let text = |name: &str| {
            let member = answer[name].as_str().with_context(|| format!("the answer holds no {name}"))?;
            Ok::<_, anyhow::Error>(member.to_owned())
        };
        Ok(Self {
            // The agent would verify a certificate against the name with its port.
            server: server.trim_end_matches('/').trim_end_matches(":443").to_owned(),
            cluster: text("cluster")?,
            region: text("region")?,
            access_key_id: text("accessKeyId")?,
            secret_access_key: text("secretAccessKey")?,
            ca_certificate: answer["caCertificate"].as_str().map(str::to_owned),
        })
    }

    /// `/etc/ecs/ecs.config`.
    pub(super) fn config(&self) -> String {
        let mut lines = vec![
            format!("ECS_BACKEND_HOST={}", self.server),
            format!("ECS_CLUSTER={}", self.cluster),
            format!("AWS_DEFAULT_REGION={}", self.region),
            // Asks no metadata service of EC2 for anything, the key among it.
            "ECS_EXTERNAL=true".to_owned(),
            "ECS_DATADIR=/data".to_owned(),
            "ECS_LOGFILE=/log/ecs-agent.log".to_owned(),
            "ECS_ENABLE_TASK_IAM_ROLE=true".to_owned(),
            "ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST=true".to_owned(),
            r#"ECS_AVAILABLE_LOGGING_DRIVERS=["json-file","syslog","journald","fluentd","none"]"#.to_owned(),
        ];
        if self.ca_certificate.is_some() {
            lines.push(format!("SSL_CERT_FILE={IN_AGENT}/ca.pem"));
        }
        lines.push(String::new());
        lines.join("\n")
    }

    /// A script to be run as root on the host, once.
    pub(super) fn script(&self) -> String {
        let ca = match &self.ca_certificate {
            None => String::new(),
            Some(pem) => format!("cat >{KEYS}/ca.pem <<'END'\n{}\nEND\n", pem.trim_end()),
        };
        format!(
            r#"#!/bin/sh
# Run as root on the host, once: it holds the key of this one host.
set -eu
umask 077
mkdir -p {KEYS} /var/log/ecs /var/lib/ecs/data
cat >{KEYS}/credentials <<'END'
[default]
aws_access_key_id = {id}
aws_secret_access_key = {secret}
END
{ca}cat >/etc/ecs/ecs.config <<'END'
{config}END
# Role credentials for tasks, at 169.254.170.2; what is on loopback stays closed to neighbours.
iptables -C INPUT -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP 2>/dev/null ||
    iptables -I INPUT -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
sysctl -qw net.ipv4.conf.all.route_localnet=1
iptables -t nat -C PREROUTING -p tcp -d 169.254.170.2 --dport 80 -j DNAT --to-destination 127.0.0.1:51679 2>/dev/null ||
    iptables -t nat -A PREROUTING -p tcp -d 169.254.170.2 --dport 80 -j DNAT --to-destination 127.0.0.1:51679
iptables -t nat -C OUTPUT -p tcp -d 169.254.170.2 --dport 80 -j REDIRECT --to-ports 51679 2>/dev/null ||
    iptables -t nat -A OUTPUT -p tcp -d 169.254.170.2 --dport 80 -j REDIRECT --to-ports 51679
docker rm -f ecs-agent >/dev/null 2>&1 || true
docker run --name ecs-agent --detach --restart on-failure:10 --net host --env-file /etc/ecs/ecs.config \
    --volume /var/run/docker.sock:/var/run/docker.sock --volume /var/log/ecs:/log \
    --volume /var/lib/ecs/data:/data --volume {KEYS}:{IN_AGENT}:ro amazon/amazon-ecs-agent:latest
"#,
            id = self.access_key_id,
            secret = self.secret_access_key,
            config = self.config(),
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Host, check_server};

    #[test]
    fn only_what_the_agent_can_verify_is_printed() {
        for server in ["http://127.0.0.1:5000", "https://berth", "https://berth:443/", "https://[fd00::1]"] {
            assert!(check_server(server).is_ok(), "{server}");
        }
        for server in ["https://berth:5000", "https://[fd00::1]:5000"] {
            assert!(check_server(server).is_err(), "{server}");
        }
    }

    #[test]
    fn the_key_stands_in_its_file_alone() {
        let answer = json!({"cluster": "c", "region": "eu-west-1", "accessKeyId": "AKIAHOST",
                            "secretAccessKey": "sesame", "caCertificate": "-----BEGIN CERTIFICATE-----\n"});
        let host = Host::read(&answer, "https://berth:443").unwrap();
        let config = host.config();
        assert!(config.contains("ECS_BACKEND_HOST=https://berth\n"), "{config}");
        assert!(config.contains("SSL_CERT_FILE=/rotatingcreds/ca.pem\n"), "{config}");
        assert!(!config.contains("sesame"), "{config}");
        assert_eq!(host.script().matches("sesame").count(), 1);
        let plain = Host { ca_certificate: None, ..host };
        assert!(!plain.script().contains("ca.pem"));
    }
}
