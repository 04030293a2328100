//! What differs in the text of our SQL from engine to engine.
//!
//! SQLite reads `$1` as a name and numbers names by first use, so `VALUES ($2, $1)` would bind the wrong way
//! round: `$1` becomes `?1`. PostgreSQL has another name for blobs, orders text by the rules of a language unless
//! it is told to order by bytes, as SQLite does, and knows no tables `WITHOUT ROWID`. Invariant: text between
//! quotes and comments is left as it is.

/// The same statement with `?n` for `$n`.
pub(crate) fn to_sqlite(sql: &str) -> String {
    let mut rewritten = String::with_capacity(sql.len());
    for piece in pieces(sql) {
        match piece {
            Piece::Word(word) | Piece::Kept(word) => rewritten.push_str(word),
            Piece::Placeholder(number) => {
                rewritten.push('?');
                rewritten.push_str(number);
            }
        }
    }
    rewritten
}

/// The same migration with PostgreSQL's types of columns, and without the words `WITHOUT ROWID`, which a migration says
/// after a table and nowhere else.
pub(crate) fn to_postgres(sql: &str) -> String {
    let mut rewritten = String::with_capacity(sql.len());
    for piece in pieces(sql) {
        match piece {
            Piece::Word("BLOB") => rewritten.push_str("BYTEA"),
            Piece::Word("TEXT") => rewritten.push_str("TEXT COLLATE \"C\""),
            Piece::Word("WITHOUT" | "ROWID") => {}
            Piece::Word(word) | Piece::Kept(word) => rewritten.push_str(word),
            Piece::Placeholder(number) => {
                rewritten.push('$');
                rewritten.push_str(number);
            }
        }
    }
    rewritten
}

enum Piece<'a> {
    /// Letters, digits and underscores.
    Word(&'a str),
    /// The digits after a `$`.
    Placeholder(&'a str),
    /// Quotes and comments with what is in them, and everything else.
    Kept(&'a str),
}

fn pieces(mut rest: &str) -> impl Iterator<Item = Piece<'_>> {
    std::iter::from_fn(move || {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let length = match rest.as_bytes() {
            [] => return None,
            [b'$', digit, ..] if digit.is_ascii_digit() => {
                let end = rest[1..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |end| end + 1);
                let number = &rest[1..end];
                rest = &rest[end..];
                return Some(Piece::Placeholder(number));
            }
            [first, ..] if is_word(char::from(*first)) => {
                let (word, after) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
                rest = after;
                return Some(Piece::Word(word));
            }
            [quote @ (b'\'' | b'"'), ..] => {
                rest[1..].find(char::from(*quote)).map_or(rest.len(), |end| end + 2)
            }
            [b'-', b'-', ..] => rest.find('\n').unwrap_or(rest.len()),
            [b'/', b'*', ..] => rest.find("*/").map_or(rest.len(), |end| end + 2),
            _ => rest.chars().next().map_or(0, char::len_utf8),
        };
        let (kept, after) = rest.split_at(length);
        rest = after;
        Some(Piece::Kept(kept))
    })
}

#[cfg(test)]
mod tests {
    use super::{to_postgres, to_sqlite};

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

    #[test]
    fn types_of_columns_are_postgresqls() {
        let migration =
            "CREATE TABLE t (a TEXT NOT NULL, blob_id BLOB, -- a BLOB\n b TEXT DEFAULT 'TEXT', n BIGINT)";
        assert_eq!(
            to_postgres(migration),
            "CREATE TABLE t (a TEXT COLLATE \"C\" NOT NULL, blob_id BYTEA, -- a BLOB\n \
             b TEXT COLLATE \"C\" DEFAULT 'TEXT', n BIGINT)"
        );
    }

    #[test]
    fn tables_without_row_numbers_are_sqlites_alone() {
        let migration = "CREATE TABLE t (a BIGINT PRIMARY KEY) WITHOUT ROWID; -- WITHOUT ROWID\nDROP TABLE u";
        assert_eq!(to_sqlite(migration), migration);
        assert_eq!(
            to_postgres(migration),
            "CREATE TABLE t (a BIGINT PRIMARY KEY)  ; -- WITHOUT ROWID\nDROP TABLE u"
        );
    }
}
