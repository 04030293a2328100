//! Running other programs.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::server::Server;

/// Runs a command that must succeed; its standard output without the last newline.
pub fn run(command: &mut Command) -> String {
    let shown = format!("{command:?}");
    match try_run(command) {
        Ok(output) => output,
        Err(error) => panic!("{shown} failed:\n{error}"),
    }
}

/// Like [`run`], feeding `input` on standard input.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> String {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}", missing(command, &error)));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    text_of(&output).unwrap_or_else(|error| panic!("{shown} failed:\n{error}"))
}

/// Runs a command; its standard output, or what it printed when it failed.
pub fn try_run(command: &mut Command) -> Result<String, String> {
    let output =
        command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{}", missing(command, &error)));
    text_of(&output)
}

fn text_of(output: &Output) -> Result<String, String> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(stdout.trim_end_matches('\n').to_owned());
    }
    Err(format!("{}\n{stdout}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

fn missing(command: &Command, error: &std::io::Error) -> String {
    format!("cannot run {:?} ({error}): deploy/test.sh installs what the tests need", command.get_program())
}

/// `aws ARGS` against a server as its administrator; the JSON it prints (null for nothing).
///
/// # Errors
/// What the AWS CLI printed when it failed.
pub fn aws<S: AsRef<OsStr>>(server: &Server, args: impl IntoIterator<Item = S>) -> Result<Value, String> {
    let output = try_run(server.aws_command().args(args))?;
    if output.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&output).map_err(|error| format!("{error}: {output}"))
}

/// A program that deploy/test.sh builds from Go sources into target/tools/bin.
pub fn go_tool(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin").join(name);
    assert!(path.exists(), "{} is not there: deploy/test.sh installs what the tests need", path.display());
    path
}
