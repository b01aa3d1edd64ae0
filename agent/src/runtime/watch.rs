//! What the engine holds, kept up to date by its events: listed at start, after every gap, and slowly besides.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use warren_runtime::CancellationToken;

use super::{ContainerEngine, EngineError, Found, last_words};
use crate::volumes::Volumes;

/// A listing though nothing was heard: events can be lost.
const RESYNC: Duration = Duration::from_secs(30);
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// What is wrong before the first look.
const NOT_ASKED: &str = "the Docker engine was not asked yet";

/// The containers of this node, by id.
pub struct Inventory<E> {
    engine: Arc<E>,
    volumes: Volumes,
    found: Mutex<BTreeMap<String, Found>>,
    /// Why the picture cannot be trusted; none when it can.
    trouble: watch::Sender<Option<String>>,
    /// Held over each look at the engine, so that an older answer never overwrites a newer one.
    look: tokio::sync::Mutex<()>,
    changed: Arc<Notify>,
}

impl<E: ContainerEngine> Inventory<E> {
    /// An inventory that has not looked yet. `changed` is notified whenever the picture changes.
    pub fn new(engine: Arc<E>, volumes: Volumes, changed: Arc<Notify>) -> Self {
        let trouble = Some(NOT_ASKED.to_owned());
        Self {
            engine,
            volumes,
            found: Mutex::default(),
            trouble: watch::Sender::new(trouble),
            look: tokio::sync::Mutex::new(()),
            changed,
        }
    }

    /// All containers, or why they are not known.
    pub fn current(&self) -> Result<BTreeMap<String, Found>, String> {
        match self.trouble() {
            None => Ok(self.found.lock().clone()),
            Some(trouble) => Err(trouble),
        }
    }

    /// Why the engine cannot be used; none when it can.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// Waits until the engine has answered or failed for the first time.
    pub async fn asked(&self) {
        // It fails when the sender is gone, which is part of this.
        let _ = self.trouble.subscribe().wait_for(|trouble| trouble.as_deref() != Some(NOT_ASKED)).await;
    }

    /// Tells when the engine comes and goes.
    pub fn troubles(&self) -> watch::Receiver<Option<String>> {
        self.trouble.subscribe()
    }

    /// One container as last seen.
    pub fn get(&self, id: &str) -> Option<Found> {
        self.found.lock().get(id).cloned()
    }

    /// Looks at one container again.
    pub async fn refresh(&self, id: &str) -> Result<(), EngineError> {
        let _look = self.look.lock().await;
        let before = self.get(id);
        let mut now = self.engine.inspect(id).await?;
        if let Some(now) = &mut now {
            last_words::take(&*self.engine, &self.volumes, before.as_ref(), now).await;
        }
        let changed = {
            let mut all = self.found.lock();
            let before = match &now {
                Some(found) => all.insert(id.to_owned(), found.clone()),
                None => all.remove(id),
            };
            before != now
        };
        if changed {
            self.changed.notify_one();
        }
        Ok(())
    }

    async fn list(&self) -> Result<(), EngineError> {
        let _look = self.look.lock().await;
        let mut found = self.engine.list().await?;
        let known = self.found.lock().clone();
        for found in &mut found {
            last_words::take(&*self.engine, &self.volumes, known.get(&found.instance.id), found).await;
        }
        let found: BTreeMap<_, _> =
            found.into_iter().map(|found| (found.instance.id.clone(), found)).collect();
        let before = std::mem::replace(&mut *self.found.lock(), found.clone());
        let recovered = self.trouble.send_if_modified(|trouble| trouble.take().is_some());
        if recovered || before != found {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Follows the engine until `stop`.
    pub async fn follow(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut wait = RETRY_FIRST;
        loop {
            let connected = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                result = self.session(&mut wait) => result,
            };
            let Err(error) = connected;
            metrics::counter!("warren_agent_engine_gaps_total").increment(1);
            let trouble = error.to_string();
            self.trouble.send_if_modified(|known| {
                let is_new = known.replace(trouble.clone()).as_ref() != Some(&trouble);
                if is_new {
                    tracing::error!(error = %trouble, "no container engine");
                }
                is_new
            });
            self.changed.notify_one();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(RETRY_LONGEST);
        }
    }

    /// One subscription: listed after subscribing, so that nothing falls between.
    async fn session(&self, wait: &mut Duration) -> Result<std::convert::Infallible, EngineError> {
        let mut events = self.engine.events().await?;
        self.list().await?;
        *wait = RETRY_FIRST;
        tracing::info!(containers = self.found.lock().len(), "following the container engine");
        let mut resync = tokio::time::interval_at(tokio::time::Instant::now() + RESYNC, RESYNC);
        resync.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(id)) => self.refresh(&id).await?,
                    Some(Err(error)) => return Err(error),
                    None => return Err(EngineError::Unavailable(
                        "the Docker engine closed its event stream; if it was stopped, start it (systemctl start docker)".to_owned(),
                    )),
                },
                _ = resync.tick() => self.list().await?,
            }
        }
    }
}
