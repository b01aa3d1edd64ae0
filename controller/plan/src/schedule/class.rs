//! Pods that ask for the same: the nodes are looked through once for all of them.
//!
//! The nodes lie in heaps by their cost, one for each *cell*: nodes that are in the same domains of all labels that matter and
//! have few values, such as zones. What all nodes of a cell have in common is asked of the cell, whenever a pod comes; what
//! is left of a node's cost only grows while a pass goes on, or is noted when it falls. So what a heap holds is never more
//! than the truth: the node at the top of all is the best when its cost is true, and else goes back with the true one.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    rc::Rc,
    sync::Arc,
};

use super::{
    Pass, host_network, images,
    preempt::Prospects,
    relations::{Placed, Relations, Standing},
    score,
    spread::{self, Constraint},
    terms::Term,
    topology::Domains,
};
use crate::{indexes::PodRequest, view::PodView};

/// A label with more values than these tells no cells apart.
const FEW_VALUES: usize = 64;
/// How many cells there are at most.
const CELLS: usize = 256;

pub(super) struct Class<'a> {
    pub(super) pod: PodView<'a>,
    pub(super) request: PodRequest,
    pub(super) relations: Relations,
    cells: Vec<Cell>,
    /// The cell of each node, where there may be several.
    cell_of: Vec<usize>,
    /// Images of the pods that some node has, and what having them counts for each node, if there are any.
    images: Vec<Arc<str>>,
    bonuses: Vec<i64>,
    /// The kind of those that are just like the first one.
    kind: usize,
    /// After how many changes they were refused, and why.
    pub(super) refused: Option<(usize, String)>,
    /// Where others can make room for them.
    pub(super) prospects: Option<Prospects>,
}

struct Cell {
    /// One of its nodes.
    any: usize,
    /// Nodes that may run such pods, by a cost that is not more than the true one, the cell's own left aside.
    heap: BinaryHeap<Reverse<(i64, usize)>>,
}

impl<'a> Class<'a> {
    /// A class without nodes.
    pub(super) fn new(pass: &mut Pass<'_, 'a>, pod: &PodView<'a>, request: &PodRequest) -> Self {
        let indexes = pass.view.indexes;
        let images = pod.spec.as_ref().map(|spec| images::known(indexes, spec)).unwrap_or_default();
        let nodes = pass.candidates.len();
        let bonus = |index: usize| images::bonus(indexes, &images, pass.candidates[index].node.name(), nodes);
        let bonuses = if images.is_empty() { Vec::new() } else { (0..nodes).map(bonus).collect() };
        pass.kinds = pass.kinds.saturating_add(1);
        Self {
            kind: pass.kinds,
            relations: Relations::new(pass, pod, request.owner.as_ref()),
            pod: pod.clone(),
            request: request.clone(),
            cells: Vec::new(),
            cell_of: Vec::new(),
            images,
            bonuses,
            refused: None,
            prospects: None,
        }
    }

    /// Takes up nodes that may run such pods.
    pub(super) fn take_up(&mut self, pass: &Pass<'_, 'a>, nodes: &[usize]) {
        self.tell_cells_apart(nodes, pass.candidates.len());
        for node in nodes {
            self.offer(pass, *node);
        }
    }

    /// Cells by as many labels as there may be, those with the fewest values first.
    fn tell_cells_apart(&mut self, nodes: &[usize], all: usize) {
        let mut labels: Vec<Rc<Domains>> = Vec::new();
        for domains in self.relations.shared().filter(|domains| domains.len() <= FEW_VALUES) {
            if !labels.iter().any(|known| Rc::ptr_eq(known, domains)) {
                labels.push(Rc::clone(domains));
            }
        }
        labels.sort_by_key(|domains| domains.len());
        let mut cells = BTreeMap::<Vec<Option<usize>>, usize>::new();
        let key = |labels: &[Rc<Domains>], node: usize| -> Vec<Option<usize>> {
            labels.iter().map(|domains| domains.of(node)).collect()
        };
        loop {
            for node in nodes {
                let next = cells.len();
                cells.entry(key(&labels, *node)).or_insert(next);
            }
            if cells.len() <= CELLS {
                break;
            }
            cells.clear();
            labels.pop();
        }
        self.relations.group(&|domains| labels.iter().any(|label| Rc::ptr_eq(label, domains)));
        self.cells = cells.iter().map(|_| Cell { any: 0, heap: BinaryHeap::new() }).collect();
        // Nodes that are not taken up are in no cell.
        self.cell_of = if labels.is_empty() { Vec::new() } else { vec![usize::MAX; all] };
        for node in nodes.iter().rev() {
            let cell = cells.get(&key(&labels, *node)).copied().unwrap_or(0);
            if let Some(of) = self.cell_of.get_mut(*node) {
                *of = cell;
            }
            self.cells.get_mut(cell).into_iter().for_each(|cell| cell.any = *node);
        }
    }

    /// A pod that has got a node. One that is not just like the first one is of a kind of its own.
    pub(super) fn placed(&self, pass: &mut Pass<'_, 'a>, node: usize, pod: &PodView<'a>) -> Placed<'a> {
        let alike = self.pod.namespace() == pod.namespace() && self.pod.labels() == pod.labels();
        if !alike {
            pass.kinds = pass.kinds.saturating_add(1);
        }
        Placed::new(node, pod, if alike { self.kind } else { pass.kinds })
    }

    /// Puts a node into the heap of its cell, unless it is closed, or parked until it may be open.
    fn offer(&mut self, pass: &Pass<'_, 'a>, node: usize) {
        if let Standing::Open(more) = self.relations.of_node(node) {
            let cost = self.base(pass, node).saturating_add(more);
            self.push(node, cost);
        }
    }

    fn push(&mut self, node: usize, cost: i64) {
        let cell = self.cell_of.get(node).copied().unwrap_or(0);
        if let Some(cell) = self.cells.get_mut(cell) {
            cell.heap.push(Reverse((cost, node)));
        }
    }

    /// A node that has just got a pod of the class goes back. What it costs by that pod is not counted yet, which is no
    /// more than the truth.
    pub(super) fn put_back(&mut self, pass: &Pass<'_, 'a>, node: usize) {
        let cost = self.base(pass, node).saturating_add(self.relations.leaning(node, Some(false)));
        self.push(node, cost);
    }

    /// What a node costs by itself, whoever else is near.
    fn base(&self, pass: &Pass<'_, 'a>, node: usize) -> i64 {
        let Some(candidate) = pass.candidates.get(node) else { return i64::MAX };
        score::base(candidate, self, node).saturating_sub(self.bonus(node))
    }

    /// What it counts that a node has images of the pods.
    pub(super) fn bonus(&self, node: usize) -> i64 {
        self.bonuses.get(node).copied().unwrap_or(0)
    }

    /// Counts what the pass has bound since the class was asked last. Nodes that are open by that, or cost less, go back.
    pub(super) fn catch_up(&mut self, pass: &Pass<'_, 'a>) {
        let mut better = Vec::new();
        self.relations.catch_up(pass.view, &self.pod, &pass.log, Some(&mut better));
        self.take_back(pass, better);
    }

    /// Nodes that may be open again go back.
    pub(super) fn take_back(&mut self, pass: &Pass<'_, 'a>, nodes: Vec<usize>) {
        for node in nodes {
            self.offer(pass, node);
        }
    }

    /// The node with the lowest cost, and of several the first, of those that a pod of the class fits on.
    pub(super) fn best(
        &mut self,
        pass: &mut Pass<'_, 'a>,
        pod: &PodView<'a>,
        request: &PodRequest,
    ) -> Option<usize> {
        let shared: Vec<Option<i64>> =
            self.cells.iter().map(|cell| self.relations.of_cell(cell.any)).collect();
        loop {
            let tops = self.cells.iter().zip(&shared).enumerate().filter_map(|(place, (cell, shared))| {
                let Reverse((cost, node)) = cell.heap.peek()?;
                Some((cost.saturating_add((*shared)?), *node, place))
            });
            let (.., place) = tops.min()?;
            let Reverse((noted, node)) = self.cells.get_mut(place)?.heap.pop()?;
            if !pass.fits(node, pod, request) {
                continue;
            }
            let Standing::Open(more) = self.relations.of_node(node) else { continue };
            let cost = self.base(pass, node).saturating_add(more);
            if cost != noted {
                self.push(node, cost);
            } else if pass.has_address(node, pod) {
                return Some(node);
            }
        }
    }

    pub(super) fn asks_for_the_same(
        &self,
        pass: &Pass<'_, 'a>,
        pod: &PodView<'a>,
        request: &PodRequest,
    ) -> bool {
        let (Some(one), Some(other)) = (&self.pod.spec, &pod.spec) else { return false };
        self.request.requested == request.requested
            && self.request.assumed == request.assumed
            && self.request.ports == request.ports
            && self.request.priority == request.priority
            && one.preemption_policy == other.preemption_policy
            && one.node_selector == other.node_selector
            && one.affinity == other.affinity
            && one.tolerations == other.tolerations
            && one.topology_spread_constraints == other.topology_spread_constraints
            && host_network(&self.pod) == host_network(pod)
            && self.images == images::known(pass.view.indexes, other)
            && stand_alike(pass, &self.pod, pod)
    }
}

/// Whether two pods that are alike in their specs stand to others in the same way, too.
fn stand_alike<'a>(pass: &Pass<'_, 'a>, one: &PodView<'a>, other: &PodView<'a>) -> bool {
    if one.namespace() == other.namespace() && one.labels() == other.labels() {
        return true;
    }
    let asks =
        |pod: &PodView<'_>| pod.spec.as_ref().is_some_and(|spec| spread::asks(spec) || Term::any(spec));
    if pass.view.indexes.terms.is_empty() && pass.wishes.is_empty() && !asks(one) {
        return true;
    }
    Signature::of(pass, one) == Signature::of(pass, other)
}

/// All that a pod's namespace and labels mean for its relations.
#[derive(PartialEq)]
struct Signature {
    /// What it wants, and whether it is itself one of those that it wants it of.
    own: Vec<(Term, bool)>,
    constraints: Vec<Constraint>,
    others: BTreeSet<Arc<Term>>,
}

impl Signature {
    fn of(pass: &Pass<'_, '_>, pod: &PodView<'_>) -> Self {
        let view = pass.view;
        let own = Term::all(pod).into_iter().map(|term| {
            let itself = term.pods.contains(view, pod);
            (term, itself)
        });
        let standing = view.indexes.terms.about(pod.namespace(), pod.labels()).map(|(term, _)| term);
        let others = standing.chain(&pass.wishes).filter(|term| term.pods.contains(view, pod));
        Self { own: own.collect(), constraints: Constraint::all(pod), others: others.cloned().collect() }
    }
}
