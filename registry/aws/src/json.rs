//! JSON 1.1: operations by `X-Amz-Target`, one JSON object in, one out.

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde_json::Value;

use crate::error::AwsError;

/// Media type of requests and answers.
pub const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// Answer header that carries the request id, in both protocols.
pub const REQUEST_ID: &str = "x-amzn-requestid";

/// The request body as a JSON object; an empty body is the empty object, as AWS has it.
pub fn decode(body: &[u8]) -> Result<Value, AwsError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    // serde_json refuses nesting deeper than 128 by itself, so that no body can exhaust the stack.
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(AwsError::serialization("The request body must be a JSON object.")),
        Err(error) => Err(AwsError::serialization(format!("The request body is not valid JSON: {error}."))),
    }
}

/// A successful answer. `Null` is the empty object: operations without a result answer `{}`.
pub fn response(result: &Value, request_id: &str) -> Response<Bytes> {
    let body = if result.is_null() { "{}".to_owned() } else { result.to_string() };
    let mut response = Response::new(Bytes::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    if let Ok(request_id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, request_id);
    }
    response
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::decode;

    #[test]
    fn empty_body_is_an_empty_object() {
        assert_eq!(decode(b" \n").unwrap(), json!({}));
    }

    #[test]
    fn anything_but_an_object_is_refused() {
        for body in ["[]", "1", "{", "null", "{}x"] {
            assert_eq!(decode(body.as_bytes()).unwrap_err().code, "SerializationException", "{body}");
        }
        assert!(decode("[".repeat(100_000).as_bytes()).is_err());
    }
}
