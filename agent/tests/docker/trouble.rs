//! What goes wrong, and how the agent takes it.

use warren_proto::control::{LogsRequest, PodStatus, PullPolicy, container_state::State};

use crate::bench::{
    Bench, STAY, container, container_id, container_of, containers_of, pod, state, waits_for,
};

fn restarts(status: &PodStatus) -> u32 {
    container_of(status, "app").restart_count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_container_is_restarted_at_once() {
    let mut bench = Bench::new("killed").await;
    let wanted = pod(1, vec![container("app", &format!("echo born; {STAY}")), container("side", STAY)]);
    let uid = wanted.uid.clone();
    bench.want(wanted);
    let before = bench.until_ready(&uid).await;
    bench.kill(&container_id(container_of(&before, "app"))).await;
    bench.until(&uid, "a restart", |status| restarts(status) == 1).await;
    let after = bench.until_ready(&uid).await;
    assert_eq!(container_of(&after, "side").container_id, container_of(&before, "side").container_id);
    let last = container_of(&after, "app").last_state.clone().and_then(|state| state.state);
    let Some(State::Terminated(ended)) = last else { panic!("{after:#?}") };
    assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "Error"));
    let previous = LogsRequest { previous: true, ..LogsRequest::default() };
    assert_eq!(bench.logs(&uid, "app", previous).await.unwrap(), "born\n");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_keeps_crashing_backs_off() {
    let mut bench = Bench::new("crashing").await;
    let wanted = pod(2, vec![container("app", "exit 3")]);
    let uid = wanted.uid.clone();
    bench.want(wanted);
    let in_back_off = |status: &PodStatus| waits_for(status, "app") == "CrashLoopBackOff";
    let status = bench.until(&uid, "a back-off", in_back_off).await;
    assert_eq!(restarts(&status), 1, "the first restart comes at once, the second waits");
    assert!(bench.has_event("BackOff", "Back-off restarting failed container app in pod pod-2_default"));
    let status = bench.until(&uid, "the second restart", |status| restarts(status) == 2).await;
    let begun = |status: &PodStatus| match state(container_of(status, "app")) {
        Some(State::Terminated(ended)) => ended.exit_code == 3,
        _ => in_back_off(status),
    };
    bench.until(&uid, "its end", begun).await;
    assert!(status.attached);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_sandbox_is_rebuilt_and_plugged_in_again() {
    let mut bench = Bench::new("sandbox").await;
    let wanted = pod(3, vec![container("app", STAY)]);
    let uid = wanted.uid.clone();
    bench.want(wanted);
    let before = bench.until_ready(&uid).await;
    let namespace = bench.netd.links.lock()[&uid].namespace_path.clone();
    let old_app = container_id(container_of(&before, "app"));
    let sandbox =
        containers_of(&bench.docker, &bench.node).await.into_iter().find(|id| *id != old_app).unwrap();
    bench.kill(&sandbox).await;
    let renewed = |status: &PodStatus| {
        status.attached
            && container_of(status, "app").ready
            && container_id(container_of(status, "app")) != old_app
    };
    bench.until(&uid, "a new container", renewed).await;
    assert_ne!(bench.netd.links.lock()[&uid].namespace_path, namespace);
    assert_eq!(bench.netd.calls.lock().iter().filter(|call| call.starts_with("attach")).count(), 2);
    assert!(bench.has_event("SandboxChanged", ""));

    // netd lost the link without the sandbox dying: it is made again, and no container notices.
    let steady = bench.until_ready(&uid).await;
    bench.netd.links.lock().clear();
    let begun = std::time::Instant::now();
    while !bench.netd.links.lock().contains_key(&uid) {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "the link was not made again");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let after = bench.until_ready(&uid).await;
    assert_eq!(container_of(&after, "app"), container_of(&steady, "app"));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_and_commands_that_are_not_there_are_named() {
    let mut bench = Bench::new("images").await;
    let with = |n, image: &str, policy: PullPolicy| {
        let mut app = container("app", STAY);
        (app.image, app.pull_policy) = (image.into(), policy.into());
        pod(n, vec![app])
    };
    let never = with(4, "agenttest-absent:1", PullPolicy::Never);
    // Nobody listens there: the pull fails without leaving the machine.
    let absent = with(5, "localhost:1/agenttest-absent:1", PullPolicy::IfNotPresent);
    let invalid = with(6, "Not An Image", PullPolicy::IfNotPresent);
    let mut command = pod(7, vec![container("app", "")]);
    command.containers[0].command = vec!["/no/such/command".into()];
    let uids = [&never, &absent, &invalid, &command].map(|pod| pod.uid.clone());
    for pod in [never, absent, invalid, command] {
        bench.want(pod);
    }
    let reasons = ["ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName", "CrashLoopBackOff"];
    for (uid, reason) in uids.iter().zip(reasons) {
        bench.until(uid, reason, |status| waits_for(status, "app") == reason).await;
    }
    let status = bench.status(&uids[3]);
    let last = container_of(&status, "app").last_state.clone().and_then(|state| state.state);
    let Some(State::Terminated(ended)) = last else { panic!("{status:#?}") };
    assert_eq!(ended.reason, "StartError");
    assert!(ended.message.contains("/no/such/command"), "{}", ended.message);
    assert!(bench.has_event("Failed", "Failed to pull image \"localhost:1/agenttest-absent:1\""));
    assert!(bench.has_event("BackOff", "Back-off pulling image \"localhost:1/agenttest-absent:1\""));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_image_in_the_instruction_restarts_the_container() {
    let mut bench = Bench::new("update").await;
    let tag = bollard::query_parameters::TagImageOptions {
        repo: Some("localhost:1/agenttest-other".into()),
        tag: Some("2".into()),
    };
    bench.docker.tag_image(crate::bench::IMAGE, Some(tag)).await.unwrap();
    let mut wanted = pod(8, vec![container("app", STAY)]);
    let uid = wanted.uid.clone();
    bench.want(wanted.clone());
    let before = bench.until_ready(&uid).await;
    wanted.containers[0].image = "localhost:1/agenttest-other:2".into();
    wanted.containers[0].pull_policy = PullPolicy::Always.into();
    bench.want(wanted.clone());
    // The policy asks the registry, which is not there, though the image is: as on Kubernetes, with the mend.
    bench.until(&uid, "a failed pull", |status| waits_for(status, "app") == "ImagePullBackOff").await;
    assert!(bench.has_event("Failed", "set imagePullPolicy to IfNotPresent"));
    wanted.containers[0].pull_policy = PullPolicy::IfNotPresent.into();
    bench.want(wanted);
    let after = bench.until_ready(&uid).await;
    assert_eq!(container_of(&after, "app").image, "localhost:1/agenttest-other:2");
    assert_ne!(container_of(&after, "app").container_id, container_of(&before, "app").container_id);
    let options = bollard::query_parameters::RemoveImageOptions { force: true, ..Default::default() };
    bench.docker.remove_image("localhost:1/agenttest-other:2", Some(options), None).await.unwrap();
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_engine_is_named_with_the_mend_and_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("docker.sock");
    let mut bench = Bench::with_socket("absent", socket.clone()).await;
    let wanted = pod(9, vec![container("app", STAY)]);
    let uid = wanted.uid.clone();
    bench.want(wanted);
    let begun = std::time::Instant::now();
    loop {
        let trouble = bench.driver.inventory().trouble().unwrap_or_default();
        if trouble.contains("systemctl start docker") {
            break;
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{trouble}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(bench.status(&uid).uid.is_empty(), "nothing is said about pods that cannot be seen");
    std::os::unix::fs::symlink("/var/run/docker.sock", &socket).unwrap();
    bench.until_ready(&uid).await;
    assert_eq!(bench.driver.inventory().trouble(), None);
    bench.end().await;
}
