//! What an image says of itself decides where the instruction says nothing.

use std::time::{Duration, Instant};

use bollard::query_parameters as query;
use warren_proto::control::{Container, PodStatus, SecurityContext, container_state::State};

use crate::bench::{Bench, STAY, container, container_id, container_of, pod, state, waits_for};

/// An image made of the test's, for one test.
async fn with_image(bench: &Bench, name: &str, changes: &[&str]) -> String {
    bench.import(name, changes).await;
    format!("{name}:1")
}

async fn remove(bench: &Bench, image: &str) {
    let options = query::RemoveImageOptions { force: true, ..Default::default() };
    bench.docker.remove_image(image, Some(options), None).await.unwrap();
}

fn of_image(name: &str, image: &str, security: SecurityContext) -> Container {
    Container { image: image.to_owned(), security: Some(security), ..container(name, STAY) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_images_user_counts_where_the_pod_names_none_and_root_is_refused() {
    let mut bench = Bench::new("users").await;
    let plain = crate::bench::IMAGE;
    let numbered = with_image(&bench, "agenttest-numbered", &["USER 1000"]).await;
    let named = with_image(&bench, "agenttest-named", &["USER somebody"]).await;
    let group = || SecurityContext { run_as_group: Some(3000), ..SecurityContext::default() };
    let not_root = || SecurityContext { run_as_non_root: true, ..group() };
    let groups = SecurityContext { supplemental_groups: vec![5, 7], ..not_root() };
    let wanted = pod(
        1,
        vec![
            of_image("image", &numbered, groups),
            of_image("root", plain, group()),
            of_image("own", plain, SecurityContext { run_as_user: Some(7), ..not_root() }),
            of_image("refused", plain, not_root()),
            of_image("unclear", &named, not_root()),
        ],
    );
    let uid = wanted.uid.clone();
    bench.want(wanted);
    let is_up = |status: &PodStatus| {
        status.containers.len() == 5
            && ["image", "root", "own"].iter().all(|name| container_of(status, name).ready)
            && ["refused", "unclear"]
                .iter()
                .all(|name| waits_for(status, name) == "CreateContainerConfigError")
    };
    let status = bench.until(&uid, "three that run and two that wait", is_up).await;
    for (name, ids) in [("image", "1000 3000 3000 5 7"), ("root", "0 3000"), ("own", "7 3000")] {
        let seen = bench.sh(&status, name, "echo $(id -u) $(id -g) $(id -G)").await;
        assert!(seen.starts_with(ids), "{name}: {seen}");
    }
    for (name, words) in [
        ("refused", "container has runAsNonRoot and image will run as root"),
        ("unclear", "image has non-numeric user (somebody), cannot verify user is non-root"),
    ] {
        let Some(State::Waiting(waiting)) = state(container_of(&status, name)) else { panic!("{status:#?}") };
        assert!(waiting.message.contains(words), "{}", waiting.message);
    }
    for image in [numbered, named] {
        remove(&bench, &image).await;
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entry_point_signal_directory_and_volumes_are_the_images_and_its_health_check_is_off() {
    let mut bench = Bench::new("defaults").await;
    let changes = [
        "ENTRYPOINT [\"/bin/sh\", \"-c\"]",
        "CMD [\"exit 9\"]",
        "STOPSIGNAL SIGUSR1",
        "WORKDIR /tmp/work",
        "VOLUME /kept",
        "HEALTHCHECK --interval=1s CMD touch /tmp/checked",
    ];
    let image = with_image(&bench, "agenttest-defaults", &changes).await;
    let base = || Container { image: image.clone(), command: vec![], ..container("", "") };
    let line = "trap 'exit 5' USR1; touch /kept/x; while :; do sleep 0.1; done";
    // Arguments alone go to the image's entry point; a command alone does without the image's arguments.
    let arguments = Container { name: "arguments".into(), args: vec![line.into()], ..base() };
    let command =
        Container { name: "command".into(), command: vec!["/bin/sleep".into(), "1000".into()], ..base() };
    let neither = Container { name: "neither".into(), ..base() };
    let mut wanted = pod(2, vec![arguments, command, neither]);
    let uid = wanted.uid.clone();
    bench.want(wanted.clone());
    let ended = |status: &PodStatus| {
        let last = container_of(status, "neither").last_state.as_ref().and_then(|state| state.state.as_ref());
        matches!(last, Some(State::Terminated(ended)) if ended.exit_code == 9)
            && ["arguments", "command"].iter().all(|name| container_of(status, name).ready)
    };
    let up = |status: &PodStatus| status.containers.len() == 3 && ended(status);
    let status = bench.until(&uid, "two that run and one that ends with 9", up).await;
    assert_eq!(bench.sh(&status, "arguments", "pwd; ls /kept").await, "/tmp/work\nx\n");
    let inspect =
        bench.docker.inspect_container(&container_id(container_of(&status, "command")), None).await.unwrap();
    let config = inspect.config.unwrap();
    assert_eq!(config.cmd.unwrap_or_default(), Vec::<String>::new());
    assert_eq!(config.healthcheck.unwrap().test.unwrap(), ["NONE"]);
    assert_eq!(inspect.host_config.unwrap().pids_limit, Some(256));

    // Somebody removes the container and leaves its volume: it goes with the pod.
    let docker = bench.docker.clone();
    let volumes = async || {
        let labels = vec![format!("warren.pod.uid={uid}")];
        let options = query::ListVolumesOptions { filters: Some([("label".to_owned(), labels)].into()) };
        docker.list_volumes(Some(options)).await.unwrap().volumes.unwrap_or_default().len()
    };
    assert!(volumes().await >= 2);
    wanted.terminate_after_seconds = Some(20);
    let id = container_id(container_of(&status, "command"));
    let options = query::RemoveContainerOptions { force: true, v: false, ..Default::default() };
    bench.docker.remove_container(&id, Some(options)).await.unwrap();
    bench.feed(|pods| drop(pods.insert(uid.clone(), wanted)));
    let signalled = |status: &PodStatus| match state(container_of(status, "arguments")) {
        Some(State::Terminated(ended)) => ended.exit_code == 5,
        _ => false,
    };
    bench.until(&uid, "an end by its own signal", signalled).await;
    bench.until(&uid, "its removal", |status| status.gone).await;
    let begun = Instant::now();
    while volumes().await > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "volumes are left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    remove(&bench, &image).await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_elsewhere_in_the_engines_api_is_no_image() {
    let mut bench = Bench::new("names").await;
    let mut wanted = pod(3, vec![container("app", STAY)]);
    wanted.containers[0].image = "../containers/x".into();
    let uid = wanted.uid.clone();
    bench.want(wanted);
    bench.until(&uid, "a refusal", |status| waits_for(status, "app") == "InvalidImageName").await;
    bench.end().await;
}
