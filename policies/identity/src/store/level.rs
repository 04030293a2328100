//! Levels of an organisation, as the resources whose policies they hold.
//!
//! Control policies lie in the table of the resources' policies, under a name that no resource has.

use std::fmt;
use std::str::FromStr;

use policies::PolicyKind;
use registry_types::AccountId;

/// A level of service control of an account, or of resource control of the one that owns everything here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) kind: PolicyKind,
    pub(crate) account: AccountId,
    /// Levels are asked in the order of their names.
    pub(crate) name: String,
}

const SERVICE: &str = "service-control";
const RESOURCE: &str = "resource-control";

impl Level {
    pub(crate) fn new(kind: PolicyKind, account: &AccountId, name: &str) -> Self {
        Self { kind, account: account.clone(), name: name.to_owned() }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kind == PolicyKind::ResourceControl { RESOURCE } else { SERVICE };
        write!(f, "{kind}:{}/{}", self.account, self.name)
    }
}

/// It is the ARN of a resource.
pub(crate) struct NoLevel;

impl FromStr for Level {
    type Err = NoLevel;

    fn from_str(text: &str) -> Result<Self, NoLevel> {
        let (kind, rest) = text.split_once(':').ok_or(NoLevel)?;
        let kind = match kind {
            SERVICE => PolicyKind::ServiceControl,
            RESOURCE => PolicyKind::ResourceControl,
            _ => return Err(NoLevel),
        };
        let (account, name) = rest.split_once('/').ok_or(NoLevel)?;
        Ok(Level { kind, account: account.parse().map_err(|_| NoLevel)?, name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use policies::PolicyKind;

    use super::Level;

    #[test]
    fn a_level_is_told_from_a_resource() {
        for kind in [PolicyKind::ServiceControl, PolicyKind::ResourceControl] {
            let level = Level::new(kind, &"111122223333".parse().unwrap(), "1-root");
            assert_eq!(level.to_string().parse::<Level>().ok(), Some(level));
        }
        assert!("arn:aws:ecr:us-east-1:000000000000:repository/a".parse::<Level>().is_err());
    }
}
