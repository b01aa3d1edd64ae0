//! What each pod makes of the requests that are sent to it: how many came to an end, and how many of these failed by its
//! fault.
//!
//! A tally is of a pod as a backend of one service: that somebody leads another service to the same address and a wrong port
//! is not held against the pod.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::StatusCode;
use warren_proto::control::PodAnswers;

use crate::upstream::Failure;

/// The most pods of one report, and the most bytes that they take in it: those that answered most.
const MOST_PODS: usize = 4_000;
const MOST_BYTES: usize = 300_000;
/// The most that one pod takes beside its name.
const BYTES_OF_A_POD: usize = 32;

/// What came of the requests to one pod, as long as any rule leads to it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    requests: AtomicU64,
    failures: AtomicU64,
}

impl Tally {
    /// The pod answered.
    pub(crate) fn answered(&self, status: StatusCode) {
        self.count(status.is_server_error());
    }

    /// An attempt came to nothing. On a connection that was kept, an end before any response is no fault: the pod may close
    /// idle ones.
    pub(crate) fn failed(&self, failure: Failure, kept: bool) {
        let natural = kept && failure == Failure::Closed;
        if !failure.is_clients() && failure != Failure::Local && !natural {
            self.count(true);
        }
    }

    fn count(&self, failed: bool) {
        if failed {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests and failures.
    pub(crate) fn told(&self) -> (u64, u64) {
        let Counts { requests, failures } = self.counted();
        (requests, failures)
    }

    fn counted(&self) -> Counts {
        let failures = self.failures.load(Ordering::Relaxed);
        // Read later: never fewer.
        Counts { requests: self.requests.load(Ordering::Relaxed).max(failures), failures }
    }
}

/// A pod of a service, "NAMESPACE/NAME".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Member {
    pub(crate) service: Box<str>,
    pub(crate) pod: Box<str>,
}

pub(crate) type Tallies = HashMap<Member, Arc<Tally>>;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    requests: u64,
    failures: u64,
}

#[derive(Debug)]
struct Counted {
    tally: Arc<Tally>,
    counts: Counts,
    /// Whether a rule leads to it.
    is_led_to: bool,
}

/// The tallies at one moment.
#[derive(Debug, Default)]
pub(crate) struct Sample(HashMap<Member, Counted>);

impl Sample {
    /// What is counted now. Of pods that left the table since the sample before, the rest is told once.
    pub(crate) fn take(tallies: &Tallies, before: &Self) -> Self {
        let counted = |tally: &Arc<Tally>, is_led_to| Counted {
            tally: Arc::clone(tally),
            counts: tally.counted(),
            is_led_to,
        };
        let present = tallies.iter().map(|(member, tally)| (member.clone(), counted(tally, true)));
        let mut sample: HashMap<_, _> = present.collect();
        for (member, earlier) in before.0.iter().filter(|(_, earlier)| earlier.is_led_to) {
            sample.entry(member.clone()).or_insert_with(|| counted(&earlier.tally, false));
        }
        Self(sample)
    }

    /// What was added since another sample, by service; pods to which nothing was added are left out.
    pub(crate) fn since(&self, before: &Self) -> BTreeMap<&str, Vec<PodAnswers>> {
        let added = |(member, counted): (&'_ Member, &Counted)| {
            let earlier = before.0.get(member).filter(|earlier| Arc::ptr_eq(&earlier.tally, &counted.tally));
            let earlier = earlier.map(|earlier| earlier.counts).unwrap_or_default();
            let requests = counted.counts.requests.saturating_sub(earlier.requests);
            let failures = counted.counts.failures.saturating_sub(earlier.failures).min(requests);
            (requests > 0).then(|| PodAnswers { name: member.pod.to_string(), requests, failures })
        };
        let all = self.0.iter().filter_map(|entry| Some((&*entry.0.service, added(entry)?)));
        let mut all: Vec<_> = all.collect();
        all.sort_by(|(_, one), (_, other)| {
            (Reverse(one.requests), &one.name).cmp(&(Reverse(other.requests), &other.name))
        });
        let mut room = MOST_BYTES;
        let mut services = BTreeMap::<_, Vec<_>>::new();
        for (service, answers) in all.into_iter().take(MOST_PODS) {
            let Some(left) = room.checked_sub(answers.name.len() + BYTES_OF_A_POD) else { break };
            room = left;
            services.entry(service).or_default().push(answers);
        }
        services
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(pod: &str) -> Member {
        Member { service: "shop/cart".into(), pod: pod.into() }
    }

    fn told(after: &Sample, before: &Sample) -> Vec<(String, u64, u64)> {
        let pods = after.since(before).remove("shop/cart").unwrap_or_default();
        pods.into_iter().map(|pod| (pod.name, pod.requests, pod.failures)).collect()
    }

    #[test]
    fn what_the_pod_is_to_blame_for_is_a_failure_and_nothing_else() {
        let tally = Tally::default();
        for status in [200, 304, 404, 499] {
            tally.answered(StatusCode::from_u16(status).expect("a status"));
        }
        assert_eq!(tally.counted(), Counts { requests: 4, failures: 0 });
        for failure in [Failure::Client, Failure::Slow, Failure::TooLong(1), Failure::Local] {
            tally.failed(failure, false);
        }
        tally.failed(Failure::Closed, true);
        assert_eq!(
            tally.counted(),
            Counts { requests: 4, failures: 0 },
            "the client, this machine, an idle end"
        );
        for status in [500, 503, 599] {
            tally.answered(StatusCode::from_u16(status).expect("a status"));
        }
        for failure in [Failure::Refused, Failure::ConnectTimeout, Failure::Closed, Failure::Overdue] {
            tally.failed(failure, false);
        }
        tally.failed(Failure::Silent, true);
        assert_eq!(tally.counted(), Counts { requests: 12, failures: 8 });
    }

    #[test]
    fn a_report_says_what_was_added_also_of_pods_that_have_just_gone() {
        let (one, two, three) = (Arc::<Tally>::default(), Arc::<Tally>::default(), Arc::<Tally>::default());
        let tallies = Tallies::from([(member("one"), Arc::clone(&one)), (member("two"), Arc::clone(&two))]);
        one.answered(StatusCode::OK);
        let first = Sample::take(&tallies, &Sample::default());
        assert_eq!(told(&first, &Sample::default()), [("one".to_owned(), 1, 0)]);
        one.answered(StatusCode::OK);
        one.answered(StatusCode::BAD_GATEWAY);
        two.answered(StatusCode::BAD_GATEWAY);
        // One goes; two is another pod of the same name.
        let tallies = Tallies::from([(member("two"), Arc::clone(&three))]);
        three.answered(StatusCode::OK);
        let second = Sample::take(&tallies, &first);
        assert_eq!(told(&second, &first), [("one".to_owned(), 2, 1), ("two".to_owned(), 1, 0)]);
        one.answered(StatusCode::OK);
        let third = Sample::take(&tallies, &second);
        assert_eq!(told(&third, &second), [], "what has gone is told once");
        assert_eq!(third.0.len(), 1, "and not kept");
    }

    #[test]
    fn a_report_is_bounded() {
        let pods = (0..MOST_PODS + 500).map(|number| {
            let tally = Tally::default();
            tally.requests.store(number as u64, Ordering::Relaxed);
            (member(&format!("{number:0>200}")), Arc::new(tally))
        });
        let sample = Sample::take(&pods.collect(), &Sample::default());
        let told = told(&sample, &Sample::default());
        let bytes: usize = told.iter().map(|(name, ..)| name.len() + BYTES_OF_A_POD).sum();
        assert!(told.len() > 1_000 && bytes <= MOST_BYTES, "{} pods, {bytes} bytes", told.len());
        assert_eq!(told[0].1, (MOST_PODS + 499) as u64, "those that answered most");
    }
}
