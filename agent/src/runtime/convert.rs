//! Between Warren's words and bollard's.

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, HealthConfig,
    HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions, MountVolumeOptionsDriverConfig,
    RestartPolicy, RestartPolicyNameEnum,
};
use jiff::Timestamp;

use super::{
    Found, LastWords, Scope,
    spec::{self, ContainerSpec, MountSpec},
};
use crate::plan::{Exit, Instance, Kind, Phase};

/// Size of one log file; there are [`LOG_FILES`] of them.
const LOG_SIZE: &str = "10m";
const LOG_FILES: &str = "3";

/// The request that makes a container.
pub(super) fn container_body(scope: &Scope, spec: &ContainerSpec) -> ContainerCreateBody {
    let some = |words: &Vec<String>| (!words.is_empty()).then(|| words.clone());
    let uid = spec.labels.get(spec::POD_UID).cloned().unwrap_or_default();
    let log_options = [("max-size", LOG_SIZE), ("max-file", LOG_FILES)];
    let log_options =
        log_options.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let host = HostConfig {
        network_mode: Some(spec.network_mode.clone()),
        ipc_mode: Some(spec.ipc_mode.clone()),
        mounts: Some(
            spec.mounts
                .iter()
                .map(|mount| mount_body(scope, &uid, mount))
                .chain(spec.image_volumes.iter().map(|target| image_volume(scope, &uid, target)))
                .collect(),
        ),
        dns: some(&spec.dns),
        dns_search: some(&spec.dns_search),
        dns_options: some(&spec.dns_options),
        cgroup_parent: spec.cgroup_parent.clone(),
        cpu_shares: spec.cpu_shares,
        cpu_period: spec.cpu_period,
        cpu_quota: spec.cpu_quota,
        memory: spec.memory,
        // The same as memory: no swap on top, as on Kubernetes.
        memory_swap: spec.memory,
        oom_score_adj: spec.oom_score_adjust,
        group_add: some(&spec.groups),
        pids_limit: spec.pids_limit,
        sysctls: (!spec.sysctls.is_empty()).then(|| spec.sysctls.clone().into_iter().collect()),
        cap_add: some(&spec.capabilities_add),
        cap_drop: some(&spec.capabilities_drop),
        privileged: spec.privileged.then_some(true),
        readonly_rootfs: spec.read_only_root.then_some(true),
        security_opt: spec.no_new_privileges.then(|| vec!["no-new-privileges".to_owned()]),
        // The agent alone restarts.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(log_options),
        }),
        ..HostConfig::default()
    };
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        hostname: spec.hostname.clone(),
        entrypoint: spec.entrypoint.clone(),
        cmd: spec.command.clone(),
        env: some(&spec.env),
        working_dir: spec.working_dir.clone(),
        user: spec.user.clone(),
        tty: spec.tty.then_some(true),
        open_stdin: spec.stdin.then_some(true),
        stdin_once: spec.stdin_once.then_some(true),
        // Probes are the pod's to ask for, not the image's.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        labels: Some(spec.labels.clone().into_iter().collect()),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

/// A volume without a name: the engine fills it with what the image has there, and removes it with the container.
fn image_volume(scope: &Scope, uid: &str, target: &str) -> Mount {
    let labels = Some(scope.labels(uid).into_iter().collect());
    Mount {
        typ: Some(MountType::VOLUME),
        target: Some(target.to_owned()),
        volume_options: Some(MountVolumeOptions { labels, ..Default::default() }),
        ..Mount::default()
    }
}

fn mount_body(scope: &Scope, uid: &str, mount: &MountSpec) -> Mount {
    match mount {
        MountSpec::Bind { source, target, read_only } => Mount {
            typ: Some(MountType::BIND),
            source: Some(source.to_string_lossy().into_owned()),
            target: Some(target.clone()),
            read_only: Some(*read_only),
            ..Mount::default()
        },
        MountSpec::Memory { volume, target, read_only, size_bytes } => {
            let size = if *size_bytes > 0 { format!(",size={size_bytes}") } else { String::new() };
            let options = [
                ("type", "tmpfs".to_owned()),
                ("device", "tmpfs".to_owned()),
                ("o", format!("mode=1777,nosuid,nodev{size}")),
            ];
            let driver = MountVolumeOptionsDriverConfig {
                name: Some("local".to_owned()),
                options: Some(options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            };
            let volume_options = MountVolumeOptions {
                labels: Some(scope.labels(uid).into_iter().collect()),
                driver_config: Some(driver),
                // Empty, and of the mode above, whatever the image has at that place.
                no_copy: Some(true),
                ..Default::default()
            };
            Mount {
                typ: Some(MountType::VOLUME),
                source: Some(volume.clone()),
                target: Some(target.clone()),
                read_only: Some(*read_only),
                volume_options: Some(volume_options),
                ..Mount::default()
            }
        }
    }
}

/// Reads a container back from its labels and state; none when it is not one of this node's.
pub(super) fn found(scope: &Scope, response: ContainerInspectResponse) -> Option<Found> {
    // Labels of an image become those of its containers, and this may be another program's: only our names are ours.
    if !response.name?.trim_start_matches('/').starts_with(spec::CONTAINER_PREFIX) {
        return None;
    }
    let config = response.config?;
    let labels = config.labels.unwrap_or_default();
    let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
    if label(spec::CLUSTER) != scope.cluster || label(spec::NODE) != scope.node {
        return None;
    }
    let state = response.state.unwrap_or_default();
    let created = response.created.map(|date| date.to_string());
    let phase = phase(&state, created.as_deref())?;
    Some(Found {
        uid: label(spec::POD_UID),
        pod: label(spec::POD_NAME),
        namespace: label(spec::POD_NAMESPACE),
        pid: state.pid.unwrap_or_default(),
        last_words: LastWords::parse(&label(spec::LAST_WORDS)),
        instance: Instance {
            id: response.id?,
            kind: Kind::parse(&label(spec::KIND))?,
            name: label(spec::CONTAINER),
            attempt: label(spec::ATTEMPT).parse().unwrap_or_default(),
            streak: label(spec::STREAK).parse().unwrap_or_default(),
            sandbox: label(spec::SANDBOX),
            image: label(spec::IMAGE),
            image_id: response.image.unwrap_or_default(),
            stop_signal: config
                .stop_signal
                .filter(|signal| !signal.is_empty())
                .unwrap_or_else(|| "SIGTERM".into()),
            phase,
        },
    })
}

/// None while the container is being removed: it neither lives nor tells anything any more.
fn phase(state: &ContainerState, created: Option<&str>) -> Option<Phase> {
    let moment = |text: Option<&str>| {
        let moment: Timestamp = text?.parse().ok()?;
        // The engine writes the year 1 for "never".
        (moment.as_second() > 0).then_some(moment)
    };
    let created = moment(created).unwrap_or(Timestamp::UNIX_EPOCH);
    let started = moment(state.started_at.as_deref());
    let error = state.error.clone().unwrap_or_default();
    let code = i32::try_from(state.exit_code.unwrap_or_default()).unwrap_or(-1);
    match state.status? {
        ContainerStateStatusEnum::CREATED if error.is_empty() && code == 0 => Some(Phase::Created),
        // The engine could not start it (no such command, ...): it counts as a container that ended at once.
        ContainerStateStatusEnum::CREATED => Some(Phase::Exited(Exit {
            code: if code == 0 { 128 } else { code },
            out_of_memory: false,
            start_error: if error.is_empty() { "the engine could not start it".to_owned() } else { error },
            message: String::new(),
            started: None,
            finished: created,
            unseen: false,
        })),
        ContainerStateStatusEnum::EXITED => Some(Phase::Exited(Exit {
            code,
            out_of_memory: state.oom_killed.unwrap_or_default(),
            start_error: error,
            message: String::new(),
            started,
            finished: moment(state.finished_at.as_deref()).or(started).unwrap_or(created),
            unseen: false,
        })),
        ContainerStateStatusEnum::DEAD
        | ContainerStateStatusEnum::REMOVING
        | ContainerStateStatusEnum::EMPTY => None,
        _ => Some(Phase::Running(started.unwrap_or(created))),
    }
}
