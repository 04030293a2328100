//! The operations of IAM that Berth serves, a row each: what must be allowed, and what does the work.
//!
//! Every module that serves operations has its rows beside its functions. Whatever has no row answers that
//! it is not offered, and only to those who might use it.

use std::sync::LazyLock;

use registry_sql::Tx;
use serde_json::Value;

use super::call::Call;
use super::error::IamError;
use super::{
    absent, access_keys, account, attachments, boundaries, details, groups, inline, instance_profiles,
    managed, oidc_providers, reports, roles, simulate, tags, users, versions,
};

/// A row.
pub(super) struct Operation {
    pub(super) name: &'static str,
    pub(super) action: &'static str,
    pub(super) on: On,
    /// Condition keys beside the tags of what exists.
    pub(super) keys: &'static [Key],
    pub(super) effect: Effect,
    pub(super) work: Work,
}

/// Runs inside a transaction, maybe more than once.
pub(super) type Work = fn(&Call, &Tx<'_>) -> Result<Value, IamError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Read,
    /// Every server loads the change before it decides again.
    Change,
}

/// The resource that an action is allowed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// The action knows none.
    Nothing,
    NewUser,
    User,
    /// The caller itself when no user is named.
    UserOrSelf,
    /// The user whose access key is named.
    KeyOwner,
    NewGroup,
    Group,
    NewRole,
    Role,
    NewPolicy,
    Policy,
    NewInstanceProfile,
    InstanceProfile,
    NewOidcProvider,
    OidcProvider,
    /// The user, group or role whose policies are simulated.
    PolicySource,
}

/// A condition key that an operation fills from its request, or from the principal it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// `aws:RequestTag/…` and `aws:TagKeys`, from the tags that are passed.
    RequestTags,
    /// `aws:TagKeys`, from the keys that are taken away.
    TagKeys,
    /// `iam:PolicyARN`
    PolicyArn,
    /// `iam:PermissionsBoundary`: the boundary that the principal has.
    Boundary,
    /// `iam:PermissionsBoundary`: the boundary that it gets.
    NewBoundary,
    /// The role is handed to EC2: `iam:PassRole` on it.
    PassRole,
    /// It gets another name or path: the action has to be allowed on that ARN, too.
    NewName,
}

/// Rows as a table: `Change "CreateUser" on NewUser [RequestTags] => create_user;`
macro_rules! operations {
    ($($effect:ident $name:literal on $on:ident [$($key:ident)*] => $work:expr;)*) => {
        pub(super) const OPERATIONS: &[$crate::http::iam::operation::Operation] = &[$(
            $crate::http::iam::operation::Operation {
                name: $name,
                action: concat!("iam:", $name),
                on: $crate::http::iam::operation::On::$on,
                keys: &[$($crate::http::iam::operation::Key::$key),*],
                effect: $crate::http::iam::operation::Effect::$effect,
                work: $work,
            },
        )*];
    };
}
pub(super) use operations;

/// The rows of every module.
const SERVED: &[&[Operation]] = &[
    users::OPERATIONS,
    groups::OPERATIONS,
    roles::OPERATIONS,
    managed::OPERATIONS,
    versions::OPERATIONS,
    attachments::OPERATIONS,
    inline::OPERATIONS,
    boundaries::OPERATIONS,
    access_keys::OPERATIONS,
    instance_profiles::OPERATIONS,
    oidc_providers::OPERATIONS,
    tags::OPERATIONS,
    simulate::OPERATIONS,
    account::OPERATIONS,
    absent::OPERATIONS,
    details::OPERATIONS,
    reports::OPERATIONS,
];

/// Every operation of IAM and its action. Passing a role is a right and no operation.
static ACTIONS: LazyLock<Vec<(&'static str, String)>> = LazyLock::new(|| {
    let operations = policies::actions_of("iam").filter(|name| *name != "PassRole");
    operations.map(|name| (name, format!("iam:{name}"))).collect()
});

static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| ACTIONS.iter().map(|(name, _)| *name).collect());

/// What a request names.
pub(super) enum Named {
    Served(&'static Operation),
    /// Known and not offered; its action, which is asked for first.
    Unsupported(&'static str),
}

/// None when IAM has no such operation.
pub(super) fn named(name: &str) -> Option<Named> {
    if let Some(served) = served().find(|operation| operation.name == name) {
        return Some(Named::Served(served));
    }
    let (_, action) = ACTIONS.iter().find(|(known, _)| *known == name)?;
    Some(Named::Unsupported(action))
}

pub(super) fn served() -> impl Iterator<Item = &'static Operation> {
    SERVED.iter().copied().flatten()
}

/// The names of all, offered or not.
pub(super) fn names() -> &'static [&'static str] {
    &NAMES
}
