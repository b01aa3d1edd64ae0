//! A change of the world, put in force by what it touches. What was desired before is in force: every failure, and
//! whatever else is in doubt, ends in a whole pass, which looks at the kernel.

use std::collections::BTreeSet;

use super::{Engine, Network, Place, State, Tables, World, by_address, in_turn, note};
use crate::{
    kernel,
    plan::{members::Members, ports::Ports, reading::Change, routes::RouteChange},
};

/// What changes are planned from, all of it in force.
pub(super) struct Settled {
    place: Place,
    members: Members,
    ports: Ports,
}

impl Settled {
    /// Of a whole world that is in force; `None` without tables, which then are unknown.
    pub(super) fn at(place: Place, world: &World, tables: Option<&Tables>) -> Option<Self> {
        let ports = Ports::of(world, tables?, place.network.dns_address);
        Some(Self { members: Members::of(world), ports, place })
    }
}

impl Engine {
    /// Changes the world in place and puts that in force, by a whole pass where that is needed. Returns what failed;
    /// nothing means that the world is in force.
    pub async fn follow(&self, change: Change) -> Vec<String> {
        let mut state = self.state.lock().await;
        let state = &mut *state;
        // The controller need not hear of services.
        let is_heard = change.network.is_some() || !change.peers.is_empty();
        let before = state.world.apply(change);
        if is_heard {
            self.changed.notify_one();
        }
        let is_known = before.network.is_none() && state.tables.is_some() && state.zone.is_some();
        let settled = state.settled.take().filter(|_| is_known);
        let Some(mut settled) = settled else { return self.enforce_all(state, false).await };
        let mut problems = Vec::new();
        if !self.follow_network(state, &mut settled, &before, &mut problems).await {
            return self.enforce_all(state, false).await;
        }
        state.settled = Some(settled);
        self.end_pass(state, problems)
    }

    /// How often another world was put in the place of the one before: changes follow the last one alone.
    pub async fn replaced(&self) -> u64 {
        self.state.lock().await.replaced
    }

    /// Whether this is the world that is meant to be in force.
    pub async fn holds(&self, world: &World) -> bool {
        self.state.lock().await.world == *world
    }

    /// Whether the member has a place in the overlay.
    pub async fn has_place(&self) -> bool {
        self.state.lock().await.world.network.is_some()
    }

    /// What is new comes first, what is old goes last, as in a whole pass. Returns whether that was enough.
    async fn follow_network(
        &self,
        state: &mut State,
        settled: &mut Settled,
        before: &Change,
        problems: &mut Vec<String>,
    ) -> bool {
        let network = settled.place.network.clone();
        let turn = settled.members.advance(before, &state.world);
        let (first, last) = in_turn(turn.peers(&state.written));
        note(problems, self.change_peers(state, first).await);
        let Some(place) = note(problems, self.place(&network).await) else { return true };
        let Some(routes) = turn.routes(&settled.members, &settled.place, &place) else { return false };
        let (gone, new): (Vec<_>, Vec<_>) = routes.into_iter().partition(RouteChange::is_removal);
        settled.place = place;
        note(problems, self.change_routes(new).await);
        note(problems, self.follow_services(state, settled, before).await);
        self.follow_zone(state, before);
        note(problems, self.change_routes(gone).await);
        note(problems, self.change_peers(state, last).await);
        true
    }

    /// The links of this member, which are few.
    async fn place(&self, network: &Network) -> Result<Place, kernel::Error> {
        let tunnel = self.enforce_link(network).await?;
        let pods = by_address(self.netlink.attachments().await?);
        Ok(Place { network: network.clone(), tunnel, pods })
    }

    async fn follow_services(
        &self,
        state: &mut State,
        settled: &mut Settled,
        before: &Change,
    ) -> Result<(), kernel::Error> {
        // An error leaves open what the kernel holds.
        let Some(mut tables) = state.tables.take() else { return Ok(()) };
        let Settled { place, ports, .. } = settled;
        let mut changes = ports.advance(before, &state.world, &tables, place.network.dns_address);
        changes.hairpin(&tables, place.pods.keys().copied());
        if !changes.is_empty() {
            tracing::debug!(elements = changes.len(), "changing the service rules");
            self.ruleset.change(changes.clone()).await?;
        }
        let left = changes.left(&tables);
        tables.apply(&changes);
        self.forget(&place.network, &tables, left.flows, left.clients).await?;
        state.tables = Some(tables);
        Ok(())
    }

    fn follow_zone(&self, state: &mut State, before: &Change) {
        let State { world, zone: Some(zone), .. } = state else { return };
        let mut names = BTreeSet::new();
        for (name, service) in &before.services {
            names.extend(zone.replace(name, service.as_ref(), world.services.get(name)));
        }
        if !names.is_empty() {
            self.dns.update(zone, &names);
        }
    }
}
