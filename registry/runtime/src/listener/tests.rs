//! The listener over real sockets.

use std::convert::Infallible;

use axum::Extension;
use axum::body::Body;
use axum::routing::get;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::*;
use crate::tls::{CA_PATH, CertificateNames, Connector, ServerCertificate, Source, Trust, fetch_ca};
use crate::{Clock, Sealer, Secret};

struct Served {
    address: SocketAddr,
    shutdown: Shutdown,
    ended: tokio::task::JoinHandle<()>,
}

async fn serve_with(router: Router, limits: Limits) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
    let ended = tokio::spawn(serve(listener, router, limits, shutdown.clone()));
    Served { address, shutdown, ended }
}

async fn send(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may answer and close before it has read everything.
    drop(stream.write_all(request.as_bytes()).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}

fn hello() -> Router {
    Router::new()
        .route("/", get(|Extension(Peer(address)): Extension<Peer>| async move { address.ip().to_string() }))
}

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn requests_carry_the_address_of_their_peer() {
    let served = serve_with(hello(), Limits::default()).await;
    let answer = send(served.address, GET).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1"), "{answer}");
}

#[tokio::test]
async fn http2_is_spoken_on_the_same_port() {
    let served = serve_with(hello(), Limits::default()).await;
    let stream = TcpStream::connect(served.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://x/").body(Body::empty()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, http::Version::HTTP_2));
}

#[tokio::test]
async fn an_answer_that_has_no_body_tells_no_length() {
    let router = Router::new()
        .route("/none", get(|| async { StatusCode::NO_CONTENT }))
        .route("/same", get(|| async { StatusCode::NOT_MODIFIED }))
        .route("/empty", get(|| async { StatusCode::OK }));
    let served = serve_with(router, Limits::default()).await;
    for (path, tells) in [("/none", false), ("/same", false), ("/empty", true)] {
        for method in ["GET", "HEAD"] {
            let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            let answer = send(served.address, &request).await;
            assert_eq!(answer.contains("content-length: 0"), tells, "{method} {path}: {answer}");
        }
    }
}

#[tokio::test]
async fn too_large_heads_are_answered_431() {
    let served = serve_with(hello(), Limits::default()).await;
    for headers in [
        format!("x: {}\r\n", "a".repeat(1024 * 1024)),
        format!("x: {}\r\n", "a".repeat(100 * 1024)),
        "x: a\r\n".repeat(10_000),
        "x: a\r\n".repeat(200),
    ] {
        let answer =
            send(served.address, &format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}connection: close\r\n\r\n"))
                .await;
        // A client that is still sending when it is refused may see only the reset.
        let cut_off = answer.is_empty() && headers.len() > 256 * 1024;
        assert!(answer.starts_with("HTTP/1.1 431") || cut_off, "{} bytes: {answer}", headers.len());
    }
    let fitting =
        format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\nconnection: close\r\n\r\n", "a".repeat(60 * 1024));
    assert!(send(served.address, &fitting).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn silent_and_slow_clients_are_cut_off() {
    let limits = Limits { head_time: Duration::from_millis(100), ..Limits::default() };
    let served = serve_with(hello(), limits).await;
    for sent in ["", "P", "GET / HTTP/1.1\r\nhost:", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let cut = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        assert!(cut.is_ok(), "still open after {sent:?}");
    }
}

/// Serves an answer that never ends by itself; told when it ended all the same.
async fn endless(stalled: Duration) -> (Served, Arc<Notify>) {
    endless_within(Limits { stalled, ..Limits::default() }).await
}

async fn endless_within(limits: Limits) -> (Served, Arc<Notify>) {
    struct Told(Arc<Notify>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let ended = Arc::new(Notify::new());
    let told = Arc::clone(&ended);
    let endless = move || async move {
        let told = Told(told);
        Body::from_stream(futures_util::stream::repeat_with(move || {
            let _held = &told;
            Ok::<_, Infallible>(axum::body::Bytes::from_static(&[0; 64 * 1024]))
        }))
    };
    (serve_with(Router::new().route("/", get(endless)), limits).await, ended)
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_cut_off() {
    let (served, ended) = endless(Duration::from_millis(500)).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(GET.as_bytes()).await.unwrap();
    let cut = tokio::time::timeout(Duration::from_secs(20), ended.notified()).await;
    assert!(cut.is_ok(), "the answer is still being sent to nobody");
}

#[tokio::test]
async fn a_client_that_takes_its_answer_slowly_gets_it_for_as_long_as_it_takes() {
    let stalled = Duration::from_secs(3);
    let (served, ended) = endless(stalled).await;
    let socket = TcpSocket::new_v4().unwrap();
    // So little is under way that the server has to wait for each piece.
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    let mut stream = socket.connect(served.address).await.unwrap();
    stream.write_all(GET.as_bytes()).await.unwrap();
    let begin = Instant::now();
    let mut piece = [0; 4096];
    while begin.elapsed() < stalled * 2 {
        assert!(stream.read(&mut piece).await.unwrap() > 0, "cut off after {:?}", begin.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(tokio::time::timeout(Duration::ZERO, ended.notified()).await.is_err());
}

/// An HTTP/2 client with a window of its own size, that answers every ping.
async fn http2(
    address: SocketAddr,
    window: u32,
) -> (hyper::client::conn::http2::SendRequest<Body>, tokio::task::JoinHandle<()>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    client.initial_stream_window_size(window);
    let (sender, connection) = client.handshake(TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(async move { drop(connection.await) }))
}

fn request() -> Request<Body> {
    Request::get("http://x/").body(Body::empty()).unwrap()
}

#[tokio::test]
async fn an_http2_client_that_opens_no_window_or_asks_no_more_is_cut_off() {
    let stalled = Duration::from_millis(500);
    let limits = Limits { head_time: Duration::from_millis(50), stalled, ..Limits::default() };
    for window in [1, 100_000] {
        let (served, ended) = endless_within(limits.clone()).await;
        let (mut sender, connection) = http2(served.address, window).await;
        let answer = sender.send_request(request()).await.unwrap();
        let cut = tokio::time::timeout(Duration::from_secs(20), ended.notified()).await;
        assert!(cut.is_ok(), "the answer is still being sent to nobody");
        assert!(tokio::time::timeout(Duration::from_secs(20), connection).await.is_ok());
        drop(answer);
    }
    let served = serve_with(hello(), limits).await;
    let (mut sender, connection) = http2(served.address, 100_000).await;
    assert_eq!(sender.send_request(request()).await.unwrap().status(), StatusCode::OK);
    let closed = tokio::time::timeout(Duration::from_secs(20), connection).await;
    assert!(closed.is_ok(), "whoever asks for nothing keeps its place");
    drop(sender);
}

#[tokio::test]
async fn what_the_server_works_on_does_not_count_against_an_http2_client() {
    let limits = Limits {
        head_time: Duration::from_millis(50),
        stalled: Duration::from_millis(100),
        ..Limits::default()
    };
    let slow = || async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        "done"
    };
    let served = serve_with(Router::new().route("/", get(slow)), limits).await;
    let (mut sender, _connection) = http2(served.address, 100_000).await;
    let answer = sender.send_request(request()).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "done");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let served = serve_with(hello(), Limits { connections: 1, ..Limits::default() }).await;
    let first = TcpStream::connect(served.address).await.unwrap();
    let waiting = tokio::spawn(send(served.address, GET));
    // The first connection has the only place until it is closed.
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(first);
    assert!(waiting.await.unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_shutdown_finishes_what_was_accepted_and_accepts_no_more() {
    let (started, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (start, wait) = (Arc::clone(&started), Arc::clone(&release));
    let slow = move || async move {
        start.notify_one();
        wait.notified().await;
        "done"
    };
    let served = serve_with(Router::new().route("/", get(slow)), Limits::default()).await;
    let request = tokio::spawn(send(served.address, "GET / HTTP/1.1\r\nhost: x\r\n\r\n"));
    started.notified().await;
    served.shutdown.begin();
    while TcpStream::connect(served.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!served.ended.is_finished());
    release.notify_one();
    assert!(request.await.unwrap().ends_with("done"));
    served.ended.await.unwrap();
}

#[tokio::test]
async fn the_grace_ends() {
    let started = Arc::new(Notify::new());
    let start = Arc::clone(&started);
    let never = move || async move {
        start.notify_one();
        std::future::pending::<()>().await;
    };
    let limits = Limits { grace: Duration::from_millis(50), ..Limits::default() };
    let served = serve_with(Router::new().route("/", get(never)), limits).await;
    let request = tokio::spawn(send(served.address, GET));
    started.notified().await;
    served.shutdown.begin();
    served.ended.await.unwrap();
    assert_eq!(request.await.unwrap(), "");
}

/// A listener with TLS on loopback, its certificate, and the folder of its CA.
async fn serve_tls(limits: Limits) -> (Served, ServerCertificate, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let names = CertificateNames { names: Vec::new(), every_address: false };
    let sealer = Sealer::new(&Secret::new(vec![1; 32]), 1);
    let source = Source::Own { dir: dir.path(), sealer: &sealer, names };
    let certificate = ServerCertificate::open(source, Clock::system()).unwrap();
    let ca = certificate.clone();
    let secure = |over: Option<Extension<OverTls>>| async move { over.is_some().to_string() };
    let router = Router::new()
        .route("/", get(secure))
        .route(CA_PATH, get(move || async move { ca.ca().unwrap().pem() }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
    let transport = Transport::Tls { config: certificate.server_config().unwrap(), plain: false };
    let ended = tokio::spawn(serve_all(vec![listener], transport, router, limits, shutdown.clone()));
    (Served { address, shutdown, ended }, certificate, dir)
}

async fn get_over(trust: &Trust, url: &str) -> Result<String, String> {
    let client = Client::builder(TokioExecutor::new()).build(Connector::new(url, trust).unwrap());
    let answer = client.request(Request::get(url).body(Body::empty()).unwrap()).await;
    let answer = answer.map_err(|error| crate::worker::describe(&error))?;
    Ok(String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn requests_over_tls_are_told_apart_from_those_in_clear() {
    let (served, certificate, _dir) = serve_tls(Limits::default()).await;
    let url = format!("https://{}", served.address);
    let ca = fetch_ca(&url).await.unwrap();
    assert_eq!(Some(&ca), certificate.ca().as_ref());
    let trust = Trust::only(vec![ca]);
    assert_eq!(get_over(&trust, &url).await.as_deref(), Ok("true"));
    assert_eq!(
        get_over(&trust, &format!("https://localhost:{}", served.address.port())).await.as_deref(),
        Ok("true")
    );
    assert_eq!(get_over(&trust, &format!("http://{}", served.address)).await.as_deref(), Ok("false"));
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_refused_in_words() {
    let (served, _certificate, _dir) = serve_tls(Limits::default()).await;
    let (_other, other, _other_dir) = serve_tls(Limits::default()).await;
    let url = format!("https://{}", served.address);
    let error = get_over(&Trust::only(vec![other.ca().unwrap()]), &url).await.unwrap_err();
    assert!(error.contains("not signed by a CA that is trusted here"), "{error}");
    let plain = serve_with(hello(), Limits::default()).await;
    let error = fetch_ca(&format!("https://{}", plain.address)).await.unwrap_err().to_string();
    assert!(error.contains("does not speak TLS"), "{error}");
}

#[tokio::test]
async fn slow_handshakes_are_cut_off() {
    let limits = Limits { head_time: Duration::from_millis(100), ..Limits::default() };
    let (served, _certificate, _dir) = serve_tls(limits).await;
    // Nothing at all, a byte of a handshake, the head of a record of 512 bytes.
    for sent in [&b""[..], &[0x16], &[0x16, 3, 1, 2, 0]] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut answer = Vec::new();
        let cut = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        assert!(cut.is_ok(), "still open after {sent:?}");
    }
    served.shutdown.begin();
    served.ended.await.unwrap();
}

#[tokio::test]
async fn every_listener_has_its_turn() {
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(bind("127.0.0.1:0".parse().unwrap()).await.unwrap());
    }
    let addresses: Vec<SocketAddr> = listeners.iter().map(|one| one.local_addr().unwrap()).collect();
    let taken = bind(addresses[0]).await.unwrap_err().to_string();
    assert!(taken.contains(&format!("(pid {})", std::process::id())), "{taken}");
    let shutdown = Shutdown::new();
    let serving = serve_all(listeners, Transport::Plain, hello(), Limits::default(), shutdown.clone());
    let ended = tokio::spawn(serving);
    for address in addresses.iter().chain(&addresses) {
        assert!(send(*address, GET).await.starts_with("HTTP/1.1 200"), "{address}");
    }
    shutdown.begin();
    ended.await.unwrap();
}
