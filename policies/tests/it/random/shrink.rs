//! Making a failing case small, so that somebody can read it.

use serde_json::Value;

use super::Case;
use crate::reference::Document;

/// Takes away whatever can go while the case still fails.
pub(super) fn shrink(case: &Case, fails: impl Fn(&Case) -> bool) -> Case {
    let mut case = case.clone();
    'again: loop {
        for smaller in smaller_ones(&case) {
            if fails(&smaller) {
                case = smaller;
                continue 'again;
            }
        }
        return case;
    }
}

fn smaller_ones(case: &Case) -> Vec<Case> {
    let mut out = Vec::new();
    let mut with = |change: &dyn Fn(&mut Case)| {
        let mut changed = case.clone();
        change(&mut changed);
        changed.asked.has_boundary = !changed.set.boundary.is_empty();
        out.push(changed);
    };
    for level in 0..case.set.scps.len() {
        with(&|case| drop(case.set.scps.remove(level)));
    }
    for level in 0..case.set.rcps.len() {
        with(&|case| drop(case.set.rcps.remove(level)));
    }
    if case.set.session.is_some() {
        with(&|case| case.set.session = None);
    }
    for key in case.asked.context.keys() {
        with(&|case| drop(case.asked.context.remove(key)));
    }
    let count = documents(&mut case.clone()).len();
    for number in 0..count {
        with(&|case| {
            let (list, index) = owner(case, number);
            list.remove(index);
        });
        let mut probe = case.clone();
        let statements = documents(&mut probe)[number].json["Statement"].as_array().expect("a list").clone();
        for (index, statement) in statements.iter().enumerate() {
            if statements.len() > 1 {
                with(&|case| drop(list(&mut documents(case)[number].json["Statement"]).remove(index)));
            }
            let operators = statement["Condition"].as_object().into_iter().flatten();
            for (operator, _) in operators {
                with(&|case| {
                    let statement = &mut documents(case)[number].json["Statement"][index];
                    drop(statement["Condition"].as_object_mut().expect("an object").remove(operator));
                });
            }
            for element in ["Action", "NotAction", "Resource", "NotResource"] {
                let words = statement[element].as_array().map_or(0, Vec::len);
                for word in (0..words).filter(|_| words > 1) {
                    with(&|case| {
                        let statement = &mut documents(case)[number].json["Statement"][index];
                        drop(list(&mut statement[element]).remove(word));
                    });
                }
            }
        }
    }
    out
}

fn list(value: &mut Value) -> &mut Vec<Value> {
    value.as_array_mut().expect("a list")
}

fn lists(case: &mut Case) -> Vec<&mut Vec<Document>> {
    let set = &mut case.set;
    let mut lists = vec![&mut set.identity, &mut set.boundary, &mut set.resource];
    lists.extend(set.session.as_mut());
    lists.extend(set.scps.iter_mut());
    lists.extend(set.rcps.iter_mut());
    lists
}

fn documents(case: &mut Case) -> Vec<&mut Document> {
    lists(case).into_iter().flatten().collect()
}

/// The list that a document stands in, and its place there.
fn owner(case: &mut Case, mut number: usize) -> (&mut Vec<Document>, usize) {
    for list in lists(case) {
        if number < list.len() {
            return (list, number);
        }
        number -= list.len();
    }
    panic!("there is no such document");
}
