//! Keeps the keys that sign tokens of service accounts: made at the first start, sealed in the store, and renewed.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use warren_runtime::CancellationToken;
use warren_store::Transaction;
use warren_tokens::{KeyRing, SigningKey, Tokens};

use crate::writes::Writer;

/// Keys change in months.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);

/// The keys that are stored, after those that are missing were made and those that nobody needs are gone.
pub(crate) async fn load(writer: &Writer) -> anyhow::Result<KeyRing> {
    let snapshot = writer.store.snapshot();
    let (ring, now) = (KeyRing::of(&snapshot)?, Timestamp::now());
    let mut transaction = Transaction::new();
    for purpose in ring.missing(now) {
        let key = SigningKey::generate(purpose, now)?;
        tracing::info!(key = key.id, ?purpose, "made a key that signs tokens of service accounts");
        transaction = transaction.create(key.key(), key.to_value());
    }
    for key in ring.outlived(now) {
        tracing::info!(key = key.id, "every token that this key has signed has expired: it is forgotten");
        if let Some(object) = snapshot.get(&key.key()) {
            transaction = transaction.delete(object.key.clone(), object.revision);
        }
    }
    if transaction.writes.is_empty() {
        return Ok(ring);
    }
    writer.commit(&snapshot, transaction).await?;
    Ok(KeyRing::of(&writer.store.snapshot())?)
}

/// Looks every hour, until stopped, whether another key must be made: a controller may run for years.
pub(crate) async fn keep(writer: Writer, tokens: Arc<Tokens>, stop: CancellationToken) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let names = |ring: &KeyRing| ring.keys().iter().map(|key| key.id.clone()).collect::<Vec<_>>();
        match load(&writer).await {
            Ok(ring) if names(&ring) == names(&tokens.ring()) => {}
            Ok(ring) => tokens.replace(ring),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "cannot renew the keys that sign tokens")
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use warren_store::{EmbeddedStore, Store};
    use warren_vocabulary::ClusterConfig;
    use warren_write::Gate;

    use super::*;

    #[tokio::test]
    async fn keys_are_made_once_survive_a_restart_and_do_not_lie_readable() {
        let directory = tempfile::tempdir().unwrap();
        let mut seen = Vec::new();
        for _ in 0..2 {
            let store = EmbeddedStore::open(directory.path()).unwrap();
            let gate = Arc::new(Gate::new(&ClusterConfig::default()));
            let writer = Writer { store: Arc::clone(&store) as Arc<dyn Store>, gate, name: "signing-keys" };
            let ring = load(&writer).await.unwrap();
            seen.push(ring.keys().iter().map(|key| key.id.clone()).collect::<Vec<_>>());
            let secret = ring.keys()[0].to_value()["spec"]["key"].as_str().unwrap().to_owned();
            drop(writer);
            tokio::task::spawn_blocking(move || store.close()).await.unwrap();
            for entry in std::fs::read_dir(directory.path()).unwrap().flatten() {
                let bytes = std::fs::read(entry.path()).unwrap_or_default();
                let leaks = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!leaks, "{}", entry.path().display());
            }
        }
        assert_eq!(seen[0].len(), 2);
        assert_eq!(seen[0], seen[1]);
    }
}
