//! Runs: which uninterrupted stretch of sealing each record belongs to.
//!
//! Every stretch has a random id of its own, bound into its records and listed in the footer, so that a
//! record of an attempt that was given up can not be spliced back in.

use super::{FormatError, MAX_RUNS};

pub(crate) type RunId = [u8; 16];

/// Bytes of one run in a footer.
pub(crate) const RUN_LEN: usize = 24;

/// The runs of an object in order: each begins at a record and lasts until the next begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs(Vec<(u64, RunId)>);

impl Runs {
    /// Adds a run that begins at record `first`. False when the footer can list no more.
    pub(crate) fn begin(&mut self, first: u64, id: RunId) -> bool {
        debug_assert!(self.0.last().is_none_or(|(last, _)| *last < first));
        if self.0.len() == MAX_RUNS {
            return false;
        }
        self.0.push((first, id));
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The run of record `index`, which must lie in the object.
    pub(crate) fn of(&self, index: u64) -> Option<&RunId> {
        let after = self.0.partition_point(|(first, _)| *first <= index);
        after.checked_sub(1).map(|at| &self.0[at].1)
    }

    /// count u32, then each: first record u64, id.
    pub(crate) fn encode(&self, output: &mut Vec<u8>) {
        let count = u32::try_from(self.0.len()).expect("MAX_RUNS fits 32 bits");
        output.extend_from_slice(&count.to_be_bytes());
        for (first, id) in &self.0 {
            output.extend_from_slice(&first.to_be_bytes());
            output.extend_from_slice(id);
        }
    }

    /// Reads the runs of `records` records off the front of `input`: they begin with record 0, ascend,
    /// and none is empty.
    pub(crate) fn decode(input: &mut &[u8], records: u64) -> Result<Self, FormatError> {
        let (count, rest) = input.split_first_chunk::<4>().ok_or(FormatError::Footer)?;
        let count = u32::from_be_bytes(*count) as usize;
        if count > MAX_RUNS || rest.len() < count * RUN_LEN {
            return Err(FormatError::Footer);
        }
        let (entries, rest) = rest.split_at(count * RUN_LEN);
        let mut runs = Vec::with_capacity(count);
        let mut least = 0;
        for entry in entries.chunks_exact(RUN_LEN) {
            let first = u64::from_be_bytes(entry[..8].try_into().expect("8 bytes"));
            let in_order = if runs.is_empty() { first == 0 } else { first >= least };
            if !in_order || first >= records {
                return Err(FormatError::Footer);
            }
            runs.push((first, entry[8..].try_into().expect("16 bytes")));
            least = first + 1;
        }
        if runs.is_empty() != (records == 0) {
            return Err(FormatError::Footer);
        }
        *input = rest;
        Ok(Self(runs))
    }
}

#[cfg(test)]
mod tests {
    use super::Runs;

    fn encoded(runs: &[(u64, u8)]) -> Vec<u8> {
        let mut output = Vec::new();
        Runs(runs.iter().map(|(first, id)| (*first, [*id; 16])).collect()).encode(&mut output);
        output
    }

    #[test]
    fn record_belongs_to_the_run_that_began_last() {
        let bytes = encoded(&[(0, 1), (3, 2), (4, 3)]);
        let runs = Runs::decode(&mut bytes.as_slice(), 9).unwrap();
        let found: Vec<u8> = (0..6).map(|index| runs.of(index).unwrap()[0]).collect();
        assert_eq!(found, [1, 1, 1, 2, 3, 3]);
        assert_eq!(Runs::default().of(0), None);
    }

    #[test]
    fn runs_out_of_order_are_refused() {
        for (runs, records) in [
            (vec![(1, 1)], 3),
            (vec![(0, 1), (0, 2)], 3),
            (vec![(0, 1), (2, 2), (1, 3)], 3),
            (vec![(0, 1), (3, 2)], 3),
            (vec![], 1),
            (vec![(0, 1)], 0),
        ] {
            assert!(Runs::decode(&mut encoded(&runs).as_slice(), records).is_err(), "{runs:?}");
        }
        let whole = encoded(&[(0, 1), (2, 2)]);
        for cut in 0..whole.len() {
            assert!(Runs::decode(&mut &whole[..cut], 3).is_err());
        }
    }
}
