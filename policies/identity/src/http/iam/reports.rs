//! What audits of an account ask for: the condition keys of policies, and the report on all users' credentials.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use registry_aws::timestamp::iso8601;
use registry_sql::Tx;
use serde_json::{Value, json};

use super::call::{Call, word};
use super::error::IamError;
use super::operation::operations;
use super::simulate::texts_of;
use super::target::find_policy_source;
use crate::store::entities::{self, Entity, EntityKind};
use crate::store::keys;

operations! {
    Read "GenerateCredentialReport" on Nothing [] => generate_credential_report;
    Read "GetCredentialReport" on Nothing [] => get_credential_report;
    Read "GetContextKeysForCustomPolicy" on Nothing [] => get_context_keys_for_custom_policy;
    Read "GetContextKeysForPrincipalPolicy" on PolicySource [] => get_context_keys_for_principal_policy;
}

/// Users that are read at a time.
const USERS_AT_ONCE: usize = 1000;

const COLUMNS: &str = "user,arn,user_creation_time,password_enabled,password_last_used,password_last_changed,\
                       password_next_rotation,mfa_active,access_key_1_active,access_key_1_last_rotated,\
                       access_key_1_last_used_date,access_key_1_last_used_region,access_key_1_last_used_service,\
                       access_key_2_active,access_key_2_last_rotated,access_key_2_last_used_date,\
                       access_key_2_last_used_region,access_key_2_last_used_service,cert_1_active,\
                       cert_1_last_rotated,cert_2_active,cert_2_last_rotated";

/// The report is made when it is fetched: there is nothing to wait for.
fn generate_credential_report(_: &Call, _: &Tx<'_>) -> Result<Value, IamError> {
    Ok(json!({ "State": "COMPLETE" }))
}

fn get_credential_report(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let mut report = format!("{COLUMNS}\n");
    let mut after = String::new();
    loop {
        let users = entities::list(tx, EntityKind::User, &after, USERS_AT_ONCE)?;
        let Some(last) = users.last() else { break };
        after.clone_from(&last.key);
        for user in &users {
            report.push_str(&line(call, tx, user)?);
        }
    }
    Ok(json!({
        "Content": STANDARD.encode(report),
        "ReportFormat": "text/csv",
        "GeneratedTime": iso8601(call.now_ms),
    }))
}

/// A user, with a field for each column. Paths may hold commas and quotes.
fn line(call: &Call, tx: &Tx<'_>, user: &Entity) -> Result<String, IamError> {
    let arn = call.arn(word(EntityKind::User), &user.path, &user.name);
    let mut fields = vec![user.name.clone(), arn.to_string(), iso8601(user.created_ms)];
    // Nobody has a password or an MFA device.
    fields.extend(["false", "N/A", "N/A", "N/A", "false"].map(str::to_owned));
    let keys = keys::of_user(tx, &user.uid)?;
    for place in 0..2 {
        let Some(key) = keys.get(place) else {
            fields.extend(["false", "N/A", "N/A", "N/A", "N/A"].map(str::to_owned));
            continue;
        };
        fields.extend([key.active.to_string(), iso8601(key.created_ms)]);
        match last_use(call, tx, &key.access_key_id)? {
            Some((at_ms, service)) => {
                fields.extend([iso8601(at_ms), call.identity.region().to_string(), service]);
            }
            None => fields.extend(["N/A", "N/A", "N/A"].map(str::to_owned)),
        }
    }
    fields.extend(["false", "N/A", "false", "N/A"].map(str::to_owned));
    let quoted = |field: &String| match field.contains([',', '"']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.clone(),
    };
    Ok(fields.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n")
}

/// When a key was last used: what is written down, or what this server has seen since.
pub(super) fn last_use(
    call: &Call,
    tx: &Tx<'_>,
    access_key_id: &str,
) -> Result<Option<(i64, String)>, IamError> {
    let written = keys::last_use(tx, access_key_id)?;
    let seen = call.directory.key(access_key_id).and_then(|key| key.use_log.latest());
    let seen = seen.map(|(at_ms, service)| (at_ms, service.to_owned()));
    Ok(written.into_iter().chain(seen).max_by_key(|(at_ms, _)| *at_ms))
}

fn get_context_keys_for_custom_policy(call: &Call, _: &Tx<'_>) -> Result<Value, IamError> {
    if call.input.list("PolicyInputList")?.is_empty() {
        call.input.required("PolicyInputList")?;
    }
    answer(call, Vec::new())
}

fn get_context_keys_for_principal_policy(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let (kind, entity) = find_policy_source(call, tx)?;
    answer(call, texts_of(tx, kind, &entity)?.into_iter().map(|(_, text)| text).collect())
}

/// The keys of the policies that were found, and of those that come with the request.
fn answer(call: &Call, found: Vec<String>) -> Result<Value, IamError> {
    let mut keys = BTreeSet::new();
    for text in &found {
        collect(&serde_json::from_str(text).unwrap_or_default(), &mut keys);
    }
    for (index, text) in call.input.texts("PolicyInputList")?.into_iter().enumerate() {
        super::document::parse(text, policies::PolicyKind::Identity)
            .map_err(|error| IamError::InvalidInput(format!("PolicyInputList.{}: {error}", index + 1)))?;
        collect(&serde_json::from_str(text).unwrap_or_default(), &mut keys);
    }
    Ok(json!({ "ContextKeyNames": keys }))
}

/// The keys that conditions name, and those of variables, which are words in the older version of the language.
fn collect(document: &Value, keys: &mut BTreeSet<String>) {
    let has_variables = document["Version"] == "2012-10-17";
    let statements = match &document["Statement"] {
        Value::Array(statements) => statements.as_slice(),
        statement => std::slice::from_ref(statement),
    };
    for statement in statements {
        for operator in
            statement["Condition"].as_object().into_iter().flat_map(|operators| operators.values())
        {
            keys.extend(operator.as_object().into_iter().flatten().map(|(key, _)| key.clone()));
        }
        if has_variables {
            for member in ["Resource", "NotResource", "Condition"] {
                variables(&statement[member], keys);
            }
        }
    }
}

fn variables(value: &Value, keys: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            for part in text.split("${").skip(1) {
                let name = part.split(['}', ',']).next().unwrap_or_default().trim();
                if !matches!(name, "*" | "?" | "$" | "") {
                    keys.insert(name.to_owned());
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| variables(item, keys)),
        Value::Object(members) => members.values().for_each(|member| variables(member, keys)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
