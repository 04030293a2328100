//! The one error that every AWS-style API answers with, in the form of either protocol.
//!
//! What stands in it leaves the process: a code of the API and a sentence for the caller, never a cause.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use crate::json::{CONTENT_TYPE, REQUEST_ID};
use crate::query;

/// An error as AWS services answer it: HTTP status, exception name, message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct AwsError {
    pub status: u16,
    pub code: Cow<'static, str>,
    pub message: String,
    /// The operation's own: it has this code and status in every protocol.
    own: bool,
}

impl AwsError {
    pub fn new(status: u16, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), own: false }
    }

    /// An error of one operation, which shares its name with one that all services have.
    pub fn of_operation(code: &'static str, message: impl Into<String>) -> Self {
        Self { own: true, ..Self::client(code, message) }
    }

    /// The caller's mistake: status 400 with an exception name of the API.
    pub fn client(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    pub fn invalid_parameter(message: impl Into<String>) -> Self {
        Self::client("InvalidParameterException", message)
    }

    /// Something failed on this side. The cause belongs in the log, under the request id.
    pub fn server() -> Self {
        Self::new(
            500,
            "ServerException",
            "An internal error occurred. Ask the operator, with the request id.",
        )
    }

    /// The server cannot decide or serve now; the caller may try again.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailableException", message)
    }

    pub fn throttling() -> Self {
        Self::client("ThrottlingException", "Rate exceeded")
    }

    pub fn unknown_operation() -> Self {
        Self::client("UnknownOperationException", "The operation does not exist in this API.")
    }

    /// A known operation, or a member of one, that this server does not offer.
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::client("UnsupportedOperationException", format!("Berth does not support {what}."))
    }

    /// The body is not what the protocol prescribes.
    pub fn serialization(message: impl Into<String>) -> Self {
        Self::client("SerializationException", message)
    }

    /// The body does not have the members that the operation takes.
    pub fn malformed(problem: impl std::fmt::Display) -> Self {
        Self::serialization(format!("The request is malformed: {problem}."))
    }

    pub fn request_too_large(limit_bytes: usize) -> Self {
        Self::new(
            413,
            "RequestEntityTooLargeException",
            format!("The request body is larger than {limit_bytes} bytes."),
        )
    }

    pub fn access_denied(message: impl Into<String>) -> Self {
        Self::client("AccessDeniedException", message)
    }

    /// No credentials came with a request that needs some.
    pub fn missing_token() -> Self {
        Self::client("MissingAuthenticationTokenException", "Missing Authentication Token")
    }

    /// The signature's own syntax is wrong, or something that must be signed is not.
    pub fn incomplete_signature(message: impl Into<String>) -> Self {
        Self::client("IncompleteSignatureException", message)
    }

    /// The signature is well formed and does not hold.
    pub fn invalid_signature(message: impl Into<String>) -> Self {
        Self::client("InvalidSignatureException", message)
    }

    /// The answer to a wrong signature and to an unknown access key alike, so that neither can be told apart.
    pub fn signature_mismatch() -> Self {
        Self::invalid_signature(
            "The request signature we calculated does not match the signature you provided. \
             Check your AWS Secret Access Key and signing method. \
             Consult the service documentation for details.",
        )
    }

    /// The session token is not one of ours, or does not belong to the access key.
    pub fn invalid_token() -> Self {
        Self::client("UnrecognizedClientException", "The security token included in the request is invalid.")
    }

    pub fn expired_token() -> Self {
        Self::client("ExpiredTokenException", "The security token included in the request is expired")
    }

    /// The JSON 1.1 form: `__type` and `message`, the name again in `x-amzn-ErrorType`.
    pub fn to_json_response(&self, request_id: &str) -> Response<Bytes> {
        let body = json!({ "__type": self.code, "message": self.message }).to_string();
        let mut response = response(self.status, CONTENT_TYPE, request_id, body);
        if let Ok(code) = HeaderValue::from_str(&self.code) {
            response.headers_mut().insert("x-amzn-errortype", code);
        }
        response
    }

    /// The Query form: `ErrorResponse` in XML, with the names that Query services give to the common errors.
    pub fn to_query_xml_response(&self, request_id: &str) -> Response<Bytes> {
        let (code, status) = match self.own {
            true => (&*self.code, self.status),
            false => query_form(&self.code, self.status),
        };
        let body = query::error_document(code, status, &self.message, request_id);
        response(status, "text/xml", request_id, body)
    }
}

fn response(status: u16, content_type: &'static str, request_id: &str, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(request_id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, request_id);
    }
    response
}

/// Query services (IAM, STS) call the common errors by older names, and say 403 where JSON services say 400.
fn query_form(code: &str, status: u16) -> (&str, u16) {
    match code {
        "AccessDeniedException" => ("AccessDenied", 403),
        "ExpiredTokenException" => ("ExpiredToken", 403),
        "IncompleteSignatureException" => ("IncompleteSignature", 400),
        "InvalidParameterException" | "SerializationException" => ("ValidationError", 400),
        "InvalidSignatureException" => ("SignatureDoesNotMatch", 403),
        "MissingAuthenticationTokenException" => ("MissingAuthenticationToken", 403),
        "ServerException" => ("InternalFailure", 500),
        "ServiceUnavailableException" => ("ServiceUnavailable", 503),
        "ThrottlingException" => ("Throttling", 400),
        "UnknownOperationException" => ("InvalidAction", 400),
        "UnrecognizedClientException" => ("InvalidClientTokenId", 403),
        other => (other, status),
    }
}

#[cfg(test)]
mod tests {
    use super::AwsError;

    #[test]
    fn json_names_the_exception_in_body_and_header() {
        let response = AwsError::client("RepositoryNotFoundException", "gone \"x\"").to_json_response("r-1");
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["content-type"], "application/x-amz-json-1.1");
        assert_eq!(response.headers()["x-amzn-errortype"], "RepositoryNotFoundException");
        assert_eq!(response.headers()["x-amzn-requestid"], "r-1");
        assert_eq!(
            response.body(),
            r#"{"__type":"RepositoryNotFoundException","message":"gone \"x\""}"#.as_bytes()
        );
    }

    #[test]
    fn query_form_uses_the_older_names() {
        let response = AwsError::access_denied("a < b").to_query_xml_response("r-2");
        assert_eq!(response.status(), 403);
        let body = std::str::from_utf8(response.body()).unwrap();
        assert!(body.contains("<Type>Sender</Type><Code>AccessDenied</Code><Message>a &lt; b</Message>"));
        assert!(body.contains("<RequestId>r-2</RequestId>"));
    }

    #[test]
    fn an_error_of_an_operation_keeps_its_name() {
        let of_signature = AwsError::expired_token().to_query_xml_response("r");
        assert_eq!(of_signature.status(), 403);
        assert!(std::str::from_utf8(of_signature.body()).unwrap().contains("<Code>ExpiredToken</Code>"));
        let of_sts = AwsError::of_operation("ExpiredTokenException", "late").to_query_xml_response("r");
        assert_eq!(of_sts.status(), 400);
        assert!(std::str::from_utf8(of_sts.body()).unwrap().contains("<Code>ExpiredTokenException</Code>"));
    }
}
