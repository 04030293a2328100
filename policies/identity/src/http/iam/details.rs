//! GetAccountAuthorizationDetails: everything that decides, in one list.
//!
//! Users come first, then groups, roles, the account's policies and the shipped ones, each in the order of their keys;
//! a marker tells the kind and the key where a page ended.

use ::policies::managed as shipped;
use registry_sql::Tx;
use serde_json::{Value, json};

use super::call::Call;
use super::document::encoded;
use super::error::IamError;
use super::input::Page;
use super::managed::{self, Shown};
use super::operation::operations;
use super::{attachments, instance_profiles, render, versions};
use crate::store::entities::{self, Entity, EntityKind};
use crate::store::{instance_profiles as profiles, policies};

operations! {
    Read "GetAccountAuthorizationDetails" on Nothing [] => get_account_authorization_details;
}

/// The words of the filter, in the order of the list, and the lists of the answer.
const KINDS: [(&str, &str); 5] = [
    ("User", "UserDetailList"),
    ("Group", "GroupDetailList"),
    ("Role", "RoleDetailList"),
    ("LocalManagedPolicy", "Policies"),
    ("AWSManagedPolicy", "Policies"),
];

/// One entry: where it stands, and of which kind it is.
struct Row {
    key: String,
    kind: usize,
    detail: Value,
}

fn get_account_authorization_details(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let filter = call.input.texts("Filter")?;
    if let Some(unknown) = filter.iter().find(|word| KINDS.iter().all(|(known, _)| known != *word)) {
        return Err(IamError::Validation(format!("There is no filter {unknown}.")));
    }
    let page = call.input.page()?;
    let (from, after) = start(&page)?;
    let read = page.rows(false);
    let mut rows = Vec::new();
    for (kind, (word, _)) in KINDS.iter().enumerate().skip(from) {
        let wanted = filter.is_empty() || filter.contains(word);
        if wanted && rows.len() < read {
            let after = if kind == from { after } else { "" };
            rows.extend(details(call, tx, kind, after, read - rows.len())?);
        }
    }
    let paged = page.of(rows, read, |row| &row.key, |_| true);
    let mut lists =
        json!({ "UserDetailList": [], "GroupDetailList": [], "RoleDetailList": [], "Policies": [] });
    for row in &paged.items {
        if let Some(list) = lists[KINDS[row.kind].1].as_array_mut() {
            list.push(row.detail.clone());
        }
    }
    let mut answer = paged.answer("Policies", |_| Value::Null);
    for (_, list) in KINDS {
        answer[list] = lists[list].clone();
    }
    Ok(answer)
}

/// The kind and the key behind which a page begins.
fn start(page: &Page) -> Result<(usize, &str), IamError> {
    if page.after.is_empty() {
        return Ok((0, ""));
    }
    let parts = page.after.split_once(':');
    let parts = parts.and_then(|(kind, key)| Some((kind.parse().ok()?, key)));
    let malformed = || IamError::Validation("The Marker is none of this list.".to_owned());
    parts.filter(|(kind, _)| *kind < KINDS.len()).ok_or_else(malformed)
}

fn details(call: &Call, tx: &Tx<'_>, kind: usize, after: &str, limit: usize) -> Result<Vec<Row>, IamError> {
    let row = |key: &str, detail: Value| Row { key: format!("{kind}:{key}"), kind, detail };
    let entities = |of: EntityKind| -> Result<Vec<Row>, IamError> {
        let listed = entities::list(tx, of, after, limit)?;
        listed.iter().map(|entity| Ok(row(&entity.key, principal(call, tx, of, entity)?))).collect()
    };
    match kind {
        0 => entities(EntityKind::User),
        1 => entities(EntityKind::Group),
        2 => entities(EntityKind::Role),
        3 => {
            let listed = policies::list(tx, after, limit)?;
            listed
                .iter()
                .map(|policy| Ok(row(&policy.key, managed_policy(tx, &Shown::from(policy))?)))
                .collect()
        }
        _ => {
            let mut all: Vec<Shown> = shipped::all().iter().map(Shown::from).collect();
            all.sort_by(|one, other| one.key.cmp(&other.key));
            let rest = all.iter().filter(|shown| shown.key.as_str() > after).take(limit);
            rest.map(|shown| Ok(row(&shown.key, managed_policy(tx, shown)?))).collect()
        }
    }
}

fn principal(call: &Call, tx: &Tx<'_>, kind: EntityKind, entity: &Entity) -> Result<Value, IamError> {
    let inline = policies::inline_of(tx, &entity.uid)?;
    let inline: Vec<Value> = inline
        .into_iter()
        .map(|(name, document)| json!({ "PolicyName": name, "PolicyDocument": encoded(&document) }))
        .collect();
    let attached: Vec<Value> =
        policies::attached_to(tx, &entity.uid)?.iter().map(|arn| attachments::attached(arn)).collect();
    let mut detail = match kind {
        EntityKind::User => render::user(call, entity),
        EntityKind::Group => render::group(call, entity),
        EntityKind::Role => render::role(call, entity),
    };
    detail["AttachedManagedPolicies"] = attached.into();
    match kind {
        EntityKind::User => {
            let groups = entities::groups_of(tx, &entity.uid)?;
            detail["GroupList"] = groups.into_iter().map(|group| group.name).collect();
            detail["UserPolicyList"] = inline.into();
        }
        EntityKind::Group => detail["GroupPolicyList"] = inline.into(),
        EntityKind::Role => {
            let holding = profiles::of_role(tx, &entity.uid, "", super::page::EXAMINED)?;
            let holding: Result<Vec<Value>, IamError> =
                holding.iter().map(|profile| instance_profiles::shown(call, tx, profile)).collect();
            detail["InstanceProfileList"] = holding?.into();
            detail["RolePolicyList"] = inline.into();
            if let Some(members) = detail.as_object_mut() {
                // This list says less of a role than GetRole does.
                members.remove("Description");
                members.remove("MaxSessionDuration");
            }
        }
    }
    Ok(detail)
}

fn managed_policy(tx: &Tx<'_>, shown: &Shown) -> Result<Value, IamError> {
    let mut detail = managed::listed(tx, shown)?;
    detail["Description"] = json!(Some(&shown.description).filter(|text| !text.is_empty()));
    detail["PolicyVersionList"] = versions::with_documents(tx, &shown.arn)?.into();
    Ok(detail)
}
