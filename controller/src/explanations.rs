//! Asks the planners why a pod is where it is: what they know answers at once, where the API would have to begin from
//! nothing. One question is answered at a time, between two passes, so that whoever asks a lot holds up himself.

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warren_api::Places;
use warren_plan::Explanation;
use warren_store::Key;
use warren_vocabulary::guard;

use crate::planners::Planner;

/// How long an answer may take: the planners must have come to the state that is asked about.
const PATIENCE: Duration = Duration::from_secs(20);

/// Questions to the planners.
pub(crate) struct Explanations {
    planner: Arc<Planner>,
    turns: Arc<Semaphore>,
}

impl Explanations {
    pub(crate) fn new(planner: Arc<Planner>) -> Self {
        Self { planner, turns: Arc::new(Semaphore::new(1)) }
    }

    async fn answer(&self, pod: Key, revision: u64) -> Result<Option<Explanation>, String> {
        let closed = || "the controller is stopping".to_owned();
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| closed())?;
        let mut planned = self.planner.planned.subscribe();
        planned.wait_for(|planned| *planned >= revision).await.map_err(|_| closed())?;
        // What the planners know is lent meanwhile: it comes back even if nobody waits for the answer any more.
        let answer = tokio::spawn(explain(Arc::clone(&self.planner), pod, turn));
        answer.await.unwrap_or_else(|error| Err(format!("cannot explain it: {error}")))
    }
}

async fn explain(
    planner: Arc<Planner>,
    pod: Key,
    turn: OwnedSemaphorePermit,
) -> Result<Option<Explanation>, String> {
    let mut lent = planner.knowledge.lock().await;
    let Some(knowledge) = lent.take() else {
        return Err("the planners begin again from nothing: try again in a moment".to_owned());
    };
    let thread = tokio::task::spawn_blocking(move || {
        let explained = guard::catch(|| knowledge.explain(&pod, Timestamp::now()));
        (knowledge, explained)
    });
    let (knowledge, explained) = thread.await.map_err(|error| format!("cannot explain it: {error}"))?;
    *lent = Some(knowledge);
    drop(turn);
    explained.map_err(|message| format!("cannot explain it, by a fault of ours: {message}"))
}

impl Places for Explanations {
    fn explain(&self, pod: &Key, revision: u64) -> BoxFuture<'_, Result<Option<Explanation>, String>> {
        let pod = pod.clone();
        async move {
            let late = |_| {
                format!("the planners have not come to this state within {} s: try again", PATIENCE.as_secs())
            };
            tokio::time::timeout(PATIENCE, self.answer(pod, revision)).await.map_err(late)?
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};
    use serde_json::{Value, json};
    use warren_objects::Registries;

    use crate::house::House;

    #[tokio::test]
    async fn the_planners_explain_what_was_written_just_before() {
        let house = House::start(Vec::new(), Registries::default()).await;
        for number in 0..20 {
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("web-{number}")},
                "spec": {"containers": [{"name": "c", "image": "i"}],
                    "schedulingGates": if number % 2 == 0 { json!([]) } else { json!([{"name": "example.com/g"}]) }}});
            assert_eq!(house.post("/api/v1/namespaces/default/pods", &pod).await, StatusCode::CREATED);
            let path = format!("/warren/v1/namespaces/default/pods/web-{number}/why");
            let (code, why) = house.send(Method::GET, &path, "", &Value::Null).await;
            assert_eq!(code, StatusCode::OK, "{why}");
            if number % 2 == 0 {
                assert_eq!(why["message"], "no nodes available to schedule pods", "{why}");
            } else {
                assert_eq!(why["waits"][0]["reason"], "SchedulingGated", "{why}");
            }
        }
        house.end().await;
    }
}
