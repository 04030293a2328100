//! Action names, `service:Operation`: compared without case, wildcards in the operation only.

use super::{Pattern, Syntax};
use crate::context::Context;

/// Actions are short; longer ones come from a command line at most, and go to the heap.
const ROOM: usize = 96;

/// The action of a request in lower case, with a hash for lookups.
pub(crate) struct FoldedAction {
    stack: [u8; ROOM],
    length: usize,
    heap: Option<Box<str>>,
    hash: u64,
    /// Byte offset of the colon, or the length where there is none.
    colon: usize,
}

impl FoldedAction {
    pub(crate) fn new(action: &str) -> Self {
        let mut folded =
            FoldedAction { stack: [0; ROOM], length: action.len(), heap: None, hash: 0, colon: 0 };
        if action.len() <= ROOM && action.is_ascii() {
            for (place, byte) in folded.stack.iter_mut().zip(action.bytes()) {
                *place = byte.to_ascii_lowercase();
            }
        } else {
            folded.heap = Some(action.to_lowercase().into_boxed_str());
        }
        folded.hash = hash(folded.text());
        folded.colon = folded.text().find(':').unwrap_or(folded.text().len());
        folded
    }

    pub(crate) fn text(&self) -> &str {
        match &self.heap {
            Some(text) => text,
            None => std::str::from_utf8(&self.stack[..self.length]).expect("checked to be ASCII"),
        }
    }

    pub(crate) fn service(&self) -> &str {
        &self.text()[..self.colon]
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    fn operation(&self) -> &str {
        self.text().get(self.colon + 1..).unwrap_or("")
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
            && operation.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'*' | b'?'));
        if !operation_is_good {
            return Err(format!("`{text}`: an operation is letters and digits, with `*` and `?`"));
        }
        let folded = text.to_ascii_lowercase();
        if !operation.contains(['*', '?']) {
            let hash = hash(&folded);
            return Ok(ActionPattern::Exact(folded.into(), hash));
        }
        let syntax = Syntax { wildcards: true, variables: false };
        let operation = Pattern::compile(&operation.to_ascii_lowercase(), syntax)?;
        Ok(ActionPattern::Operations(service.to_ascii_lowercase().into(), operation))
    }

    pub(crate) fn matches(&self, action: &FoldedAction, context: &Context) -> bool {
        match self {
            ActionPattern::All => true,
            ActionPattern::Exact(text, hash) => *hash == action.hash && **text == *action.text(),
            ActionPattern::Operations(service, operation) => {
                **service == *action.service()
                    && action.colon < action.text().len()
                    && operation.matches(action.operation(), context)
            }
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

/// FNV-1a. Equal hashes are always followed by a comparison of the texts.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
