//! Cases by the million: one JSON object a line in, one a line out, in order.
//!
//! Lines are decided in blocks on every core. A line that cannot be decided is answered with an error, and the
//! others go on.

use std::io::{self, BufRead, Write};
use std::num::NonZero;
use std::thread;

use policies::{Batch, json};
use serde_json::json;

/// Lines that one core decides at a time.
const BLOCK: usize = 1024;

/// How a batch went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchSummary {
    pub lines: u64,
    /// Of these, answered with an error.
    pub errors: u64,
}

/// Answers every line of `input` with a line of `output`.
///
/// A decided case is answered with `decision` and the deciding `statements`, one that cannot be decided with
/// `line` (counted from 1) and `error`.
///
/// # Errors
/// When reading or writing fails.
pub fn simulate_batch(mut input: impl BufRead, mut output: impl Write) -> io::Result<BatchSummary> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let mut batches: Vec<Batch> = (0..cores).map(|_| Batch::new()).collect();
    let mut summary = BatchSummary::default();
    loop {
        let mut blocks = Vec::new();
        while blocks.len() < cores {
            let block = read_block(&mut input)?;
            if block.is_empty() {
                break;
            }
            blocks.push(block);
        }
        if blocks.is_empty() {
            output.flush()?;
            return Ok(summary);
        }
        let mut first = summary.lines + 1;
        let answers = thread::scope(|scope| {
            let mut workers = Vec::new();
            for (batch, block) in batches.iter_mut().zip(&blocks) {
                let start = first;
                first += block.len() as u64;
                workers.push(scope.spawn(move || answer_block(batch, block, start)));
            }
            workers.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        for answer in answers {
            let (text, errors) =
                answer.map_err(|_| io::Error::other("a case could not be decided: this is a bug"))?;
            output.write_all(text.as_bytes())?;
            summary.errors += errors;
        }
        summary.lines = first - 1;
    }
}

/// A line, or why it is none.
type Line = Result<String, &'static str>;

fn answer_block(batch: &mut Batch, lines: &[Line], first: u64) -> (String, u64) {
    let mut out = String::new();
    let mut errors = 0;
    for (number, line) in (first..).zip(lines) {
        let answer = match line {
            Ok(line) => batch.decide(line),
            Err(error) => Err((*error).to_owned()),
        };
        let text = match answer {
            Ok(answer) => serde_json::to_string(&answer).map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        match text {
            Ok(text) => out.push_str(&text),
            Err(error) => {
                errors += 1;
                out.push_str(&json!({ "line": number, "error": error }).to_string());
            }
        }
        out.push('\n');
    }
    (out, errors)
}

fn read_block(input: &mut impl BufRead) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    while lines.len() < BLOCK {
        match read_line(input)? {
            Some(line) => lines.push(line),
            None => break,
        }
    }
    Ok(lines)
}

/// The next line without its end; none at the end of the input. Of a line that is too long no more than that is
/// kept.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut length = 0;
    loop {
        let available = input.fill_buf()?;
        if available.is_empty() {
            break;
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        length += part.len();
        if length <= json::MAX_SIZE {
            line.extend_from_slice(part);
        }
        let consumed = end.map_or(available.len(), |end| end + 1);
        input.consume(consumed);
        if end.is_some() {
            return Ok(Some(finish(line, length)));
        }
    }
    Ok((length > 0).then(|| finish(line, length)))
}

fn finish(line: Vec<u8>, length: usize) -> Line {
    if length > json::MAX_SIZE {
        return Err("the line is longer than 1 MiB");
    }
    String::from_utf8(line).map_err(|_| "the line is not UTF-8")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{BatchSummary, simulate_batch};

    fn case(action: &str) -> String {
        let statement = json!({"Effect": "Allow", "Action": "ecr:Get*", "Resource": "*"});
        json!({
            "identityPolicies": [{"Version": "2012-10-17", "Statement": [statement]}],
            "request": {
                "principal": "arn:aws:iam::111122223333:user/alice",
                "action": action,
                "resource": "*",
                "resourceAccount": "111122223333",
                "context": {},
            },
        })
        .to_string()
    }

    fn answers(input: &[u8]) -> (Vec<Value>, BatchSummary) {
        let mut output = Vec::new();
        let summary = simulate_batch(input, &mut output).unwrap();
        let text = String::from_utf8(output).unwrap();
        (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), summary)
    }

    #[test]
    fn every_line_has_its_answer_in_its_place() {
        let mut lines = Vec::new();
        for number in 0..5_000 {
            lines.push(match number % 3 {
                0 => case("ecr:GetAuthorizationToken"),
                1 => case("ecr:PutImage"),
                _ => "{".to_owned(),
            });
        }
        let (answers, summary) = answers(lines.join("\n").as_bytes());
        assert_eq!(summary, BatchSummary { lines: 5_000, errors: 1_666 });
        for (number, answer) in answers.iter().enumerate() {
            match number % 3 {
                0 => assert_eq!(answer["decision"], "Allowed"),
                1 => assert_eq!(answer["decision"], "ImplicitDeny"),
                _ => assert_eq!(answer["line"], number + 1),
            }
        }
    }

    #[test]
    fn a_field_of_another_type_is_told_with_its_line() {
        let mut lines = vec![case("ecr:GetAuthorizationToken")];
        let mut expected = Vec::new();
        let mut wrong = |field: &str, value: Value, error: &str| {
            let mut broken: Value = serde_json::from_str(&case("ecr:PutImage")).unwrap();
            match field.strip_prefix("request.") {
                Some(field) => broken["request"][field] = value,
                None => broken[field] = value,
            }
            lines.push(broken.to_string());
            expected.push(error.to_owned());
        };
        for field in ["identityPolicies", "permissionBoundaryPolicies"] {
            wrong(field, json!({}), &format!("{field} is a list of documents, not an object"));
            wrong(field, json!("x"), &format!("{field} is a list of documents, not a string"));
            wrong(field, json!([7]), "a policy document is an object, not a number");
        }
        for field in ["resourcePolicy", "sessionPolicy"] {
            wrong(field, json!([]), "a policy document is an object, not a list");
            wrong(field, json!(true), "a policy document is an object, not a boolean");
        }
        for field in ["serviceControlPolicies", "resourceControlPolicies"] {
            wrong(field, json!(3), &format!("\"{field}\" is a list of levels, not a number"));
            wrong(field, json!([{}]), &format!("{field}[0] is a list of documents, not an object"));
            wrong(field, json!([[], [1]]), &format!("{field}[1][0]: column "));
        }
        wrong("request", json!([]), "\"request\" is an object, not a list");
        for field in ["principal", "action", "resource", "resourceAccount"] {
            wrong(
                &format!("request.{field}"),
                json!(7),
                &format!("request.{field} is a string, not a number"),
            );
        }
        wrong("request.context", json!("x"), "request.context is an object, not a string");
        wrong(
            "request.context",
            json!({"a": {}}),
            "\"a\" holds a string or a list of strings, not an object",
        );
        let (given, summary) = answers(lines.join("\n").as_bytes());
        assert_eq!(summary.errors, expected.len() as u64);
        for (index, (answer, expected)) in given[1..].iter().zip(expected).enumerate() {
            assert_eq!(answer["line"], index + 2, "{answer}");
            assert!(answer["error"].as_str().unwrap().contains(&expected), "{answer}: {expected}");
        }
    }

    #[test]
    fn what_is_not_a_line_is_an_error_of_its_own() {
        let long = " ".repeat(policies::json::MAX_SIZE + 1);
        let good = case("ecr:PutImage");
        let mut input = format!("{good}\r\n\n{long}\n").into_bytes();
        input.extend_from_slice(b"\xff\n");
        input.extend_from_slice(good.as_bytes());
        let (given, summary) = answers(&input);
        assert_eq!(summary, BatchSummary { lines: 5, errors: 3 });
        let errors: Vec<&str> = given.iter().filter_map(|answer| answer["error"].as_str()).collect();
        assert!(errors[0].contains("the text is empty"), "{errors:?}");
        assert_eq!(errors[1..], ["the line is longer than 1 MiB", "the line is not UTF-8"]);
        assert_eq!(given[4]["decision"], "ImplicitDeny");
        assert_eq!(answers(b"").0, Vec::<Value>::new());
    }
}
