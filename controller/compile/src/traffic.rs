//! What members and gateways are told of services and Ingresses: which of them a change concerns, and what becomes of
//! those.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1 as core;
use warren_state::{Difference, Key, Object};
use warren_vocabulary::{guard, resources::INGRESSES};

use crate::{
    Pass,
    agents::take_out,
    endpoints::{OBJECT_ENDPOINTS, Slices},
    item::Item,
    network,
    references::ReadSet,
    routes::{self, Claims},
};

pub(super) const SERVICES_STAGE: &str = "compiling services";
pub(super) const ROUTES_STAGE: &str = "compiling routes";

/// As long as all Ingresses together name no more endpoints than this, one alone may name so many.
const ALL_ENDPOINTS: usize = 10 * OBJECT_ENDPOINTS;

/// An Ingress that is ours, and what it was made from.
struct Ingress {
    /// Its items in the gateways' view.
    items: BTreeSet<Arc<str>>,
    claims: Claims,
    services: BTreeSet<Key>,
    /// How many endpoints it would name.
    endpoints: usize,
    /// Whether it names fewer, because all of them would name too many.
    cut: bool,
}

/// All services and Ingresses, and who leads where.
#[derive(Default)]
pub(super) struct Traffic {
    slices: Slices,
    services: BTreeSet<Key>,
    ingresses: BTreeMap<Key, Ingress>,
    leading: BTreeMap<Key, BTreeSet<Key>>,
    touched: BTreeSet<Key>,
    /// What all Ingresses would name, and which of them would name more than one may.
    endpoints: usize,
    large: BTreeSet<Key>,
    /// Secrets that Ingresses claim, the items that were made of them, and whether to make them again.
    secrets: BTreeSet<Key>,
    secret_items: BTreeSet<Arc<str>>,
    claims_changed: bool,
}

impl Traffic {
    pub(super) fn touch_service(&mut self, service: &Key) {
        self.services.insert(service.clone());
        self.touched.extend(self.leading.get(service).into_iter().flatten().cloned());
    }

    pub(super) fn touch_slice(&mut self, difference: &Difference) {
        for service in self.slices.change(difference).into_iter().flatten() {
            self.touch_service(&service);
        }
    }

    pub(super) fn touch_ingress(&mut self, ingress: &Key) {
        self.touched.insert(ingress.clone());
    }

    pub(super) fn touch_secret(&mut self, secret: &Key) {
        self.claims_changed |= self.secrets.contains(secret);
    }

    /// Compiles what was touched.
    pub(super) fn advance(&mut self, pass: &mut Pass<'_>) {
        for key in std::mem::take(&mut self.services) {
            self.service(&key, pass);
        }
        for key in std::mem::take(&mut self.touched) {
            self.ingress(&key, ALL_ENDPOINTS, pass);
        }
        self.share(pass);
        if std::mem::take(&mut self.claims_changed) {
            self.secrets(pass);
        }
    }

    /// One service's item; as it was when we fail on it.
    fn service(&self, key: &Key, pass: &mut Pass<'_>) {
        let name: Arc<str> = network::service_key(&key.namespace, &key.name).into();
        self.slices.allow(OBJECT_ENDPOINTS);
        let compile = |object: &Arc<Object>| {
            guard::catch(|| {
                pass.progress.at(SERVICES_STAGE, key);
                let service = object.typed::<core::Service>().ok()?;
                network::service(&service, &self.slices).map(|item| Item::new(&item))
            })
        };
        let (item, failure) = match pass.snapshot.get(key).map_or(Ok(None), compile) {
            Ok(item) => (item, self.slices.exceeded().then(|| too_many_endpoints("ports"))),
            Err(message) => (pass.last.network.get(&name).cloned(), Some(message)),
        };
        pass.set_network(name, item);
        pass.judge(SERVICES_STAGE, key, failure);
    }

    /// The routes of one Ingress; as they were when we fail on it.
    fn ingress(&mut self, key: &Key, most_endpoints: usize, pass: &mut Pass<'_>) {
        let former = self.forget(key);
        let reads = ReadSet::default();
        self.slices.allow(most_endpoints);
        let compile = |object: &Arc<Object>| {
            guard::catch(|| {
                pass.progress.at(ROUTES_STAGE, key);
                routes::route(object, pass.snapshot, &self.slices, &reads, pass.config)
            })
        };
        let compiled = pass.snapshot.get(key).map_or(Ok(None), compile);
        let (old, old_claims) = former
            .as_ref()
            .map(|ingress| (ingress.items.clone(), ingress.claims.clone()))
            .unwrap_or_default();
        let (ingress, failure) = match compiled {
            Ok(None) => (None, None),
            Ok(Some(route)) => {
                let mut items = BTreeSet::new();
                for item in &route.items {
                    let name: Arc<str> = item.key.as_str().into();
                    pass.set_gateway(Arc::clone(&name), Some(Item::new(item)));
                    items.insert(name);
                }
                let cut = most_endpoints < ALL_ENDPOINTS;
                let known = former.as_ref().map_or(0, |former| former.endpoints);
                let endpoints = if cut { known } else { self.slices.taken() };
                let services = reads.into_keys();
                let too_many = cut && self.slices.exceeded();
                let ingress = Ingress { items, claims: route.claims, services, endpoints, cut };
                (Some(ingress), too_many.then(|| too_many_endpoints("paths")))
            }
            Err(message) => {
                let own = format!("route/{}/{}/", key.namespace, key.name);
                let known = pass.last.gateway.range(Arc::from(own.as_str())..);
                let known = known.take_while(|(name, _)| name.starts_with(&own));
                let known: Vec<_> = known.map(|(name, item)| (Arc::clone(name), item.clone())).collect();
                let items = known.iter().map(|(name, _)| Arc::clone(name)).collect();
                for (name, item) in known {
                    pass.set_gateway(name, Some(item));
                }
                let (claims, services) = (old_claims.clone(), reads.into_keys());
                (Some(Ingress { items, claims, services, endpoints: 0, cut: false }), Some(message))
            }
        };
        let kept = ingress.as_ref().map(|ingress| &ingress.items);
        for gone in old.iter().filter(|name| !kept.is_some_and(|kept| kept.contains(*name))) {
            pass.set_gateway(Arc::clone(gone), None);
        }
        let claims = ingress.as_ref().map(|ingress| ingress.claims.clone()).unwrap_or_default();
        self.claims_changed |= claims != old_claims || former.is_some() != ingress.is_some();
        pass.judge(ROUTES_STAGE, key, failure);
        if let Some(ingress) = ingress {
            self.remember(key.clone(), ingress);
        }
    }

    /// When all Ingresses together name too many endpoints, those that name more than one may are cut, and said; and no
    /// longer than that.
    fn share(&mut self, pass: &mut Pass<'_>) {
        let crowded = self.endpoints > ALL_ENDPOINTS;
        let is_cut = |key: &&Key| self.ingresses.get(*key).is_some_and(|ingress| ingress.cut);
        let wrong: Vec<Key> = self.large.iter().filter(|key| is_cut(key) != crowded).cloned().collect();
        for key in wrong {
            self.ingress(&key, if crowded { OBJECT_ENDPOINTS } else { ALL_ENDPOINTS }, pass);
        }
    }

    /// What gateways need of Secrets: which is little, but each claim may concern every other.
    fn secrets(&mut self, pass: &mut Pass<'_>) {
        let all = Key::new(INGRESSES, "", "all");
        let claims = || self.ingresses.values().map(|ingress| &ingress.claims);
        let wanted = guard::catch(|| routes::wanted(claims()));
        let wanted = match wanted {
            Ok(wanted) => wanted,
            // What is there stays.
            Err(message) => return pass.judge(ROUTES_STAGE, &all, Some(message)),
        };
        pass.judge(ROUTES_STAGE, &all, None);
        let secrets = wanted.iter().map(|wanted| wanted.secret.clone()).collect();
        let former = std::mem::replace(&mut self.secrets, secrets);
        former.difference(&self.secrets).for_each(|secret| pass.judge(ROUTES_STAGE, secret, None));
        let mut items = BTreeSet::new();
        for wanted in &wanted {
            let name: Arc<str> = wanted.item.as_str().into();
            let compiled = guard::catch(|| {
                pass.progress.at(ROUTES_STAGE, &wanted.secret);
                wanted.compile(pass.snapshot).map(|item| Item::new(&item))
            });
            let (item, failure) = match compiled {
                Ok(item) => (item, None),
                Err(message) => (pass.last.gateway.get(&name).cloned(), Some(message)),
            };
            pass.judge(ROUTES_STAGE, &wanted.secret, failure);
            pass.set_gateway(Arc::clone(&name), item);
            items.insert(name);
        }
        let former = std::mem::replace(&mut self.secret_items, items);
        for gone in former.difference(&self.secret_items) {
            pass.set_gateway(Arc::clone(gone), None);
        }
    }

    fn remember(&mut self, key: Key, ingress: Ingress) {
        for service in &ingress.services {
            self.leading.entry(service.clone()).or_default().insert(key.clone());
        }
        self.endpoints = self.endpoints.saturating_add(ingress.endpoints);
        if ingress.endpoints > OBJECT_ENDPOINTS {
            self.large.insert(key.clone());
        }
        self.ingresses.insert(key, ingress);
    }

    fn forget(&mut self, key: &Key) -> Option<Ingress> {
        let ingress = self.ingresses.remove(key)?;
        for service in &ingress.services {
            take_out(self.leading.get_mut(service), key).then(|| self.leading.remove(service));
        }
        self.endpoints = self.endpoints.saturating_sub(ingress.endpoints);
        self.large.remove(key);
        Some(ingress)
    }
}

fn too_many_endpoints(of: &str) -> String {
    format!(
        "its {of} lead to more than {OBJECT_ENDPOINTS} endpoints in all, and those that come last lead nowhere: \
         divide it"
    )
}
