//! Passwords and tokens over plain HTTP: on this machine, and from farther off.

use std::net::UdpSocket;

use base64::Engine as _;
use test_support::{Http, Server};

use crate::signed::{BERTH, ECR, Signer};

/// An address of this machine that is not loopback: what connects to it, does so from it.
fn own_address() -> String {
    // Nothing is sent: connecting a UDP socket only chooses the route.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.254:9").expect("these tests need a network interface besides loopback");
    socket.local_addr().unwrap().ip().to_string()
}

/// A server on every address of this machine, and how it is reached through the network.
fn server(config: &str) -> (Server, String) {
    let server = Server::builder().listen("0.0.0.0:0").config("plain_http = true").config(config).start();
    let outside = format!("http://{}:{}", own_address(), server.port());
    (server, outside)
}

fn bearer(server: &Server, scope: &str) -> String {
    let answer = server.http().get(&format!("/token?scope={scope}"));
    answer.json()["token"].as_str().unwrap().to_owned()
}

#[test]
fn passwords_and_tokens_count_on_loopback_only_and_signatures_everywhere() {
    let (mut server, outside) = server("");
    let near = server.http();
    near.push_blob("app", b"{}");
    assert_eq!(near.get("/v2/").status, 200);
    let signer = Signer::new(&outside, Some((server.access_key_id(), server.secret())));
    let answer = signer.call(&ECR, "GetAuthorizationToken", "{}");
    assert_eq!(answer.status, 200, "{answer:?}");
    // What an upstream is logged in with is a password too.
    let upstream = r#"{"ecrRepositoryPrefix": "hub", "username": "me", "password": "of an upstream"}"#;
    let refused = signer.call(&BERTH, "PutUpstreamCredentials", upstream);
    let because = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(refused.status == 400 && because.contains("TLS or loopback only"), "{because}");
    let login = answer.json()["authorizationData"][0]["authorizationToken"].as_str().unwrap().to_owned();
    let login = String::from_utf8(base64::prelude::BASE64_STANDARD.decode(login).unwrap()).unwrap();
    let token = bearer(&server, "repository:app:pull");

    let far = Http::new(&outside);
    for (what, http) in [
        ("an access key", far.basic(server.access_key_id(), server.secret())),
        ("a wrong access key", far.basic(server.access_key_id(), "wrong")),
        ("an ECR token", far.basic("AWS", login.strip_prefix("AWS:").unwrap())),
        ("a bearer token", far.bearer(&token)),
    ] {
        for path in ["/v2/", "/v2/app/tags/list", "/v2/app/tags/../x", "/token?scope=repository:app:pull"] {
            let answer = http.get(path);
            let because = String::from_utf8_lossy(&answer.body).into_owned();
            assert_eq!(answer.status, 401, "{what} {path}: {answer:?}");
            // A bearer token buys no other, wherever it comes from.
            if !(path.starts_with("/token") && what == "a bearer token") {
                assert!(because.contains("TLS or loopback only"), "{what} {path}: {because}");
            }
        }
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let secret = server.secret().replace('+', "%2B");
    let body = format!("grant_type=password&username={}&password={secret}", server.access_key_id());
    assert_eq!(far.post("/token", &form, body.as_bytes()).status, 401);
    assert_eq!(far.get("/token?scope=repository:app:pull").status, 200, "anybody may be nobody");
    for claim in [("x-forwarded-proto", "https"), ("x-forwarded-for", "127.0.0.1")] {
        let answer = far.basic(server.access_key_id(), server.secret()).send("GET", "/v2/", &[claim], b"");
        assert_eq!(answer.status, 401, "{claim:?}: {answer:?}");
    }
    server.stop();
    let audit = std::fs::read_to_string(server.data().join("audit.log")).unwrap();
    assert!(!audit.contains(server.secret()) && !audit.contains(&token));
}

#[test]
fn a_trusted_proxy_says_whether_its_client_came_over_tls() {
    let (server, outside) = server(&format!("trusted_proxies = [\"{}\"]", own_address()));
    let http = Http::new(&outside).basic(server.access_key_id(), server.secret());
    let status = |headers: &[(&str, &str)]| http.send("GET", "/v2/", headers, b"").status;
    let client = ("x-forwarded-for", "198.51.100.7");
    assert_eq!(status(&[("x-forwarded-proto", "https"), client]), 200);
    assert_eq!(status(&[("x-forwarded-proto", "http"), client]), 401);
    assert_eq!(status(&[client]), 401);
    assert_eq!(status(&[("x-forwarded-for", "127.0.0.1")]), 401);
    let challenge = Http::new(&outside).send("GET", "/v2/", &[("x-forwarded-proto", "https")], b"");
    assert!(challenge.header("www-authenticate").unwrap().starts_with("Bearer realm=\"https://"));
}

#[test]
fn an_answer_with_a_secret_needs_tls_loopback_or_the_operators_word() {
    // A proxy on this machine says how its own clients came.
    let server = Server::builder().config("trusted_proxies = [\"127.0.0.1\"]").start();
    let signer = Signer::administrator(&server);
    let ask = |proto: &str, service: &str, headers: &[(&str, &str)], body: &str| {
        let headers = signer.headers(service, headers, body.as_bytes());
        let mut headers: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        headers.extend([("x-forwarded-proto", proto), ("x-forwarded-for", "198.51.100.7")]);
        server.anonymous().post("/", &headers, body.as_bytes())
    };
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let target = [
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"),
    ];
    for (service, headers, body, secret) in [
        ("sts", &form[..], "Version=2011-06-15&Action=GetSessionToken", "SecretAccessKey"),
        ("iam", &form, "Version=2010-05-08&Action=CreateAccessKey&UserName=administrator", "SecretAccessKey"),
        ("ecr", &target, "{}", "authorizationToken"),
    ] {
        let refused = ask("http", service, headers, body);
        let because = String::from_utf8_lossy(&refused.body).into_owned();
        assert!([400, 403].contains(&refused.status), "{service}: {refused:?}");
        assert!(
            because.contains("AccessDenied") && because.contains("over TLS or loopback only"),
            "{because}"
        );
        assert!(!because.contains(secret), "{because}");
        let answered = ask("https", service, headers, body);
        assert_eq!(answered.status, 200, "{service}: {answered:?}");
        assert!(String::from_utf8_lossy(&answered.body).contains(secret));
    }
    let who = "Version=2011-06-15&Action=GetCallerIdentity";
    assert_eq!(ask("http", "sts", &form, who).status, 200, "no secret");
}
