//! The gateway's view: one route per rule path of every Ingress that is ours, with its endpoints; and what routes need
//! of Secrets: certificates, and who may pass. Gateways alone get those.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    core::v1 as core,
    networking::v1::{
        HTTPIngressPath, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec,
    },
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use warren_plan::ingress::{
    self,
    annotations::{self, Annotations},
};
use warren_proto::control::{
    BasicAuthentication, Endpoint, ExternalTarget, FeedItem, HttpPolicy, HttpRoute, PathType, TlsCertificate,
    feed_item::Item,
};
use warren_state::{Key, Object, Snapshot};
use warren_vocabulary::{
    ClusterConfig,
    resources::{SECRETS, SERVICES},
};

use crate::{endpoints::Slices, references::ReadSet, view};

/// What one Ingress asks for.
#[derive(Default)]
pub(crate) struct Route {
    pub(crate) items: Vec<FeedItem>,
    pub(crate) claims: Claims,
}

/// What an Ingress asks for of Secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    /// The oldest has what several ask for.
    age: (i64, Option<String>),
    /// Who may pass: the Secret, and whether each of its keys is a user.
    users: Option<(Key, bool)>,
    /// The hosts that have a certificate, and the Secret with it. "" stands for all other hosts.
    certificates: Vec<(String, Key)>,
}

impl Claims {
    fn of(ingress: &Ingress, namespace: &str, annotations: &Annotations) -> Self {
        let users = annotations.users.as_ref();
        let users = users.map(|(secret, by_key)| (Key::new(SECRETS, namespace, secret), *by_key));
        let mut certificates = Vec::new();
        let tls = ingress.spec.as_ref().and_then(|spec| spec.tls.as_ref()).into_iter().flatten();
        for tls in tls {
            let Some(secret) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) else { continue };
            let key = Key::new(SECRETS, namespace, secret);
            let hosts = tls.hosts.as_deref().unwrap_or_default();
            certificates.extend(hosts.iter().map(|host| (host.to_lowercase(), key.clone())));
            if hosts.is_empty() {
                certificates.push((String::new(), key));
            }
        }
        Self { age: (created(ingress), ingress.metadata.uid.clone()), users, certificates }
    }
}

/// What becomes of one Ingress; nothing when it is not ours. What it looked at is noted in `reads`.
pub(crate) fn route(
    object: &Object,
    snapshot: &Snapshot,
    slices: &Slices,
    reads: &ReadSet,
    config: &ClusterConfig,
) -> Option<Route> {
    if !ingress::is_ours(snapshot, object) {
        return None;
    }
    let ingress = object.typed::<Ingress>().ok()?;
    let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
    let annotations = annotations::read(namespace, ingress.metadata.annotations.as_ref());
    let claims = Claims::of(&ingress, namespace, &annotations);
    let compilation = Compilation { snapshot, slices, reads, config, ingress: &ingress, annotations };
    Some(Route { items: compilation.routes(), claims })
}

fn created(ingress: &Ingress) -> i64 {
    ingress.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second())
}

/// What gateways are told of one Secret, for one reason.
pub(crate) struct Wanted {
    /// The item's key.
    pub(crate) item: String,
    pub(crate) secret: Key,
    reason: Reason,
}

enum Reason {
    Users { by_key: bool },
    Certificate { hosts: Vec<String> },
}

/// What all claims together ask for, each once. `claims` come in the order of their Ingresses' keys.
pub(crate) fn wanted<'c>(claims: impl Iterator<Item = &'c Claims>) -> Vec<Wanted> {
    let mut claims: Vec<_> = claims.collect();
    claims.sort_by_key(|claims| &claims.age);
    let users: BTreeSet<_> = claims.iter().filter_map(|claims| claims.users.as_ref()).collect();
    let users = users.into_iter().map(|(secret, by_key)| Wanted {
        item: annotations::users_key(&secret.namespace, &secret.name, *by_key),
        secret: secret.clone(),
        reason: Reason::Users { by_key: *by_key },
    });
    let mut owners = BTreeMap::<&str, &Key>::new();
    for (host, secret) in claims.iter().flat_map(|claims| &claims.certificates) {
        owners.entry(host).or_insert(secret);
    }
    let others = owners.remove("");
    let mut hosts = BTreeMap::<&Key, Vec<String>>::new();
    for (host, secret) in owners {
        hosts.entry(secret).or_default().push(host.to_owned());
    }
    let certificate = |secret: &Key, end: &str, hosts| Wanted {
        item: format!("tls/{}/{}{end}", secret.namespace, secret.name),
        secret: secret.clone(),
        reason: Reason::Certificate { hosts },
    };
    let named = hosts.into_iter().map(|(secret, hosts)| certificate(secret, "", hosts));
    let others = others.map(|secret| certificate(secret, "/any", Vec::new()));
    users.chain(named).chain(others).collect()
}

impl Wanted {
    /// The item, if the Secret is there and has what is wanted of it.
    pub(crate) fn compile(&self, snapshot: &Snapshot) -> Option<FeedItem> {
        let secret = snapshot.get(&self.secret)?.typed::<core::Secret>().ok()?;
        let item = match &self.reason {
            Reason::Users { by_key } => Item::BasicAuthentication(users(&secret, *by_key)?),
            Reason::Certificate { hosts } => {
                let data = |name: &str| Some(secret.data.as_ref()?.get(name)?.0.clone());
                let (certificate, key) = (data("tls.crt")?, data("tls.key")?);
                Item::TlsCertificate(TlsCertificate { hosts: hosts.clone(), certificate, key })
            }
        };
        Some(view::item(self.item.clone(), item))
    }
}

/// Who may pass, as a Secret says it: in a file of its key `auth`, or a user in each key.
fn users(secret: &core::Secret, by_key: bool) -> Option<BasicAuthentication> {
    let data = secret.data.as_ref()?;
    let users = if by_key {
        let lines =
            data.iter().map(|(user, hash)| [user.as_bytes(), b":", hash.0.trim_ascii(), b"\n"].concat());
        lines.collect::<Vec<_>>().concat()
    } else {
        data.get("auth")?.0.clone()
    };
    Some(BasicAuthentication { users, lost: false })
}

/// Where a backend leads.
struct Backend {
    /// "NAMESPACE/SERVICE:PORT".
    label: String,
    endpoints: Vec<Endpoint>,
    /// Behind the endpoints, where they are of the Ingress's own namespace.
    pods: Vec<String>,
    external: Option<ExternalTarget>,
}

struct Compilation<'a> {
    snapshot: &'a Snapshot,
    slices: &'a Slices,
    reads: &'a ReadSet,
    config: &'a ClusterConfig,
    ingress: &'a Ingress,
    annotations: Annotations,
}

impl Compilation<'_> {
    fn namespace(&self) -> &str {
        self.ingress.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.ingress.metadata.name.as_deref().unwrap_or_default()
    }

    fn routes(&self) -> Vec<FeedItem> {
        let Some(spec) = &self.ingress.spec else { return Vec::new() };
        let rules = spec.rules.iter().flatten().flat_map(|rule| self.rule(rule, spec));
        let mut items: Vec<_> =
            rules.enumerate().map(|(index, route)| self.item(&index.to_string(), route)).collect();
        if let Some(backend) = &spec.default_backend {
            let route = HttpRoute { is_default: true, ..self.route("", "/", PathType::Prefix, backend) };
            items.push(self.item("default", route));
        }
        items
    }

    /// A rule without paths sends its whole host to the default backend.
    fn rule(&self, rule: &IngressRule, spec: &IngressSpec) -> Vec<HttpRoute> {
        let host = rule.host.as_deref().unwrap_or_default();
        match (&rule.http, &spec.default_backend) {
            (Some(http), _) => http.paths.iter().map(|path| self.path(host, path)).collect(),
            (None, Some(backend)) => vec![self.route(host, "/", PathType::Prefix, backend)],
            (None, None) => Vec::new(),
        }
    }

    fn path(&self, host: &str, path: &HTTPIngressPath) -> HttpRoute {
        let path_type = match path.path_type.as_str() {
            "Exact" => PathType::Exact,
            _ if self.annotations.regex => PathType::Regex,
            _ => PathType::Prefix,
        };
        let text = path.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        self.route(host, text, path_type, &path.backend)
    }

    fn route(&self, host: &str, path: &str, path_type: PathType, backend: &IngressBackend) -> HttpRoute {
        let host = host.to_lowercase();
        let mut policy = self.annotations.policy.clone();
        policy.redirect_to_https |= self.annotations.redirect_where_tls && self.has_certificate(&host);
        let Backend { label, endpoints, pods, external } = self.backend(backend);
        HttpRoute {
            host,
            path: path.to_owned(),
            path_type: path_type.into(),
            backend: label,
            endpoints,
            ingress: format!("{}/{}", self.namespace(), self.name()),
            is_default: false,
            policy: (policy != HttpPolicy::default()).then_some(policy),
            external,
            created: created(self.ingress),
            uid: self.ingress.metadata.uid.clone().unwrap_or_default(),
            pods,
        }
    }

    /// Whether the Ingress's `tls` speaks of the host.
    fn has_certificate(&self, host: &str) -> bool {
        let tls = self.ingress.spec.as_ref().and_then(|spec| spec.tls.as_ref()).into_iter().flatten();
        let fits = |name: &String| {
            let name = name.to_lowercase();
            let suffix = host.split_once('.').map(|(_, suffix)| suffix);
            name == host || name.strip_prefix("*.").is_some_and(|wanted| suffix == Some(wanted))
        };
        tls.map(|tls| tls.hosts.as_deref().unwrap_or_default())
            .any(|hosts| hosts.is_empty() || hosts.iter().any(fits))
    }

    /// The backend's label and endpoints. One that leads nowhere stays a route: the gateway says so by 503.
    fn backend(&self, backend: &IngressBackend) -> Backend {
        let namespace = self.namespace();
        let Some(target) = &backend.service else {
            let name = backend.resource.as_ref().map_or("", |resource| resource.name.as_str());
            let label = format!("{namespace}/{name}");
            return Backend { label, endpoints: Vec::new(), pods: Vec::new(), external: None };
        };
        let label = target.port.as_ref().and_then(|port| port.name.clone());
        let label = label.unwrap_or_else(|| number(target).unwrap_or_default().to_string());
        let label = format!("{namespace}/{}:{label}", target.name);
        let service = self.service(namespace, &target.name);
        let port = service.as_deref().and_then(|service| port_of(service, target));
        let external = service.as_ref().and_then(|service| service.spec.as_ref());
        let external = external.filter(|spec| spec.type_.as_deref() == Some("ExternalName"));
        if let Some(spec) = external {
            let name = spec.external_name.as_deref().unwrap_or_default();
            let (endpoints, external) = self.external(name, target, port);
            return Backend { label, endpoints, pods: Vec::new(), external };
        }
        let found = port.map(|port| self.slices.with_pods(namespace, &target.name, port));
        let (endpoints, pods) = found.unwrap_or_default();
        Backend { label, endpoints, pods, external: None }
    }

    fn service(&self, namespace: &str, name: &str) -> Option<std::sync::Arc<core::Service>> {
        let key = Key::new(SERVICES, namespace, name);
        self.reads.note(&key);
        self.snapshot.get(&key)?.typed::<core::Service>().ok()
    }

    /// Where a Service of type ExternalName leads: to another Service's endpoints, or to a name that the gateway
    /// looks up. Never to the cluster's API, and to no address of the cluster by a name from outside.
    fn external(
        &self,
        name: &str,
        target: &IngressServiceBackend,
        port: Option<&core::ServicePort>,
    ) -> (Vec<Endpoint>, Option<ExternalTarget>) {
        let name = name.trim_end_matches('.').to_lowercase();
        let domain = format!(".svc.{}", self.config.domain);
        let inside = name.strip_suffix(&domain).or_else(|| name.strip_suffix(".svc"));
        if let Some((service, namespace)) = inside.and_then(|inside| inside.split_once('.')) {
            if (service, namespace) == ("kubernetes", "default") {
                return (Vec::new(), None);
            }
            let found = self.service(namespace, service);
            let port = found.as_deref().and_then(|found| port_of(found, target));
            let endpoints = port.map(|port| self.slices.of_port(namespace, service, port));
            return (endpoints.unwrap_or_default(), None);
        }
        let own = port.map(|port| match &port.target_port {
            Some(IntOrString::Int(number)) if *number > 0 => *number,
            _ => port.port,
        });
        let port = own.or_else(|| number(target)).and_then(|port| u16::try_from(port).ok());
        let refused =
            [self.config.cluster_cidr, self.config.service_cidr].map(|network| network.to_string()).to_vec();
        let target = port.filter(|port| *port > 0 && !name.is_empty());
        (Vec::new(), target.map(|port| ExternalTarget { name, port: port.into(), refused }))
    }

    fn item(&self, index: &str, route: HttpRoute) -> FeedItem {
        let key = format!("route/{}/{}/{index}", self.namespace(), self.name());
        view::item(key, Item::HttpRoute(route))
    }
}

fn number(target: &IngressServiceBackend) -> Option<i32> {
    target.port.as_ref().and_then(|port| port.number)
}

/// The Service's port that a backend means.
fn port_of<'a>(service: &'a core::Service, target: &IngressServiceBackend) -> Option<&'a core::ServicePort> {
    let name = target.port.as_ref().and_then(|port| port.name.as_ref());
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    ports.iter().find(|port| match name {
        Some(name) => port.name.as_ref() == Some(name),
        None => Some(port.port) == number(target),
    })
}
