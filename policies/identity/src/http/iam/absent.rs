//! What a user can have in IAM and nobody has here: passwords, MFA devices, certificates, keys of other services.
//!
//! Tools ask for it before they delete a user or audit an account; the true answer is that there is none.

use registry_sql::Tx;
use serde_json::Value;

use super::call::{Call, find};
use super::error::IamError;
use super::operation::operations;
use crate::store::entities::EntityKind;

operations! {
    Read "GetLoginProfile" on UserOrSelf [] => get_login_profile;
    Read "ListMFADevices" on UserOrSelf [] => |call, tx| none(call, tx, "MFADevices");
    Read "ListSigningCertificates" on UserOrSelf [] => |call, tx| none(call, tx, "Certificates");
    Read "ListSSHPublicKeys" on UserOrSelf [] => |call, tx| none(call, tx, "SSHPublicKeys");
    Read "ListServiceSpecificCredentials" on UserOrSelf [] =>
        list_service_specific_credentials;
}

fn get_login_profile(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let user = find(tx, EntityKind::User, call.user_name()?)?;
    Err(IamError::NoSuchEntity(format!("Login Profile for User {} cannot be found.", user.name)))
}

fn list_service_specific_credentials(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let _ = (call.input.text("ServiceName")?, call.input.flag("AllUsers")?);
    none(call, tx, "ServiceSpecificCredentials")
}

/// An empty list of this name.
fn none(call: &Call, tx: &Tx<'_>, name: &str) -> Result<Value, IamError> {
    find(tx, EntityKind::User, call.user_name()?)?;
    Ok(call.input.page()?.of_all(Vec::<String>::new(), |item| item).answer(name, Value::from))
}
