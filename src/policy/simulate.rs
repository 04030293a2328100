//! `berth policy simulate`: what policies decide, and why.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use policies_identity::files::{self, Question, Simulation};
use registry_cli::Output;
use registry_types::Region;

use crate::output::READER_GONE;

/// Ask what policies decide, and why
///
/// Prints the decision, the statement that made it, and for every statement about the action what it matched or what
/// stood against it. Ends with status 0 when the answer is yes, 1 when it is no.
///
/// With --batch every line of FILE is a JSON object with its own policies and request, and is answered by a line with
/// `decision` and the deciding `statements`, or with `line` (counted from 1) and `error`. Ends with status 1 when a line
/// had an error.
#[derive(Args, Debug)]
#[command(after_help = "Fields of a line of --batch, of which only `request` must be there:
  identityPolicies            a list of documents
  permissionBoundaryPolicies  a list of documents
  resourcePolicy              a document
  sessionPolicy               a document
  serviceControlPolicies      a list of levels, root first, each a list of documents
  resourceControlPolicies     a list of levels, root first, each a list of documents
  request                     principal (an ARN), action, resource (an ARN), resourceAccount
                              (12 digits), context (key to a string, or to a list of strings)
Fields of other names are ignored, and named in `ignored` of the answer; a name that is nearly one
of these is an error.

Examples:
  berth policy simulate --dir policies/examples --principal user/alice \\
    --action ecr:PutImage --resource repository/web/app
  berth policy simulate --batch cases.jsonl")]
pub(crate) struct Simulate {
    /// Directory with berth-policies.json in it
    #[arg(long, value_name = "DIR", requires_all = ["principal", "action"], required_unless_present_any = ["batch", "case"])]
    dir: Option<PathBuf>,

    /// user/NAME, role/NAME, role/NAME/SESSION, service/NAME, root, anonymous, or an ARN
    #[arg(long, value_name = "WHO", requires = "dir")]
    principal: Option<String>,

    /// IAM action, such as ecr:PutImage
    #[arg(long, value_name = "ACTION", requires = "dir")]
    action: Option<String>,

    /// repository/NAME, cluster/NAME, '*' or an ARN
    #[arg(long, default_value = "*", value_name = "RESOURCE")]
    resource: String,

    /// Condition key and value, such as aws:SourceIp=10.0.0.1; a key given several times is a list
    #[arg(long, value_name = "KEY=VALUE")]
    context: Vec<String>,

    #[arg(long, default_value = "us-east-1", value_name = "REGION")]
    region: String,

    /// Answer every line of FILE ('-': of standard input), a JSON object with policies and request
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dir", "case"])]
    batch: Option<PathBuf>,

    /// Explain one case, a JSON object as in --batch
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    case: Option<PathBuf>,

    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl Simulate {
    /// Decides, and prints why.
    pub(crate) fn run(self) -> Result<ExitCode> {
        if let Some(file) = &self.batch {
            return batch(file);
        }
        let answer = match (&self.case, &self.dir) {
            (Some(file), _) => {
                let mut text = String::new();
                open(file)?.read_to_string(&mut text).with_context(|| unreadable(file))?;
                files::simulate_case(&text)?
            }
            (None, Some(dir)) => self.ask(dir)?,
            (None, None) => bail!("give --dir, --case or --batch"),
        };
        match self.output {
            Output::Text => println!("{}", answer.text().trim_end()),
            Output::Json => println!("{}", serde_json::to_string_pretty(&answer)?),
        }
        Ok(if answer.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn ask(&self, dir: &Path) -> Result<Simulation> {
        let files = match files::check(dir) {
            Ok(files) => files,
            Err(findings) => bail!("{} is not valid:\n{}", dir.display(), super::lines(&findings)),
        };
        let mut context = Vec::new();
        for pair in &self.context {
            let Some((key, value)) = pair.split_once('=') else { bail!("--context {pair} is not KEY=VALUE") };
            context.push((key.to_owned(), value.to_owned()));
        }
        let region: Region = self.region.parse()?;
        let question = Question {
            principal: self.principal.as_deref().unwrap_or_default(),
            action: self.action.as_deref().unwrap_or_default(),
            resource: &self.resource,
            context: &context,
            region: &region,
            now_ms: registry_runtime::Clock::system().now_ms(),
        };
        Ok(files::simulate(&files, &question)?)
    }
}

fn batch(file: &Path) -> Result<ExitCode> {
    let output = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    let summary = match files::simulate_batch(BufReader::with_capacity(1 << 20, open(file)?), output) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(READER_GONE.into()),
        summary => summary.with_context(|| format!("cannot answer {}", file.display()))?,
    };
    if summary.errors == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{} of {} lines could not be decided", summary.errors, summary.lines);
    Ok(ExitCode::FAILURE)
}

fn open(file: &Path) -> Result<Box<dyn Read>> {
    if file == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    Ok(Box::new(File::open(file).with_context(|| unreadable(file))?))
}

fn unreadable(file: &Path) -> String {
    format!("cannot read {}", file.display())
}
