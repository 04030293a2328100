//! The state of an upload between two requests.
//!
//! In clear: version, data key id, salt and the wrapped data key. Sealed under K_tail, bound to upload
//! uid, lease and offset: hash states, runs, replicas that took part with their drivers' checkpoints, the open
//! record's plaintext.

use sha2::Sha256;
use zeroize::Zeroizing;

use crate::cipher::{NONCE_LEN, TAG_LEN, random};
use crate::error::BlobError;
use crate::file_id::FileId;
use crate::format::footer::take;
use crate::format::hash_state::Hasher;
use crate::format::header::{Header, ObjectKeys};
use crate::format::runs::Runs;
use crate::format::{RECORD_LEN, RECORD_STRIDE};
use crate::key_row::{DataKey, Domain, SuspendedUpload};
use crate::keys::KeyRing;
use crate::keys::wrap::{Dek, WRAPPED_LEN, Wrapped, upload_context};
use crate::replicate::ReplicaId;
use crate::replicate::writers::Participant;

const VERSION: u8 = 2;

/// What identifies an upload's object and opens it.
pub(super) struct Keyed {
    pub(super) dek_id: [u8; 16],
    pub(super) dek: Dek,
    pub(super) header: Header,
    pub(super) keys: ObjectKeys,
}

impl Keyed {
    /// A data key and salt for a new object.
    pub(super) fn generate(domain: &Domain, file_id: FileId) -> Self {
        Self::assemble(domain, file_id, random(), Zeroizing::new(random()), &random())
    }

    fn assemble(domain: &Domain, file_id: FileId, dek_id: [u8; 16], dek: Dek, salt: &[u8; 32]) -> Self {
        let (header, keys) = Header::build(file_id, &dek_id, domain.id(), salt, &dek);
        Self { dek_id, dek, header, keys }
    }
}

/// Everything that the next request goes on from.
pub(super) struct State {
    pub(super) keyed: Keyed,
    pub(super) progress: Progress,
}

/// How far an upload has come.
pub(super) struct Progress {
    pub(super) hasher: Hasher,
    pub(super) seals: Sha256,
    /// Records that the object holds.
    pub(super) records: u64,
    /// Replicas that hold them all; empty as long as nothing was written.
    pub(super) participants: Vec<Participant>,
    pub(super) runs: Runs,
    /// Plaintext of the open record.
    pub(super) open: Zeroizing<Vec<u8>>,
}

/// upload uid ‖ lease ‖ offset. The uid's length is no question: the wrapped key is bound to it too.
fn tail_context(uid: &str, lease: &str, offset: u64) -> Vec<u8> {
    [uid.as_bytes(), lease.as_bytes(), &offset.to_be_bytes()].concat()
}

/// Seals an upload's state for its row.
pub(super) async fn seal(
    ring: &KeyRing,
    domain: &Domain,
    file_id: FileId,
    (uid, lease, offset): (&str, &str, u64),
    keyed: &Keyed,
    progress: &Progress,
) -> Result<SuspendedUpload, BlobError> {
    let (epoch, kek) = ring.active(domain).await?;
    let context = upload_context(domain, &keyed.dek_id, file_id, uid);
    let wrapped = kek.wrap(&keyed.dek_id, &keyed.dek, &context);
    let mut sealed = Front { dek_id: keyed.dek_id, salt: *keyed.header.salt(), wrapped }.encode();
    let nonce: [u8; NONCE_LEN] = random();
    sealed.extend_from_slice(&nonce);
    let from = sealed.len();
    sealed.reserve(progress.open.len() + 1024);
    progress.encode(&mut sealed);
    let tag = keyed.keys.tail.seal(&nonce, &tail_context(uid, lease, offset), &mut sealed[from..]);
    sealed.extend_from_slice(&tag);
    Ok(SuspendedUpload { file_id, epoch, sealed })
}

/// Wraps the data key of a suspended upload under the domain's active epoch.
pub(super) async fn rewrap(
    ring: &KeyRing,
    domain: &Domain,
    suspended: &SuspendedUpload,
    uid: &str,
) -> Result<SuspendedUpload, BlobError> {
    let front = Front::decode(&mut suspended.sealed.as_slice()).ok_or(BlobError::UploadUnknown)?;
    let context = upload_context(domain, &front.dek_id, suspended.file_id, uid);
    let kek = ring.get(domain, suspended.epoch).await?;
    let dek = kek.unwrap(&front.dek_id, &front.wrapped, &context).map_err(|_| BlobError::UploadUnknown)?;
    wrap_anew(ring, domain, suspended, uid, &DataKey(dek)).await
}

/// The same where the data key is at hand.
pub(super) async fn wrap_anew(
    ring: &KeyRing,
    domain: &Domain,
    suspended: &SuspendedUpload,
    uid: &str,
    key: &DataKey,
) -> Result<SuspendedUpload, BlobError> {
    let mut rest = suspended.sealed.as_slice();
    let mut front = Front::decode(&mut rest).ok_or(BlobError::UploadUnknown)?;
    let context = upload_context(domain, &front.dek_id, suspended.file_id, uid);
    let (epoch, kek) = ring.active(domain).await?;
    front.wrapped = kek.wrap(&front.dek_id, &key.0, &context);
    let mut sealed = front.encode();
    sealed.extend_from_slice(rest);
    Ok(SuspendedUpload { file_id: suspended.file_id, epoch, sealed })
}

impl State {
    /// Opens what `seal` made, for the same upload, lease and offset.
    pub(super) async fn open(
        ring: &KeyRing,
        domain: &Domain,
        suspended: &SuspendedUpload,
        uid: &str,
        lease: &str,
        offset: u64,
    ) -> Result<Self, BlobError> {
        let mut rest = suspended.sealed.as_slice();
        let front = Front::decode(&mut rest).ok_or(BlobError::UploadUnknown)?;
        let nonce: [u8; NONCE_LEN] = take(&mut rest).ok_or(BlobError::UploadUnknown)?;
        let kek = ring.get(domain, suspended.epoch).await?;
        let context = upload_context(domain, &front.dek_id, suspended.file_id, uid);
        let dek =
            kek.unwrap(&front.dek_id, &front.wrapped, &context).map_err(|_| BlobError::UploadUnknown)?;
        let keyed = Keyed::assemble(domain, suspended.file_id, front.dek_id, dek, &front.salt);
        if rest.len() < TAG_LEN {
            return Err(BlobError::UploadUnknown);
        }
        let mut plaintext = Zeroizing::new(rest.to_vec());
        let len = keyed
            .keys
            .tail
            .open(&nonce, &tail_context(uid, lease, offset), &mut plaintext, 0)
            .map_err(|_| BlobError::UploadUnknown)?;
        let progress = Progress::decode(&plaintext[..len]).ok_or(BlobError::UploadUnknown)?;
        if progress.records * RECORD_LEN as u64 + progress.open.len() as u64 != offset {
            return Err(BlobError::UploadUnknown);
        }
        Ok(Self { keyed, progress })
    }
}

/// The part in clear.
struct Front {
    dek_id: [u8; 16],
    salt: [u8; 32],
    wrapped: Wrapped,
}

impl Front {
    fn encode(&self) -> Vec<u8> {
        [&[VERSION], self.dek_id.as_slice(), &self.salt, &self.wrapped.nonce, &self.wrapped.bytes].concat()
    }

    /// `None` also for the version of another release: the client starts over.
    fn decode(input: &mut &[u8]) -> Option<Self> {
        let [VERSION] = take(input)? else { return None };
        let (dek_id, salt) = (take(input)?, take(input)?);
        let wrapped = Wrapped { nonce: take(input)?, bytes: take::<WRAPPED_LEN>(input)? };
        Some(Self { dek_id, salt, wrapped })
    }
}

impl Progress {
    fn encode(&self, output: &mut Vec<u8>) {
        self.hasher.export(output);
        Hasher::Sha256(self.seals.clone()).export(output);
        output.extend_from_slice(&self.records.to_be_bytes());
        let count = u8::try_from(self.participants.len()).expect("there are at most 64 replicas");
        output.push(count);
        for Participant { replica, checkpoint } in &self.participants {
            for part in [replica.as_str().as_bytes(), checkpoint] {
                let len = u32::try_from(part.len()).expect("names and checkpoints are far below 4 GiB");
                output.extend_from_slice(&len.to_be_bytes());
                output.extend_from_slice(part);
            }
        }
        self.runs.encode(output);
        output.extend_from_slice(&self.open);
    }

    pub(super) fn decode(mut input: &[u8]) -> Option<Self> {
        let input = &mut input;
        let hasher = Hasher::import(input)?;
        let Hasher::Sha256(seals) = Hasher::import(input)? else { return None };
        let records = u64::from_be_bytes(take(input)?);
        if records > u64::MAX / RECORD_STRIDE as u64 - 1 {
            return None;
        }
        let [count] = take(input)?;
        let mut participants = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let name = counted(input)?;
            let replica = ReplicaId::new(std::str::from_utf8(name).ok()?);
            participants.push(Participant { replica, checkpoint: counted(input)?.to_vec() });
        }
        let runs = Runs::decode(input, records).ok()?;
        let open = (input.len() < RECORD_LEN).then(|| Zeroizing::new(input.to_vec()))?;
        Some(Self { hasher, seals, records, participants, runs, open })
    }
}

/// Bytes with their length before them, off the front of `input`.
fn counted<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = u32::from_be_bytes(take(input)?) as usize;
    let (bytes, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(bytes)
}
