//! A container's environment, in Kubernetes' order: service links, then `envFrom`, then `env`, which may
//! refer to what came before by `$(NAME)`.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Container, EnvFromSource, EnvVar, Pod, Service, ServiceSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use warren_state::Key;
use warren_vocabulary::resources::SERVICES;

use crate::{budget::Budget, references::References};

type Environment = BTreeMap<String, String>;

/// The service that leads to the API; named in every pod's environment where it exists.
pub(crate) fn kubernetes_service() -> Key {
    Key::new(SERVICES, "default", "kubernetes")
}

/// The resolved environment, or the message of the first reference that leads nowhere, or of the variable that is one
/// too many.
pub(crate) fn resolve(
    references: &References<'_>,
    container: &Container,
    links: &Environment,
    budget: &Budget<'_>,
) -> Result<Environment, String> {
    let mut environment = Environment::new();
    for source in container.env_from.iter().flatten() {
        take_all(references, source, &mut environment, budget)?;
    }
    for variable in container.env.iter().flatten() {
        let what = format!("environment variable {}", variable.name);
        let value = match variable.value.as_deref().filter(|value| !value.is_empty()) {
            Some(value) => {
                let lookup =
                    |name: &str| environment.get(name).or_else(|| links.get(name)).map(String::as_str);
                Some(expand(value, lookup, &what, budget)?)
            }
            None => referenced(references, container, variable)?,
        };
        if let Some(value) = value {
            budget.take(variable_size(&variable.name, &value), &what)?;
            environment.insert(variable.name.clone(), value);
        }
    }
    for (name, value) in links {
        if environment.contains_key(name) {
            continue;
        }
        budget.take(variable_size(name, value), &LINKS)?;
        environment.insert(name.clone(), value.clone());
    }
    Ok(environment)
}

const LINKS: &str =
    "variables for the services of the namespace (spec.enableServiceLinks: false leaves them out)";

/// As the kernel counts: `NAME=VALUE` and a zero.
fn variable_size(name: &str, value: &str) -> usize {
    name.len().saturating_add(value.len()).saturating_add(2)
}

/// Whether a value may come from a Secret, directly or through `$(NAME)`.
pub(crate) fn takes_secrets(container: &Container) -> bool {
    let from = |variable: &EnvVar| {
        variable.value_from.as_ref().is_some_and(|source| source.secret_key_ref.is_some())
    };
    container.env.iter().flatten().any(from)
        || container.env_from.iter().flatten().any(|source| source.secret_ref.is_some())
}

fn take_all(
    references: &References<'_>,
    source: &EnvFromSource,
    environment: &mut Environment,
    budget: &Budget<'_>,
) -> Result<(), String> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let mut take = |name: &str, value: &[u8], what: &dyn std::fmt::Display| -> Result<(), String> {
        let name = format!("{prefix}{name}");
        if is_variable_name(&name) {
            budget.take(name.len().saturating_add(value.len()).saturating_add(2), what)?;
            environment.insert(name, String::from_utf8_lossy(value).into_owned());
        }
        Ok(())
    };
    if let Some(from) = &source.config_map_ref
        && let Some(map) = references.config_map(&from.name, from.optional)?
    {
        let what = format!("envFrom ConfigMap {}", from.name);
        map.data.iter().flatten().try_for_each(|(name, value)| take(name, value.as_bytes(), &what))?;
    }
    if let Some(from) = &source.secret_ref
        && let Some(secret) = references.secret(&from.name, from.optional)?
    {
        let what = format!("envFrom Secret {}", from.name);
        secret.data.iter().flatten().try_for_each(|(name, value)| take(name, &value.0, &what))?;
    }
    Ok(())
}

/// Printable ASCII without "=", as Kubernetes 1.34 allows; other keys of a source are skipped.
fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
}

/// `None`: the reference is optional and leads nowhere, the variable stays unset.
fn referenced(
    references: &References<'_>,
    container: &Container,
    variable: &EnvVar,
) -> Result<Option<String>, String> {
    let Some(source) = &variable.value_from else { return Ok(Some(String::new())) };
    let namespace = references.namespace;
    let missing = |optional: Option<bool>, kind: &str, key: &str, name: &str| match optional {
        Some(true) => Ok(None),
        _ => Err(format!("couldn't find key {key} in {kind} {namespace}/{name}")),
    };
    if let Some(field) = &source.field_ref {
        references.field(field).map(Some)
    } else if let Some(resource) = &source.resource_field_ref {
        references.resource(resource, Some(container)).map(Some)
    } else if let Some(from) = &source.config_map_key_ref {
        let Some(map) = references.config_map(&from.name, from.optional)? else { return Ok(None) };
        match map.data.as_ref().and_then(|data| data.get(&from.key)) {
            Some(value) => Ok(Some(value.clone())),
            None => missing(from.optional, "ConfigMap", &from.key, &from.name),
        }
    } else if let Some(from) = &source.secret_key_ref {
        let Some(secret) = references.secret(&from.name, from.optional)? else { return Ok(None) };
        match secret.data.as_ref().and_then(|data| data.get(&from.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None => missing(from.optional, "Secret", &from.key, &from.name),
        }
    } else {
        Err(format!(
            "environment variable {} takes its value from a source that is not supported yet",
            variable.name
        ))
    }
}

/// Replaces `$(NAME)`; `$$` is a dollar sign; a name without a value stays as it is written. An error when that gets
/// larger than what is left of the budget; nothing is taken from it.
pub(crate) fn expand<'e>(
    text: &str,
    lookup: impl Fn(&str) -> Option<&'e str>,
    what: &dyn std::fmt::Display,
    budget: &Budget<'_>,
) -> Result<String, String> {
    let mut expanded = String::new();
    let mut push = |part: &str| {
        if expanded.len().saturating_add(part.len()) > budget.left() {
            return budget.take(budget.left().saturating_add(1), what);
        }
        expanded.push_str(part);
        Ok(())
    };
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        push(before)?;
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            push("$")?;
            rest = after;
        } else if let Some(opened) = rest.strip_prefix('(') {
            // Nothing closes any more: what is left stands for itself, and is not searched again from each bracket.
            let Some((name, after)) = opened.split_once(')') else {
                push("$")?;
                break;
            };
            match lookup(name) {
                Some(value) => push(value)?,
                None => ["$(", name, ")"].into_iter().try_for_each(&mut push)?,
            }
            rest = after;
        } else {
            push("$")?;
        }
    }
    // Behind the last bracket that is closed there may still be doubled signs.
    for (index, part) in rest.split("$$").enumerate() {
        if index > 0 {
            push("$")?;
        }
        push(part)?;
    }
    Ok(expanded)
}

/// Variables for the services that existed when the pod was made: later ones must not change it. An error when they are
/// certainly more than a program can have: then none is made.
pub(crate) fn service_links(references: &References<'_>) -> Result<Environment, String> {
    let mut links = Environment::new();
    let pod = Budget::of_pod();
    let (program, mut least) = (pod.of_program(), 0_usize);
    let snapshot = references.snapshot;
    if has_links(references.pod) {
        for object in snapshot.list_namespace(SERVICES, references.namespace) {
            let service = object.typed::<Service>().ok();
            // Four variables a port, each of which begins with the service's name.
            let each = object.key.name.len().saturating_mul(4).saturating_add(90);
            least = least.saturating_add(linked_ports(references, service.as_deref()).saturating_mul(each));
            if least > program.left() {
                return program.take(least, &LINKS).map(|()| links);
            }
            link(references, service, &mut links);
        }
    }
    link(references, snapshot.get(&kubernetes_service()).and_then(|object| object.typed().ok()), &mut links);
    Ok(links)
}

/// What of a service its variables are made of.
#[derive(PartialEq, Eq)]
pub(crate) struct Linked<'s> {
    /// Pods that are older have none.
    pub(crate) since: Created,
    name: &'s str,
    address: &'s str,
    ports: Vec<(Option<&'s str>, Option<&'s str>, i32)>,
}

/// When something was made, as far as that is known.
pub(crate) type Created = Option<jiff::Timestamp>;

pub(crate) fn created(metadata: &ObjectMeta) -> Created {
    metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// Whether a pod has variables for the services of its namespace.
pub(crate) fn has_links(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true)
}

/// `None` for a service that gets no variables.
pub(crate) fn linked(service: &Service) -> Option<Linked<'_>> {
    let (name, spec) = (service.metadata.name.as_deref()?, service.spec.as_ref()?);
    let address = address(spec)?;
    let ports = spec.ports.iter().flatten();
    let ports = ports.map(|port| (port.name.as_deref(), port.protocol.as_deref(), port.port)).collect();
    Some(Linked { since: created(&service.metadata), name, address, ports })
}

/// How many ports of a service get variables.
fn linked_ports(references: &References<'_>, service: Option<&Service>) -> usize {
    let existed = |service: &&Service| existed(references, service);
    let spec = service.filter(existed).and_then(|service| service.spec.as_ref());
    let addressed = |spec: &&ServiceSpec| address(spec).is_some();
    spec.filter(addressed).and_then(|spec| spec.ports.as_ref()).map_or(0, Vec::len)
}

fn existed(references: &References<'_>, service: &Service) -> bool {
    created(&service.metadata) <= created(&references.pod.metadata)
}

fn address(spec: &ServiceSpec) -> Option<&str> {
    spec.cluster_ip.as_deref().filter(|address| !matches!(*address, "" | "None"))
}

fn link(references: &References<'_>, service: Option<Arc<Service>>, links: &mut Environment) {
    let Some(service) = service else { return };
    let existed = existed(references, &service);
    let (Some(name), Some(spec), true) = (&service.metadata.name, &service.spec, existed) else { return };
    let Some(address) = address(spec) else { return };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return };
    let variable = |text: &str| text.to_uppercase().replace('-', "_");
    let prefix = variable(name);
    links.insert(format!("{prefix}_SERVICE_HOST"), address.to_owned());
    links.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for (index, port) in ports.iter().enumerate() {
        if let Some(name) = &port.name {
            links.insert(format!("{prefix}_SERVICE_PORT_{}", variable(name)), port.port.to_string());
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let lower = protocol.to_lowercase();
        let url = format!("{lower}://{address}:{}", port.port);
        if index == 0 {
            links.insert(format!("{prefix}_PORT"), url.clone());
        }
        let long = format!("{prefix}_PORT_{}_{protocol}", port.port);
        links.insert(format!("{long}_PROTO"), lower);
        links.insert(format!("{long}_PORT"), port.port.to_string());
        links.insert(format!("{long}_ADDR"), address.to_owned());
        links.insert(long, url);
    }
}
