//! Who asks, and whether they may.
//!
//! Opened once for a request, it answers for every action that the request needs. Without credentials a no
//! is a challenge; with them it is a refusal.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use policies_identity::{AuthenticationError, Caller, Check, Denied, DeniedKind, Identity, RequestContext};
use registry_core::{PushTarget, Repository};
use registry_types::RepositoryName;

use super::Service;
use super::error::OciError;
use super::mount::{Source, Wish};
use super::operation::{Operation, action};
use super::route::{Route, Target};
use super::ticket;
use crate::pull_through::Reader;

/// What the scope of a token has to hold for a mount that names no source. A token that was asked for one
/// repository reads no other by its digests.
const ANY_BLOB: (&str, &str) = ("registry", "blobs");

/// The gate, held open for one caller and one operation.
pub(super) struct Gate<'a> {
    service: &'a Service,
    context: RequestContext,
    caller: Caller,
    operation: Operation,
    /// Scope that a challenge names.
    scope: Option<String>,
}

impl<'a> Gate<'a> {
    /// Authenticates. `route` is known unless the path is malformed; the source of a mount is what
    /// the token to be asked for has to reach as well.
    ///
    /// # Errors
    /// 401 with a challenge for credentials that are not good, whatever the path.
    pub(super) fn open(
        service: &'a Service,
        headers: &HeaderMap,
        context: RequestContext,
        route: Option<&Route>,
        mount: Option<&Wish>,
    ) -> Result<Self, OciError> {
        let operation = route.map_or(Operation::Ping, Route::operation);
        let mut scope = route
            .and_then(Route::scope_resource)
            .map(|(kind, name)| format!("{kind}:{name}:{}", operation.challenge_scope()));
        if let (Some(scope), Some(wish), Operation::PostUpload) = (&mut scope, mount, operation) {
            scope.push_str(&match &wish.source {
                Source::Named(from) => format!(" repository:{from}:pull"),
                Source::Any => format!(" {}:{}:pull", ANY_BLOB.0, ANY_BLOB.1),
            });
        }
        match service.identity.authenticate_docker(headers, &context) {
            Ok(caller) => {
                service.identity.admit(&context, &caller).map_err(OciError::too_many_requests)?;
                Ok(Self { service, context, caller, operation, scope })
            }
            Err(AuthenticationError::Unavailable) => Err(OciError::unavailable()),
            Err(AuthenticationError::Denied(denied)) => {
                Err(OciError::new(StatusCode::FORBIDDEN, "DENIED", denied.message()))
            }
            Err(error @ AuthenticationError::InsecureTransport) => {
                Err(challenge(service, &context, scope.as_deref(), None).because(error.to_string()))
            }
            Err(
                AuthenticationError::Missing
                | AuthenticationError::Malformed(_)
                | AuthenticationError::Mismatch
                | AuthenticationError::InvalidToken
                | AuthenticationError::Expired,
            ) => {
                let is_bearer = headers.get(header::AUTHORIZATION).is_some_and(|value| {
                    value.as_bytes().get(..7).is_some_and(|s| s.eq_ignore_ascii_case(b"bearer "))
                });
                let error = is_bearer.then_some("invalid_token");
                Err(challenge(service, &context, scope.as_deref(), error))
            }
        }
    }

    /// Unique id of the caller's principal: what an upload belongs to.
    pub(super) fn principal(&self) -> &str {
        self.caller.principal_uid()
    }

    /// Who asks, for the access line.
    pub(super) fn shared_principal(&self) -> Arc<str> {
        self.caller.shared_arn()
    }

    /// Refuses what the caller's token does not reach, whatever the policies say.
    pub(super) fn check_scope(&self, route: &Route) -> Result<(), OciError> {
        let Some((kind, name)) = route.scope_resource() else { return Ok(()) };
        if self.reaches(kind, name, self.operation.scope()) || self.has_ticket(route) {
            return Ok(());
        }
        Err(challenge(self.service, &self.context, self.scope.as_deref(), Some("insufficient_scope")))
    }

    /// Refuses a mount whose source the caller's token does not reach, so that the client asks for one that
    /// does. Whether the caller may read there does not matter yet.
    pub(super) fn check_mount_scope(&self, wish: &Wish) -> Result<(), OciError> {
        let named = match &wish.source {
            Source::Named(from) => self.reaches("repository", from.as_str(), "pull"),
            Source::Any => false,
        };
        if named || self.reaches(ANY_BLOB.0, ANY_BLOB.1, "pull") {
            return Ok(());
        }
        Err(challenge(self.service, &self.context, self.scope.as_deref(), Some("insufficient_scope")))
    }

    /// Whether the token is for exactly the blob that is asked for.
    fn has_ticket(&self, route: &Route) -> bool {
        let Route::In { name, target: Target::Blob(digest), .. } = route else { return false };
        let [kind, name] = ticket::resource(name, digest);
        self.reaches(&kind, &name, self.operation.scope())
    }

    fn reaches(&self, kind: &str, name: &str, action: &str) -> bool {
        self.caller.scope().is_none_or(|scope| scope.allows(kind, name, action))
    }

    /// Whether the credentials are good for anything at all. Anonymous ones are not: they get the challenge
    /// that tells a client where tokens are.
    pub(super) fn ping(&self) -> Result<(), OciError> {
        if self.caller.is_anonymous() && self.caller.scope().is_none() {
            return Err(challenge(self.service, &self.context, None, None));
        }
        if self.caller.scope().is_some() {
            return Ok(());
        }
        self.decide(&Check::any(self.operation.action()))
    }

    /// Asks for the operation's own action on a repository.
    pub(super) fn allow(
        &self,
        name: &RepositoryName,
        repository: Option<&Repository>,
    ) -> Result<(), OciError> {
        self.allow_action(self.operation.action(), name, repository)
    }

    pub(super) fn allow_action(
        &self,
        action: &'static str,
        name: &RepositoryName,
        repository: Option<&Repository>,
    ) -> Result<(), OciError> {
        self.decide(&self.service.access.check(action, name, repository))
    }

    /// The repository of a name, once the operation is allowed on it.
    ///
    /// # Errors
    /// The refusal, which does not depend on existence; then 404.
    pub(super) async fn repository(&self, name: &RepositoryName) -> Result<Repository, OciError> {
        let repository = self.service.registry.repository(name).await?;
        self.allow(name, repository.as_ref())?;
        repository.ok_or_else(OciError::repository_unknown)
    }

    /// The target of a push, which may have to be made: that is asked for too, before anything is done.
    pub(super) async fn push_target(&self, name: &RepositoryName) -> Result<PushTarget, OciError> {
        let repository = self.service.registry.repository(name).await?;
        self.allow(name, repository.as_ref())?;
        match repository {
            Some(repository) => Ok(PushTarget::Existing(repository)),
            None => {
                self.allow_action(action::CREATE_REPOSITORY, name, None)?;
                Ok(PushTarget::New(name.clone()))
            }
        }
    }

    /// Whether the caller may read a blob of `source` and link it into the target. A no is no error.
    pub(super) fn may_mount(
        &self,
        target: &PushTarget,
        source: &RepositoryName,
        repository: Option<&Repository>,
    ) -> Result<bool, OciError> {
        let existing = match target {
            PushTarget::Existing(repository) => Some(repository),
            PushTarget::New(_) => None,
        };
        let access = &self.service.access;
        let checks = [
            access.check(action::COMPLETE_UPLOAD, target.name(), existing),
            access.check(action::CHECK_LAYER, source, repository),
            access.check(action::GET_DOWNLOAD_URL, source, repository),
        ];
        for check in &checks {
            match self.ask(check) {
                Ok(()) => {}
                Err(denied) if denied.kind() == DeniedKind::Policy => return Ok(false),
                Err(denied) => return Err(self.refusal(&denied)),
            }
        }
        Ok(true)
    }

    /// Whether the caller may read blobs of a repository; leaves no audit line.
    pub(super) fn may_read(&self, name: &RepositoryName, repository: Option<&Repository>) -> bool {
        let allowed = |action| {
            let check = self.service.access.check(action, name, repository);
            self.service.identity.probe(&self.context, &self.caller, &check).is_ok()
        };
        // Both are always decided: see `Service::any_source`.
        let decided = [allowed(action::CHECK_LAYER), allowed(action::GET_DOWNLOAD_URL)];
        decided == [true, true]
    }

    /// Whether a row of a listing may be shown; leaves no audit line.
    pub(super) fn may_list(&self, repository: &Repository) -> bool {
        let check = self.service.access.check(self.operation.action(), &repository.name, Some(repository));
        self.service.identity.probe(&self.context, &self.caller, &check).is_ok()
    }

    /// Lets any caller with credentials list; what is shown is decided row by row.
    pub(super) fn allow_listing(&self) -> Result<(), OciError> {
        if self.caller.is_anonymous() {
            return Err(challenge(self.service, &self.context, self.scope.as_deref(), None));
        }
        let every = Check::on(self.operation.action(), self.service.access.every_repository());
        match self.ask(&every) {
            Ok(()) => Ok(()),
            Err(denied) if denied.kind() == DeniedKind::Policy => Ok(()),
            Err(denied) => Err(self.refusal(&denied)),
        }
    }

    /// What keeps an answer going only for as long as the caller may have it.
    pub(super) fn guard(&self, repository: &Repository) -> Guard {
        let check = self.service.access.check(self.operation.action(), &repository.name, Some(repository));
        Guard {
            identity: self.service.identity.clone(),
            generation: self.service.identity.security_generation(),
            context: self.context.clone(),
            caller: self.caller.begun(),
            check,
        }
    }

    fn decide(&self, check: &Check) -> Result<(), OciError> {
        self.ask(check).map_err(|denied| self.refusal(&denied))
    }

    fn ask(&self, check: &Check) -> Result<(), Denied> {
        let identity = &self.service.identity;
        identity.authorize(&self.context, &self.caller, self.operation.name(), check).map(drop)
    }

    fn refusal(&self, denied: &Denied) -> OciError {
        match denied.kind() {
            DeniedKind::Policy if self.caller.is_anonymous() => {
                challenge(self.service, &self.context, self.scope.as_deref(), None)
            }
            DeniedKind::Policy => OciError::new(StatusCode::FORBIDDEN, "DENIED", denied.message()),
            DeniedKind::Revoked | DeniedKind::Expired => {
                challenge(self.service, &self.context, self.scope.as_deref(), Some("invalid_token"))
            }
            DeniedKind::Unavailable => OciError::unavailable(),
        }
    }
}

impl Reader for Gate<'_> {
    type Refusal = OciError;

    fn require(
        &self,
        action: &'static str,
        name: &RepositoryName,
        repository: Option<&Repository>,
    ) -> Result<(), OciError> {
        self.allow_action(action, name, repository)
    }

    fn may(&self, action: &'static str, name: &RepositoryName, repository: Option<&Repository>) -> bool {
        let check = self.service.access.check(action, name, repository);
        self.service.identity.probe(&self.context, &self.caller, &check).is_ok()
    }

    fn asker(&self) -> (&Caller, &RequestContext) {
        (&self.caller, &self.context)
    }
}

/// A decision that outlives its request's head: asked again when anything changed that decides.
pub(super) struct Guard {
    identity: Identity,
    generation: i64,
    context: RequestContext,
    caller: Caller,
    check: Check,
}

impl Guard {
    /// False once the caller was revoked or lost the right.
    pub(super) fn holds(&mut self) -> bool {
        let generation = self.identity.security_generation();
        if generation == self.generation {
            return true;
        }
        match self.identity.probe(&self.context, &self.caller, &self.check) {
            Ok(_) => self.generation = generation,
            // Asked again with the next piece.
            Err(denied) if denied.kind() == DeniedKind::Unavailable => {}
            Err(_) => return false,
        }
        true
    }
}

/// 401, and where to get a token that would do.
fn challenge(
    service: &Service,
    context: &RequestContext,
    scope: Option<&str>,
    error: Option<&str>,
) -> OciError {
    let advertise = service.advertise.as_deref();
    let host = advertise.or(context.host.as_deref());
    let value = match host.zip(context.base_url(advertise)) {
        Some((host, base)) => {
            let mut value = format!(r#"Bearer realm="{base}/token",service="{host}""#);
            for (name, text) in [("scope", scope), ("error", error)] {
                if let Some(text) = text {
                    value.push_str(&format!(r#",{name}="{text}""#));
                }
            }
            value
        }
        None => r#"Basic realm="berth""#.to_owned(),
    };
    let value = HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("Basic realm=\"berth\""));
    OciError::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication is required")
        .with_header(header::WWW_AUTHENTICATE, value)
}
