//! Every operation of the OCI protocol, and what it needs.
//!
//! One table: the audit name, the IAM actions, and the action of a Docker token's scope. An operation is
//! only ever carried out after the gate allowed each of its actions.

use registry_runtime::OperationName;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Ping,
    Catalog,
    ListTags,
    ListReferrers,
    GetManifest,
    HeadManifest,
    PutManifest,
    DeleteManifest,
    GetBlob,
    HeadBlob,
    DeleteBlob,
    /// A session, a mount, or a whole blob in one request.
    PostUpload,
    GetUpload,
    PatchUpload,
    PutUpload,
    DeleteUpload,
}

impl Operation {
    pub(super) const ALL: [Self; 16] = [
        Self::Ping,
        Self::Catalog,
        Self::ListTags,
        Self::ListReferrers,
        Self::GetManifest,
        Self::HeadManifest,
        Self::PutManifest,
        Self::DeleteManifest,
        Self::GetBlob,
        Self::HeadBlob,
        Self::DeleteBlob,
        Self::PostUpload,
        Self::GetUpload,
        Self::PatchUpload,
        Self::PutUpload,
        Self::DeleteUpload,
    ];

    /// Name in audit lines.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ping => "oci:Ping",
            Self::Catalog => "oci:Catalog",
            Self::ListTags => "oci:ListTags",
            Self::ListReferrers => "oci:ListReferrers",
            Self::GetManifest => "oci:GetManifest",
            Self::HeadManifest => "oci:HeadManifest",
            Self::PutManifest => "oci:PutManifest",
            Self::DeleteManifest => "oci:DeleteManifest",
            Self::GetBlob => "oci:GetBlob",
            Self::HeadBlob => "oci:HeadBlob",
            Self::DeleteBlob => "oci:DeleteBlob",
            Self::PostUpload => "oci:PostUpload",
            Self::GetUpload => "oci:GetUpload",
            Self::PatchUpload => "oci:PatchUpload",
            Self::PutUpload => "oci:PutUpload",
            Self::DeleteUpload => "oci:DeleteUpload",
        }
    }

    /// Name in metrics and access lines.
    pub(super) fn named(self) -> OperationName {
        let (service, name) = self.name().split_once(':').expect("every name has a service");
        OperationName::new(service, name)
    }

    /// The IAM action that it always needs; some requests need [`action`] more.
    pub(super) fn action(self) -> &'static str {
        match self {
            Self::Ping => "ecr:GetAuthorizationToken",
            Self::Catalog => "ecr:DescribeRepositories",
            Self::ListTags | Self::ListReferrers => "ecr:ListImages",
            Self::GetManifest | Self::HeadManifest => "ecr:BatchGetImage",
            Self::PutManifest => "ecr:PutImage",
            Self::DeleteManifest | Self::DeleteBlob => "ecr:BatchDeleteImage",
            Self::GetBlob => action::GET_DOWNLOAD_URL,
            Self::HeadBlob => action::CHECK_LAYER,
            Self::PostUpload => "ecr:InitiateLayerUpload",
            Self::GetUpload | Self::PatchUpload | Self::DeleteUpload => action::UPLOAD_LAYER_PART,
            Self::PutUpload => action::COMPLETE_UPLOAD,
        }
    }

    /// The action that the scope of a Docker token must hold.
    pub(super) fn scope(self) -> &'static str {
        match self {
            Self::Catalog => "*",
            Self::Ping
            | Self::ListTags
            | Self::ListReferrers
            | Self::GetManifest
            | Self::HeadManifest
            | Self::GetBlob
            | Self::HeadBlob => "pull",
            Self::PutManifest
            | Self::PostUpload
            | Self::GetUpload
            | Self::PatchUpload
            | Self::PutUpload
            | Self::DeleteUpload => "push",
            Self::DeleteManifest | Self::DeleteBlob => "delete",
        }
    }

    /// The actions that a challenge tells the client to ask for.
    pub(super) fn challenge_scope(self) -> &'static str {
        match self.scope() {
            "push" => "pull,push",
            other => other,
        }
    }
}

/// Actions that depend on what a request says beside its operation.
pub(super) mod action {
    pub(in super::super) const CREATE_REPOSITORY: &str = "ecr:CreateRepository";
    pub(in super::super) const CHECK_LAYER: &str = "ecr:BatchCheckLayerAvailability";
    pub(in super::super) const GET_DOWNLOAD_URL: &str = "ecr:GetDownloadUrlForLayer";
    pub(in super::super) const UPLOAD_LAYER_PART: &str = "ecr:UploadLayerPart";
    pub(in super::super) const COMPLETE_UPLOAD: &str = "ecr:CompleteLayerUpload";
}
