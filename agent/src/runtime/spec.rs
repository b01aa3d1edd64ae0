//! From instruction to container: a pure translation, without the engine's own types.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use warren_proto::control::{Container, PodInstruction, Resources, SecurityContext};

use super::ImageConfig;
use crate::plan::Kind;

/// Label: name of the cluster.
pub const CLUSTER: &str = "warren.cluster";
/// Label: name of the node.
pub const NODE: &str = "warren.node";
/// Label: UID of the pod.
pub const POD_UID: &str = "warren.pod.uid";
/// Label: name of the pod.
pub const POD_NAME: &str = "warren.pod.name";
/// Label: namespace of the pod.
pub const POD_NAMESPACE: &str = "warren.pod.namespace";
/// Label: name of the container within the pod.
pub const CONTAINER: &str = "warren.container";
/// Label: number of this instance; the restart count.
pub const ATTEMPT: &str = "warren.attempt";
/// Label: crashes in a row before this instance.
pub const STREAK: &str = "warren.streak";
/// Label: `sandbox`, `init` or `container`.
pub const KIND: &str = "warren.kind";
/// Label: id of the sandbox that was joined.
pub const SANDBOX: &str = "warren.sandbox";
/// Label: the image by the name that the instruction used.
pub const IMAGE: &str = "warren.image";
/// Label: where a container tells why it ended: `file`, or `file,log` when the end of a failed one's log stands in.
pub const LAST_WORDS: &str = "warren.last-words";

/// Where memory volumes appear inside the sandbox that holds them.
const HELD_VOLUMES: &str = "/warren-volumes";
/// The period of the processor quota, in microseconds.
const CPU_PERIOD: i64 = 100_000;
/// The smallest memory limit that the engine takes.
const SMALLEST_MEMORY: i64 = 6 * 1024 * 1024;

/// A mount in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSpec {
    /// A path of the machine.
    Bind {
        /// In the engine's mount namespace.
        source: PathBuf,
        /// In the container.
        target: String,
        /// Cannot be written to.
        read_only: bool,
    },
    /// A volume in memory, which lives as long as a container that mounts it.
    Memory {
        /// The volume's name.
        volume: String,
        /// In the container.
        target: String,
        /// Cannot be written to.
        read_only: bool,
        /// Upper bound; zero for none.
        size_bytes: i64,
    },
}

impl MountSpec {
    /// Where in the container.
    pub fn target(&self) -> &str {
        match self {
            Self::Bind { target, .. } | Self::Memory { target, .. } => target,
        }
    }
}

/// What is asked of the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // One field per option of the engine, by its name.
pub struct ContainerSpec {
    pub name: String,
    pub image: String,
    pub labels: BTreeMap<String, String>,
    pub hostname: Option<String>,
    pub entrypoint: Option<Vec<String>>,
    pub command: Option<Vec<String>>,
    pub env: Vec<String>,
    pub working_dir: Option<String>,
    pub user: Option<String>,
    pub tty: bool,
    pub stdin: bool,
    pub stdin_once: bool,
    pub mounts: Vec<MountSpec>,
    pub image_volumes: Vec<String>,
    pub network_mode: String,
    pub ipc_mode: String,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    pub cgroup_parent: Option<String>,
    pub cpu_shares: Option<i64>,
    pub cpu_period: Option<i64>,
    pub cpu_quota: Option<i64>,
    pub memory: Option<i64>,
    pub oom_score_adjust: Option<i64>,
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
    pub privileged: bool,
    pub read_only_root: bool,
    pub no_new_privileges: bool,
    pub groups: Vec<String>,
    pub pids_limit: Option<i64>,
    /// Settings of the kernel in the namespaces that it makes.
    pub sysctls: BTreeMap<String, String>,
}

/// What the translation needs beside the instruction.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The cluster's and the node's name.
    pub scope: super::Scope,
    /// The cgroup under which all containers live.
    pub cgroup_parent: Option<String>,
    /// The image of sandboxes.
    pub sandbox_image: String,
    /// How many processes a container may have whose pod does not say; none for any number.
    pub pids_limit: Option<u32>,
}

/// Which instance of a container is made.
#[derive(Clone, Debug)]
pub struct InstanceSpec<'a> {
    /// Init or app.
    pub kind: Kind,
    /// Its number.
    pub attempt: u32,
    /// Crashes in a row before it.
    pub streak: u32,
    /// The sandbox to join.
    pub sandbox: &'a str,
}

/// The container that owns the pod's namespaces.
pub fn sandbox(
    around: &Surroundings,
    pod: &PodInstruction,
    attempt: u32,
    memory_volumes: Vec<(String, i64)>,
    hosts: Option<MountSpec>,
) -> ContainerSpec {
    let mut labels = labels(around, pod, Kind::Sandbox, "", attempt);
    labels.insert(IMAGE.to_owned(), around.sandbox_image.clone());
    let dns = pod.dns.clone().unwrap_or_default();
    let hold = |(index, (volume, size_bytes)): (usize, (String, i64))| MountSpec::Memory {
        volume,
        target: format!("{HELD_VOLUMES}/{index}"),
        read_only: false,
        size_bytes,
    };
    ContainerSpec {
        name: container_name(pod, "POD", attempt),
        image: around.sandbox_image.clone(),
        labels,
        hostname: Some(if pod.hostname.is_empty() { pod.name.clone() } else { pod.hostname.clone() }),
        command: Some(vec!["pause".to_owned()]),
        mounts: memory_volumes.into_iter().enumerate().map(hold).chain(hosts).collect(),
        network_mode: "none".to_owned(),
        ipc_mode: "shareable".to_owned(),
        dns: dns.nameservers,
        dns_search: dns.searches,
        dns_options: dns.options,
        cgroup_parent: around.cgroup_parent.clone(),
        pids_limit: around.pids_limit.map(i64::from),
        sysctls: pod.sysctls.clone(),
        ..ContainerSpec::default()
    }
}

/// A container that joins a sandbox. What the instruction leaves open is the image's to say.
pub fn member(
    around: &Surroundings,
    pod: &PodInstruction,
    container: &Container,
    image: &ImageConfig,
    instance: &InstanceSpec<'_>,
    mounts: Vec<MountSpec>,
) -> Result<ContainerSpec, String> {
    let mut labels = labels(around, pod, instance.kind, &container.name, instance.attempt);
    labels.insert(STREAK.to_owned(), instance.streak.to_string());
    labels.insert(SANDBOX.to_owned(), instance.sandbox.to_owned());
    labels.insert(IMAGE.to_owned(), container.image.clone());
    if !container.termination_message_path.is_empty() {
        let from = if container.termination_message_from_log { "file,log" } else { "file" };
        labels.insert(LAST_WORDS.to_owned(), from.to_owned());
    }
    let security = container.security.clone().unwrap_or_default();
    let given = |words: &Vec<String>| (!words.is_empty()).then(|| words.clone());
    let join = format!("container:{}", instance.sandbox);
    let mut spec = ContainerSpec {
        name: container_name(pod, &container.name, instance.attempt),
        image: container.image.clone(),
        labels,
        entrypoint: given(&container.command),
        command: given(&container.args),
        env: container.env.iter().map(|variable| format!("{}={}", variable.name, variable.value)).collect(),
        working_dir: (!container.working_dir.is_empty()).then(|| container.working_dir.clone()),
        user: user(&security, &image.user)?,
        tty: container.tty,
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        image_volumes: volumes_of(image, &mounts),
        mounts,
        network_mode: join.clone(),
        ipc_mode: join,
        cgroup_parent: around.cgroup_parent.clone(),
        capabilities_add: capabilities(&security.capabilities_add),
        capabilities_drop: capabilities(&security.capabilities_drop),
        privileged: security.privileged,
        read_only_root: security.read_only_root,
        no_new_privileges: security.no_new_privileges,
        groups: security.supplemental_groups.iter().map(i64::to_string).collect(),
        pids_limit: pod.pids_limit.or(around.pids_limit).map(i64::from),
        ..ContainerSpec::default()
    };
    limit(&mut spec, container.resources.unwrap_or_default())?;
    Ok(spec)
}

fn labels(
    around: &Surroundings,
    pod: &PodInstruction,
    kind: Kind,
    name: &str,
    attempt: u32,
) -> BTreeMap<String, String> {
    let mut labels = around.scope.labels(&pod.uid);
    let own = [
        (POD_NAME, pod.name.clone()),
        (POD_NAMESPACE, pod.namespace.clone()),
        (KIND, kind.as_str().to_owned()),
        (CONTAINER, name.to_owned()),
        (ATTEMPT, attempt.to_string()),
    ];
    labels.extend(own.into_iter().map(|(key, value)| (key.to_owned(), value)));
    labels
}

/// How the names of all containers begin that an agent makes.
pub const CONTAINER_PREFIX: &str = "warren_";

/// A name that people recognise and that no other instance has.
fn container_name(pod: &PodInstruction, container: &str, attempt: u32) -> String {
    let prefix: String = pod.uid.chars().take(8).collect();
    let name = format!("{CONTAINER_PREFIX}{}_{}_{container}_{prefix}_{attempt}", pod.name, pod.namespace);
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' }).collect()
}

/// Who a container runs as: the instruction says, and where it does not, the image does. None for just as the image
/// says.
fn user(security: &SecurityContext, of_image: &str) -> Result<Option<String>, String> {
    let image_user = of_image.split(':').next().unwrap_or_default();
    if security.run_as_non_root {
        refuse_root(security.run_as_user, image_user)?;
    }
    Ok(match (security.run_as_user, security.run_as_group) {
        (Some(user), Some(group)) => Some(format!("{user}:{group}")),
        (Some(user), None) => Some(user.to_string()),
        // A group alone leaves the user as the image has it.
        (None, Some(group)) if image_user.is_empty() => Some(format!("0:{group}")),
        (None, Some(group)) => Some(format!("{image_user}:{group}")),
        (None, None) => None,
    })
}

/// What `runAsNonRoot` promises, in Kubernetes' words. Only a number proves that a user is not root: what a name
/// means is the image's to say.
fn refuse_root(user: Option<i64>, image_user: &str) -> Result<(), String> {
    match (user, image_user, image_user.parse::<i64>()) {
        (Some(0), ..) => Err("container's runAsUser breaks non-root policy".to_owned()),
        (Some(_), ..) => Ok(()),
        (None, "", _) | (None, _, Ok(0)) => {
            Err("container has runAsNonRoot and image will run as root".to_owned())
        }
        (None, _, Ok(_)) => Ok(()),
        (None, name, Err(_)) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root; \
             set securityContext.runAsUser"
        )),
    }
}

/// Where the image wants volumes of its own, and nothing else is mounted. Asked for by us they carry our label: they go
/// with their container, or at the latest with the pod if a user of the engine removes that.
fn volumes_of(image: &ImageConfig, mounts: &[MountSpec]) -> Vec<String> {
    let is_mounted = |target: &str| mounts.iter().any(|mount| Path::new(mount.target()) == Path::new(target));
    image.volumes.iter().filter(|target| !is_mounted(target)).cloned().collect()
}

/// Kubernetes writes `NET_ADMIN`; people also write `CAP_NET_ADMIN`.
fn capabilities(names: &[String]) -> Vec<String> {
    names.iter().map(|name| name.strip_prefix("CAP_").unwrap_or(name).to_owned()).collect()
}

fn limit(spec: &mut ContainerSpec, resources: Resources) -> Result<(), String> {
    // A limit without a request is also the request.
    let cpu = if resources.cpu_request_millis > 0 {
        resources.cpu_request_millis
    } else {
        resources.cpu_limit_millis
    };
    spec.cpu_shares = Some((cpu.saturating_mul(1024) / 1000).clamp(2, 262_144));
    if resources.cpu_limit_millis > 0 {
        spec.cpu_period = Some(CPU_PERIOD);
        spec.cpu_quota = Some((resources.cpu_limit_millis.saturating_mul(CPU_PERIOD) / 1000).max(1000));
    }
    let memory = resources.memory_limit_bytes;
    if memory > 0 {
        if memory < SMALLEST_MEMORY {
            return Err(format!(
                "resources.limits.memory is {memory} bytes; the Docker engine needs at least {SMALLEST_MEMORY} (6Mi)"
            ));
        }
        spec.memory = Some(memory);
    }
    // A container without requests is the first to go when memory runs out. Below zero needs rights not everybody has.
    let promised = resources.memory_request_bytes.max(memory) > 0 || cpu > 0;
    spec.oom_score_adjust = (!promised).then_some(1000);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use warren_proto::control::{Dns, EnvVar};

    fn around() -> Surroundings {
        Surroundings {
            scope: crate::runtime::Scope { cluster: "c".into(), node: "n".into() },
            cgroup_parent: Some("/docker/abc".into()),
            sandbox_image: "warren:1".into(),
            pids_limit: Some(256),
        }
    }

    fn pod() -> PodInstruction {
        PodInstruction {
            uid: "0123abcd-0000-0000-0000-000000000000".into(),
            namespace: "default".into(),
            name: "web-0".into(),
            hostname: "web-0".into(),
            address: "10.42.1.7".into(),
            dns: Some(Dns {
                nameservers: vec!["10.43.0.10".into()],
                searches: vec!["default.svc.cluster.local".into()],
                options: vec!["ndots:5".into()],
                ..Dns::default()
            }),
            ..PodInstruction::default()
        }
    }

    #[test]
    fn a_sandbox_owns_the_namespaces_and_the_names() {
        let spec = sandbox(&around(), &pod(), 2, vec![("warren_v".into(), 7)], None);
        assert_eq!(spec.name, "warren_web-0_default_POD_0123abcd_2");
        assert_eq!((spec.network_mode.as_str(), spec.ipc_mode.as_str()), ("none", "shareable"));
        assert_eq!(spec.dns, ["10.43.0.10"]);
        assert_eq!(spec.labels[KIND], "sandbox");
        assert_eq!(spec.labels[ATTEMPT], "2");
        assert_eq!(spec.cgroup_parent.as_deref(), Some("/docker/abc"));
        assert!(matches!(&spec.mounts[0], MountSpec::Memory { target, .. } if target == "/warren-volumes/0"));
    }

    #[test]
    fn a_member_joins_its_sandbox_with_limits_and_rights() {
        let container = Container {
            name: "app".into(),
            image: "nginx".into(),
            args: vec!["-v".into()],
            env: vec![EnvVar { name: "A".into(), value: "b=c".into() }],
            resources: Some(Resources {
                cpu_limit_millis: 1500,
                cpu_request_millis: 250,
                memory_limit_bytes: 64 << 20,
                memory_request_bytes: 0,
            }),
            security: Some(SecurityContext {
                run_as_user: Some(1000),
                run_as_group: Some(7),
                capabilities_drop: vec!["ALL".into()],
                capabilities_add: vec!["CAP_NET_RAW".into()],
                ..SecurityContext::default()
            }),
            ..Container::default()
        };
        let instance = InstanceSpec { kind: Kind::App, attempt: 3, streak: 1, sandbox: "sid" };
        let spec = member(&around(), &pod(), &container, &ImageConfig::default(), &instance, Vec::new())
            .expect("valid");
        assert_eq!(spec.network_mode, "container:sid");
        assert_eq!(
            (spec.cpu_quota, spec.cpu_period, spec.cpu_shares),
            (Some(150_000), Some(100_000), Some(256))
        );
        assert_eq!((spec.memory, spec.oom_score_adjust), (Some(64 << 20), None));
        assert_eq!(spec.env, ["A=b=c"]);
        assert_eq!((spec.entrypoint, spec.command), (None, Some(vec!["-v".to_owned()])));
        assert_eq!(spec.user.as_deref(), Some("1000:7"));
        assert_eq!(
            (spec.capabilities_add, spec.capabilities_drop),
            (vec!["NET_RAW".into()], vec!["ALL".into()])
        );
        assert_eq!((spec.labels[SANDBOX].as_str(), spec.labels[STREAK].as_str()), ("sid", "1"));
    }

    fn security(user: Option<i64>, group: Option<i64>, non_root: bool) -> SecurityContext {
        let context =
            SecurityContext { run_as_user: user, run_as_group: group, ..SecurityContext::default() };
        SecurityContext { run_as_non_root: non_root, ..context }
    }

    #[test]
    fn the_user_is_the_instructions_and_else_the_images() {
        // (the image's, runAsUser, runAsGroup, what is asked of the engine)
        for (image, own, group, expected) in [
            ("", None, None, None),
            ("1000", None, None, None),
            ("", None, Some(3000), Some("0:3000")),
            ("1000", None, Some(3000), Some("1000:3000")),
            ("1000:50", None, Some(3000), Some("1000:3000")),
            ("nginx", None, Some(3000), Some("nginx:3000")),
            ("1000", Some(7), None, Some("7")),
            ("1000", Some(0), Some(8), Some("0:8")),
        ] {
            let asked = user(&security(own, group, false), image).expect("allowed");
            assert_eq!(asked.as_deref(), expected, "{image:?} {own:?} {group:?}");
        }
    }

    #[test]
    fn root_is_refused_whoever_chose_it() {
        let root = "container has runAsNonRoot and image will run as root";
        for (image, own, refusal) in [
            ("", None, root),
            ("0", None, root),
            ("00:5", None, root),
            ("+0", None, root),
            ("0:1000", None, root),
            (":1000", None, root),
            ("root", None, "non-numeric user (root), cannot verify user is non-root"),
            ("nginx:1", None, "non-numeric user (nginx)"),
            ("0x0", None, "non-numeric user (0x0)"),
            ("1000", Some(0), "container's runAsUser breaks non-root policy"),
        ] {
            let error = user(&security(own, Some(5), true), image).expect_err(image);
            assert!(error.contains(refusal), "{image:?}: {error}");
        }
        assert_eq!(user(&security(None, Some(3000), true), "1000"), Ok(Some("1000:3000".to_owned())));
        assert_eq!(user(&security(None, None, true), "1000:0"), Ok(None));
        assert_eq!(user(&security(Some(5), None, true), "root"), Ok(Some("5".to_owned())));
    }

    #[test]
    fn groups_processes_and_the_images_volumes_reach_the_engine() {
        let mut pod = pod();
        let context = SecurityContext { supplemental_groups: vec![5, 7], ..SecurityContext::default() };
        let container = Container { name: "app".into(), security: Some(context), ..Container::default() };
        let instance = InstanceSpec { kind: Kind::App, attempt: 0, streak: 0, sandbox: "s" };
        let image = ImageConfig { volumes: vec!["/data/".into(), "/cache".into()], ..ImageConfig::default() };
        let bind = MountSpec::Bind { source: "/x".into(), target: "/data".into(), read_only: false };
        let made = |pod: &PodInstruction| {
            member(&around(), pod, &container, &image, &instance, vec![bind.clone()]).expect("valid")
        };
        let spec = made(&pod);
        assert_eq!((spec.groups, spec.pids_limit), (vec!["5".to_owned(), "7".to_owned()], Some(256)));
        assert_eq!((spec.mounts, spec.image_volumes), (vec![bind.clone()], vec!["/cache".to_owned()]));
        pod.pids_limit = Some(10);
        assert_eq!(made(&pod).pids_limit, Some(10));
    }

    #[test]
    fn too_little_memory_is_refused_by_name() {
        let resources = Some(Resources { memory_limit_bytes: 1000, ..Resources::default() });
        let container = Container { name: "app".into(), resources, ..Container::default() };
        let instance = InstanceSpec { kind: Kind::App, attempt: 0, streak: 0, sandbox: "s" };
        let error = member(&around(), &pod(), &container, &ImageConfig::default(), &instance, Vec::new())
            .expect_err("too small");
        assert!(error.contains("resources.limits.memory"), "{error}");
    }
}
