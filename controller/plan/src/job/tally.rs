//! A job's pods: who runs, who has ended, and what is counted of those.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Case,
    indexes::Indexes,
    is_tracked,
    policy::{self, Action},
};
use crate::{object, view::PodView};

/// On a pod: its index.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// On a pod of an index that fails for itself: how many pods of it have failed before.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// The same of failures that a policy ignores.
pub(super) const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// How many pods one commit counts, or deletes: more take several.
pub(super) const BATCH: usize = 500;

/// What a pod is to its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It runs, or will.
    Active,
    /// It is being deleted, and counts for nothing until it has ended.
    Leaving,
    /// It has ended, and is counted with the next commit.
    Next,
    Succeeded,
    Failed,
}

/// A pod of the job.
pub(super) struct Member<'a> {
    pub(super) pod: PodView<'a>,
    pub(super) state: State,
    /// It is not counted yet.
    pub(super) tracked: bool,
    /// It is being deleted, and its node has not let it go.
    pub(super) terminating: bool,
    pub(super) index: Option<i64>,
    /// Whether it has an index of the job, or needs none: one that is out of range counts for nothing.
    in_range: bool,
    /// What the job's policy says of it, if it failed and is not counted yet.
    pub(super) action: Option<Action>,
}

impl<'a> Member<'a> {
    fn of(case: &Case<'_>, pod: PodView<'a>) -> Self {
        let let_go = pod.deleting() && object::is_let_go(pod.object);
        let terminating = pod.deleting() && !pod.terminal() && !let_go;
        let state = match pod.phase() {
            "Succeeded" => State::Succeeded,
            "Failed" => State::Failed,
            // It never came to an end of its own, and never will.
            _ if let_go || (terminating && !case.waits_for_the_end()) => State::Failed,
            _ if terminating => State::Leaving,
            _ => State::Active,
        };
        let tracked = is_tracked(pod.object);
        let action = (tracked && state == State::Failed)
            .then(|| policy::action(case.spec.pod_failure_policy.as_ref(), &pod));
        let index = case.is_indexed().then(|| number(&pod, INDEX)).flatten().filter(|index| *index >= 0);
        let in_range =
            !case.is_indexed() || index.is_some_and(|index| index < case.completions().unwrap_or(0));
        Self { pod, state, tracked, terminating, index, in_range, action }
    }

    /// How often pods of its index had failed before it, and how often that was ignored.
    pub(super) fn failures_before(&self) -> (i64, i64) {
        let count = |name| number(&self.pod, name).unwrap_or(0).max(0);
        (count(FAILURES), count(IGNORED))
    }

    pub(super) fn is_ignored(&self) -> bool {
        self.action == Some(Action::Ignore)
    }

    /// Whether it counts as a failure, given that it failed.
    fn is_failure(&self) -> bool {
        self.in_range && !self.is_ignored()
    }
}

fn number(pod: &PodView<'_>, annotation: &str) -> Option<i64> {
    object::annotation(&pod.object.value, annotation)?.parse().ok()
}

/// All of a job's pods, and what they come to.
pub(super) struct Tally<'a> {
    pub(super) members: Vec<Member<'a>>,
    /// Those that are counted with this plan: their places among all.
    pub(super) counted: Vec<usize>,
    /// The last pod of each index that failed and may be tried again. It is counted when the next pod of its index is
    /// there, for until then it alone knows how often the index has failed.
    pub(super) awaited: BTreeMap<i64, usize>,
    pub(super) succeeded: i64,
    pub(super) failed: i64,
    pub(super) completed: Indexes,
    pub(super) failed_indexes: Indexes,
    /// Why the job has failed, if a policy says so.
    pub(super) fatal: Option<String>,
}

impl<'a> Tally<'a> {
    pub(super) fn of(case: &Case<'a>) -> Self {
        let mut members: Vec<Member<'a>> =
            case.view.pods_of(case.job.uid()).map(|pod| Member::of(case, pod)).collect();
        let has_ended = |member: &Member<'_>| matches!(member.state, State::Succeeded | State::Failed);
        let countable = members.iter_mut().filter(|member| member.tracked && has_ended(member));
        countable.skip(BATCH).for_each(|member| member.state = State::Next);
        let mut tally = Self::noted(case, members);
        tally.note_indexes(case);
        tally.note_failed_indexes(case);
        for (place, member) in tally.members.iter().enumerate() {
            let awaited = member.index.and_then(|index| tally.awaited.get(&index)) == Some(&place);
            if member.tracked && has_ended(member) && !awaited {
                tally.counted.push(place);
            }
        }
        let counted = || tally.counted.iter().map(|place| &tally.members[*place]);
        let succeeded = counted().filter(|member| member.state == State::Succeeded).count();
        let failed = counted().filter(|member| member.state == State::Failed && member.is_failure()).count();
        let fatal = tally.members.iter().find_map(|member| match &member.action {
            Some(Action::FailJob(message)) => Some(message.clone()),
            _ => None,
        });
        tally.succeeded = tally.succeeded.saturating_add(size(succeeded));
        tally.failed = tally.failed.saturating_add(size(failed));
        tally.fatal = fatal;
        if case.is_indexed() {
            tally.succeeded = tally.completed.count();
        }
        tally
    }

    /// What the status says, before anything is counted. What was noted there as ended and not counted is counted, unless
    /// its pod is there to be counted itself.
    fn noted(case: &Case<'_>, members: Vec<Member<'a>>) -> Self {
        let status = case.job.status.as_ref();
        let number = |count: Option<i32>| count.map_or(0, |count| i64::from(count.max(0)));
        let noted = status.and_then(|status| status.uncounted_terminated_pods.as_ref());
        let there: BTreeSet<&str> = match noted {
            Some(_) => members.iter().filter(|m| m.tracked).map(|m| object::uid(m.pod.object)).collect(),
            None => BTreeSet::new(),
        };
        let left = |uids: Option<&Vec<String>>| {
            size(uids.into_iter().flatten().filter(|uid| !there.contains(uid.as_str())).count())
        };
        let succeeded = left(noted.and_then(|noted| noted.succeeded.as_ref()));
        let failed = left(noted.and_then(|noted| noted.failed.as_ref()));
        let indexes = |text: Option<&String>| {
            Indexes::parse(text.map_or("", String::as_str), case.completions().unwrap_or(0))
        };
        Self {
            counted: Vec::new(),
            awaited: BTreeMap::new(),
            succeeded: number(status.and_then(|status| status.succeeded)).saturating_add(succeeded),
            failed: number(status.and_then(|status| status.failed)).saturating_add(failed),
            completed: indexes(status.and_then(|status| status.completed_indexes.as_ref())),
            failed_indexes: indexes(status.and_then(|status| status.failed_indexes.as_ref())),
            fatal: None,
            members,
        }
    }

    fn note_indexes(&mut self, case: &Case<'_>) {
        let completions = case.completions().unwrap_or(0);
        let succeeded =
            self.members.iter().filter(|member| member.tracked && member.state == State::Succeeded);
        let indexes = succeeded.filter_map(|member| member.index);
        // One that has failed for good has not succeeded, too.
        let indexes: Vec<i64> =
            indexes.filter(|index| *index < completions && !self.failed_indexes.contains(*index)).collect();
        self.completed = std::mem::take(&mut self.completed).with(indexes);
    }

    /// Which indexes have failed for good, and which of the others wait for being tried again.
    fn note_failed_indexes(&mut self, case: &Case<'_>) {
        let Some(limit) = case.limit_per_index() else {
            self.failed_indexes = Indexes::default();
            return;
        };
        let completions = case.completions().unwrap_or(0);
        let mut failed = Vec::new();
        let mut last = BTreeMap::<i64, usize>::new();
        let mut replaced = BTreeSet::new();
        for (place, member) in self.members.iter().enumerate() {
            let Some(index) = member.index.filter(|index| *index < completions) else { continue };
            match member.state {
                State::Active | State::Leaving | State::Next => drop(replaced.insert(index)),
                State::Failed if member.tracked => {
                    let (before, _) = member.failures_before();
                    if member.action == Some(Action::FailIndex) || (!member.is_ignored() && before >= limit) {
                        failed.push(index);
                    }
                    let rank = |place: usize| {
                        let member = &self.members[place];
                        let (failures, ignored) = member.failures_before();
                        (failures.saturating_add(ignored), object::created_at(member.pod.object), place)
                    };
                    let known = last.entry(index).or_insert(place);
                    if rank(place) > rank(*known) {
                        *known = place;
                    }
                }
                _ => {}
            }
        }
        let completed = &self.completed;
        let failed = failed.into_iter().filter(|index| !completed.contains(*index));
        self.failed_indexes = std::mem::take(&mut self.failed_indexes).with(failed);
        last.retain(|index, _| {
            !replaced.contains(index) && !completed.contains(*index) && !self.failed_indexes.contains(*index)
        });
        self.awaited = last;
    }

    /// Nothing is tried again: what would have been waited with is counted now.
    pub(super) fn count_all(&mut self) {
        for place in std::mem::take(&mut self.awaited).into_values() {
            self.failed = self.failed.saturating_add(i64::from(self.members[place].is_failure()));
            self.counted.push(place);
        }
    }

    /// The job is to end: what has not ended by itself is let go of, and is not counted when it ends. It has failed, if the
    /// job has; else it was not needed.
    pub(super) fn let_go(&mut self, case: &Case<'_>, success: bool) {
        let policy = case.spec.pod_failure_policy.as_ref();
        for place in self.stopping() {
            let member = &self.members[place];
            let counts = member.in_range && policy::action(policy, &member.pod) != Action::Ignore;
            if member.tracked {
                self.failed = self.failed.saturating_add(i64::from(!success && counts));
                self.counted.push(place);
            }
        }
    }

    /// The places of those that are stopped with this plan, when nothing shall run any more.
    pub(super) fn stopping(&self) -> Vec<usize> {
        let runs = |member: &Member<'_>| match member.state {
            State::Active => true,
            State::Leaving => member.tracked,
            _ => false,
        };
        let all = self.members.iter().enumerate().filter(|(_, member)| runs(member));
        all.map(|(place, _)| place).take(BATCH).collect()
    }

    /// Failures that count against the limit, those that are counted later included.
    pub(super) fn failures(&self) -> i64 {
        let awaited = self.awaited.values().filter(|place| self.members[**place].is_failure());
        let next = self.members.iter().filter(|member| {
            member.state == State::Next && member.pod.phase() != "Succeeded" && member.is_failure()
        });
        self.failed.saturating_add(size(awaited.count())).saturating_add(size(next.count()))
    }

    pub(super) fn active(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members.iter().filter(|member| member.state == State::Active)
    }

    /// Whether every pod has ended, and is counted with this plan at the latest.
    pub(super) fn is_over(&self) -> bool {
        let ended = |member: &Member<'_>| matches!(member.state, State::Succeeded | State::Failed);
        self.awaited.is_empty() && self.members.iter().all(|member| ended(member) && !member.terminating)
    }

    /// Pods that are being deleted and have not ended.
    pub(super) fn terminating(&self) -> i64 {
        size(self.members.iter().filter(|member| member.terminating).count())
    }

    /// How often the containers of pods that run were started again.
    pub(super) fn restarts(&self) -> i64 {
        let containers = |member: &Member<'_>| {
            let status = member.pod.status.as_ref();
            let all = status.into_iter().flat_map(|status| {
                status.container_statuses.iter().chain(&status.init_container_statuses).flatten()
            });
            all.fold(0_i64, |sum, container| sum.saturating_add(i64::from(container.restart_count)))
        };
        self.active().map(containers).fold(0, i64::saturating_add)
    }
}

/// A number of things.
pub(super) fn size(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A text field of a status, or nothing.
pub(super) fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
