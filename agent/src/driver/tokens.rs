//! A pod's tokens: those that are due are asked for, the others stay as they are.

use std::sync::Arc;

use jiff::Timestamp;
use warren_proto::control::{IssueTokenRequest, PodInstruction};

use super::apply::{Job, Trouble, blocking};
use crate::{
    clock,
    netd::Links,
    plan::{Kind, tokens},
    runtime::ContainerEngine,
    volumes::{Held, Place, wanted_tokens},
};

/// How a pod stands with its tokens.
#[derive(Default)]
pub(super) struct Gathered {
    /// When the next one is due; none for a pod without tokens.
    pub(super) renew_at: Option<Timestamp>,
    /// What stands in the way of one that is due, if the pod has an old one.
    pub(super) late: Option<String>,
    /// What stands in the way of one that the pod does not have.
    pub(super) missing: Option<String>,
}

impl<E: ContainerEngine, L: Links> Job<E, L> {
    /// Has the tokens of the pod in memory, as fresh as they must be.
    pub(super) async fn gather_tokens(&self, pod: &Arc<PodInstruction>) -> Result<Gathered, Trouble> {
        let wanted = wanted_tokens(pod);
        if wanted.is_empty() {
            return Ok(Gathered::default());
        }
        let (volumes, uid) = (Arc::clone(&self.driver.volumes), pod.uid.clone());
        let before = blocking(move || volumes.tokens(&uid)).await?;
        let (mut gathered, mut held) = (Gathered::default(), Vec::new());
        for place in wanted {
            let old = before.iter().find(|held| held.place == place).cloned();
            let due = old.as_ref().map(|old| self.due(&pod.uid, old));
            if let (Some(old), Some(due)) = (&old, due)
                && due > self.driver.clock.now()
            {
                gathered.next(due);
                held.push(old.clone());
                continue;
            }
            match self.ask_for(pod, place).await {
                Ok(new) => {
                    gathered.next(self.due(&pod.uid, &new));
                    held.push(new);
                }
                Err(problem) => {
                    gathered.next(self.driver.clock.now());
                    let seat = if old.is_some() { &mut gathered.late } else { &mut gathered.missing };
                    seat.get_or_insert(problem);
                    held.extend(old);
                }
            }
        }
        if held != before {
            let (volumes, uid) = (Arc::clone(&self.driver.volumes), pod.uid.clone());
            let kept = blocking(move || volumes.keep_tokens(&uid, &held)).await?;
            kept.map_err(|error| Trouble::new("FailedMount", format!("MountVolume.SetUp failed: {error}")))?;
        }
        Ok(gathered)
    }

    fn due(&self, uid: &str, held: &Held) -> Timestamp {
        let machine = Timestamp::now();
        let came = Timestamp::from_millisecond(held.came_ms).unwrap_or(Timestamp::MIN);
        let came = clock::moment(self.driver.clock.now(), machine, came);
        tokens::due(uid, came, held.life)
    }

    async fn ask_for(&self, pod: &PodInstruction, place: Place) -> Result<Held, String> {
        let request = IssueTokenRequest {
            namespace: pod.namespace.clone(),
            pod: pod.name.clone(),
            pod_uid: pod.uid.clone(),
            audience: place.audience.clone(),
            expiration_seconds: place.seconds,
        };
        let answer = self.driver.issuer.issue(request).await;
        let answer = answer.map_err(|why| {
            format!("MountVolume.SetUp failed for volume \"{}\" : failed to fetch token: {why}", place.volume)
        })?;
        metrics::counter!("warren_agent_tokens_total").increment(1);
        let came = Timestamp::now();
        let expires = Timestamp::from_millisecond(answer.expires_at_ms).unwrap_or(came);
        let life = tokens::life(came, expires, place.seconds);
        Ok(Held { place, token: answer.token, came_ms: came.as_millisecond(), life })
    }

    /// Whether a container of the pod has ever run: then the pod goes on, as it did before its machine started anew, though
    /// no controller is there to be asked.
    fn has_begun(&self) -> bool {
        let state = self.driver.state.lock();
        let memory = state.memories.get(&self.subject.uid);
        memory.is_some_and(|memory| {
            memory.past.instances().iter().any(|instance| instance.kind != Kind::Sandbox)
        })
    }

    /// The tokens for volumes that are about to be prepared. A pod that starts first waits for all of them.
    pub(super) async fn first_tokens(&self, pod: &Arc<PodInstruction>) -> Result<Gathered, Trouble> {
        let gathered = self.gather_tokens(pod).await?;
        match &gathered.missing {
            Some(problem) if !self.has_begun() => {
                self.warn("", "FailedMount", problem.clone());
                Err(Trouble::new("FailedMount", problem.clone()))
            }
            _ => Ok(gathered),
        }
    }

    /// Puts new tokens in the place of those that are due.
    pub(super) async fn renew_tokens(&self) -> Result<(), Trouble> {
        let pod = Arc::clone(self.wanted()?);
        let gathered = self.gather_tokens(&pod).await?;
        let (volumes, used) = (Arc::clone(&self.driver.volumes), Arc::clone(&pod));
        let outcome = blocking(move || volumes.prepare(&used)).await?;
        outcome.map_err(|error| Trouble::new("FailedMount", format!("MountVolume.SetUp failed: {error}")))?;
        self.driver.remember(&self.subject.uid, |memory| memory.renew_at = gathered.renew_at);
        match gathered.missing.or(gathered.late) {
            Some(problem) => Err(Trouble::new("FailedMount", problem)),
            None => Ok(()),
        }
    }
}

impl Gathered {
    fn next(&mut self, due: Timestamp) {
        self.renew_at = Some(self.renew_at.map_or(due, |other| other.min(due)));
    }
}
