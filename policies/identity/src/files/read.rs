//! Reading each kind of file by itself. What one file says about another is looked at in [`super::resolve`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use policies::json::Node;
use policies::{Findings, Outline, Policy, PolicyKind};

use super::fields::{Fields, Placed};
use super::model::{InlinePolicy, KeySecret, ProviderFile, place};
use super::secrets::SealedSecret;
use crate::oidc::{
    MOST_CLIENT_IDS, MOST_THUMBPRINTS, ProviderError, check_client_id, check_thumbprint, issuer_name,
};

/// A file on its way through the check.
pub(super) struct Source<'t> {
    pub(super) file: &'t str,
    pub(super) text: &'t str,
}

/// What users, groups and roles have in common, references not yet resolved.
#[derive(Default)]
pub(super) struct Rights {
    pub(super) policies: Vec<Placed>,
    pub(super) inline: Vec<InlinePolicy>,
    /// What the inline policies say, in their order.
    pub(super) outlines: Vec<Vec<Outline>>,
}

pub(super) struct RawUser {
    pub(super) rights: Rights,
    pub(super) groups: Vec<Placed>,
    pub(super) boundary: Option<Placed>,
    pub(super) tags: Vec<(String, String)>,
    pub(super) keys: Vec<RawKey>,
}

pub(super) struct RawKey {
    pub(super) access_key_id: Placed,
    pub(super) secret: KeySecret,
    pub(super) active: bool,
    pub(super) place: (u32, u32),
}

pub(super) struct RawRole {
    pub(super) rights: Rights,
    pub(super) description: String,
    pub(super) trust_policy: InlinePolicy,
    pub(super) max_session_s: i64,
    pub(super) boundary: Option<Placed>,
    pub(super) tags: Vec<(String, String)>,
}

/// AWS's quotas, in characters without white space, for the inline policies of one principal together.
const USER_INLINE: usize = 2_048;
const GROUP_INLINE: usize = 5_120;
const ROLE_INLINE: usize = 10_240;
const MOST_ATTACHED: usize = 20;
const MOST_GROUPS: usize = 10;
const MOST_TAGS: usize = 50;
const MOST_KEYS: usize = 2;

pub(super) fn user(
    source: &Source<'_>,
    root: Option<&Path>,
    node: &Node,
    findings: &mut Findings<'_>,
) -> Option<RawUser> {
    let mut fields = Fields::of(node, "a user", findings)?;
    let groups = fields.strings("groups");
    if groups.len() > MOST_GROUPS {
        fields.findings.error(groups[MOST_GROUPS].at, format!("a user is in at most {MOST_GROUPS} groups"));
    }
    let rights = rights(source, &mut fields, USER_INLINE);
    let boundary = fields.string("permissionsBoundary");
    let tags = tags(&mut fields);
    let keys = keys(source, root, &mut fields);
    fields.finish();
    Some(RawUser { rights, groups, boundary, tags, keys })
}

pub(super) fn group(source: &Source<'_>, node: &Node, findings: &mut Findings<'_>) -> Option<Rights> {
    let mut fields = Fields::of(node, "a group", findings)?;
    let rights = rights(source, &mut fields, GROUP_INLINE);
    fields.finish();
    Some(rights)
}

pub(super) fn role(source: &Source<'_>, node: &Node, findings: &mut Findings<'_>) -> Option<RawRole> {
    let mut fields = Fields::of(node, "a role", findings)?;
    let description = fields.string("description");
    if let Some(long) = description.as_ref().filter(|text| text.text.chars().count() > 1_000) {
        fields.findings.error(long.at, "a description has at most 1000 characters");
    }
    let trust_policy = fields
        .required("trustPolicy")
        .and_then(|node| document(source, node, PolicyKind::Trust, "trustPolicy", fields.findings));
    let max_session_s = match fields.integer("maxSessionDuration") {
        Some((seconds, at)) if !(3_600..=43_200).contains(&seconds) => {
            fields.findings.error(at, "maxSessionDuration is 3600 to 43200 seconds");
            seconds
        }
        Some((seconds, _)) => seconds,
        None => 3_600,
    };
    let rights = rights(source, &mut fields, ROLE_INLINE);
    let boundary = fields.string("permissionsBoundary");
    let tags = tags(&mut fields);
    fields.finish();
    let description = description.map(|placed| placed.text).unwrap_or_default();
    Some(RawRole { rights, description, trust_policy: trust_policy?, max_session_s, boundary, tags })
}

pub(super) fn provider(
    source: &Source<'_>,
    node: &Node,
    findings: &mut Findings<'_>,
) -> Option<ProviderFile> {
    let mut fields = Fields::of(node, "an OIDC provider", findings)?;
    let url = fields.required_string("url");
    let name = url.and_then(|url| match issuer_name(&url.text) {
        Ok(name) => Some(name.to_owned()),
        Err(error) => {
            fields.findings.error(url.at, error.to_string());
            None
        }
    });
    let client_ids = checked_list(&mut fields, "clientIds", MOST_CLIENT_IDS, check_client_id);
    if client_ids.is_empty() {
        fields
            .findings
            .error(node.start, "\"clientIds\" names the audiences of tokens that count; it is empty");
    }
    let thumbprints = checked_list(&mut fields, "thumbprints", MOST_THUMBPRINTS, check_thumbprint);
    let tags = tags(&mut fields);
    fields.finish();
    Some(ProviderFile { file: source.file.to_owned(), name: name?, client_ids, thumbprints, tags })
}

fn checked_list(
    fields: &mut Fields<'_, '_, '_>,
    name: &'static str,
    most: usize,
    check: fn(&str) -> Result<(), ProviderError>,
) -> Vec<String> {
    let texts = fields.strings(name);
    if texts.len() > most {
        fields.findings.error(texts[most].at, format!("{name:?} has at most {most} entries"));
    }
    for text in &texts {
        if let Err(error) = check(&text.text) {
            fields.findings.error(text.at, error.to_string());
        }
    }
    texts.into_iter().map(|text| text.text).collect()
}

/// A policy document inside the text of a file; None, with findings, when it has an error.
pub(super) fn document(
    source: &Source<'_>,
    node: &Node,
    kind: PolicyKind,
    name: &str,
    findings: &mut Findings<'_>,
) -> Option<InlinePolicy> {
    match Policy::parse_part(source.text, node, kind) {
        Ok(policy) => {
            findings.extend(policy.warnings().iter().cloned());
            findings.extend(policies::lint(source.text, node, kind));
            let document = source.text[node.start..node.end].to_owned();
            Some(InlinePolicy { name: name.to_owned(), document, policy: Arc::new(policy) })
        }
        Err(found) => {
            findings.extend(found);
            None
        }
    }
}

fn rights(source: &Source<'_>, fields: &mut Fields<'_, '_, '_>, most_inline: usize) -> Rights {
    let policies = fields.strings("policies");
    if policies.len() > MOST_ATTACHED {
        fields
            .findings
            .error(policies[MOST_ATTACHED].at, format!("at most {MOST_ATTACHED} policies are attached"));
    }
    let mut rights = Rights { policies, ..Rights::default() };
    let Some(node) = fields.node("inlinePolicies") else { return rights };
    let Some(members) = node.as_object() else {
        fields.findings.error(node.start, "\"inlinePolicies\" is an object: a document under each name");
        return rights;
    };
    for member in members {
        if !is_name(&member.key, 128) {
            fields.findings.error(member.key_at, format!("{:?} {BAD_NAME}", member.key));
        }
        if rights.inline.iter().any(|known| known.name.eq_ignore_ascii_case(&member.key)) {
            fields.findings.error(member.key_at, format!("a second inline policy {:?}", member.key));
        }
        let read = document(source, &member.value, PolicyKind::Identity, &member.key, fields.findings);
        if let Some(inline) = read {
            rights.inline.push(inline);
            rights.outlines.push(policies::outlines(&member.value, PolicyKind::Identity));
        }
    }
    let size: usize = rights.inline.iter().map(|inline| inline.policy.size()).sum();
    if size > most_inline {
        fields.findings.error(
            node.start,
            format!("inline policies have at most {most_inline} characters without white space together; these have {size}"),
        );
    }
    rights
}

fn tags(fields: &mut Fields<'_, '_, '_>) -> Vec<(String, String)> {
    let Some(node) = fields.node("tags") else { return Vec::new() };
    let Some(members) = node.as_object() else {
        fields.findings.error(node.start, "\"tags\" is an object: a value under each key");
        return Vec::new();
    };
    if members.len() > MOST_TAGS {
        fields.findings.error(node.start, format!("at most {MOST_TAGS} tags"));
    }
    let mut tags: Vec<(String, String)> = Vec::new();
    for member in members {
        let Some(value) = member.value.as_str() else {
            fields
                .findings
                .error(member.value.start, format!("a tag's value is a string, not {}", member.value.kind()));
            continue;
        };
        if member.key.is_empty() || member.key.chars().count() > 128 || value.chars().count() > 256 {
            fields
                .findings
                .error(member.key_at, "a tag has a key of 1 to 128 and a value of up to 256 characters");
        }
        if tags.iter().any(|(known, _)| known.eq_ignore_ascii_case(&member.key)) {
            fields.findings.error(member.key_at, format!("a second tag {:?}", member.key));
        }
        tags.push((member.key.clone(), value.to_owned()));
    }
    tags
}

fn keys(source: &Source<'_>, root: Option<&Path>, fields: &mut Fields<'_, '_, '_>) -> Vec<RawKey> {
    let Some(node) = fields.node("accessKeys") else { return Vec::new() };
    let Some(items) = node.as_array() else {
        fields.findings.error(node.start, format!("\"accessKeys\" is a list, not {}", node.kind()));
        return Vec::new();
    };
    if items.len() > MOST_KEYS {
        fields.findings.error(node.start, format!("a user has at most {MOST_KEYS} access keys"));
    }
    items.iter().filter_map(|item| key(source, root, item, fields.findings)).collect()
}

fn key(source: &Source<'_>, root: Option<&Path>, node: &Node, findings: &mut Findings<'_>) -> Option<RawKey> {
    let mut fields = Fields::of(node, "an access key", findings)?;
    let access_key_id = fields.required_string("accessKeyId");
    let secret_file = fields.string("secretFile");
    let sealed = fields.string("sealedSecret");
    let active = fields.boolean("active").unwrap_or(true);
    if let Some(id) = &access_key_id {
        let good = (16..=128).contains(&id.text.len())
            && id.text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        if !good {
            fields.findings.error(id.at, "an access key id is 16 to 128 of A-Z and 0-9");
        } else if id.text.starts_with("ASIA") {
            fields.findings.error(id.at, "ASIA begins the access keys of sessions; choose another");
        }
    }
    if secret_file.is_some() == sealed.is_some() {
        let message =
            "an access key has \"secretFile\", or \"sealedSecret\" as `berth secret seal` prints it";
        fields.findings.error(node.start, message);
    }
    let sealed = sealed.and_then(|sealed| match SealedSecret::parse(&sealed.text) {
        Some(secret) => Some((KeySecret::Sealed(secret), place(source.text, sealed.at))),
        None => {
            fields.findings.error(sealed.at, "this is not what `berth secret seal` prints");
            None
        }
    });
    let in_file = secret_file.map(|named| {
        let path = root.map_or_else(|| PathBuf::from(&named.text), |root| root.join(&named.text));
        if let Err((error, message)) = super::secrets::look(root, &path) {
            if error {
                fields.findings.error(named.at, message);
            } else {
                fields.findings.warning(named.at, message);
            }
        }
        (KeySecret::File(path), place(source.text, named.at))
    });
    fields.finish();
    let (secret, place) = in_file.or(sealed)?;
    Some(RawKey { access_key_id: access_key_id?, secret, active, place })
}

pub(super) const BAD_NAME: &str = "is not a name: letters, digits and any of _+=,.@- are";

/// Whether IAM takes it for a name.
pub(super) fn is_name(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte))
}
