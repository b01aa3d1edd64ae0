//! Names outside of the cluster (Services of type ExternalName), looked up for as long as a route leads there.
//!
//! A lookup lasts as long as its answer says. What becomes known is put into the table like any other endpoint: the
//! same barrier, balancing, and refusal of addresses that nobody may reach through the gateway.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hickory_resolver::{
    TokioResolver,
    config::{ResolveHosts, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use warren_proto::control::ExternalTarget;

use crate::addresses::within;

/// How long an answer is used at least and at most, whatever it says.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);
/// After a lookup that failed; the earlier answer stays in use.
const AGAIN: Duration = Duration::from_secs(5);
/// Addresses of one name that are used.
const ADDRESSES: usize = 32;

/// What names stand for.
pub struct Names {
    resolver: TokioResolver,
    shared: Arc<Shared>,
    lookups: Mutex<BTreeMap<Wanted, AbortOnDropHandle<()>>>,
}

struct Shared {
    known: Mutex<BTreeMap<Wanted, Vec<IpAddr>>>,
    changes: watch::Sender<u64>,
}

/// A name, and where it must not lead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    name: String,
    refused: Vec<String>,
}

impl From<&ExternalTarget> for Wanted {
    fn from(target: &ExternalTarget) -> Self {
        Self { name: target.name.clone(), refused: target.refused.clone() }
    }
}

impl Names {
    /// As this machine's resolver configuration says.
    pub fn system() -> anyhow::Result<Self> {
        match TokioResolver::builder_tokio() {
            Ok(mut builder) => {
                builder.options_mut().use_hosts_file = ResolveHosts::Never;
                Ok(Self::new(builder.build().context("cannot make a resolver")?))
            }
            Err(error) => {
                tracing::warn!(%error, "/etc/resolv.conf cannot be used: Services of type ExternalName lead nowhere");
                Self::asking(ResolverConfig::from_parts(None, Vec::new(), Vec::new()))
            }
        }
    }

    /// With servers of its own.
    pub fn asking(config: ResolverConfig) -> anyhow::Result<Self> {
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        Ok(Self::new(builder.build().context("cannot make a resolver")?))
    }

    fn new(resolver: TokioResolver) -> Self {
        let shared = Arc::new(Shared { known: Mutex::default(), changes: watch::Sender::new(0) });
        Self { resolver, shared, lookups: Mutex::default() }
    }

    /// Wakes when a name stands for something else.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Looks these names up from now on, and no others.
    pub(crate) fn want<'a>(&self, targets: impl Iterator<Item = &'a ExternalTarget>) {
        let wanted: std::collections::BTreeSet<Wanted> = targets.map(Wanted::from).collect();
        let mut lookups = self.lookups.lock();
        lookups.retain(|name, _| wanted.contains(name));
        self.shared.known.lock().retain(|name, _| wanted.contains(name));
        for name in wanted {
            lookups.entry(name).or_insert_with_key(|name| {
                let lookup = look_up(self.resolver.clone(), self.shared.clone(), name.clone());
                AbortOnDropHandle::new(tokio::spawn(lookup))
            });
        }
    }

    /// What these names stand for, as far as it is known.
    pub(crate) fn known<'a>(
        &self,
        targets: impl Iterator<Item = &'a ExternalTarget>,
    ) -> HashMap<(&'a str, u16), Vec<IpAddr>> {
        let known = self.shared.known.lock();
        targets
            .filter_map(|target| {
                let addresses = known.get(&Wanted::from(target))?.clone();
                Some(((target.name.as_str(), u16::try_from(target.port).ok()?), addresses))
            })
            .collect()
    }
}

/// Keeps what a name stands for up to date.
async fn look_up(resolver: TokioResolver, shared: Arc<Shared>, wanted: Wanted) {
    let refused: Vec<IpNet> = wanted.refused.iter().filter_map(|network| network.parse().ok()).collect();
    // Absolute: the gateway's search domains are none of the user's.
    let absolute = format!("{}.", wanted.name.trim_end_matches('.'));
    let mut failed = false;
    loop {
        let pause = match resolver.lookup_ip(absolute.as_str()).await {
            Ok(answer) => {
                failed = false;
                let (inside, mut addresses): (Vec<IpAddr>, Vec<IpAddr>) = answer
                    .iter()
                    .map(|address| address.to_canonical())
                    .partition(|address| within(&refused, *address));
                if !inside.is_empty() {
                    let (name, addresses) = (&wanted.name, format!("{inside:?}"));
                    tracing::warn!(
                        name,
                        addresses,
                        "an ExternalName leads into the cluster: nothing is sent there"
                    );
                }
                addresses.sort_unstable();
                addresses.dedup();
                addresses.truncate(ADDRESSES);
                publish(&shared, &wanted, addresses);
                let left = answer.valid_until().saturating_duration_since(Instant::now());
                left.clamp(SHORTEST, LONGEST)
            }
            Err(error) => {
                // Once, until it is found again.
                if !std::mem::replace(&mut failed, true) {
                    tracing::warn!(name = wanted.name, %error, "an ExternalName cannot be looked up");
                }
                AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

fn publish(shared: &Shared, wanted: &Wanted, addresses: Vec<IpAddr>) {
    let changed = {
        let mut known = shared.known.lock();
        let changed = known.get(wanted) != Some(&addresses);
        if changed {
            known.insert(wanted.clone(), addresses);
        }
        changed
    };
    if changed {
        shared.changes.send_modify(|count| *count += 1);
    }
}
