//! What a pod was stays known, whatever somebody removes from the engine.

use std::time::Duration;

use bollard::query_parameters as query;
use warren_proto::control::{LogsRequest, PodStatus, RestartPolicy, container_state::State};

use crate::bench::{
    Bench, STAY, container, container_id, container_of, containers_of, pod, state, waits_for,
};

fn has_ended(status: &PodStatus) -> bool {
    let app = status.containers.iter().find(|container| container.name == "app");
    matches!(app.and_then(state), Some(State::Terminated(_)))
}

impl Bench {
    /// Removes every container of this node that does not run, or simply all.
    async fn prune(&self, all: bool) {
        for id in containers_of(&self.docker, &self.node).await {
            let known = self.docker.inspect_container(&id, None).await;
            let runs = known.is_ok_and(|known| known.state.unwrap().running == Some(true));
            if all || !runs {
                let options = query::RemoveContainerOptions { force: true, v: true, ..Default::default() };
                let _ = self.docker.remove_container(&id, Some(options)).await;
            }
        }
    }

    /// Waits until the agent has seen what the engine holds now, and has nothing to do about it.
    async fn settle(&self, what: &str) {
        let begun = std::time::Instant::now();
        loop {
            let held = containers_of(&self.docker, &self.node).await;
            let known = self.driver.inventory().current().unwrap_or_default();
            if known.keys().collect::<std::collections::BTreeSet<_>>() == held.iter().collect() {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}: the agent does not see {held:?}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pruned_containers_change_nothing() {
    let mut bench = Bench::new("pruned").await;
    let with = |n, policy: RestartPolicy, line: &str| {
        let mut wanted = pod(n, vec![container("app", line)]);
        wanted.restart_policy = policy.into();
        wanted
    };
    let never = with(1, RestartPolicy::Never, "echo failed; exit 3");
    let on_failure = with(2, RestartPolicy::OnFailure, "exit 0");
    let mut initialised = with(3, RestartPolicy::Always, STAY);
    initialised.init_containers = vec![container("init", "exit 0")];
    let crashing = with(4, RestartPolicy::Always, "exit 1");
    let uids = [&never, &on_failure, &initialised, &crashing].map(|pod| pod.uid.clone());
    for pod in [never, on_failure, initialised, crashing] {
        bench.want(pod);
    }
    bench.until(&uids[0], "its end", has_ended).await;
    bench.until(&uids[1], "its end", has_ended).await;
    bench.until_ready(&uids[2]).await;
    let in_back_off = |count: u32| {
        move |status: &PodStatus| {
            waits_for(status, "app") == "CrashLoopBackOff"
                && container_of(status, "app").restart_count == count
        }
    };
    bench.until(&uids[3], "its second back-off", in_back_off(2)).await;
    // Sandboxes of what has ended are given back first.
    bench.settle("the pods as they are").await;
    let before = uids.clone().map(|uid| bench.status(&uid));
    let past = |status: &PodStatus| {
        let mut status = status.clone();
        status.attached = false;
        status
    };
    bench.prune(false).await;
    bench.settle("pruned").await;
    for (uid, before) in uids[..3].iter().zip(&before) {
        bench.until(uid, "the same status", |status| past(status) == past(before)).await;
    }
    assert!(container_of(&bench.status(&uids[3]), "app").restart_count >= 2);
    let refused = bench.logs(&uids[0], "app", LogsRequest::default()).await.unwrap_err();
    assert!(refused.contains("is gone") && refused.contains("docker container prune"), "{refused}");
    let previous = LogsRequest { previous: true, ..LogsRequest::default() };
    let refused = bench.logs(&uids[3], "app", previous).await.unwrap_err();
    assert!(
        refused.contains("previous terminated container \"app\"") && refused.contains("is gone"),
        "{refused}"
    );

    // An agent that starts anew knows it, too; nothing but the crashing one runs again, and that counts on.
    bench.stop_agent().await;
    bench.start_agent();
    let third = bench.until(&uids[3], "its third back-off", in_back_off(3)).await;
    let State::Waiting(waiting) = state(container_of(&third, "app")).unwrap() else { panic!("{third:#?}") };
    assert!(waiting.message.starts_with("back-off 40s"), "{}", waiting.message);
    for (uid, before) in uids[..3].iter().zip(&before) {
        assert_eq!(past(&bench.status(uid)), past(before));
    }
    let records = || std::fs::read_dir(bench.dir.path().join("past")).unwrap().count();
    assert_eq!(records(), 4);
    bench.feed(|pods| pods.clear());
    for uid in &uids {
        bench.until(uid, "its removal", |status| status.gone).await;
    }
    bench.stop_agent().await;
    let left = std::fs::read_dir(bench.dir.path().join("past")).unwrap().count();
    assert_eq!(left, 0, "what is kept of a pod goes with it");
    bench.start_agent();
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_lost_everything_restarts_what_should_run_and_nothing_else() {
    let mut bench = Bench::new("lost").await;
    let mut ended = pod(1, vec![container("app", "exit 0")]);
    ended.restart_policy = RestartPolicy::OnFailure.into();
    let mut once = pod(2, vec![container("app", STAY)]);
    once.restart_policy = RestartPolicy::Never.into();
    let mut served = pod(3, vec![container("app", STAY)]);
    served.init_containers = vec![container("init", "exit 0")];
    let uids = [&ended, &once, &served].map(|pod| pod.uid.clone());
    for pod in [ended, once, served] {
        bench.want(pod);
    }
    let before = bench.until(&uids[0], "its end", has_ended).await;
    bench.until_ready(&uids[1]).await;
    let served = bench.until_ready(&uids[2]).await;
    bench.stop_agent().await;
    bench.prune(true).await;
    bench.start_agent();
    let renewed = |status: &PodStatus| {
        let mut app = status.containers.iter().filter(|app| app.ready && app.restart_count == 1);
        status.attached && app.next().is_some()
    };
    let after = bench.until(&uids[2], "a new container", renewed).await;
    assert_ne!(container_id(container_of(&after, "app")), container_id(container_of(&served, "app")));
    assert_eq!(container_of(&after, "init").restart_count, 1, "initialised again, in a new sandbox");
    let last = container_of(&after, "app").last_state.clone().and_then(|state| state.state);
    let Some(State::Terminated(last)) = last else { panic!("{after:#?}") };
    assert_eq!((last.exit_code, last.reason.as_str()), (137, "ContainerStatusUnknown"));
    let status = bench.until(&uids[1], "its end", has_ended).await;
    let State::Terminated(lost) = state(container_of(&status, "app")).unwrap() else { panic!("{status:#?}") };
    assert_eq!(lost.reason, "ContainerStatusUnknown");
    assert_eq!(container_of(&bench.status(&uids[0]), "app"), container_of(&before, "app"));
    bench.settle("the end").await;
    let running = containers_of(&bench.docker, &bench.node).await;
    assert_eq!(running.len(), 3, "sandbox, init and app of the one that is served");
    bench.end().await;
}
