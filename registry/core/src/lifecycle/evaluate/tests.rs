//! The examples of Amazon ECR's documentation, and a naive reference on random repositories.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use registry_types::{Algorithm, Digest};
use serde_json::{Value, json};

use super::{Counting, DAY_MS, Facts, LifecyclePolicy, Standing};

const NOW_MS: i64 = 100 * DAY_MS;

/// An image of a letter, with tags, pushed so many days ago; those of one day follow the alphabet.
fn image(letter: char, tags: &[&str], days: i64) -> Facts {
    let number = letter as u8;
    Facts {
        digest: Digest::from_hash(Algorithm::Sha256, &[number; 32]),
        tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
        pushed_at_ms: NOW_MS - days * DAY_MS + i64::from(number),
        last_pulled_at_ms: None,
        standing: Standing::Free,
    }
}

fn policy(rules: &[Value]) -> LifecyclePolicy {
    LifecyclePolicy::parse(&json!({ "rules": rules }).to_string()).unwrap()
}

fn rule(priority: i64, tags: Value, limit: Value) -> Value {
    let mut selection = json!({ "tagStatus": "tagged" });
    for members in [tags, limit] {
        for (name, value) in members.as_object().unwrap() {
            selection[name] = value.clone();
        }
    }
    json!({ "rulePriority": priority, "selection": selection, "action": { "type": "expire" } })
}

fn prefixes(list: &[&str]) -> Value {
    json!({ "tagPrefixList": list })
}

fn count(kept: i64) -> Value {
    json!({ "countType": "imageCountMoreThan", "countNumber": kept })
}

fn pushed(days: i64) -> Value {
    json!({ "countType": "sinceImagePushed", "countUnit": "days", "countNumber": days })
}

/// The letters of the images that go, each with its rule.
fn expired(policy: &LifecyclePolicy, images: &[Facts]) -> Vec<(char, i64)> {
    let mut counting = Counting::new(Arc::new(policy.clone()));
    images.iter().for_each(|image| counting.see(image));
    let decision = counting.decide(NOW_MS);
    let letter = |image: &Facts| char::from(u8::from_str_radix(&image.digest.as_str()[7..9], 16).unwrap());
    images
        .iter()
        .filter_map(|image| decision.rule_for(image).map(|priority| (letter(image), priority)))
        .collect()
}

#[test]
fn untagged_images_go_by_age_and_by_count() {
    let images = [image('A', &[], 20), image('B', &["v1"], 20), image('C', &[], 14), image('D', &[], 1)];
    let untagged = || json!({ "tagStatus": "untagged" });
    assert_eq!(expired(&policy(&[rule(1, untagged(), pushed(14))]), &images), [('A', 1)]);
    assert_eq!(expired(&policy(&[rule(1, untagged(), count(1))]), &images), [('A', 1), ('C', 1)]);
    assert_eq!(expired(&policy(&[rule(1, untagged(), count(3))]), &images), []);
}

#[test]
fn a_rule_of_higher_priority_claims_what_it_sees() {
    let images = [
        image('A', &["beta-1", "prod-1"], 10),
        image('B', &["beta-2", "prod-2"], 9),
        image('C', &["beta-3"], 8),
    ];
    let rules = |first: &str, second: &str| {
        policy(&[rule(1, prefixes(&[first]), count(1)), rule(2, prefixes(&[second]), count(1))])
    };
    assert_eq!(expired(&rules("prod", "beta"), &images), [('A', 1)]);
    assert_eq!(expired(&rules("beta", "prod"), &images), [('A', 1), ('B', 1)]);
}

#[test]
fn several_prefixes_of_one_rule_must_all_fit() {
    let images = [
        image('A', &["alpha-1"], 12),
        image('B', &["beta-1"], 11),
        image('C', &["alpha-2", "beta-2"], 10),
        image('D', &["alpha-3"], 4),
        image('E', &["beta-3"], 3),
        image('F', &["alpha-4", "beta-4"], 2),
    ];
    let each = policy(&[rule(1, prefixes(&["alpha"]), pushed(5)), rule(2, prefixes(&["beta"]), pushed(5))]);
    assert_eq!(expired(&each, &images), [('A', 1), ('B', 2), ('C', 1)]);
    let both = policy(&[rule(1, prefixes(&["alpha", "beta"]), pushed(5))]);
    assert_eq!(expired(&both, &images), [('C', 1)]);
    let patterns = json!({ "tagPatternList": ["*lpha*", "beta-*"] });
    assert_eq!(expired(&policy(&[rule(1, patterns, pushed(5))]), &images), [('C', 1)]);
}

#[test]
fn a_rule_for_all_images_counts_all_and_takes_what_is_left() {
    let any = || json!({ "tagStatus": "any" });
    let images = [
        image('A', &["alpha-1"], 4),
        image('B', &["beta-1"], 3),
        image('C', &[], 2),
        image('D', &["alpha-2"], 1),
    ];
    assert_eq!(expired(&policy(&[rule(1, any(), count(1))]), &images), [('A', 1), ('B', 1), ('C', 1)]);
    let images = [
        image('A', &["alpha-1", "beta-1"], 4),
        image('B', &[], 3),
        image('C', &["alpha-2"], 2),
        image('D', &["githash"], 1),
        image('E', &[], 1),
    ];
    let rules = [
        rule(1, prefixes(&["alpha"]), count(1)),
        rule(2, json!({ "tagStatus": "untagged" }), pushed(1)),
        rule(3, any(), count(1)),
    ];
    assert_eq!(expired(&policy(&rules), &images), [('A', 1), ('B', 2), ('D', 3)]);
}

#[test]
fn an_image_that_was_never_pulled_counts_from_its_push() {
    let pulled = json!({ "countType": "sinceImagePulled", "countUnit": "days", "countNumber": 5 });
    let mut images = [image('A', &["v1"], 9), image('B', &["v2"], 9), image('C', &["v3"], 9)];
    images[1].last_pulled_at_ms = Some(NOW_MS - 2 * DAY_MS);
    images[2].last_pulled_at_ms = Some(NOW_MS - 6 * DAY_MS);
    let policy = policy(&[rule(1, json!({ "tagStatus": "any" }), pulled)]);
    assert_eq!(expired(&policy, &images), [('A', 1), ('C', 1)]);
}

#[test]
fn what_an_index_names_is_counted_and_stays_and_artifacts_follow_their_subject() {
    let mut images = [image('A', &[], 9), image('B', &[], 8), image('C', &[], 7), image('D', &[], 6)];
    images[0].standing = Standing::Held;
    images[3].standing = Standing::WithSubject;
    let policy = policy(&[rule(1, json!({ "tagStatus": "untagged" }), count(1))]);
    assert_eq!(expired(&policy, &images), [('B', 1)]);
}

/// The documented steps, one after the other, over whole lists.
fn by_the_book(rules: &[Value], images: &[Facts]) -> BTreeSet<(String, i64)> {
    let (mut seen, mut gone) = (BTreeSet::new(), BTreeSet::new());
    for rule in rules {
        let selection = &rule["selection"];
        let fits = |image: &Facts| match selection["tagStatus"].as_str().unwrap() {
            "any" => true,
            "untagged" => image.tags.is_empty(),
            _ => selection["tagPrefixList"].as_array().unwrap().iter().all(|prefix| {
                image.tags.iter().any(|tag| tag.as_str().starts_with(prefix.as_str().unwrap()))
            }),
        };
        let mut matching: Vec<&Facts> = images.iter().filter(|image| fits(image)).collect();
        matching.sort_by_key(|image| std::cmp::Reverse((image.pushed_at_ms, image.digest.clone())));
        let number = usize::try_from(selection["countNumber"].as_i64().unwrap()).unwrap();
        let marked: Vec<&Facts> = if selection["countType"] == "imageCountMoreThan" {
            matching.iter().skip(number).copied().collect()
        } else {
            let bound = NOW_MS - number as i64 * DAY_MS;
            matching.iter().filter(|image| image.pushed_at_ms < bound).copied().collect()
        };
        let priority = rule["rulePriority"].as_i64().unwrap();
        for image in marked {
            if !seen.contains(image.digest.as_str()) {
                gone.insert((image.digest.to_string(), priority));
            }
        }
        seen.extend(matching.iter().map(|image| image.digest.to_string()));
    }
    gone
}

proptest! {
    #[test]
    fn two_passes_do_what_the_book_says(
        images in prop::collection::vec((prop::collection::btree_set("[ab][12]", 0..3), 0..12i64), 0..20),
        limits in prop::collection::vec((any::<bool>(), 1..6i64), 4),
        kinds in Just([json!({ "tagPrefixList": ["a"] }), json!({ "tagPrefixList": ["a1", "b"] }),
            json!({ "tagStatus": "untagged" })].to_vec()).prop_shuffle(),
    ) {
        let images: Vec<Facts> = images
            .iter()
            .enumerate()
            .map(|(at, (tags, days))| {
                let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
                image(char::from(b'A' + at as u8), &tags, *days)
            })
            .collect();
        let limit = |at: usize| if limits[at].0 { count(limits[at].1) } else { pushed(limits[at].1) };
        let mut rules: Vec<Value> =
            kinds.iter().enumerate().map(|(at, tags)| rule(at as i64 + 1, tags.clone(), limit(at))).collect();
        rules.push(rule(9, json!({ "tagStatus": "any" }), limit(3)));
        let mut counting = Counting::new(Arc::new(policy(&rules)));
        images.iter().for_each(|image| counting.see(image));
        let decision = counting.decide(NOW_MS);
        let gone: BTreeSet<(String, i64)> = images
            .iter()
            .filter_map(|image| decision.rule_for(image).map(|priority| (image.digest.to_string(), priority)))
            .collect();
        prop_assert_eq!(gone, by_the_book(&rules, &images));
    }
}
