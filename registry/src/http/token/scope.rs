//! What clients write as scope, brought into the one form that a token holds.
//!
//! Entries come as repeated parameters and separated by spaces; kinds that are not ours are left out, which
//! grants a subset and is no error.

use policies_identity::Scope;

/// More than any client asks for at once; longer lists are an attack on whoever parses them.
const MAX_ENTRIES: usize = 64;

/// The scope of all entries together; `None` when there are too many.
pub(super) fn union<'a>(parameters: impl Iterator<Item = &'a str>) -> Option<Scope> {
    let mut entries: Vec<String> = Vec::new();
    for entry in parameters.flat_map(|parameter| parameter.split(' ')).filter_map(canonical) {
        if entries.contains(&entry) {
            continue;
        }
        if entries.len() == MAX_ENTRIES {
            return None;
        }
        entries.push(entry);
    }
    Scope::parse(&entries.join(" "))
}

/// `repository:NAME:ACTIONS` or `registry:catalog:ACTIONS`; the name may hold one colon (HOST:PORT/NAME).
fn canonical(entry: &str) -> Option<String> {
    let (kind, rest) = entry.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    // A class in brackets, `repository(plugin)`, is the kind all the same.
    let kind = kind.split('(').next().unwrap_or_default();
    if !matches!(kind, "repository" | "registry") || name.is_empty() {
        return None;
    }
    let actions: Vec<&str> =
        actions.split(',').filter(|action| matches!(*action, "pull" | "push" | "delete" | "*")).collect();
    Some(format!("{kind}:{name}:{}", actions.join(",")))
}

#[cfg(test)]
mod tests {
    use super::union;

    fn text(parameters: &[&str]) -> Option<String> {
        union(parameters.iter().copied()).map(|scope| scope.to_text())
    }

    #[test]
    fn repeated_and_spaced_scopes_are_one_list() {
        assert_eq!(
            text(&["repository:a/b:pull,push repository:c:pull", "registry:catalog:*", "repository:c:pull"])
                .unwrap(),
            "repository:a/b:pull,push repository:c:pull registry:catalog:*"
        );
        assert_eq!(text(&[]).unwrap(), "");
    }

    #[test]
    fn classes_are_dropped_and_strange_kinds_and_actions_left_out() {
        assert_eq!(
            text(&[
                "repository(plugin):p:pull",
                "aws:all:*",
                "nonsense",
                "repository:h:5000/n:pull,admin",
                "repository::pull"
            ])
            .unwrap(),
            "repository:p:pull repository:h:5000/n:pull"
        );
    }

    #[test]
    fn endless_scopes_are_refused() {
        let many: Vec<String> = (0..65).map(|n| format!("repository:r{n}:pull")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(text(&many).is_none());
        assert!(text(&many[..64]).is_some());
        assert!(text(&[&"repository:same:pull ".repeat(10_000)]).is_some());
    }
}
