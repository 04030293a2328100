//! Policy files for tests: users with keys that are known.

use std::path::Path;

use serde_json::{Value, json};

pub(crate) const SECRET: &str = "a-secret-of-exactly-forty-characters-0123";

/// A policy directory that grows by files.
pub(crate) struct Files<'a>(pub(crate) &'a Path);

impl<'a> Files<'a> {
    /// An empty set in `dir`.
    pub(crate) fn new(dir: &'a Path) -> Self {
        let files = Self(dir);
        files.write("berth-policies.json", &json!({"format": 1, "account": "000000000000"}));
        files
    }

    pub(crate) fn write(&self, name: &str, value: &Value) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, value.to_string()).unwrap();
    }

    /// A user with an access key whose secret is [`SECRET`], and one inline policy.
    pub(crate) fn user(&self, name: &str, key: &str, statements: &Value) {
        use std::os::unix::fs::PermissionsExt;
        let secret = self.0.parent().unwrap().join(format!("{name}.secret"));
        std::fs::write(&secret, SECRET).unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        self.write(
            &format!("users/{name}.json"),
            &json!({
                "accessKeys": [{"accessKeyId": key, "secretFile": secret}],
                "inlinePolicies": {"own": {"Version": "2012-10-17", "Statement": statements}},
            }),
        );
    }
}
