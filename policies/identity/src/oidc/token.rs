//! A token of another issuer: what is read of it before its signature is checked, and what must hold of it
//! afterwards.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use registry_aws::AwsError;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Provider, SessionTags};

const LONGEST_TOKEN: usize = 16 * 1024;
/// How far ahead of ours an issuer's clock may be, in seconds.
const LEEWAY_S: i64 = 60;
const LONGEST_TEXT: usize = 2048;

/// A token whose signature has not been looked at. Its issuer chooses a provider and nothing more.
#[derive(Debug)]
pub(super) struct Unverified<'t> {
    pub(super) text: &'t str,
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    pub(super) issuer: String,
}

/// Why a token stands for nobody.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    Malformed(&'static str),
    NoProvider(String),
    /// The issuer publishes no such key.
    NoKey,
    Signature,
    Audience,
    Expired,
    Claim(&'static str),
    /// The issuer's keys cannot be fetched. Why is for the server's log: anybody may ask.
    Unreachable,
    Unavailable,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
    enc: Option<Value>,
    zip: Option<Value>,
}

#[derive(Deserialize)]
struct Issuer {
    iss: String,
}

impl<'t> Unverified<'t> {
    pub(super) fn read(text: &'t str) -> Result<Unverified<'t>, Problem> {
        // Three parts: a JWE has five, and nobody needs a million dots to be split.
        let three_parts =
            text.len() <= LONGEST_TOKEN && text.bytes().filter(|byte| *byte == b'.').count() == 2;
        if !three_parts {
            return Err(Problem::Malformed("it is not a signed JWT of at most 16 KiB"));
        }
        let mut parts = text.split('.');
        let header: Header = part(parts.next()).ok_or(Problem::Malformed("its header cannot be read"))?;
        if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
            return Err(Problem::Malformed("its header asks for what is not understood here"));
        }
        let algorithm = match header.alg.as_str() {
            "RS256" => Algorithm::RS256,
            "ES256" => Algorithm::ES256,
            "EdDSA" => Algorithm::EdDSA,
            _ => return Err(Problem::Malformed("it is not signed by RS256, ES256 or EdDSA")),
        };
        let issuer: Issuer = part(parts.next()).ok_or(Problem::Malformed("it has no issuer"))?;
        Ok(Unverified { text, algorithm, key_id: header.kid, issuer: issuer.iss })
    }
}

fn part<T: for<'de> Deserialize<'de>>(part: Option<&str>) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(part?).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Subject and audience of claims whose signature is right, if they hold now and here.
pub(super) fn check(
    claims: &Map<String, Value>,
    provider: &Provider,
    now_s: i64,
) -> Result<(String, String), Problem> {
    let text =
        |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| text.len() <= LONGEST_TEXT);
    // What was read before the signature was checked is what was signed.
    if text("iss") != Some(&provider.url()) {
        return Err(Problem::Claim("iss"));
    }
    let second = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => {
            #[allow(clippy::cast_possible_truncation, reason = "seconds; what is out of range saturates")]
            let fraction = || number.as_f64().map(|seconds| seconds as i64);
            number.as_i64().or_else(fraction).map(Some).ok_or(())
        }
        Some(_) => Err(()),
    };
    let expires = second("exp").ok().flatten().ok_or(Problem::Claim("exp"))?;
    if expires <= now_s {
        return Err(Problem::Expired);
    }
    let issued = second("iat").ok().flatten().ok_or(Problem::Claim("iat"))?;
    let not_before = second("nbf").map_err(|()| Problem::Claim("nbf"))?;
    if issued > now_s + LEEWAY_S || not_before.is_some_and(|from| from > now_s + LEEWAY_S) {
        return Err(Problem::Claim("nbf"));
    }
    let subject = text("sub").filter(|subject| !subject.is_empty()).ok_or(Problem::Claim("sub"))?;
    let audience = audience(claims, provider).ok_or(Problem::Audience)?;
    Ok((subject.to_owned(), audience))
}

/// AWS's own claims: `principal_tags`, `transitive_tag_keys` and `source_identity`.
const TAGS: &str = "https://aws.amazon.com/tags";
const SOURCE_IDENTITY: &str = "https://aws.amazon.com/source_identity";
/// What claims of AWS begin with; conditions do not see them.
pub(super) const OF_AWS: &str = "https://aws.amazon.com/";

/// What the issuer says of the session: its tags, which of them are transitive, and whom it stands for. Tags are an
/// object with a list of one value under each key, or claims of their own: `…/tags/principal_tags/KEY`.
pub(super) fn session_tags(claims: &Map<String, Value>) -> Result<SessionTags, Problem> {
    let mut said = SessionTags::default();
    let mut transitive = None;
    match claims.get(TAGS) {
        None => {}
        Some(Value::Object(nested)) => {
            match nested.get("principal_tags") {
                None => {}
                Some(Value::Object(tags)) => {
                    for (key, value) in tags {
                        said.tags.push((key.clone(), tag_value(value)?));
                    }
                }
                Some(_) => return Err(Problem::Claim(TAGS)),
            }
            transitive = nested.get("transitive_tag_keys");
        }
        Some(_) => return Err(Problem::Claim(TAGS)),
    }
    for (name, value) in claims {
        let Some(flat) = name.strip_prefix(TAGS).and_then(|rest| rest.strip_prefix('/')) else { continue };
        match flat.strip_prefix("principal_tags/") {
            Some(key) => said.tags.push((key.to_owned(), tag_value(value)?)),
            None if flat == "transitive_tag_keys" && transitive.is_none() => transitive = Some(value),
            None => return Err(Problem::Claim(TAGS)),
        }
    }
    if let Some(keys) = transitive {
        let texts = keys.as_array().map(|keys| keys.iter().map(|key| key.as_str().map(str::to_owned)));
        said.transitive_tag_keys = texts.and_then(Iterator::collect).ok_or(Problem::Claim(TAGS))?;
    }
    said.source_identity = match claims.get(SOURCE_IDENTITY) {
        None => None,
        Some(Value::String(identity)) => Some(identity.clone()),
        Some(_) => return Err(Problem::Claim(SOURCE_IDENTITY)),
    };
    Ok(said)
}

/// A string, or a list of one.
fn tag_value(value: &Value) -> Result<String, Problem> {
    let text = match value {
        Value::Array(values) if values.len() == 1 => values[0].as_str(),
        value => value.as_str(),
    };
    text.map(str::to_owned).ok_or(Problem::Claim(TAGS))
}

/// The audience that counts: of several, the party that the token was issued to.
fn audience(claims: &Map<String, Value>, provider: &Provider) -> Option<String> {
    let known = |audience: &str| provider.client_ids.iter().any(|known| known == audience);
    let listed = match claims.get("aud")? {
        Value::String(one) => return Some(one.clone()).filter(|one| known(one)),
        Value::Array(items) => {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()?
        }
        _ => return None,
    };
    if let [one] = listed.as_slice() {
        return Some(one.clone()).filter(|one| known(one));
    }
    let party = claims.get("azp").and_then(Value::as_str)?;
    (listed.iter().any(|one| one == party) && known(party)).then(|| party.to_owned())
}

impl Problem {
    /// AWS's code and words.
    pub(super) fn to_aws(&self) -> AwsError {
        let invalid = |message: String| AwsError::client("InvalidIdentityToken", message);
        match self {
            Problem::Malformed(why) => invalid(format!("The ID Token provided is not a valid JWT: {why}.")),
            Problem::NoProvider(issuer) => {
                let shown: String =
                    issuer.chars().filter(|character| !character.is_control()).take(255).collect();
                invalid(format!("No OpenIDConnect provider found in your account for {shown}"))
            }
            Problem::NoKey => invalid("The issuer publishes no key that signed this token.".to_owned()),
            Problem::Signature => invalid("The signature of the token is not valid.".to_owned()),
            Problem::Audience => invalid("Incorrect token audience".to_owned()),
            Problem::Expired => AwsError::of_operation(
                "ExpiredTokenException",
                "Token expired: current date/time must be before the expiration date/time of the token",
            ),
            Problem::Claim(name) => {
                invalid(format!("The claim {name} of the token is missing or not valid."))
            }
            Problem::Unreachable => AwsError::client(
                "IDPCommunicationError",
                "The keys of the identity provider cannot be fetched at the moment. The server's log says why.",
            ),
            Problem::Unavailable => crate::error::unavailable(),
        }
    }
}
