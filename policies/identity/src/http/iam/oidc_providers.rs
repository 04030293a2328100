//! OIDC providers: issuers whose tokens may stand for roles.
//!
//! Thumbprints are kept and shown and have no effect: an issuer's certificate has to be signed by a CA that this
//! server trusts.

use registry_aws::timestamp::iso8601;
use registry_sql::Tx;
use registry_types::Arn;
use serde_json::{Value, json};

use super::call::{Call, modifiable};
use super::error::IamError;
use super::input::{merge_tags, same_tag};
use super::operation::operations;
use super::render;
use crate::oidc::{
    MOST_CLIENT_IDS, MOST_THUMBPRINTS, ProviderError, check_client_id, check_thumbprint, issuer_name,
};
use crate::store::Owner;
use crate::store::providers::{self as store, ProviderRow};

operations! {
    Change "CreateOpenIDConnectProvider" on NewOidcProvider [RequestTags] => create;
    Read "GetOpenIDConnectProvider" on OidcProvider [] => get;
    Read "ListOpenIDConnectProviders" on Nothing [] => list;
    Change "DeleteOpenIDConnectProvider" on OidcProvider [] => delete;
    Change "UpdateOpenIDConnectProviderThumbprint" on OidcProvider [] => update_thumbprint;
    Change "AddClientIDToOpenIDConnectProvider" on OidcProvider [] => add_client_id;
    Change "RemoveClientIDFromOpenIDConnectProvider" on OidcProvider [] => remove_client_id;
    Change "TagOpenIDConnectProvider" on OidcProvider [RequestTags] => tag;
    Change "UntagOpenIDConnectProvider" on OidcProvider [TagKeys] => untag;
    Read "ListOpenIDConnectProviderTags" on OidcProvider [] => list_tags;
}

fn create(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let name = new_name(call)?;
    if store::find(tx, name)?.is_some() {
        return Err(IamError::EntityAlreadyExists(format!(
            "Provider with url https://{name} already exists."
        )));
    }
    let provider = ProviderRow {
        name: name.to_owned(),
        uid: call.unique_id("OIDC"),
        client_ids: client_ids(call.input.texts("ClientIDList")?)?,
        thumbprints: thumbprints(call)?,
        tags: call.input.tags()?,
        created_ms: call.now_ms,
        generation: 1,
        owner: Owner::Api,
    };
    store::put(tx, &provider)?;
    Ok(json!({
        "OpenIDConnectProviderArn": arn(call, name).as_str(),
        "Tags": render::some_tags(&provider.tags),
    }))
}

fn get(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let provider = named(call, tx)?;
    Ok(json!({
        "Url": provider.name,
        "ClientIDList": provider.client_ids,
        "ThumbprintList": provider.thumbprints,
        "CreateDate": iso8601(provider.created_ms),
        "Tags": render::some_tags(&provider.tags),
    }))
}

fn list(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let all = store::all(tx)?;
    let arns: Vec<Value> = all.iter().map(|row| json!({ "Arn": arn(call, &row.name).as_str() })).collect();
    Ok(json!({ "OpenIDConnectProviderList": arns }))
}

/// Succeeds also for one that is gone.
fn delete(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    if let Some(provider) = store::find(tx, name(call)?)? {
        modifiable(provider.owner, "OIDC provider", "/", &provider.name)?;
        store::delete(tx, &provider.name)?;
    }
    Ok(Value::Null)
}

fn update_thumbprint(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let mut provider = own(call, tx)?;
    provider.thumbprints = thumbprints(call)?;
    store::put(tx, &provider)?;
    Ok(Value::Null)
}

fn add_client_id(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let mut provider = own(call, tx)?;
    let id = call.input.required("ClientID")?;
    if !provider.client_ids.iter().any(|known| known == id) {
        provider.client_ids.push(id.to_owned());
        provider.client_ids = client_ids(provider.client_ids.iter().map(String::as_str).collect())?;
        store::put(tx, &provider)?;
    }
    Ok(Value::Null)
}

/// Takes trust away: what was made with tokens of this provider ends.
fn remove_client_id(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let mut provider = own(call, tx)?;
    let (id, before) = (call.input.required("ClientID")?, provider.client_ids.len());
    provider.client_ids.retain(|known| known != id);
    if provider.client_ids.len() < before {
        provider.generation += 1;
        store::put(tx, &provider)?;
    }
    Ok(Value::Null)
}

fn tag(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let mut provider = own(call, tx)?;
    provider.tags = merge_tags(provider.tags, call.input.tags()?)?;
    store::put(tx, &provider)?;
    Ok(Value::Null)
}

fn untag(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let mut provider = own(call, tx)?;
    let keys = call.input.texts("TagKeys")?;
    provider.tags.retain(|(key, _)| !keys.iter().any(|gone| same_tag(gone, key)));
    store::put(tx, &provider)?;
    Ok(Value::Null)
}

fn list_tags(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let page = call.input.page()?.of_all(named(call, tx)?.tags, |(key, _)| key);
    Ok(page.answer("Tags", |tag| render::tags(&[tag]).swap_remove(0)))
}

/// The name of the provider that is to be made.
pub(super) fn new_name(call: &Call) -> Result<&str, IamError> {
    issuer_name(call.input.required("Url")?).map_err(invalid)
}

/// The name in the ARN of the request.
pub(super) fn name(call: &Call) -> Result<&str, IamError> {
    let text = call.input.required("OpenIDConnectProviderArn")?;
    let malformed = || IamError::InvalidInput("Invalid ARN".to_owned());
    let known: Arn = text.parse().map_err(|_| malformed())?;
    let ours = known.service() == "iam" && known.account() == call.account.as_str();
    let name =
        text.split_once(":oidc-provider/").map(|(_, name)| name).filter(|_| ours).ok_or_else(malformed)?;
    if arn(call, name).as_str() == text { Ok(name) } else { Err(malformed()) }
}

pub(super) fn arn(call: &Call, name: &str) -> Arn {
    Arn::global("iam", &call.account, &format!("oidc-provider/{name}"))
}

fn named(call: &Call, tx: &Tx<'_>) -> Result<ProviderRow, IamError> {
    let name = name(call)?;
    let missing =
        || IamError::NoSuchEntity(format!("OpenIDConnect Provider not found for arn {}", arn(call, name)));
    store::find(tx, name)?.ok_or_else(missing)
}

/// The same, to be changed.
fn own(call: &Call, tx: &Tx<'_>) -> Result<ProviderRow, IamError> {
    let provider = named(call, tx)?;
    modifiable(provider.owner, "OIDC provider", "/", &provider.name)?;
    Ok(provider)
}

fn client_ids(texts: Vec<&str>) -> Result<Vec<String>, IamError> {
    if texts.len() > MOST_CLIENT_IDS {
        return Err(IamError::quota("ClientIdsPerOpenIdConnectProvider", MOST_CLIENT_IDS));
    }
    let mut ids: Vec<String> = Vec::new();
    for text in texts {
        check_client_id(text).map_err(invalid)?;
        if !ids.iter().any(|known| known == text) {
            ids.push(text.to_owned());
        }
    }
    Ok(ids)
}

fn thumbprints(call: &Call) -> Result<Vec<String>, IamError> {
    let texts = call.input.texts("ThumbprintList")?;
    if texts.len() > MOST_THUMBPRINTS {
        return Err(IamError::InvalidInput(format!(
            "Thumbprint list must contain fewer than {MOST_THUMBPRINTS} entries."
        )));
    }
    texts.iter().try_for_each(|text| check_thumbprint(text)).map_err(invalid)?;
    Ok(texts.into_iter().map(str::to_lowercase).collect())
}

fn invalid(error: ProviderError) -> IamError {
    IamError::InvalidInput(format!("Invalid request: {error}."))
}
