//! Having an image on this node, by the container's policy.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use parking_lot::Mutex;
use warren_proto::control::PullPolicy;

use super::apply::{Job, Trouble};
use crate::{
    netd::Links,
    plan::{Image, ImageState, backoff::pull_delay, model::after},
    runtime::{ContainerEngine, image::ImageName},
};

/// One lock per image that is being fetched: two pods wait for the same pull instead of pulling twice.
#[derive(Default)]
pub(super) struct Pulls(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Pulls {
    fn lock_of(&self, image: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock();
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(image.to_owned()).or_default())
    }
}

/// Why an image cannot be had.
struct Missing {
    reason: &'static str,
    message: String,
}

impl<E: ContainerEngine, L: Links> Job<E, L> {
    /// Fetches the image if the policy asks for it, and notes the outcome for the plan.
    pub(super) async fn pull_image(
        &self,
        name: &str,
        attempt: u32,
        image: &str,
        policy: PullPolicy,
    ) -> Result<(), Trouble> {
        let outcome = self.fetch(name, image, policy).await;
        let now = self.driver.clock.now();
        if let Err(missing) = &outcome {
            self.warn(name, "Failed", missing.message.clone());
            self.warn(name, "Failed", format!("Error: {}", missing.reason));
        }
        self.driver.remember(&self.subject.uid, |memory| {
            let before =
                memory.images.get(name).filter(|before| before.image == image).map(|before| &before.state);
            let failures = match before {
                Some(ImageState::Failed { count, .. }) => *count,
                _ => 0,
            };
            let state = match outcome {
                Ok(()) => ImageState::Ready,
                Err(Missing { reason, message }) => {
                    let count = failures.saturating_add(1);
                    let retry_at = after(now, pull_delay(count));
                    ImageState::Failed { reason, message, count, at: now, retry_at }
                }
            };
            memory.images.insert(name.to_owned(), Image { attempt, image: image.to_owned(), state });
        });
        Ok(())
    }

    async fn fetch(&self, name: &str, image: &str, policy: PullPolicy) -> Result<(), Missing> {
        let refused = |message: String| Missing { reason: "InvalidImageName", message };
        ImageName::parse(image)
            .map_err(|rule| refused(format!("Failed to apply default image tag: {rule}")))?;
        let lock = self.driver.pulls.lock_of(image);
        let _one_at_a_time = lock.lock().await;
        let engine = &self.driver.engine;
        let failed = |error: &dyn std::fmt::Display, mend: &str| Missing {
            reason: "ErrImagePull",
            message: format!("Failed to pull image \"{image}\": {error}{mend}"),
        };
        let present = engine.image(image).await.map_err(|error| failed(&error, ""))?.is_some();
        if present && policy != PullPolicy::Always {
            self.say(name, "Pulled", format!("Container image \"{image}\" already present on machine"));
            return Ok(());
        }
        if policy == PullPolicy::Never {
            let message = format!("Container image \"{image}\" is not present with pull policy of Never");
            return Err(Missing { reason: "ErrImageNeverPull", message });
        }
        self.say(name, "Pulling", format!("Pulling image \"{image}\""));
        let begun = Instant::now();
        let mend = if present {
            "; the image is present on this node: set imagePullPolicy to IfNotPresent to use it"
        } else {
            ""
        };
        engine.pull(image).await.map_err(|error| failed(&error, mend))?;
        let took = begun.elapsed().as_secs_f64();
        self.say(name, "Pulled", format!("Successfully pulled image \"{image}\" in {took:.3}s"));
        Ok(())
    }
}
