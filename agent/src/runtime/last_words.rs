//! What a container left as the reason of its end.
//!
//! It is taken before anybody hears that the container ended, so that end and reason are reported together.

use std::time::Duration;

use futures_util::TryStreamExt;

use super::{ContainerEngine, Found, LastWords, LogOptions};
use crate::{
    plan::Phase,
    volumes::{self, Volumes},
};

/// How much of a log stands in for a message, as on Kubernetes.
const LOG_LINES: u64 = 80;
const LOG_BYTES: usize = 2048;
/// What a log of that many lines may take while it is read.
const MOST_LOG: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// Adds the message to a container that has ended; one that was taken before is kept.
pub(super) async fn take<E: ContainerEngine>(
    engine: &E,
    volumes: &Volumes,
    before: Option<&Found>,
    now: &mut Found,
) {
    let Phase::Exited(exit) = &now.instance.phase else { return };
    let known = before.and_then(|before| before.instance.exit());
    let message = match known {
        Some(known) => known.message.clone(),
        // It never ran, so it said nothing.
        None if now.last_words == LastWords::Nowhere || !exit.start_error.is_empty() => return,
        None => match from_file(volumes, now).await {
            message if !message.is_empty() => message,
            _ if now.last_words == LastWords::FileOrLog && exit.code != 0 => from_log(engine, now).await,
            _ => return,
        },
    };
    if let Phase::Exited(exit) = &mut now.instance.phase {
        exit.message = message;
    }
}

async fn from_file(volumes: &Volumes, found: &Found) -> String {
    let (volumes, uid) = (volumes.clone(), found.uid.clone());
    let (name, attempt) = (found.instance.name.clone(), found.instance.attempt);
    let read = move || volumes.termination_message(&uid, &name, attempt);
    let read = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other).flatten();
    read.unwrap_or_else(|error| {
        let (pod, container) = (&found.pod, &found.instance.name);
        tracing::warn!(pod, container, %error, "cannot read a termination message");
        String::new()
    })
}

async fn from_log<E: ContainerEngine>(engine: &E, found: &Found) -> String {
    let read = async {
        let options = LogOptions { tail: Some(LOG_LINES), ..LogOptions::default() };
        let mut pieces = engine.logs(&found.instance.id, options).await?;
        let mut log = Vec::new();
        while let Some(piece) = pieces.try_next().await? {
            log.extend_from_slice(&piece);
            // Only the end counts.
            if log.len() > MOST_LOG {
                log.drain(..log.len() - LOG_BYTES);
            }
        }
        Ok::<_, super::EngineError>(log)
    };
    let read = tokio::time::timeout(PATIENCE, read).await;
    match read {
        Ok(Ok(log)) => volumes::text_of(&log, LOG_BYTES),
        problem => {
            let (pod, container) = (&found.pod, &found.instance.name);
            tracing::warn!(pod, container, ?problem, "cannot read a log in place of a termination message");
            String::new()
        }
    }
}
