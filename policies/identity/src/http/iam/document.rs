//! Policy documents in requests and answers.
//!
//! A document is checked when it is written, with the grammar and the quota of the place where it will stand, and kept
//! as it was written. Answers carry it percent-encoded.

use policies::{Finding, Policy, PolicyKind, Severity};

use super::error::IamError;

/// AWS's quotas, in characters without white space.
const LARGEST_MANAGED: usize = 6_144;

/// A managed policy: it can be attached, bound a principal, and bound a session.
pub(super) fn managed(text: &str) -> Result<(), IamError> {
    let policy = parse(text, PolicyKind::Identity)?;
    if policy.size() > LARGEST_MANAGED {
        return Err(IamError::quota("PolicySize", LARGEST_MANAGED));
    }
    Ok(())
}

/// An inline policy; its size, which counts together with the others of its principal.
pub(super) fn inline(text: &str) -> Result<usize, IamError> {
    Ok(parse(text, PolicyKind::Identity)?.size())
}

/// The trust policy of a role.
pub(super) fn trust(text: &str) -> Result<(), IamError> {
    parse(text, PolicyKind::Trust).map(drop)
}

pub(super) fn parse(text: &str, kind: PolicyKind) -> Result<Policy, IamError> {
    Policy::parse(text, kind).map_err(|findings| IamError::MalformedPolicyDocument(message(&findings)))
}

fn message(findings: &[Finding]) -> String {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    let lines: Vec<String> =
        errors.map(|error| format!("{}:{}: {}", error.line, error.column, error.message)).collect();
    format!("The policy is not valid: {}", lines.join("; "))
}

/// As RFC 3986 encodes it: letters, digits and `-._~` stay.
pub(super) fn encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
