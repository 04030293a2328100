//! Lists: page sizes, cursors and who may see them.

use test_support::Server;

#[test]
fn page_sizes_are_clamped_or_refused() {
    let server = Server::start();
    let http = server.http();
    http.push_blob("app", b"{}");
    for list in ["/v2/_catalog", "/v2/app/tags/list"] {
        for n in ["1000000000", "1000000000000000000", "18446744073709551616", "0"] {
            let answer = http.get(&format!("{list}?n={n}"));
            assert_eq!(answer.status, 200, "{list} {n}: {answer:?}");
        }
        for n in ["-1", "x", "1.5", "0x10", "1e9", "%00"] {
            let answer = http.get(&format!("{list}?n={n}"));
            let expected = (400, "PAGINATION_NUMBER_INVALID".to_owned());
            assert_eq!((answer.status, answer.oci_code()), expected, "{list} {n}: {answer:?}");
        }
    }
    assert_eq!(server.anonymous().get("/v2/_catalog").status, 401);
}

#[test]
fn cursors_and_filters_are_text_and_nothing_else() {
    let server = Server::start();
    let http = server.http();
    http.push_blob("app", b"{}");
    for hostile in ["';DROP TABLE tags;--", "a' OR '1'='1", "\"", "%25", "%00", "..%2f", "\\", "%f0%9f%92%a9"]
    {
        let hostile = hostile.replace(' ', "%20").replace('"', "%22").replace('\\', "%5c");
        for path in [
            format!("/v2/app/tags/list?last={hostile}"),
            format!("/v2/_catalog?last={hostile}"),
            format!("/v2/app/referrers/{}?artifactType={hostile}", super::MISSING),
        ] {
            let answer = http.get(&path);
            assert!([200, 400].contains(&answer.status), "{path}: {answer:?}");
        }
    }
    assert_eq!(http.get("/v2/_catalog").json()["repositories"], serde_json::json!(["app"]));
}
