//! Credentials for single pulls.
//!
//! A grant is 256 random bits bound to a task, a repository, a digest and a role. It opens that manifest and
//! what that manifest names, and is void when the pull ends.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use registry_runtime::random_bytes;
use sha2::{Digest as _, Sha256};

use crate::engine::PullCredentials;
use crate::pull::manifest::Named;
use crate::pull::upstream::{Access, Kind};

const USERNAME: &str = "berth";

/// Every grant that is in force, by the hash of its secret.
#[derive(Clone, Default)]
pub(crate) struct Grants(Arc<Mutex<HashMap<[u8; 32], Arc<Grant>>>>);

pub(crate) struct Grant {
    pub(crate) task_arn: String,
    pub(crate) repository: String,
    pub(crate) access: Access,
    open: Mutex<Open>,
}

struct Open {
    manifests: HashSet<String>,
    blobs: HashSet<String>,
}

/// Voids its grant when dropped.
pub(crate) struct Issued {
    grants: Grants,
    hash: [u8; 32],
    pub(crate) credentials: PullCredentials,
}

impl Grants {
    /// Makes a grant; it lives as long as what is returned.
    pub(crate) fn issue(&self, task_arn: &str, repository: &str, digest: &str, access: Access) -> Issued {
        let password = hex::encode(random_bytes::<32>());
        let hash = hash(&password);
        let open = Open { manifests: HashSet::from([digest.to_owned()]), blobs: HashSet::new() };
        let grant = Grant {
            task_arn: task_arn.to_owned(),
            repository: repository.to_owned(),
            access,
            open: Mutex::new(open),
        };
        self.0.lock().insert(hash, Arc::new(grant));
        let credentials = PullCredentials { username: USERNAME.to_owned(), password };
        Issued { grants: self.clone(), hash, credentials }
    }

    /// The grant of a user name and password. The password is looked up by its hash, so that the time of a
    /// comparison says nothing about it.
    pub(crate) fn find(&self, username: &str, password: &str) -> Option<Arc<Grant>> {
        if username != USERNAME {
            return None;
        }
        self.0.lock().get(&hash(password)).cloned()
    }
}

impl Grant {
    pub(crate) fn opens(&self, repository: &str, kind: Kind, digest: &str) -> bool {
        let open = self.open.lock();
        let digests = if kind == Kind::Manifest { &open.manifests } else { &open.blobs };
        self.repository == repository && digests.contains(digest)
    }

    /// A manifest was served: what it names may be fetched too.
    pub(crate) fn extend(&self, named: Named) {
        let mut open = self.open.lock();
        open.manifests.extend(named.manifests);
        open.blobs.extend(named.blobs);
    }
}

impl Drop for Issued {
    fn drop(&mut self) {
        self.grants.0.lock().remove(&self.hash);
    }
}

fn hash(password: &str) -> [u8; 32] {
    Sha256::digest(password).into()
}

#[cfg(test)]
mod tests {
    use super::Grants;
    use crate::pull::manifest::Named;
    use crate::pull::upstream::{Access, Kind};

    #[test]
    fn a_grant_opens_what_its_manifest_names_and_ends_with_the_pull() {
        let grants = Grants::default();
        let issued = grants.issue("task", "app", "sha256:a", Access::Anonymous);
        let password = issued.credentials.password.clone();
        let grant = grants.find("berth", &password).unwrap();
        assert!(grant.opens("app", Kind::Manifest, "sha256:a"));
        assert!(!grant.opens("app", Kind::Blob, "sha256:b"));
        assert!(!grant.opens("other", Kind::Manifest, "sha256:a"));
        grant.extend(Named { manifests: vec![], blobs: vec!["sha256:b".into()] });
        assert!(grant.opens("app", Kind::Blob, "sha256:b"));
        assert!(grants.find("other", &password).is_none());
        assert!(grants.find("berth", &"0".repeat(64)).is_none());
        drop(issued);
        assert!(grants.find("berth", &password).is_none());
    }
}
