//! The calls that members have open: how many there may be, how fast they may come, and what ends them.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use warren_runtime::rate::{Bucket, Rate};
use warren_store::Snapshot;

use super::policy::{Overflow, Policy};
use crate::identity::{self, Caller};

/// Calls of one member; a member that makes more of them waits.
const CALLS: Rate = Rate { burst: 300.0, per_second: 50.0 };
/// Bytes of one member's messages, sessions apart: those go as fast as their clients read.
const BYTES: Rate = Rate { burst: (16 << 20) as f64, per_second: (2 << 20) as f64 };
/// Events of one member. Pods that start have a handful each; events are kept for an hour.
const EVENTS: Rate = Rate { burst: 1_000.0, per_second: 2.0 };
/// Who would have to wait for longer than this is refused.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Of all members.
#[derive(Default)]
pub(crate) struct Calls {
    members: Mutex<BTreeMap<String, Membership>>,
}

/// One member, for as long as it is one.
struct Membership {
    /// Of the stored member; spares a look at it while it has not changed.
    revision: u64,
    id: Option<String>,
    life: CancellationToken,
    budget: Arc<Mutex<Budget>>,
    begun: u64,
    /// By method, by order of arrival.
    open: BTreeMap<&'static str, BTreeMap<u64, CancellationToken>>,
}

struct Budget {
    calls: Bucket,
    bytes: Bucket,
    events: Bucket,
}

/// A call's place; given back when dropped.
pub(crate) struct Call {
    calls: Weak<Calls>,
    member: String,
    method: &'static str,
    number: u64,
    ended: Ended,
}

/// What ends a call before its time, and what it costs.
#[derive(Clone)]
pub(crate) struct Ended {
    name: Arc<str>,
    life: CancellationToken,
    call: CancellationToken,
    /// `None` where bytes are not counted.
    budget: Option<Arc<Mutex<Budget>>>,
}

impl Calls {
    /// The membership's life: cancelled for ever when it ends. The caller was checked against the snapshot.
    pub(crate) fn life(&self, caller: &Caller, snapshot: &Snapshot) -> CancellationToken {
        self.with(caller, snapshot, |membership| membership.life.clone())
    }

    fn with<T>(&self, caller: &Caller, snapshot: &Snapshot, act: impl FnOnce(&mut Membership) -> T) -> T {
        let stored = identity::find(snapshot, &caller.name);
        let id = stored.as_ref().and_then(|member| member.id.clone());
        let mut members = self.members.lock();
        let membership = match members.entry(caller.name.clone()) {
            Entry::Vacant(place) => place.insert(Membership::new(id)),
            Entry::Occupied(mut known) => {
                if known.get().id != id || known.get().life.is_cancelled() {
                    known.insert(Membership::new(id)).life.cancel();
                }
                known.into_mut()
            }
        };
        act(membership)
    }

    /// Ends everything of those who are no members any more, or whose name another machine has now.
    pub(crate) fn end_strangers(&self, snapshot: &Snapshot) {
        self.members.lock().retain(|name, membership| {
            let stored = snapshot.get(&warren_vocabulary::member::Member::key(name));
            if stored.is_some_and(|object| object.revision == membership.revision) {
                return true;
            }
            let member = identity::find(snapshot, name);
            let stays = member.is_some_and(|member| member.id == membership.id);
            if stays {
                membership.revision = stored.map(|object| object.revision).unwrap_or_default();
            } else {
                membership.life.cancel();
            }
            stays
        });
    }

    /// Takes a place for a call, and says how long it must wait before it begins.
    pub(crate) fn begin(
        self: &Arc<Self>,
        caller: &Caller,
        policy: &'static Policy,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Result<(Call, Duration), Status> {
        self.with(caller, snapshot, |membership| {
            let wait = {
                let mut budget = membership.budget.lock();
                let wait = budget.calls.wait(CALLS, now).max(budget.bytes.wait(BYTES, now));
                if wait > LONGEST_WAIT {
                    metrics::counter!("warren_nodes_refused_calls_total").increment(1);
                    return Err(Status::resource_exhausted("this member calls too often, or says too much"));
                }
                budget.calls.owe(1.0, CALLS, now);
                wait
            };
            let open = membership.open.entry(policy.path).or_default();
            if open.len() >= policy.open {
                metrics::counter!("warren_nodes_refused_calls_total").increment(1);
                match policy.overflow {
                    Overflow::Displace => {
                        if let Some((_, oldest)) = open.pop_first() {
                            oldest.cancel();
                        }
                    }
                    Overflow::Refuse => {
                        return Err(Status::resource_exhausted(format!(
                            "this member has {} calls of this kind open, and no more are allowed",
                            policy.open
                        )));
                    }
                }
            }
            membership.begun += 1;
            // Ends with the membership, too.
            let (number, call) = (membership.begun, membership.life.child_token());
            open.insert(number, call.clone());
            let is_counted = policy.deadline.is_some();
            let ended = Ended {
                name: caller.name.as_str().into(),
                life: membership.life.clone(),
                call,
                budget: is_counted.then(|| Arc::clone(&membership.budget)),
            };
            let (calls, member) = (Arc::downgrade(self), caller.name.clone());
            Ok((Call { calls, member, method: policy.path, number, ended }, wait))
        })
    }

    /// How many of so many events are recorded.
    pub(crate) fn events(&self, member: &str, count: usize, now: Instant) -> usize {
        let members = self.members.lock();
        let Some(membership) = members.get(member) else { return 0 };
        let mut budget = membership.budget.lock();
        (0..count).take_while(|_| budget.events.take(1.0, EVENTS, now)).count()
    }
}

impl Membership {
    fn new(id: Option<String>) -> Self {
        let now = Instant::now();
        let budget = Budget {
            calls: Bucket::new(CALLS, now),
            bytes: Bucket::new(BYTES, now),
            events: Bucket::new(EVENTS, now),
        };
        Self {
            revision: 0,
            id,
            life: CancellationToken::new(),
            budget: Arc::new(Mutex::new(budget)),
            begun: 0,
            open: BTreeMap::new(),
        }
    }
}

impl Call {
    pub(crate) fn ended(&self) -> &Ended {
        &self.ended
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Some(calls) = self.calls.upgrade() else { return };
        let mut members = calls.members.lock();
        let Some(membership) = members.get_mut(&self.member) else { return };
        // A later membership of this name counts anew.
        if let Some(open) = membership.open.get_mut(self.method)
            && open.get(&self.number).is_some_and(|_| !self.ended.life.is_cancelled())
        {
            open.remove(&self.number);
        }
    }
}

impl Ended {
    /// Resolves when the call must end.
    pub(crate) fn wait(&self) -> WaitForCancellationFutureOwned {
        self.call.clone().cancelled_owned()
    }

    /// What the caller is told then.
    pub(crate) fn status(&self) -> Status {
        if self.life.is_cancelled() {
            return identity::removed(&self.name);
        }
        Status::aborted(format!("{} has opened newer calls of this kind", self.name))
    }

    /// Counts what came in.
    pub(crate) fn charge(&self, bytes: usize) {
        if let Some(budget) = &self.budget {
            budget.lock().bytes.owe(bytes as f64, BYTES, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use warren_proto::control::Role;
    use warren_store::Object;
    use warren_vocabulary::member::Member;

    use super::*;
    use crate::gate::policy;

    fn snapshot(revision: u64, id: &str) -> Snapshot {
        let spec = json!({"role": "node", "podCidr": "10.42.1.0/24", "id": id});
        let value = json!({"metadata": {"name": "a"}, "spec": spec});
        Snapshot::from_objects(revision, [Object::new(Member::key("a"), revision, value)])
    }

    fn caller(id: &str) -> Caller {
        Caller { name: "a".into(), role: Role::Node, id: Some(id.into()), machine: None, boot: "boot".into() }
    }

    fn begin(calls: &Arc<Calls>, method: &str, now: Instant) -> Result<(Call, Duration), Status> {
        let policy = policy::of(&format!("/warren.control.v1.Control/{method}")).expect("a method");
        calls.begin(&caller("x"), policy, &snapshot(1, "x"), now)
    }

    #[test]
    fn a_life_ends_with_the_membership_and_is_not_revived_by_the_name() {
        let calls = Calls::default();
        let life = calls.life(&caller("x"), &snapshot(1, "x"));
        calls.end_strangers(&snapshot(2, "x"));
        assert!(!life.is_cancelled(), "its object changed, and it is the same member");
        calls.end_strangers(&Snapshot::from_objects(3, []));
        assert!(life.is_cancelled(), "it was removed");
        let second = calls.life(&caller("y"), &snapshot(4, "y"));
        assert!(!second.is_cancelled() && life.is_cancelled());
        calls.end_strangers(&snapshot(5, "z"));
        assert!(second.is_cancelled(), "the name is another's now");
    }

    #[test]
    fn the_oldest_stream_makes_place_and_the_newest_session_is_refused() {
        let (calls, now) = (Arc::new(Calls::default()), Instant::now());
        let feeds: Vec<_> = (0..10).map(|_| begin(&calls, "Feed", now).expect("taken in").0).collect();
        let ended = |call: &Call| call.ended.call.is_cancelled();
        assert_eq!(feeds.iter().filter(|call| ended(call)).count(), 2);
        assert!(ended(&feeds[0]) && ended(&feeds[1]));
        assert_eq!(feeds[0].ended().status().code(), tonic::Code::Aborted);
        let mut later = {
            let mut seconds = 0;
            move || {
                seconds += 1;
                now + Duration::from_secs(seconds)
            }
        };
        let mut sessions: Vec<_> =
            (0..576).map(|_| begin(&calls, "Session", later()).expect("taken in").0).collect();
        assert_eq!(
            begin(&calls, "Session", later()).err().expect("full").code(),
            tonic::Code::ResourceExhausted
        );
        assert!(!sessions.iter().any(ended));
        sessions.pop();
        begin(&calls, "Session", later()).expect("there is a place again");
    }

    #[test]
    fn who_calls_too_often_waits_and_then_is_refused() {
        let (calls, now) = (Arc::new(Calls::default()), Instant::now());
        let outcomes: Vec<_> =
            (0..1_000).map(|_| begin(&calls, "ReportPods", now).map(|(_, wait)| wait)).collect();
        assert!(outcomes[..300].iter().all(|outcome| outcome.as_ref().is_ok_and(Duration::is_zero)));
        assert!(outcomes[400].as_ref().is_ok_and(|wait| *wait > Duration::from_secs(1)));
        assert!(outcomes[900].is_err());
        let later = now + Duration::from_secs(60);
        assert!(begin(&calls, "ReportPods", later).is_ok_and(|(_, wait)| wait.is_zero()));
    }

    #[test]
    fn bytes_and_events_are_counted() {
        let (calls, now) = (Arc::new(Calls::default()), Instant::now());
        let (call, _) = begin(&calls, "ReportPods", now).expect("taken in");
        call.ended().charge(64 << 20);
        assert_eq!(
            begin(&calls, "ReportPods", now).err().expect("owes").code(),
            tonic::Code::ResourceExhausted
        );
        assert_eq!(calls.events("a", 5_000, now), 1_000);
        // The bucket began a moment later than this test did.
        assert!((19..=20).contains(&calls.events("a", 5_000, now + Duration::from_secs(10))));
        assert_eq!(calls.events("nobody", 1, now), 0);
    }
}
