//! What was probably meant by a misspelt word.

/// The word nearest to `written` without regard to case, if it is near enough to be meant.
pub(crate) fn nearest<'w>(words: impl IntoIterator<Item = &'w str>, written: &str) -> Option<&'w str> {
    let near = words.into_iter().map(|word| (distance(word, written), word)).min_by_key(|(far, _)| *far)?;
    let tolerated = (written.len() / 3).clamp(1, 3);
    (near.0 <= tolerated).then_some(near.1)
}

/// How many letters must be changed, added or left out to make one word of the other, without case.
fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (one.to_ascii_lowercase(), other.to_ascii_lowercase());
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (number, letter) in (1..).zip(one.bytes()) {
        let mut diagonal = row[0];
        row[0] = number;
        for (column, known) in (1..).zip(other.bytes()) {
            let replaced = diagonal + usize::from(letter != known);
            diagonal = row[column];
            row[column] = replaced.min(diagonal + 1).min(row[column - 1] + 1);
        }
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
        assert_eq!(nearest(words, "Nil"), None);
        assert_eq!(nearest(words, "Elephant"), None);
    }
}
