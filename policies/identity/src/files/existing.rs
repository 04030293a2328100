//! What the IAM API owns, written as policy files would say it, so that questions about files are answered for
//! everybody who exists.
//!
//! Nothing of it is published: a name that files own too stands in the files. Secrets never come here.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use super::check::check_texts;
use super::finding::FileFinding;
use super::model::PolicyFiles;
use super::scan::{MARKER, Texts};
use crate::error::IdentityError;
use crate::identity::Identity;
use crate::store;
use crate::store::files::{Stored, StoredPrincipal};

const FILES: &str = "files";

/// Files together with what the API owns.
#[derive(Debug)]
pub struct Everybody {
    pub files: PolicyFiles,
    /// What could not be asked about, and why.
    pub left_out: Vec<FileFinding>,
}

/// Adds what exists to files that may be given, and checks the whole. What of it does not pass, because it says
/// otherwise than the files or is older than a rule, is left out and told.
///
/// # Errors
/// What is wrong with the files themselves.
pub fn with_existing(files: &Texts, existing: &Texts) -> Result<Everybody, Vec<FileFinding>> {
    let mut all = existing.clone();
    let mut left_out = Vec::new();
    for (file, text) in files {
        // A repository may have a policy of the API and one of files, and both count.
        let text = match existing.get(file).filter(|_| file.starts_with("repositories/")) {
            None => text.clone(),
            Some(other) => joined(text, other).unwrap_or_else(|| {
                let message = "the policy that the API set is of another version than that of the files";
                left_out.push(FileFinding::whole(file, message));
                text.clone()
            }),
        };
        all.insert(file.clone(), text);
    }
    loop {
        let findings = match check_texts(&all) {
            Ok(files) => return Ok(Everybody { files, left_out }),
            Err(findings) => findings,
        };
        let is_existing = |file: &str| existing.contains_key(file) && !files.contains_key(file);
        let errors = || findings.iter().filter(|finding| finding.is_error());
        let wrong: Vec<FileFinding> =
            errors().filter(|finding| is_existing(&finding.file)).cloned().collect();
        if wrong.is_empty() {
            return Err(findings);
        }
        for finding in wrong {
            all.remove(&finding.file);
            left_out.push(finding);
        }
    }
}

/// One document of the statements of both; None where they are of different versions.
fn joined(one: &str, other: &str) -> Option<String> {
    let statements = |text: &str| {
        let mut document: Value = serde_json::from_str(text).ok()?;
        let statements = match document["Statement"].take() {
            Value::Array(statements) => statements,
            statement => vec![statement],
        };
        Some((document["Version"].take(), statements))
    };
    let ((version, mut all), (other_version, more)) = (statements(one)?, statements(other)?);
    all.extend(more);
    let mut document = json!({ "Statement": all });
    if !version.is_null() {
        document["Version"] = version.clone();
    }
    (version == other_version).then(|| document.to_string())
}

impl Identity {
    /// What the IAM API owns, as texts of policy files; `repositories` are policies of repositories by name.
    pub(crate) async fn existing_texts(
        &self,
        repositories: BTreeMap<String, String>,
    ) -> Result<Texts, registry_sql::Error> {
        let stored = self.inner().database.read(|tx| store::files::load(tx)).await?;
        Ok(texts(&stored, repositories, self.account_id().as_str()))
    }

    /// The newest published set, with everybody and everything else that exists.
    pub(crate) async fn everybody(
        &self,
        repositories: BTreeMap<String, String>,
    ) -> Result<Result<Everybody, Vec<FileFinding>>, IdentityError> {
        let mut published = self.published_texts().await?.unwrap_or_default();
        published.entry(MARKER.to_owned()).or_insert_with(|| marker(self.account_id().as_str()));
        let existing = self.existing_texts(repositories).await?;
        let joined = tokio::task::spawn_blocking(move || with_existing(&published, &existing)).await;
        joined.map_err(|_| IdentityError::Stale)
    }
}

fn marker(account: &str) -> String {
    json!({ "format": 1, "account": account }).to_string()
}

fn texts(stored: &Stored, repositories: BTreeMap<String, String>, account: &str) -> Texts {
    let mut attached: HashMap<&str, Vec<&str>> = HashMap::new();
    for (uid, arn) in &stored.attachments {
        attached.entry(uid).or_default().push(arn);
    }
    let mut inline: HashMap<&str, Map<String, Value>> = HashMap::new();
    for ((uid, name), document) in &stored.inline {
        let document = serde_json::from_str(document).unwrap_or(Value::Null);
        inline.entry(uid).or_default().insert(name.clone(), document);
    }
    let group_names: HashMap<&str, &str> =
        stored.groups.values().map(|group| (group.uid.as_str(), group.name.as_str())).collect();
    let rights = |principal: &StoredPrincipal| {
        let mut file = Map::new();
        if let Some(arns) = attached.get(principal.uid.as_str()) {
            file.insert("policies".to_owned(), json!(arns));
        }
        if let Some(documents) = inline.get(principal.uid.as_str()) {
            file.insert("inlinePolicies".to_owned(), documents.clone().into());
        }
        if let Some(boundary) = &principal.boundary {
            file.insert("permissionsBoundary".to_owned(), boundary.as_str().into());
        }
        match serde_json::from_str(&principal.tags) {
            Ok(Value::Object(tags)) if !tags.is_empty() => drop(file.insert("tags".to_owned(), tags.into())),
            _ => {}
        }
        file
    };
    let mut texts = Texts::new();
    let mut put = |folder: &str, path: &str, name: &str, file: Map<String, Value>| {
        texts.insert(format!("{folder}{path}{name}.json"), Value::Object(file).to_string());
    };
    let of_api = |principal: &&StoredPrincipal| principal.owner != FILES;
    for user in stored.users.values().filter(of_api) {
        let mut file = rights(user);
        let memberships = stored.memberships.iter().chain(&stored.other_memberships);
        let groups: Vec<&str> = memberships
            .filter(|(uid, _)| *uid == user.uid)
            .filter_map(|(_, group)| group_names.get(group.as_str()).copied())
            .collect();
        if !groups.is_empty() {
            file.insert("groups".to_owned(), json!(groups));
        }
        put("users", &user.path, &user.name, file);
    }
    for group in stored.groups.values().filter(of_api) {
        put("groups", &group.path, &group.name, rights(group));
    }
    for role in stored.roles.values().filter(of_api) {
        let mut file = rights(role);
        let trust = serde_json::from_str(&role.trust_policy).unwrap_or(Value::Null);
        file.insert("trustPolicy".to_owned(), trust);
        file.insert("maxSessionDuration".to_owned(), role.max_session_s.into());
        put("roles", &role.path, &role.name, file);
    }
    let before = format!("arn:aws:iam::{account}:policy");
    for policy in stored.policies.values().filter(|policy| policy.owner != FILES) {
        if let Some(path) = policy.arn.strip_prefix(&before) {
            texts.insert(format!("policies{path}.json"), policy.document.clone());
        }
    }
    for (repository, document) in repositories {
        texts.insert(format!("repositories/{repository}.json"), document);
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::with_existing;
    use crate::files::scan::Texts;
    use crate::testing::{ALLOW_ALL, Fixture, policy, trust};

    #[tokio::test]
    async fn what_the_api_made_is_asked_about_like_files() {
        let fixture = Fixture::new().await;
        fixture.user("alice", &policy("Allow", "ecr:PutImage", "*")).await;
        fixture.role("builder", &trust(r#""AWS":"arn:aws:iam::000000000000:root""#, "{}"), ALLOW_ALL).await;
        let of_repository = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"ecr:BatchGetImage"}}"#;
        let repositories = [("team/app".to_owned(), of_repository.to_owned())].into();
        let everybody = fixture.identity.everybody(repositories).await.unwrap().unwrap();
        let users: Vec<&str> = everybody.files.users.iter().map(|user| user.name.as_str()).collect();
        assert!(users.contains(&"alice"), "{users:?} {:?}", everybody.left_out);
        assert!(everybody.files.roles.iter().any(|role| role.name == "builder"));
        assert_eq!(everybody.files.repositories.len(), 1);
        assert_eq!(everybody.left_out, [], "{:?}", everybody.left_out);
    }

    #[test]
    fn what_exists_gives_way_to_files_and_what_cannot_be_read_is_told() {
        let texts = |files: &[(&str, &str)]| -> Texts {
            files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect()
        };
        let files = texts(&[
            ("berth-policies.json", r#"{"format": 1, "account": "000000000000"}"#),
            ("users/alice.json", r#"{"tags": {"of": "files"}}"#),
        ]);
        let existing = texts(&[
            ("users/alice.json", "{}"),
            ("users/bob.json", "{}"),
            ("users/carol.json", "{\"x\": 1}"),
        ]);
        let joined = with_existing(&files, &existing).unwrap();
        let names: Vec<(&str, usize)> =
            joined.files.users.iter().map(|user| (user.name.as_str(), user.tags.len())).collect();
        assert_eq!(names, [("alice", 1), ("bob", 0)]);
        assert_eq!(joined.left_out.len(), 1);
        assert_eq!(joined.left_out[0].file, "users/carol.json");
        assert!(with_existing(&texts(&[]), &existing).is_err(), "no marker");
    }
}
