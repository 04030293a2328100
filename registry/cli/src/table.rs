//! Answers for people: aligned columns, times, and a dash for what is not there.

use registry_aws::timestamp::iso8601;
use serde_json::Value;

/// Prints a heading and rows of as many columns, each as wide as its widest cell.
pub(crate) fn print(heading: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    print!("{}", format(heading, rows));
}

fn format(heading: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> =
        std::iter::once(heading.iter().map(|name| (*name).to_owned()).collect()).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A value as it reads, or a dash. What hosts and tasks say of themselves steers no terminal.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.replace(|one: char| one.is_control() && one != '\n', "?"),
        other => other.to_string(),
    }
}

/// Seconds since the Unix epoch as a date and time, or a dash.
pub(crate) fn time(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |seconds| iso8601((seconds * 1000.0).round() as i64))
}

/// The end of an ARN.
pub(crate) fn id(arn: &Value) -> String {
    text(arn).rsplit('/').next().unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{format, id, text, time};

    #[test]
    fn columns_are_aligned_and_lines_end_with_their_text() {
        let rows = [vec!["a".to_owned(), "-".to_owned()], vec!["longer".to_owned(), "b".to_owned()]];
        assert_eq!(format(&["X", "Y"], rows.into_iter()), "X       Y\na       -\nlonger  b\n");
    }

    #[test]
    fn what_is_not_there_is_a_dash() {
        assert_eq!(
            (text(&json!(null)), text(&json!(5)), text(&json!("x"))),
            ("-".into(), "5".into(), "x".into())
        );
        assert_eq!(text(&json!("\u{1b}[2Jx\n\u{9b}y")), "?[2Jx\n?y");
        assert_eq!((time(&json!(null)).as_str(), time(&json!(0.0)).as_str()), ("-", "1970-01-01T00:00:00Z"));
        assert_eq!(id(&json!("arn:aws:ecs:us-east-1:0:container-instance/default/ab")), "ab");
    }
}
