//! A pod and all that it refers to, as one instruction to the agent.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::api::resource::Quantity};
use warren_objects::quantity;
use warren_proto::control::{
    Container, ContainerPort, Dns, EnvVar, FeedItem, HostAlias, Mount, PodInstruction, PullPolicy, Resources,
    RestartPolicy, SecurityContext, feed_item::Item,
};
use warren_state::{Object, Snapshot};
use warren_vocabulary::{ClusterConfig, STOP_ANNOTATION};

use crate::{
    budget::Budget,
    environment::{self, expand},
    handlers::{compile_hook, compile_probe},
    references::{ReadSet, References},
    secrecy,
    sysctls::sysctls,
    view, volumes,
};

const DEFAULT_GRACE_SECONDS: i64 = 30;
/// Of a Linux host.
const LONGEST_HOST_NAME: usize = 64;
const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";
const CONFIG_ERROR: &str = "CreateContainerConfigError";
/// A pod's own answer to how many processes each of its containers may have.
const PIDS_ANNOTATION: &str = "warren.dev/pids-limit";
/// The kernel knows no more processes than this.
const MOST_PIDS: u32 = 4_194_304;

/// The instruction for a bound pod; `None` while it has no address, and once it is gone from its node.
pub(crate) fn compile(
    object: &Object,
    snapshot: &Snapshot,
    reads: &ReadSet,
    config: &ClusterConfig,
) -> Result<Option<FeedItem>, String> {
    let pod = object.typed::<core::Pod>()?;
    let references = References { snapshot, reads, pod: &pod, namespace: &object.key.namespace };
    Ok(instruction(&pod, references, config))
}

fn instruction(pod: &core::Pod, references: References<'_>, config: &ClusterConfig) -> Option<FeedItem> {
    let uid = pod.metadata.uid.clone()?;
    let address = pod.status.as_ref()?.pod_ip.clone().filter(|address| !address.is_empty())?;
    if only_finalizers_remain(pod) {
        return None;
    }
    let instruction = Compilation::new(references, config).instruction(uid, address)?;
    Some(view::item(format!("pod/{}", instruction.uid), Item::Pod(instruction)))
}

/// Its node has let it go (or was told to at once), but a client's finalizer keeps the object.
fn only_finalizers_remain(pod: &core::Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
        && pod.metadata.deletion_grace_period_seconds == Some(0)
        && pod.metadata.finalizers.as_ref().is_some_and(|finalizers| !finalizers.is_empty())
}

/// What the agent is told of a pod that we fail to compile: that it exists, and why none of it is started.
pub fn failed(object: &Object, message: &str) -> Option<FeedItem> {
    let pod = object.typed::<core::Pod>().ok()?;
    let uid = pod.metadata.uid.clone()?;
    let address = pod.status.as_ref()?.pod_ip.clone().filter(|address| !address.is_empty())?;
    let container = |container: &core::Container| Container {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        unresolved_reason: CONFIG_ERROR.to_owned(),
        unresolved_message: format!("the pod could not be compiled: {message}"),
        ..Container::default()
    };
    let spec = pod.spec.as_ref()?;
    let instruction = PodInstruction {
        uid,
        namespace: object.key.namespace.to_string(),
        name: object.key.name.to_string(),
        address,
        containers: spec.containers.iter().map(container).collect(),
        init_containers: spec.init_containers.iter().flatten().map(container).collect(),
        terminate_after_seconds: terminate_after(&pod.metadata),
        ..PodInstruction::default()
    };
    Some(view::item(format!("pod/{}", instruction.uid), Item::Pod(instruction)))
}

/// The most that a path can have.
const PATH_BYTES: usize = 4_096;

struct Compilation<'a> {
    references: References<'a>,
    config: &'a ClusterConfig,
    links: Result<BTreeMap<String, String>, String>,
    budget: Budget<'static>,
}

/// What containers must know of their pod's volumes.
struct PodVolumes<'a> {
    names: BTreeSet<&'a str>,
    /// What stands in the way of the first one that cannot be made.
    problem: Option<&'a str>,
}

impl<'a> Compilation<'a> {
    fn new(references: References<'a>, config: &'a ClusterConfig) -> Self {
        let links = environment::service_links(&references);
        Self { references, config, links, budget: Budget::of_pod() }
    }

    fn instruction(&self, uid: String, address: String) -> Option<PodInstruction> {
        let metadata = &self.references.pod.metadata;
        let spec = self.references.pod.spec.as_ref()?;
        let name = metadata.name.clone().unwrap_or_default();
        let (volumes, problem) = self.volumes(spec);
        let pids_limit = pids_limit(metadata);
        let sysctls = sysctls(spec);
        let problem = problem
            .or_else(|| sysctls.as_ref().err().cloned())
            .or_else(|| pids_limit.as_ref().err().cloned())
            .or_else(|| self.too_long_a_name(spec, &name));
        let names: BTreeSet<&str> =
            spec.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
        let pod = PodVolumes { names, problem: problem.as_deref() };
        let compile = |container: &core::Container| self.container(spec, container, &pod);
        let init = spec.init_containers.as_deref().unwrap_or_default();
        // A sidecar (an init container that restarts always) runs beside the others; it comes first.
        let (sidecars, init): (Vec<_>, Vec<_>) = init.iter().partition(|container| is_sidecar(container));
        Some(PodInstruction {
            uid,
            namespace: self.references.namespace.to_owned(),
            hostname: self.hostname(spec, &name),
            fully_qualified_name: self.fully_qualified_name(spec, &name),
            name,
            address,
            dns: Some(self.dns(spec)),
            containers: sidecars.into_iter().chain(&spec.containers).map(compile).collect(),
            init_containers: init.into_iter().map(compile).collect(),
            volumes,
            restart_policy: restart_policy(spec.restart_policy.as_deref()).into(),
            terminate_after_seconds: terminate_after(metadata),
            labels: metadata.labels.clone().unwrap_or_default(),
            host_aliases: spec.host_aliases.iter().flatten().map(host_alias).collect(),
            grace_seconds: spec.termination_grace_period_seconds.map(whole_seconds),
            pids_limit: pids_limit.unwrap_or_default(),
            sysctls: sysctls.unwrap_or_default(),
            ended: has_been_ended(self.references.pod),
        })
    }

    /// What the pod's host calls itself; `setHostnameAsFQDN` makes it the full name.
    fn hostname(&self, spec: &core::PodSpec, name: &str) -> String {
        let full = self.fully_qualified_name(spec, name);
        if spec.set_hostname_as_fqdn == Some(true) && (1..=LONGEST_HOST_NAME).contains(&full.len()) {
            return full;
        }
        hostname(spec.hostname.as_deref().unwrap_or(name))
    }

    /// What the kernel would refuse to call the host.
    fn too_long_a_name(&self, spec: &core::PodSpec, name: &str) -> Option<String> {
        let full = self.fully_qualified_name(spec, name);
        (spec.set_hostname_as_fqdn == Some(true) && full.len() > LONGEST_HOST_NAME).then(|| {
            format!(
                "setHostnameAsFQDN: FQDN {full} is too long ({LONGEST_HOST_NAME} characters is the max, {} characters \
                 requested)",
                full.len()
            )
        })
    }

    /// The full name of a pod that has a subdomain; empty for others.
    fn fully_qualified_name(&self, spec: &core::PodSpec, name: &str) -> String {
        let Some(subdomain) = spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty()) else {
            return String::new();
        };
        let host = hostname(spec.hostname.as_deref().unwrap_or(name));
        format!("{host}.{subdomain}.{}.svc.{}", self.references.namespace, self.config.domain)
    }

    /// The volumes that can be made, and what stands in the way of the first one that cannot.
    fn volumes(&self, spec: &core::PodSpec) -> (Vec<warren_proto::control::Volume>, Option<String>) {
        let mut problem = None;
        let mut compiled = Vec::new();
        for volume in spec.volumes.iter().flatten() {
            let compile = || {
                self.budget.check(&format_args!("volume {}", volume.name))?;
                volumes::compile(&self.references, volume, &self.budget)
            };
            match compile() {
                Ok(volume) => compiled.push(volume),
                Err(message) => problem = problem.or(Some(message)),
            }
        }
        (compiled, problem)
    }

    /// No container of a pod starts before all its volumes are there, hence [`PodVolumes::problem`].
    fn container(
        &self,
        spec: &core::PodSpec,
        container: &core::Container,
        volumes: &PodVolumes<'_>,
    ) -> Container {
        let mut compiled = Container {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            pull_policy: pull_policy(container).into(),
            working_dir: container.working_dir.clone().unwrap_or_default(),
            security: Some(security(spec.security_context.as_ref(), container.security_context.as_ref())),
            stdin: container.stdin.unwrap_or(false),
            stdin_once: container.stdin_once.unwrap_or(false),
            tty: container.tty.unwrap_or(false),
            ports: container.ports.iter().flatten().map(port).collect(),
            termination_message_path: container
                .termination_message_path
                .clone()
                .filter(|path| !path.is_empty())
                .unwrap_or_else(|| TERMINATION_MESSAGE_PATH.to_owned()),
            termination_message_from_log: container.termination_message_policy.as_deref()
                == Some("FallbackToLogsOnError"),
            ..Container::default()
        };
        let outcome = volumes.problem.map_or(Ok(()), |problem| Err(problem.to_owned()));
        if let Err(message) = outcome.and_then(|()| self.resolve(container, &volumes.names, &mut compiled)) {
            compiled.unresolved_reason = CONFIG_ERROR.to_owned();
            compiled.unresolved_message = message;
        }
        compiled
    }

    /// Fills in all that can fail.
    fn resolve(
        &self,
        container: &core::Container,
        volumes: &BTreeSet<&str>,
        compiled: &mut Container,
    ) -> Result<(), String> {
        let budget = self.budget.of_program();
        budget.check(&format_args!("container {}", container.name))?;
        let links = self.links.as_ref().map_err(String::clone)?;
        let environment = environment::resolve(&self.references, container, links, &budget)?;
        compiled.holds_secrets = environment::takes_secrets(container);
        let secret = secrecy::variables(&self.references, container);
        compiled.words_hold_secrets = secrecy::in_words(container, &secret);
        compiled.secret_variables = secret.into_iter().collect();
        let expand_all = |texts: &Option<Vec<String>>, what: &str| {
            let lookup = |name: &str| environment.get(name).map(String::as_str);
            let each = texts.iter().flatten().map(|text| {
                let text = expand(text, lookup, &what, &budget)?;
                budget.take(text.len().saturating_add(1), &what)?;
                Ok(text)
            });
            each.collect::<Result<Vec<_>, String>>()
        };
        compiled.command = expand_all(&container.command, "command")?;
        compiled.args = expand_all(&container.args, "args")?;
        compiled.mounts = container
            .volume_mounts
            .iter()
            .flatten()
            .map(|mount| compile_mount(volumes, mount, &environment, &budget))
            .collect::<Result<_, _>>()?;
        compiled.resources = Some(resources(container.resources.as_ref())?);
        compiled.liveness = compile_probe(container, container.liveness_probe.as_ref(), "liveness")?;
        compiled.readiness = compile_probe(container, container.readiness_probe.as_ref(), "readiness")?;
        compiled.startup = compile_probe(container, container.startup_probe.as_ref(), "startup")?;
        let lifecycle = container.lifecycle.as_ref();
        compiled.post_start = compile_hook(container, lifecycle.and_then(|hooks| hooks.post_start.as_ref()))?;
        compiled.pre_stop = compile_hook(container, lifecycle.and_then(|hooks| hooks.pre_stop.as_ref()))?;
        compiled.env = environment.into_iter().map(|(name, value)| EnvVar { name, value }).collect();
        Ok(())
    }

    fn dns(&self, spec: &core::PodSpec) -> Dns {
        let domain = &self.config.domain;
        let mut dns = match spec.dns_policy.as_deref() {
            Some("None") => Dns::default(),
            // The machine's own, which its agent knows.
            Some("Default") => Dns {
                node_servers: true,
                node_searches_after: Some(0),
                cluster_server: self.config.dns_address.to_string(),
                ..Dns::default()
            },
            _ => Dns {
                nameservers: vec![self.config.dns_address.to_string()],
                searches: vec![
                    format!("{}.svc.{domain}", self.references.namespace),
                    format!("svc.{domain}"),
                    domain.clone(),
                ],
                options: vec!["ndots:5".to_owned()],
                // Before those that the pod asks for.
                node_searches_after: Some(3),
                ..Dns::default()
            },
        };
        if let Some(extra) = &spec.dns_config {
            append_new(&mut dns.nameservers, extra.nameservers.as_deref());
            append_new(&mut dns.searches, extra.searches.as_deref());
            let options = extra.options.iter().flatten().filter_map(|option| {
                let name = option.name.as_ref()?;
                Some(option.value.as_ref().map_or(name.clone(), |value| format!("{name}:{value}")))
            });
            dns.options = last_of_each(dns.options.into_iter().chain(options).collect());
        }
        dns
    }
}

/// Resolver options, each name once: the last one counts, and keeps its place.
fn last_of_each(options: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
    let mut kept: Vec<String> =
        options.into_iter().rev().filter(|option| seen.insert(name(option))).collect();
    kept.reverse();
    kept
}

fn append_new(list: &mut Vec<String>, more: Option<&[String]>) {
    for text in more.unwrap_or_default() {
        if !list.contains(text) {
            list.push(text.clone());
        }
    }
}

/// Whether an init container is a sidecar.
pub(crate) fn is_sidecar(container: &core::Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn hostname(name: &str) -> String {
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// Whether somebody else than its node has said that the pod is over: then, and not when its containers came to their
/// end, its status has a reason.
fn has_been_ended(pod: &core::Pod) -> bool {
    let status = pod.status.as_ref();
    let has_reason =
        |status: &&core::PodStatus| status.reason.as_ref().is_some_and(|reason| !reason.is_empty());
    status.filter(has_reason).is_some_and(|status| status.phase.as_deref() == Some("Failed"))
}

/// Grace zero needs no barrier; otherwise the planner's annotation says that no consumer sends to the pod any more.
fn terminate_after(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Option<u32> {
    metadata.deletion_timestamp.as_ref()?;
    let grace = metadata.deletion_grace_period_seconds.unwrap_or(DEFAULT_GRACE_SECONDS);
    let released = metadata.annotations.as_ref().is_some_and(|all| all.contains_key(STOP_ANNOTATION));
    (grace <= 0 || released).then(|| whole_seconds(grace))
}

/// How many processes each container may have, where the pod says so.
fn pids_limit(
    metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) -> Result<Option<u32>, String> {
    let Some(text) = metadata.annotations.as_ref().and_then(|all| all.get(PIDS_ANNOTATION)) else {
        return Ok(None);
    };
    match text.parse() {
        Ok(limit @ 1..=MOST_PIDS) => Ok(Some(limit)),
        _ => Err(format!(
            "annotation {PIDS_ANNOTATION}: {:?} is not a number from 1 to {MOST_PIDS}",
            text.chars().take(40).collect::<String>()
        )),
    }
}

/// Seconds that a user wrote: never negative, never more than the wire holds.
pub(super) fn whole_seconds(seconds: i64) -> u32 {
    u32::try_from(seconds.max(0)).unwrap_or(u32::MAX)
}

fn restart_policy(text: Option<&str>) -> RestartPolicy {
    match text {
        Some("OnFailure") => RestartPolicy::OnFailure,
        Some("Never") => RestartPolicy::Never,
        _ => RestartPolicy::Always,
    }
}

fn pull_policy(container: &core::Container) -> PullPolicy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        _ => PullPolicy::IfNotPresent,
    }
}

fn host_alias(alias: &core::HostAlias) -> HostAlias {
    HostAlias { ip: alias.ip.clone(), hostnames: alias.hostnames.clone().unwrap_or_default() }
}

fn port(port: &core::ContainerPort) -> ContainerPort {
    ContainerPort {
        name: port.name.clone().unwrap_or_default(),
        port: u32::try_from(port.container_port).unwrap_or_default(),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
    }
}

fn compile_mount(
    volumes: &BTreeSet<&str>,
    mount: &core::VolumeMount,
    environment: &BTreeMap<String, String>,
    budget: &Budget<'_>,
) -> Result<Mount, String> {
    if !volumes.contains(mount.name.as_str()) {
        return Err(format!("volume mount {:?} names no volume of the pod", mount.name));
    }
    let sub_path = match &mount.sub_path_expr {
        Some(expression) => {
            let what = format!("subPathExpr of the volume mount {:?}", mount.name);
            let lookup = |name: &str| environment.get(name).map(String::as_str);
            let path = expand(expression, lookup, &what, budget)?;
            budget.take(path.len(), &what)?;
            path
        }
        None => mount.sub_path.clone().unwrap_or_default(),
    };
    if sub_path.len() > PATH_BYTES {
        return Err(format!("subPath of the volume mount {:?} has more than {PATH_BYTES} bytes", mount.name));
    }
    if sub_path.starts_with('/') || sub_path.split('/').any(|part| part == "..") {
        // As it is written: its value may come from a Secret.
        let written = mount.sub_path_expr.as_ref().unwrap_or(&sub_path);
        return Err(format!("subPath {written:?} must be relative and must not contain \"..\""));
    }
    Ok(Mount {
        volume: mount.name.clone(),
        path: mount.mount_path.clone(),
        read_only: mount.read_only.unwrap_or(false),
        sub_path,
    })
}

fn resources(resources: Option<&core::ResourceRequirements>) -> Result<Resources, String> {
    let amount = |map: Option<&BTreeMap<String, Quantity>>, name: &str| {
        let Some(text) = map.and_then(|map| map.get(name)) else { return Ok(0) };
        let parsed = if name == "cpu" { quantity::cpu_millis(&text.0) } else { quantity::bytes(&text.0) };
        parsed.map_err(|error| format!("resources: {name} {:?}: {error}", text.0))
    };
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    Ok(Resources {
        cpu_limit_millis: amount(limits, "cpu")?,
        cpu_request_millis: amount(requests.or(limits), "cpu")?,
        memory_limit_bytes: amount(limits, "memory")?,
        memory_request_bytes: amount(requests.or(limits), "memory")?,
    })
}

fn security(pod: Option<&core::PodSecurityContext>, own: Option<&core::SecurityContext>) -> SecurityContext {
    let capabilities = own.and_then(|own| own.capabilities.as_ref());
    let list = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    SecurityContext {
        run_as_user: own.and_then(|own| own.run_as_user).or(pod.and_then(|pod| pod.run_as_user)),
        run_as_group: own.and_then(|own| own.run_as_group).or(pod.and_then(|pod| pod.run_as_group)),
        privileged: own.and_then(|own| own.privileged).unwrap_or(false),
        read_only_root: own.and_then(|own| own.read_only_root_filesystem).unwrap_or(false),
        capabilities_add: list(capabilities.and_then(|capabilities| capabilities.add.as_ref())),
        capabilities_drop: list(capabilities.and_then(|capabilities| capabilities.drop.as_ref())),
        no_new_privileges: own.and_then(|own| own.allow_privilege_escalation) == Some(false),
        // Judged by the agent, which knows the image's own user.
        run_as_non_root: own
            .and_then(|own| own.run_as_non_root)
            .or(pod.and_then(|pod| pod.run_as_non_root))
            .unwrap_or(false),
        supplemental_groups: pod.map(groups).unwrap_or_default(),
    }
}

/// `fsGroup` is a group of the pod's processes, too.
fn groups(pod: &core::PodSecurityContext) -> Vec<i64> {
    let mut groups: Vec<i64> =
        pod.supplemental_groups.iter().flatten().copied().chain(pod.fs_group).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}
