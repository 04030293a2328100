//! A body that is hashed as it passes and breaks off when the hash is not the one that was promised.
//!
//! The last piece is held back until the hash is known, so that no receiver ever holds a whole wrong body.

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http_body::Body;
use http_body_util::BodyExt;
use registry_types::{Algorithm, Digest};
use sha2::{Digest as _, Sha256, Sha512};

pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Box::new(Sha512::new())),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::from_hash(Algorithm::Sha256, &hasher.finalize()),
            Self::Sha512(hasher) => Digest::from_hash(Algorithm::Sha512, &hasher.finalize()),
        }
    }
}

/// Whether `bytes` are what `digest` names.
pub(crate) fn matches(bytes: &[u8], digest: &Digest) -> bool {
    let mut hasher = Hasher::new(digest.algorithm());
    hasher.update(bytes);
    hasher.finish() == *digest
}

struct Passing<B> {
    body: B,
    held: Option<Bytes>,
    /// Taken when the end was reached.
    hasher: Option<Hasher>,
    digest: Digest,
}

/// The pieces of `body`; the stream ends in an error when the body breaks off or is not `digest`.
pub(crate) fn verified<B>(body: B, digest: Digest) -> impl Stream<Item = Result<Bytes, std::io::Error>>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let hasher = Some(Hasher::new(digest.algorithm()));
    stream::unfold(Passing { body, held: None, hasher, digest }, |mut passing| async move {
        passing.hasher.as_ref()?;
        loop {
            match passing.body.frame().await {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if let Some(hasher) = &mut passing.hasher {
                        hasher.update(&data);
                    }
                    if let Some(before) = passing.held.replace(data) {
                        return Some((Ok(before), passing));
                    }
                }
                Some(Err(error)) => {
                    passing.hasher = None;
                    return Some((Err(std::io::Error::other(error.to_string())), passing));
                }
                None => {
                    let hasher = passing.hasher.take()?;
                    if hasher.finish() == passing.digest {
                        let last = passing.held.take()?;
                        return Some((Ok(last), passing));
                    }
                    let error = std::io::Error::other(format!("what came is not {}", passing.digest));
                    return Some((Err(error), passing));
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::StreamExt;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use registry_types::{Algorithm, Digest};

    use super::{Hasher, verified};

    async fn pass(pieces: &[&'static [u8]], digest: Digest) -> Vec<Result<Vec<u8>, String>> {
        let frames = pieces.iter().map(|piece| Ok::<_, String>(Frame::data(Bytes::from_static(piece))));
        let body = StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<_>>()));
        let passed = verified(body, digest);
        passed
            .map(|piece| piece.map(|bytes| bytes.to_vec()).map_err(|error| error.to_string()))
            .collect()
            .await
    }

    #[tokio::test]
    async fn right_bytes_pass_and_wrong_ones_never_pass_whole() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"one two");
            let digest = hasher.finish();
            let good = pass(&[b"one ", b"two"], digest.clone()).await;
            assert_eq!(good, [Ok(b"one ".to_vec()), Ok(b"two".to_vec())]);
            let bad = pass(&[b"one ", b"twO"], digest.clone()).await;
            assert_eq!(bad.len(), 2);
            assert!(bad[1].is_err(), "the last piece is held back");
            assert!(pass(&[], digest).await[0].is_err());
        }
    }
}
