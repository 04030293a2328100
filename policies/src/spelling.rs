//! What was probably meant by a misspelt word.

/// The word nearest to `written` without regard to case, if it is near enough to be meant.
pub(crate) fn nearest<'w>(words: impl IntoIterator<Item = &'w str>, written: &str) -> Option<&'w str> {
    let near = words.into_iter().map(|word| (distance(word, written), word)).min_by_key(|(far, _)| *far)?;
    let tolerated = (written.len() / 3).clamp(1, 3);
    (near.0 <= tolerated).then_some(near.1)
}

/// How many letters must be changed, added, left out or swapped with the next to make one word of the
/// other, without case.
fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (one.to_ascii_lowercase(), other.to_ascii_lowercase());
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut above: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for number in 1..=one.len() {
        let mut next = vec![number; other.len() + 1];
        for column in 1..=other.len() {
            let replaced = row[column - 1] + usize::from(one[number - 1] != other[column - 1]);
            next[column] = replaced.min(row[column] + 1).min(next[column - 1] + 1);
            let swapped = number > 1
                && column > 1
                && one[number - 1] == other[column - 2]
                && one[number - 2] == other[column - 1];
            if swapped {
                next[column] = next[column].min(above[column - 2] + 1);
            }
        }
        above = std::mem::replace(&mut row, next);
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn only_what_is_near_is_meant() {
        let words = ["StringEquals", "StringLike", "Null"];
        assert_eq!(nearest(words, "StringEqual"), Some("StringEquals"));
        assert_eq!(nearest(words, "stringlyke"), Some("StringLike"));
        assert_eq!(nearest(words, "Nlul"), Some("Null"));
        assert_eq!(nearest(words, "Nil"), None);
        assert_eq!(nearest(words, "Elephant"), None);
    }
}
