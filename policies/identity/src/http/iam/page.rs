//! Lists that come in pages: `Marker`, `MaxItems`, `IsTruncated`.

use registry_aws::page;
use serde_json::{Value, json};

use super::input::Page;

/// How many rows a page looks at, when a filter may leave most of them out.
pub(super) const EXAMINED: usize = 1000;

/// One page: what is on it, and the key behind which the next begins.
pub(super) struct Paged<T> {
    pub(super) items: Vec<T>,
    next: Option<String>,
}

impl Page {
    /// How many rows to read for a page of which a filter leaves something out, or not.
    pub(super) fn rows(&self, filtered: bool) -> usize {
        if filtered { EXAMINED } else { self.limit + 1 }
    }

    /// A page of rows that come in the order of their keys, at most `read` of them at once. Filtered pages may be
    /// short.
    pub(super) fn of<T>(
        &self,
        rows: Vec<T>,
        read: usize,
        key: impl Fn(&T) -> &str,
        keep: impl Fn(&T) -> bool,
    ) -> Paged<T> {
        let whole = rows.len() < read;
        let mut items = Vec::new();
        let mut last = None;
        for row in rows {
            if items.len() == self.limit {
                return Paged { items, next: last };
            }
            last = Some(key(&row).to_owned());
            if keep(&row) {
                items.push(row);
            }
        }
        Paged { items, next: last.filter(|_| !whole) }
    }

    /// A page of a list that is in memory, in the order of its keys.
    pub(super) fn of_all<T>(&self, all: Vec<T>, key: impl Fn(&T) -> &str) -> Paged<T> {
        let rest: Vec<T> = all.into_iter().filter(|item| key(item) > self.after.as_str()).collect();
        let read = rest.len() + 1;
        self.of(rest, read, key, |_| true)
    }
}

impl<T> Paged<T> {
    /// The answer: the items under their name, and where the next page begins.
    pub(super) fn answer(self, name: &str, render: impl FnMut(T) -> Value) -> Value {
        let marker = self.next.as_deref().map(page::encode);
        let items: Vec<Value> = self.items.into_iter().map(render).collect();
        let mut answer = json!({ "IsTruncated": marker.is_some(), "Marker": marker });
        answer[name] = items.into();
        answer
    }
}
