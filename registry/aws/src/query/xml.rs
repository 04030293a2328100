//! Results of Query operations as XML, from the same JSON values that JSON operations answer with.

use std::fmt::Write;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde_json::Value;

use crate::json::REQUEST_ID;

/// A successful answer: `<OpResponse><OpResult>…</OpResult><ResponseMetadata>…`. Arrays become `<member>` lists,
/// `Null` members are left out; a `Null` result means an operation without a result element.
pub fn response(operation: &str, namespace: &str, result: &Value, request_id: &str) -> Response<Bytes> {
    let mut body = String::with_capacity(512);
    body.push('<');
    body.push_str(operation);
    body.push_str("Response xmlns=\"");
    escape(namespace, &mut body);
    body.push_str("\">");
    if !result.is_null() {
        let _ = write!(body, "<{operation}Result>");
        content(result, &mut body);
        let _ = write!(body, "</{operation}Result>");
    }
    body.push_str("<ResponseMetadata><RequestId>");
    escape(request_id, &mut body);
    let _ = write!(body, "</RequestId></ResponseMetadata></{operation}Response>");
    let mut response = Response::new(Bytes::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    if let Ok(request_id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, request_id);
    }
    response
}

/// The body of an error answer.
pub fn error_document(code: &str, status: u16, message: &str, request_id: &str) -> String {
    let kind = if status < 500 { "Sender" } else { "Receiver" };
    let mut body = format!("<ErrorResponse><Error><Type>{kind}</Type><Code>");
    escape(code, &mut body);
    body.push_str("</Code><Message>");
    escape(message, &mut body);
    body.push_str("</Message></Error><RequestId>");
    escape(request_id, &mut body);
    body.push_str("</RequestId></ErrorResponse>");
    body
}

fn content(value: &Value, out: &mut String) {
    match value {
        Value::Null => {}
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => {
            let _ = write!(out, "{number}");
        }
        Value::String(text) => escape(text, out),
        Value::Array(items) => items.iter().for_each(|item| element("member", item, out)),
        Value::Object(members) => {
            members
                .iter()
                .filter(|(_, value)| !value.is_null())
                .for_each(|(name, value)| element(name, value, out));
        }
    }
}

/// Element names come from our own code, never from a request. The entries of a map stand side by side.
fn element(name: &str, value: &Value, out: &mut String) {
    if let ("entry", Value::Array(entries)) = (name, value) {
        return entries.iter().for_each(|entry| element(name, entry, out));
    }
    let _ = write!(out, "<{name}>");
    content(value, out);
    let _ = write!(out, "</{name}>");
}

/// Escapes text; characters that XML 1.0 cannot write become U+FFFD.
fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // A bare carriage return would be read back as a line feed.
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(character),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::response;

    #[test]
    fn lists_are_members_and_text_is_escaped() {
        let result =
            json!({"Users": [{"Path": "/a&b/"}, {"Path": "\u{1}<"}], "IsTruncated": false, "Marker": null});
        let response = response("ListUsers", "https://iam.amazonaws.com/doc/2010-05-08/", &result, "r-1");
        assert_eq!(response.headers()["content-type"], "text/xml");
        assert_eq!(
            std::str::from_utf8(response.body()).unwrap(),
            "<ListUsersResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><ListUsersResult>\
             <IsTruncated>false</IsTruncated><Users><member><Path>/a&amp;b/</Path></member>\
             <member><Path>\u{fffd}&lt;</Path></member></Users></ListUsersResult>\
             <ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></ListUsersResponse>"
        );
    }

    #[test]
    fn operations_without_a_result_answer_metadata_alone() {
        let response = response("DeleteUser", "ns", &Value::Null, "r-2");
        assert_eq!(
            response.body(),
            "<DeleteUserResponse xmlns=\"ns\"><ResponseMetadata><RequestId>r-2</RequestId></ResponseMetadata></DeleteUserResponse>"
                .as_bytes()
        );
    }
}
