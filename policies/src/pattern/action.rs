//! Action names, `service:Operation`: compared without case, wildcards in the operation only.

use super::{Pattern, Syntax};
use crate::context::{Context, hash};

/// Actions are short; longer ones come from a command line at most, and go to the heap.
const ROOM: usize = 96;

/// Room for the action of a request in lower case.
pub(crate) struct ActionBuffer {
    stack: [u8; ROOM],
    length: usize,
    heap: Option<Box<str>>,
}

impl ActionBuffer {
    pub(crate) fn fold(action: &str) -> Self {
        let mut buffer = ActionBuffer { stack: [0; ROOM], length: action.len(), heap: None };
        if action.len() <= ROOM && action.is_ascii() {
            for (place, byte) in buffer.stack.iter_mut().zip(action.bytes()) {
                *place = byte.to_ascii_lowercase();
            }
        } else {
            buffer.heap = Some(action.to_lowercase().into_boxed_str());
        }
        buffer
    }

    fn text(&self) -> &str {
        match &self.heap {
            Some(text) => text,
            None => std::str::from_utf8(&self.stack[..self.length]).expect("checked to be ASCII"),
        }
    }
}

/// The action of a request in lower case, taken apart, with hashes for comparisons.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoldedAction<'a> {
    text: &'a str,
    service: &'a str,
    /// None where there is no colon.
    operation: Option<&'a str>,
    hash: u64,
    service_hash: u64,
    /// The first eight bytes of the operation.
    begins: u64,
}

impl<'a> FoldedAction<'a> {
    pub(crate) fn of(buffer: &'a ActionBuffer) -> Self {
        let text = buffer.text();
        let (service, operation) = match text.split_once(':') {
            Some((service, operation)) => (service, Some(operation)),
            None => (text, None),
        };
        let (hash, service_hash) = (hash(text.as_bytes()), hash(service.as_bytes()));
        let (begins, _) = first_eight(operation.unwrap_or_default());
        FoldedAction { text, service, operation, hash, service_hash, begins }
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    pub(crate) fn service(&self) -> &'a str {
        self.service
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn service_hash(&self) -> u64 {
        self.service_hash
    }

    pub(crate) fn begins(&self) -> u64 {
        self.begins
    }
}

#[derive(Debug)]
pub(crate) enum ActionPattern {
    All,
    /// One action, folded, with its hash.
    Exact(Box<str>, u64),
    /// Of one service, folded.
    Operations(Box<str>, Pattern),
}

impl ActionPattern {
    pub(crate) fn compile(text: &str) -> Result<ActionPattern, String> {
        if text == "*" {
            return Ok(ActionPattern::All);
        }
        let Some((service, operation)) = text.split_once(':') else {
            return Err(format!("`{text}` is not an action: write `service:Operation` or `*`"));
        };
        let service_is_plain =
            !service.is_empty() && service.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !service_is_plain {
            return Err(format!("`{text}`: the service of an action is a plain name, without wildcards"));
        }
        let operation_is_good = !operation.is_empty()
            && operation
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'*' | b'?'));
        if !operation_is_good {
            return Err(format!("`{text}`: an operation is letters and digits, with `*` and `?`"));
        }
        let folded = text.to_ascii_lowercase();
        if !operation.contains(['*', '?']) {
            let hash = hash(folded.as_bytes());
            return Ok(ActionPattern::Exact(folded.into(), hash));
        }
        let syntax = Syntax { wildcards: true, variables: false };
        let operation = Pattern::compile(&operation.to_ascii_lowercase(), syntax)?;
        Ok(ActionPattern::Operations(service.to_ascii_lowercase().into(), operation))
    }

    pub(crate) fn matches(&self, action: &FoldedAction<'_>, context: &Context) -> bool {
        match self {
            ActionPattern::All => true,
            ActionPattern::Exact(text, hash) => *hash == action.hash && **text == *action.text,
            ActionPattern::Operations(service, pattern) => {
                **service == *action.service
                    && action.operation.is_some_and(|operation| pattern.matches(operation, context))
            }
        }
    }

    /// Whether it covers an operation of its service, given in lower case.
    pub(crate) fn matches_operation(&self, operation: &str) -> bool {
        match self {
            ActionPattern::All => true,
            ActionPattern::Exact(text, _) => text.split_once(':').is_some_and(|(_, own)| own == operation),
            ActionPattern::Operations(_, pattern) => pattern.matches(operation, &Context::new()),
        }
    }

    /// The fixed beginning of its operation in a number, and which bits of that count: what begins
    /// otherwise does not match.
    pub(crate) fn begins(&self) -> (u64, u64) {
        match self {
            ActionPattern::Operations(_, pattern) => first_eight(pattern.fixed_beginning()),
            ActionPattern::All | ActionPattern::Exact(..) => (0, 0),
        }
    }

    /// The service it speaks of; none when it speaks of all.
    pub(crate) fn service(&self) -> Option<&str> {
        match self {
            ActionPattern::All => None,
            ActionPattern::Exact(text, _) => text.split(':').next(),
            ActionPattern::Operations(service, _) => Some(service),
        }
    }
}

/// Up to eight bytes, and a mask of those that are there.
fn first_eight(text: &str) -> (u64, u64) {
    let (mut begins, mut mask) = ([0; 8], [0; 8]);
    for ((byte, covered), given) in begins.iter_mut().zip(&mut mask).zip(text.bytes()) {
        *byte = given;
        *covered = 0xFF;
    }
    (u64::from_le_bytes(begins), u64::from_le_bytes(mask))
}
