//! Portable placeholders: `$1` in our SQL becomes SQLite's `?1`.
//!
//! SQLite reads `$1` as a name and numbers names by first use, so `VALUES ($2, $1)` would bind the wrong way
//! round. Invariant: text between quotes and comments is left as it is.

/// The same statement with `?n` for `$n`.
pub(crate) fn to_sqlite(sql: &str) -> String {
    let mut rewritten = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(at) = rest.find(['$', '\'', '"', '-', '/']) {
        let (before, from) = rest.split_at(at);
        rewritten.push_str(before);
        let kept = match from.as_bytes() {
            [b'$', digit, ..] if digit.is_ascii_digit() => {
                rewritten.push('?');
                rest = &from[1..];
                continue;
            }
            [quote @ (b'\'' | b'"'), ..] => {
                from[1..].find(char::from(*quote)).map_or(from.len(), |end| end + 2)
            }
            [b'-', b'-', ..] => from.find('\n').unwrap_or(from.len()),
            [b'/', b'*', ..] => from.find("*/").map_or(from.len(), |end| end + 2),
            _ => 1,
        };
        rewritten.push_str(&from[..kept]);
        rest = &from[kept..];
    }
    rewritten.push_str(rest);
    rewritten
}

#[cfg(test)]
mod tests {
    use super::to_sqlite;

    #[test]
    fn only_placeholders_are_rewritten() {
        for (from, to) in [
            ("SELECT 1", "SELECT 1"),
            ("VALUES ($2, $1, $10)", "VALUES (?2, ?1, ?10)"),
            ("a = '$1' AND b = $1", "a = '$1' AND b = ?1"),
            ("a = 'it''s $2' AND \"c$3\" = $3", "a = 'it''s $2' AND \"c$3\" = ?3"),
            ("a - $1 / $2 -- not $3\n, $4 /* nor $5 */ $6", "a - ?1 / ?2 -- not $3\n, ?4 /* nor $5 */ ?6"),
            ("price$ = $1", "price$ = ?1"),
            ("a = 'open $1", "a = 'open $1"),
        ] {
            assert_eq!(to_sqlite(from), to);
        }
    }
}
