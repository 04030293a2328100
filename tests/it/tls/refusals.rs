//! What is refused, and how clearly: wrong CAs and fingerprints, secrets in clear, ports that are taken.

use std::net::TcpListener;
use std::path::Path;

use test_support::{Http, Namespace, Network, Server, binary, run, try_run};

use super::certificates::Authority;
use super::site::{Site, Trusted};

fn berth<'a>(machine: &Namespace, args: impl IntoIterator<Item = &'a str>) -> Result<String, String> {
    try_run(machine.command(binary()).args(args))
}

fn trust_files(host: &str) -> [String; 2] {
    [format!("/etc/docker/certs.d/{host}"), format!("/etc/berth/trust/{host}.pem")]
}

#[test]
fn a_taken_port_names_its_owner() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(binary());
    command.args(["serve", "--listen", &address, "--data"]).arg(data.path());
    let error = try_run(&mut command).unwrap_err();
    assert!(
        error.contains(&format!("(pid {})", std::process::id())) && error.contains("--listen"),
        "{error}"
    );
    assert!(!data.path().join("endpoint").exists());

    // Beside a free one, too; and another server is named as such.
    let mut server = Server::start();
    let pid = server.process().id();
    let both = format!("127.0.0.1:0,{}", server.authority());
    let mut command = std::process::Command::new(binary());
    command.args(["serve", "--listen", &both, "--data"]).arg(data.path());
    let error = try_run(&mut command).unwrap_err();
    assert!(error.contains(&format!("is taken by berth (pid {pid})")), "{error}");
}

#[test]
fn nothing_secret_crosses_a_network_in_clear() {
    let network = Network::new(2);
    let (machine, other) = (network.machine(0), network.machine(1));
    let site = Site::start(machine, "0.0.0.0:5000", "");
    let url = format!("http://{}:5000", site.host);
    for path in ["/v2/", "/token", "/ca.pem", "/"] {
        let http = Http::new(&url).basic(&site.access_key_id, &site.secret);
        let answer = other.within(|| http.get(path));
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == 400 && said.contains("https://"), "{path}: {answer:?}");
    }
    // On the machine itself the same port speaks both.
    let http = Http::new("http://127.0.0.1:5000").basic(&site.access_key_id, &site.secret);
    assert_eq!(machine.within(|| http.get("/v2/").status), 200);

    let data = tempfile::tempdir().unwrap();
    let folder = data.path().to_str().unwrap();
    let mut print = machine.command(binary());
    let line = run(print.args(["cluster", "join-token", "default", "--data"]).arg(site.data()));
    let token = line.rsplit(' ').next().unwrap();
    let error = berth(other, ["agent", "--server", &url, "--join", token, "--data", folder]).unwrap_err();
    assert!(error.contains("in clear: use https://"), "{error}");

    let refused = try_run(
        machine
            .command(binary())
            .args(["serve", "--listen", "0.0.0.0:0", "--data", folder])
            .env("BERTH_TLS", "off"),
    );
    assert!(refused.unwrap_err().contains("plain_http"));
}

#[test]
fn another_server_than_the_one_meant_is_refused_before_anything_is_sent_or_written() {
    let network = Network::new(3);
    let (machine, imposter, client) = (network.machine(0), network.machine(1), network.machine(2));
    let site = Site::start(machine, "0.0.0.0:5000", "");
    let other = Site::start(imposter, "0.0.0.0:5000", "");
    let (host, wrong) = (format!("{}:5000", site.host), format!("{}:5000", other.host));
    let _trusted =
        [Trusted { machine: client, host: host.clone() }, Trusted { machine: client, host: wrong.clone() }];
    let fingerprint = site.trust_line()[3].clone();

    // By hand: without a fingerprint it is shown, and with another one nothing is written.
    let shown = berth(client, ["trust", &host]).unwrap_err();
    assert!(shown.contains(&format!("berth trust {host} --fingerprint {fingerprint}")), "{shown}");
    let error = berth(client, ["trust", &wrong, "--fingerprint", &fingerprint]).unwrap_err();
    assert!(error.contains(&fingerprint) && error.contains("nothing was written"), "{error}");
    for file in trust_files(&host).iter().chain(&trust_files(&wrong)) {
        assert!(!Path::new(file).exists(), "{file}");
    }

    // A host: the token names the server's CA, and goes to no other.
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().to_str().unwrap();
    let mut print = machine.command(binary());
    let line = run(print.args(["cluster", "join-token", "default", "--data"]).arg(site.data()));
    let token = line.rsplit(' ').next().unwrap();
    let url = format!("https://{wrong}");
    let error = berth(client, ["agent", "--server", &url, "--join", token, "--data", folder]).unwrap_err();
    assert!(error.contains(&fingerprint) && error.contains("the token was not sent"), "{error}");
    assert!(!data.path().join("joined.json").exists());

    // A command: one message, and what to do.
    let mut command = client.command(binary());
    site.credentials(&mut command);
    command.args(["cluster", "join-token", "default", "--endpoint", &format!("https://{host}")]);
    let error = try_run(command.env_remove("AWS_CA_BUNDLE")).unwrap_err();
    assert!(
        error.contains("not signed by a CA that is trusted here")
            && error.contains(&format!("berth trust {host}")),
        "{error}"
    );
    let foreign = other.data().join("tls/ca.pem");
    let error = try_run(command.arg("--ca-file").arg(foreign)).unwrap_err();
    assert!(error.contains("not signed by a CA that is trusted here"), "{error}");
    let own = site.data().join("tls/ca.pem");
    let mut command = client.command(binary());
    site.credentials(&mut command);
    command.args(["cluster", "join-token", "default", "--endpoint", &format!("https://{host}"), "--ca-file"]);
    let line = run(command.arg(own));
    assert!(line.contains(&format!("--server https://{host} --join")), "{line}");

    // Once it is trusted, the command needs nothing more.
    run(client.command(binary()).args(site.trust_line()));
    let mut command = client.command(binary());
    site.credentials(&mut command);
    run(command.args(["cluster", "join-token", "default", "--endpoint", &format!("https://{host}")]));
}

#[test]
fn a_certificate_for_another_name_or_without_a_ca_is_refused_in_words() {
    let authority = Authority::new();
    authority.write(60);
    let server = Server::builder().config(&authority.config()).start();
    let host = format!("localhost:{}", server.port());
    let fingerprint = run(std::process::Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(authority.file("ca.pem")));
    let mut command = std::process::Command::new(binary());
    let error = try_run(command.args(["trust", &host, "--fingerprint", &fingerprint])).unwrap_err();
    assert!(
        error.contains("is not for that name but for") && error.contains("nothing was written"),
        "{error}"
    );

    // A public certificate has no CA that anybody would have to be told of.
    let config = authority.config();
    let public: Vec<&str> = config.lines().filter(|line| !line.starts_with("tls_ca")).collect();
    let server = Server::builder().config(&public.join("\n")).start();
    assert_eq!(server.anonymous().get("/ca.pem").status, 404);
    let mut command = std::process::Command::new(binary());
    let error = try_run(command.args(["trust", server.authority()])).unwrap_err();
    assert!(error.contains("names no CA of its own"), "{error}");
    let plain = Server::start();
    let mut command = std::process::Command::new(binary());
    let error = try_run(command.args(["trust", plain.authority()])).unwrap_err();
    assert!(error.contains("does not speak TLS"), "{error}");
}
