//! The gateway's view: one route per rule path of every Ingress that is ours, with its endpoints.

use k8s_openapi::api::{
    core::v1 as core,
    networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressRule, IngressSpec},
};
use warren_plan::{
    ingress,
    resources::{INGRESSES, SERVICES},
};
use warren_proto::control::{FeedItem, HttpRoute, PathType, feed_item::Item};
use warren_store::{Key, Snapshot};

use super::{endpoints::Slices, view};

/// All routes.
pub(crate) fn routes<'a>(snapshot: &'a Snapshot, slices: &'a Slices) -> impl Iterator<Item = FeedItem> + 'a {
    snapshot.typed::<Ingress>(INGRESSES).flat_map(|(object, ingress)| {
        if ingress::is_ours(object) {
            Compilation { snapshot, slices, ingress: &ingress }.routes()
        } else {
            Vec::new()
        }
    })
}

struct Compilation<'a> {
    snapshot: &'a Snapshot,
    slices: &'a Slices,
    ingress: &'a Ingress,
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
        let path_type = if path.path_type == "Exact" { PathType::Exact } else { PathType::Prefix };
        let text = path.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        self.route(host, text, path_type, &path.backend)
    }

    fn route(&self, host: &str, path: &str, path_type: PathType, backend: &IngressBackend) -> HttpRoute {
        let (backend, endpoints) = self.backend(backend);
        HttpRoute {
            host: host.to_lowercase(),
            path: path.to_owned(),
            path_type: path_type.into(),
            backend,
            endpoints,
            ingress: format!("{}/{}", self.namespace(), self.name()),
            is_default: false,
        }
    }

    /// The backend's label and endpoints. One that leads nowhere stays a route: the gateway says so by 503.
    fn backend(&self, backend: &IngressBackend) -> (String, Vec<warren_proto::control::Endpoint>) {
        let namespace = self.namespace();
        let Some(target) = &backend.service else {
            let name = backend.resource.as_ref().map_or("", |resource| resource.name.as_str());
            return (format!("{namespace}/{name}"), Vec::new());
        };
        let wanted = target.port.clone().unwrap_or_default();
        let label = wanted.name.clone().unwrap_or_else(|| wanted.number.unwrap_or_default().to_string());
        let label = format!("{namespace}/{}:{label}", target.name);
        let service = self
            .snapshot
            .get(&Key::new(SERVICES, namespace, &target.name))
            .and_then(|object| object.typed::<core::Service>().ok());
        let ports = service.as_ref().and_then(|service| service.spec.as_ref()?.ports.as_ref());
        let port = ports.into_iter().flatten().find(|port| match &wanted.name {
            Some(name) => port.name.as_ref() == Some(name),
            None => Some(port.port) == wanted.number,
        });
        let endpoints = port.map(|port| self.slices.of_port(namespace, &target.name, port));
        (label, endpoints.unwrap_or_default())
    }

    fn item(&self, index: &str, route: HttpRoute) -> FeedItem {
        let key = format!("route/{}/{}/{index}", self.namespace(), self.name());
        view::item(key, Item::HttpRoute(route))
    }
}
