//! What a control connection has sent and not yet seen acknowledged.
//!
//! An entry leaves the outbox when its message is acknowledged; until then it is sent again, on this
//! connection after a while and on the next one at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::OutboxEntry;

/// Without an acknowledgement for so long, a message is sent again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Tasks in one message.
const BATCH: usize = 20;

#[derive(Default)]
pub(super) struct Delivery {
    in_flight: HashMap<String, (Vec<i64>, Instant)>,
    /// Acknowledged, but perhaps still in the outbox for a moment.
    acknowledged: HashSet<i64>,
    /// Messages that were not acknowledged in time: their entries go one by one, so that one bad task holds up
    /// no other.
    singly: HashSet<i64>,
}

impl Delivery {
    /// The next entries to send.
    pub(super) fn next(&mut self, outbox: &[Arc<OutboxEntry>]) -> Vec<Arc<OutboxEntry>> {
        let present: HashSet<i64> = outbox.iter().map(|entry| entry.sequence).collect();
        self.acknowledged.retain(|sequence| present.contains(sequence));
        self.singly.retain(|sequence| present.contains(sequence));
        let flying: HashSet<i64> =
            self.in_flight.values().flat_map(|(sequences, _)| sequences).copied().collect();
        let mut batch = Vec::new();
        for entry in outbox {
            if flying.contains(&entry.sequence) || self.acknowledged.contains(&entry.sequence) {
                continue;
            }
            if self.singly.contains(&entry.sequence) {
                if batch.is_empty() {
                    return vec![Arc::clone(entry)];
                }
                break;
            }
            batch.push(Arc::clone(entry));
            if batch.len() == BATCH {
                break;
            }
        }
        batch
    }

    pub(super) fn sent(&mut self, message_id: String, sequences: Vec<i64>) {
        self.in_flight.insert(message_id, (sequences, Instant::now()));
    }

    /// The entries that an acknowledgement is for.
    pub(super) fn acknowledge(&mut self, message_id: &str) -> Vec<i64> {
        let sequences = self.in_flight.remove(message_id).map(|(sequences, _)| sequences).unwrap_or_default();
        self.acknowledged.extend(&sequences);
        sequences
    }

    /// Lets go of what has been under way for too long. True when there is something to send again.
    pub(super) fn expire(&mut self) -> bool {
        let late: Vec<String> = self
            .in_flight
            .iter()
            .filter(|(_, (_, sent))| sent.elapsed() > PATIENCE)
            .map(|(message_id, _)| message_id.clone())
            .collect();
        for message_id in &late {
            if let Some((sequences, _)) = self.in_flight.remove(message_id) {
                self.singly.extend(sequences);
            }
        }
        !late.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Delivery;
    use crate::ids::{InstanceId, TaskId};
    use crate::model::{Errand, OutboxEntry};
    use std::sync::Arc;
    use std::time::Duration;

    fn outbox(sequences: std::ops::Range<i64>) -> Vec<Arc<OutboxEntry>> {
        let entry = |sequence| OutboxEntry {
            instance: InstanceId::new("i"),
            sequence,
            task: TaskId::new("t"),
            errand: Errand::Start,
        };
        sequences.map(|sequence| Arc::new(entry(sequence))).collect()
    }

    fn sequences(entries: &[Arc<OutboxEntry>]) -> Vec<i64> {
        entries.iter().map(|entry| entry.sequence).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_acknowledged_goes_again_one_by_one() {
        let mut delivery = Delivery::default();
        let outbox = outbox(0..3);
        let batch = delivery.next(&outbox);
        assert_eq!(sequences(&batch), [0, 1, 2]);
        delivery.sent("m1".into(), sequences(&batch));
        assert!(delivery.next(&outbox).is_empty());
        assert!(!delivery.expire());
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(delivery.expire());
        assert_eq!(sequences(&delivery.next(&outbox)), [0]);
        // A late acknowledgement of the first message changes nothing.
        assert!(delivery.acknowledge("m1").is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_acknowledged_is_not_sent_again_while_it_leaves_the_outbox() {
        let mut delivery = Delivery::default();
        let before = outbox(0..2);
        delivery.sent("m1".into(), vec![0, 1]);
        assert_eq!(delivery.acknowledge("m1"), [0, 1]);
        assert!(delivery.next(&before).is_empty());
        assert_eq!(sequences(&delivery.next(&outbox(1..4))), [2, 3]);
    }
}
