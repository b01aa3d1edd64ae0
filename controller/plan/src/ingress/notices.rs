//! What of an Ingress is not in force, said in events on it: once, as long as it is so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Secret, Service},
    networking::v1::{Ingress, IngressBackend, IngressSpec},
};
use warren_state::{Key, Object, Snapshot};

use super::{annotations, class, controller_of, is_our_class};
use crate::{
    events::{self, Event},
    object,
    outcome::Outcome,
    view::View,
};
use warren_vocabulary::resources::{INGRESSES, SECRETS, SERVICES};

const COMPONENT: &str = "gateway-controller";
/// Of one Ingress: a list of thousands of paths that are all taken is not told path by path.
const NOTICES: usize = 16;

/// What an Ingress asks for and one rule has: host, exactness, path. No host and path: the default backend.
type Claim = (String, Option<(bool, String)>);

struct Notice {
    reason: &'static str,
    message: String,
    warning: bool,
}

fn warning(reason: &'static str, message: String) -> Notice {
    Notice { reason, message, warning: true }
}

pub(super) fn plan(view: &View<'_>, outcome: &mut Outcome<'_>) {
    let snapshot = &view.world.snapshot;
    let mut ours = Vec::new();
    for (object, ingress) in snapshot.typed::<Ingress>(INGRESSES) {
        if object::is_deleting(object) {
            continue;
        }
        match class(object).filter(|class| !is_our_class(snapshot, class)) {
            Some(class) => {
                let notice = [of_another_class(snapshot, class)];
                outcome.each(object, |outcome| tell(view, outcome, object, notice));
            }
            None => ours.push((object, ingress)),
        }
    }
    // The oldest has what several ask for.
    ours.sort_by_key(|(object, ingress)| (age(ingress), object::uid(object).to_owned()));
    let (mut routes, mut certificates) = (BTreeMap::new(), BTreeMap::new());
    for (object, ingress) in &ours {
        outcome.each(object, |outcome| {
            let mut notices = Vec::new();
            for claim in claims(ingress) {
                let text = describe(&claim);
                take(&mut routes, claim, object, |holder| {
                    let message = format!("{text} is already routed by Ingress {holder}, which is older: the rule is not in force");
                    notices.push(warning("RouteConflict", message));
                });
            }
            for (host, secret) in tls_hosts(ingress) {
                let text = if host.is_empty() { "any host".to_owned() } else { host.clone() };
                let holder = format!("{}/{secret}", object.key.namespace);
                let held = certificates.entry(host).or_insert_with(|| (holder.clone(), *object));
                if held.0 != holder {
                    let other = name(held.1);
                    let message = format!("{text} is already served with the certificate of Ingress {other}, which is older: this one is not shown");
                    notices.push(warning("CertificateConflict", message));
                }
            }
            notices.extend(secrets(view, ingress));
            notices.extend(backends(view, ingress));
            let read = annotations::read(&object.key.namespace, ingress.metadata.annotations.as_ref());
            notices.extend(read.problems.into_iter().map(|problem| warning("AnnotationIgnored", problem)));
            tell(view, outcome, object, notices);
        });
    }
}

fn tell(
    view: &View<'_>,
    outcome: &mut Outcome<'_>,
    about: &Arc<Object>,
    notices: impl IntoIterator<Item = Notice>,
) {
    for Notice { reason, message, warning } in notices.into_iter().take(NOTICES) {
        let message = if message.len() > 1000 { message.chars().take(1000).collect() } else { message };
        events::once(view, outcome, &Event { about, component: COMPONENT, reason, message, warning });
    }
}

fn of_another_class(snapshot: &Snapshot, class: &str) -> Notice {
    let (who, warning) = match controller_of(snapshot, class) {
        Some(controller) => (format!("its controller is {controller}"), false),
        None => ("there is no such class".to_owned(), true),
    };
    let message = format!(
        "Warren's gateways do not serve Ingress class {class:?} ({who}): set spec.ingressClassName to \"warren\", or remove it"
    );
    Notice { reason: "ClassNotServed", message, warning }
}

fn age(ingress: &Ingress) -> i64 {
    ingress.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second())
}

fn name(object: &Object) -> String {
    format!("{}/{}", object.key.namespace, object.key.name)
}

/// The first one has it; another one is told who.
fn take<'a>(
    held: &mut BTreeMap<Claim, &'a Arc<Object>>,
    claim: Claim,
    by: &'a Arc<Object>,
    lost: impl FnOnce(String),
) {
    let holder = *held.entry(claim).or_insert(by);
    if holder.key != by.key {
        lost(name(holder));
    }
}

fn claims(ingress: &Ingress) -> Vec<Claim> {
    let Some(spec) = &ingress.spec else { return Vec::new() };
    let mut claims = Vec::new();
    for rule in spec.rules.iter().flatten() {
        let host = rule.host.as_deref().unwrap_or_default().to_lowercase();
        match &rule.http {
            Some(http) => claims.extend(http.paths.iter().map(|path| {
                let exact = path.path_type == "Exact";
                let text = path.path.as_deref().unwrap_or_default();
                let text = if exact { text } else { text.trim_end_matches('/') };
                (host.clone(), Some((exact, text.to_owned())))
            })),
            None if spec.default_backend.is_some() => claims.push((host, Some((false, String::new())))),
            None => {}
        }
    }
    if spec.default_backend.is_some() {
        claims.push((String::new(), None));
    }
    claims
}

fn describe((host, path): &Claim) -> String {
    match path {
        None => "the default backend".to_owned(),
        Some((exact, path)) => {
            let host = if host.is_empty() { "any host" } else { host.as_str() };
            let path = if path.is_empty() && !exact { "/" } else { path.as_str() };
            format!("{host}, path {path}")
        }
    }
}

fn tls_hosts(ingress: &Ingress) -> Vec<(String, String)> {
    let tls = ingress.spec.as_ref().and_then(|spec| spec.tls.as_ref()).into_iter().flatten();
    tls.filter_map(|tls| Some((tls, tls.secret_name.clone().filter(|name| !name.is_empty())?)))
        .flat_map(|(tls, secret)| {
            let hosts =
                tls.hosts.clone().filter(|hosts| !hosts.is_empty()).unwrap_or_else(|| vec![String::new()]);
            hosts.into_iter().map(move |host| (host.to_lowercase(), secret.clone()))
        })
        .collect()
}

/// The Secrets that it names and that are not what they should be.
fn secrets(view: &View<'_>, ingress: &Ingress) -> Vec<Notice> {
    let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
    let mut notices = Vec::new();
    let tls = ingress.spec.as_ref().and_then(|spec| spec.tls.as_ref()).into_iter().flatten();
    // Each is looked through once, however often it is named.
    let named: BTreeSet<&str> = tls.filter_map(|tls| tls.secret_name.as_deref()).collect();
    for secret in named.into_iter().filter(|name| !name.is_empty()) {
        let message = match data_of(view, namespace, secret) {
            None => format!(
                "Secret {secret:?} of spec.tls does not exist: clients see the gateway's own certificate"
            ),
            Some(found) => match unfit(&found) {
                Some(problem) => format!(
                    "Secret {secret:?} of spec.tls {problem}: clients see the gateway's own certificate"
                ),
                None => continue,
            },
        };
        notices.push(warning("CertificateUnusable", message));
    }
    let read = annotations::read(namespace, ingress.metadata.annotations.as_ref());
    if let Some((secret, by_key)) = read.users {
        let found = data_of(view, namespace, &secret);
        let problem = match &found {
            None => Some("does not exist"),
            Some(found) if !by_key && !found.data.iter().flatten().any(|(key, _)| key == "auth") => {
                Some("has no key \"auth\"")
            }
            Some(_) => None,
        };
        if let Some(problem) = problem {
            let message = format!("Secret {secret:?} of annotation auth-secret {problem}: nobody may pass");
            notices.push(warning("AuthenticationUnusable", message));
        }
    }
    notices
}

fn data_of(view: &View<'_>, namespace: &str, name: &str) -> Option<Arc<Secret>> {
    view.read(&Key::new(SECRETS, namespace, name))?.typed::<Secret>().ok()
}

/// Why a Secret cannot hold a certificate, as far as its form tells; whether key and certificate fit, the gateway
/// finds out.
fn unfit(secret: &Secret) -> Option<&'static str> {
    let value =
        |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    let contains =
        |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    match (value("tls.crt"), value("tls.key")) {
        (None, _) => Some("has no key \"tls.crt\""),
        (_, None) => Some("has no key \"tls.key\""),
        (Some(certificate), _) if !contains(certificate, "-----BEGIN CERTIFICATE-----") => {
            Some("has no certificate in PEM in \"tls.crt\"")
        }
        (_, Some(key)) if !contains(key, "PRIVATE KEY-----") => {
            Some("has no private key in PEM in \"tls.key\"")
        }
        _ => None,
    }
}

/// The backends that lead nowhere by what they are.
fn backends(view: &View<'_>, ingress: &Ingress) -> Vec<Notice> {
    let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
    let backends = ingress.spec.as_ref().map(all_backends).unwrap_or_default();
    let mut notices = Vec::new();
    for backend in backends {
        if let Some(resource) = &backend.resource {
            let message = format!(
                "backend {} {:?} is no Service: only Services are served",
                resource.kind, resource.name
            );
            notices.push(warning("BackendNotServed", message));
        }
        let Some(service) = &backend.service else { continue };
        let found = view.read(&Key::new(SERVICES, namespace, &service.name));
        let found = found.and_then(|object| object.typed::<Service>().ok());
        // Not copied: thousands of paths may lead to one service of thousands of ports.
        let spec = found.as_ref().and_then(|service| service.spec.as_ref());
        if let Some(spec) = spec.filter(|spec| spec.type_.as_deref() == Some("ExternalName"))
            && leads_to_the_api(spec.external_name.as_deref().unwrap_or_default())
        {
            let message = format!(
                "Service {:?} is another name of the cluster's API: nothing is sent there",
                service.name
            );
            notices.push(warning("BackendNotServed", message));
        }
    }
    notices
}

fn all_backends(spec: &IngressSpec) -> Vec<&IngressBackend> {
    let rules = spec.rules.iter().flatten().filter_map(|rule| rule.http.as_ref());
    let paths = rules.flat_map(|http| http.paths.iter().map(|path| &path.backend));
    paths.chain(&spec.default_backend).collect()
}

/// Whether a name is the one of the cluster's API inside the cluster.
fn leads_to_the_api(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_lowercase();
    name == "kubernetes.default" || name.starts_with("kubernetes.default.svc")
}
