//! ARNs of this account's ECS resources, and what callers write in their place.
//!
//! A short name and a full ARN mean the same thing; an ARN of another account, region or cluster is an
//! error that says so, before anything is looked up.

use registry_aws::AwsError;
use registry_types::{AccountId, Arn, Region};

use crate::ids::{ClusterName, DefinitionKey, Family, InstanceId, ServiceKey, ServiceName, TaskId};

/// Account and region of this Berth.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) region: Region,
    pub(crate) account: AccountId,
}

/// `family` or `family:revision`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DefinitionReference {
    pub(crate) family: Family,
    pub(crate) revision: Option<i64>,
}

pub(crate) const DEFAULT_CLUSTER: &str = "default";
const LONGEST_NAME: usize = 255;

/// Letters, digits, `_` and `-`, at most 255.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LONGEST_NAME
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

impl Names {
    fn arn(&self, resource: &str) -> Arn {
        Arn::new("ecs", &self.region, &self.account, resource)
    }

    pub(crate) fn cluster(&self, cluster: &ClusterName) -> Arn {
        self.arn(&format!("cluster/{cluster}"))
    }

    pub(crate) fn instance(&self, cluster: &ClusterName, instance: &InstanceId) -> Arn {
        self.arn(&format!("container-instance/{cluster}/{instance}"))
    }

    pub(crate) fn task(&self, cluster: &ClusterName, task: &TaskId) -> Arn {
        self.arn(&format!("task/{cluster}/{task}"))
    }

    /// Those of a cluster, whichever they are.
    pub(crate) fn tasks(&self, cluster: &ClusterName) -> Arn {
        self.arn(&format!("task/{cluster}/*"))
    }

    pub(crate) fn container(&self, cluster: &ClusterName, task: &TaskId, uuid: &str) -> Arn {
        self.arn(&format!("container/{cluster}/{task}/{uuid}"))
    }

    pub(crate) fn service(&self, key: &ServiceKey) -> Arn {
        self.arn(&format!("service/{}/{}", key.cluster, key.name))
    }

    pub(crate) fn definition(&self, key: &DefinitionKey) -> Arn {
        self.arn(&format!("task-definition/{}:{}", key.family, key.revision))
    }

    /// The ARN that policies are asked about for a bare family: any revision of it.
    pub(crate) fn definition_reference(&self, reference: &DefinitionReference) -> Arn {
        match reference.revision {
            Some(revision) => self.arn(&format!("task-definition/{}:{revision}", reference.family)),
            None => self.arn(&format!("task-definition/{}:*", reference.family)),
        }
    }

    /// A cluster's name or ARN; `default` when nothing is said.
    pub(crate) fn parse_cluster(&self, text: Option<&str>) -> Result<ClusterName, AwsError> {
        let text = text.unwrap_or(DEFAULT_CLUSTER);
        let name = match self.resource_of(text, "cluster")? {
            Some(name) => name,
            None => text.to_owned(),
        };
        if is_name(&name) { Ok(ClusterName::new(&name)) } else { Err(invalid_identifier("cluster")) }
    }

    pub(crate) fn parse_task(&self, text: &str, cluster: &ClusterName) -> Result<TaskId, AwsError> {
        self.parse_member(text, "task", cluster).map(|id| TaskId::new(&id))
    }

    pub(crate) fn parse_instance(&self, text: &str, cluster: &ClusterName) -> Result<InstanceId, AwsError> {
        self.parse_member(text, "container-instance", cluster).map(|id| InstanceId::new(&id))
    }

    pub(crate) fn parse_service(&self, text: &str, cluster: &ClusterName) -> Result<ServiceKey, AwsError> {
        let name = self.parse_member(text, "service", cluster)?;
        Ok(ServiceKey { cluster: cluster.clone(), name: ServiceName::new(&name) })
    }

    /// The id of something that lives in a cluster: bare, or the end of an ARN of that cluster.
    fn parse_member(&self, text: &str, kind: &str, cluster: &ClusterName) -> Result<String, AwsError> {
        let id = match self.resource_of(text, kind)? {
            None => text.to_owned(),
            Some(resource) => match resource.split_once('/') {
                // The short form of older ARNs names no cluster.
                None => resource,
                Some((named, _)) if named != cluster.as_str() => {
                    return Err(AwsError::invalid_parameter(format!(
                        "Invalid identifier: Identifier is for cluster {named}. Your cluster is {cluster}"
                    )));
                }
                Some((_, id)) => id.to_owned(),
            },
        };
        if is_name(&id) { Ok(id) } else { Err(invalid_identifier(kind)) }
    }

    /// `family`, `family:revision`, or an ARN of either.
    pub(crate) fn parse_definition(&self, text: &str) -> Result<DefinitionReference, AwsError> {
        let invalid = || AwsError::client("ClientException", "Invalid task definition identifier.");
        let text = match self.resource_of(text, "task-definition")? {
            Some(resource) => resource,
            None => text.to_owned(),
        };
        let (family, revision) = match text.split_once(':') {
            None => (text.as_str(), None),
            Some((family, revision)) => {
                let revision: i64 = revision.parse().map_err(|_| {
                    AwsError::client(
                        "ClientException",
                        format!("Invalid revision number. Number: {revision}"),
                    )
                })?;
                (family, Some(revision))
            }
        };
        if !is_name(family) || revision.is_some_and(|revision| revision < 1) {
            return Err(invalid());
        }
        Ok(DefinitionReference { family: Family::new(family), revision })
    }

    /// What stands after `KIND/` in an ARN of ours; None when the text is no ARN.
    fn resource_of(&self, text: &str, kind: &str) -> Result<Option<String>, AwsError> {
        if !text.starts_with("arn:") {
            return Ok(None);
        }
        let arn: Arn = text.parse().map_err(|_| invalid_identifier(kind))?;
        if arn.service() != "ecs" || arn.partition() != "aws" {
            return Err(invalid_identifier(kind));
        }
        if arn.account() != self.account.as_str() {
            return Err(AwsError::invalid_parameter(format!(
                "Identifier is for {}. Your accountId is {}",
                arn.account(),
                self.account
            )));
        }
        if arn.region() != self.region.as_str() {
            return Err(AwsError::invalid_parameter(format!(
                "Identifier is for {}. Your region is {}",
                arn.region(),
                self.region
            )));
        }
        match arn.resource().split_once('/') {
            Some((found, rest)) if found == kind => Ok(Some(rest.to_owned())),
            _ => Err(invalid_identifier(kind)),
        }
    }
}

fn invalid_identifier(kind: &str) -> AwsError {
    AwsError::invalid_parameter(format!("Invalid identifier: it names no {kind}."))
}

#[cfg(test)]
mod tests {
    use super::Names;
    use crate::ids::ClusterName;

    fn names() -> Names {
        Names { region: "us-east-1".parse().unwrap(), account: "000000000000".parse().unwrap() }
    }

    #[test]
    fn short_names_and_arns_mean_the_same() {
        let names = names();
        let cluster = ClusterName::new("demo");
        for text in [
            "abc",
            "arn:aws:ecs:us-east-1:000000000000:task/demo/abc",
            "arn:aws:ecs:us-east-1:000000000000:task/abc",
        ] {
            assert_eq!(names.parse_task(text, &cluster).unwrap().as_str(), "abc");
        }
        assert_eq!(names.parse_cluster(None).unwrap().as_str(), "default");
        let reference =
            names.parse_definition("arn:aws:ecs:us-east-1:000000000000:task-definition/web:7").unwrap();
        assert_eq!((reference.family.as_str(), reference.revision), ("web", Some(7)));
    }

    #[test]
    fn identifiers_of_elsewhere_are_refused() {
        let names = names();
        let cluster = ClusterName::new("demo");
        for text in [
            "",
            "a b",
            "../x",
            "arn:aws:ecs:us-east-1:000000000000:task/other/abc",
            "arn:aws:ecs:us-east-1:111111111111:task/demo/abc",
            "arn:aws:ecs:eu-west-1:000000000000:task/demo/abc",
            "arn:aws:ecs:us-east-1:000000000000:service/demo/abc",
            "arn:aws:ecr:us-east-1:000000000000:task/demo/abc",
            "arn:aws:ecs:us-east-1:000000000000:task/demo/a/b",
        ] {
            assert_eq!(
                names.parse_task(text, &cluster).unwrap_err().code,
                "InvalidParameterException",
                "{text}"
            );
        }
        for text in ["", "web:", "web:x", "web:0", "web:-1", "web:1:2", "we b"] {
            assert!(names.parse_definition(text).is_err(), "{text}");
        }
    }
}
