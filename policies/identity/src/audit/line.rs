//! One line of the audit log.

use std::fmt::Write;

use policies::{Decision, PolicyKind, Reason};
use time::OffsetDateTime;

use crate::authorize::DeniedKind;
use crate::caller::Caller;
use crate::context::RequestContext;

/// Longest user agent that is written; it is whatever the client says.
const LONGEST_USER_AGENT: usize = 256;

/// Most lines, with their number and MAC.
const LONG_ENOUGH: usize = 768;

/// What is recorded of one decision.
pub(crate) struct Line<'a> {
    pub(crate) request: &'a RequestContext,
    pub(crate) caller: Who<'a>,
    /// The API's name of what was asked for.
    pub(crate) operation: &'a str,
    /// Action and resource; None where nothing had to be decided.
    pub(crate) asked: Option<(&'a str, &'a str)>,
    pub(crate) outcome: Outcome<'a>,
    /// Security generation, and generation of the policy files.
    pub(crate) generations: (i64, i64),
}

/// Who asked.
#[derive(Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) arn: &'a str,
    pub(crate) user_id: &'a str,
    pub(crate) access_key_id: Option<&'a str>,
    pub(crate) source_identity: Option<&'a str>,
}

impl<'a> From<&'a Caller> for Who<'a> {
    fn from(caller: &'a Caller) -> Self {
        let session = caller.principal.session.as_ref();
        Who {
            arn: caller.arn(),
            user_id: caller.user_id(),
            access_key_id: caller.access_key_id(),
            source_identity: session.and_then(|session| session.source_identity.as_deref()),
        }
    }
}

/// What became of it.
pub(crate) enum Outcome<'a> {
    Decided(&'a Decision<'a>),
    /// The credentials were right once and are no longer.
    NotStanding(DeniedKind),
    /// The credentials were not accepted; the word says why.
    NotAuthenticated(&'static str),
    /// The operation is open to everybody with credentials.
    Open,
    /// Berth did it by itself; the text says what made it.
    Own(&'a str),
}

impl Line<'_> {
    /// The JSON object without its closing brace: the log ends it with the line's place in the chain.
    pub(crate) fn begun(&self) -> String {
        let mut out = String::with_capacity(LONG_ENOUGH);
        out.push_str("{\"time\":\"");
        out.push_str(&time(self.request.now_ms));
        out.push_str("\",\"requestId\":");
        string(&mut out, &self.request.request_id);
        member(&mut out, "principal", self.caller.arn);
        member(&mut out, "userId", self.caller.user_id);
        if let Some(access_key_id) = self.caller.access_key_id {
            member(&mut out, "accessKeyId", access_key_id);
        }
        if let Some(source_identity) = self.caller.source_identity {
            member(&mut out, "sourceIdentity", source_identity);
        }
        let _ = write!(out, ",\"sourceIp\":\"{}\"", self.request.source_ip.to_canonical());
        if let Some(user_agent) = &self.request.user_agent {
            let end = user_agent.floor_char_boundary(LONGEST_USER_AGENT);
            member(&mut out, "userAgent", &user_agent[..end]);
        }
        member(&mut out, "operation", self.operation);
        if let Some((action, resource)) = self.asked {
            member(&mut out, "action", action);
            member(&mut out, "resource", resource);
        }
        self.outcome(&mut out);
        let (security, files) = self.generations;
        let _ = write!(out, ",\"generation\":{security},\"policyGeneration\":{files}");
        out
    }

    fn outcome(&self, out: &mut String) {
        let decision = match &self.outcome {
            Outcome::Decided(decision) => decision,
            Outcome::NotStanding(kind) => {
                member(out, "decision", "deny");
                return member(
                    out,
                    "reason",
                    if *kind == DeniedKind::Expired { "expired" } else { "revoked" },
                );
            }
            Outcome::NotAuthenticated(word) => {
                member(out, "decision", "unauthenticated");
                return member(out, "reason", word);
            }
            Outcome::Open => {
                member(out, "decision", "allow");
                return member(out, "reason", "open");
            }
            Outcome::Own(why) => {
                member(out, "decision", "allow");
                return member(out, "reason", why);
            }
        };
        let (word, reason, kind) = match decision.reason {
            Reason::Allowed => ("allow", "allowed", None),
            Reason::ExplicitDeny(kind) => ("deny", "explicitDeny", Some(kind)),
            Reason::ImplicitDeny(kind) => ("deny", "implicitDeny", Some(kind)),
        };
        member(out, "decision", word);
        member(out, "reason", reason);
        if let Some(kind) = decision.statement.map(|statement| statement.kind).or(kind) {
            member(out, "policyKind", kind_word(kind));
        }
        if let Some(statement) = &decision.statement {
            member(out, "policy", statement.policy);
            if let Some(sid) = statement.sid {
                member(out, "sid", sid);
            }
            let _ = write!(out, ",\"statement\":{},\"line\":{}", statement.index, statement.line);
        }
    }
}

fn kind_word(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::Identity => "identity",
        PolicyKind::RepositoryPolicy => "repository",
        PolicyKind::RegistryPolicy => "registry",
        PolicyKind::ResourcePolicy => "resource",
        PolicyKind::Trust => "trust",
        PolicyKind::Session => "session",
        PolicyKind::Boundary => "boundary",
        PolicyKind::ServiceControl => "serviceControl",
        PolicyKind::ResourceControl => "resourceControl",
    }
}

fn member(out: &mut String, name: &'static str, value: &str) {
    out.push_str(",\"");
    out.push_str(name);
    out.push_str("\":");
    string(out, value);
}

/// A JSON string. Control characters are escaped, so that a line stays a line whatever a client sends.
fn string(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            0..0x20 | 0x7f => "",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(escape);
        }
        plain = at + 1;
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// `2026-11-23T03:48:01.123Z`
pub(crate) fn time(ms: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, millisecond) = at.to_hms_milli();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

#[cfg(test)]
mod tests {
    use policies::{Decision, StatementRef};
    use serde_json::{Value, json};

    use registry_aws::timestamp::parse_amz_date;

    use super::{Line, Outcome, PolicyKind, Reason, Who};
    use crate::context::RequestContext;

    fn request(user_agent: &str) -> RequestContext {
        RequestContext {
            request_id: "r-1".to_owned(),
            user_agent: Some(user_agent.to_owned()),
            ..RequestContext::local(parse_amz_date("20261123T034801Z").unwrap() + 7)
        }
    }

    fn line(request: &RequestContext, outcome: Outcome<'_>) -> Value {
        let line = Line {
            request,
            caller: Who {
                arn: "arn:aws:iam::000000000000:user/alice",
                user_id: "AIDA",
                access_key_id: Some("AKIA"),
                source_identity: None,
            },
            operation: "PutImage",
            asked: Some(("ecr:PutImage", "arn:aws:ecr:us-east-1:000000000000:repository/app")),
            outcome,
            generations: (7, 3),
        };
        let text = line.begun() + "}";
        assert!(!text.contains('\n'));
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_decision_names_statement_policy_and_generation() {
        let decision = Decision {
            reason: Reason::ExplicitDeny(PolicyKind::Identity),
            statement: Some(StatementRef {
                policy: "alice/no-push",
                kind: PolicyKind::Identity,
                sid: Some("NoPush"),
                index: 2,
                line: 9,
            }),
        };
        assert_eq!(
            line(&request("docker/27"), Outcome::Decided(&decision)),
            json!({
                "time": "2026-11-23T03:48:01.007Z",
                "requestId": "r-1",
                "principal": "arn:aws:iam::000000000000:user/alice",
                "userId": "AIDA",
                "accessKeyId": "AKIA",
                "sourceIp": "127.0.0.1",
                "userAgent": "docker/27",
                "operation": "PutImage",
                "action": "ecr:PutImage",
                "resource": "arn:aws:ecr:us-east-1:000000000000:repository/app",
                "decision": "deny",
                "reason": "explicitDeny",
                "policyKind": "identity",
                "policy": "alice/no-push",
                "sid": "NoPush",
                "statement": 2,
                "line": 9,
                "generation": 7,
                "policyGeneration": 3,
            })
        );
    }

    #[test]
    fn whatever_a_client_sends_stays_one_string_on_one_line() {
        let hostile = "a\"b\\c\n{\"decision\":\"allow\"}\r\u{1}\u{7f}ü";
        let value = line(&request(hostile), Outcome::NotAuthenticated("mismatch"));
        assert_eq!(value["userAgent"], hostile);
        assert_eq!(value["decision"], "unauthenticated");
        let endless = "ü".repeat(10_000);
        assert_eq!(line(&request(&endless), Outcome::Open)["userAgent"].as_str().unwrap().len(), 256);
    }
}
