//! How far each consumer has applied the desired state. Pure: time is an argument.
//!
//! A consumer for which nothing is outstanding has, in effect, applied the current compiled revision: what
//! compiles to nothing for it needs no message. That is what keeps a write from being O(nodes).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use warren_proto::control::Consumer;

/// A member's process.
pub(crate) type Subscriber = (String, Consumer);

/// How long a subscriber that had been in step counts as ready while it reconnects.
const RECONNECT: Duration = Duration::from_secs(10);

/// A consumer that does not apply what it was sent for so long is broken: nobody waits for it any more, and its
/// node is not ready.
const STUCK: Duration = Duration::from_secs(15);

#[derive(Debug, Clone)]
struct Cursor {
    /// Distinguishes a reconnected consumer from its predecessor.
    subscription: u64,
    /// While disconnected: since when. What it had in force then, it still has.
    lost: Option<Instant>,
    /// While something is outstanding: since when.
    behind: Option<Instant>,
    /// The last revision sent with content.
    sent: u64,
    /// The last revision that has content for this consumer, sent or about to be.
    due: u64,
    /// Everything up to here is in force.
    applied: u64,
    /// Whether this subscription has acknowledged anything.
    acknowledged: bool,
    /// Whether any subscription ever has.
    ever: bool,
}

impl Cursor {
    fn settled(&self) -> bool {
        self.acknowledged && self.applied >= self.due
    }

    /// Starts or stops the clock of what is outstanding.
    fn judge(&mut self, now: Instant) {
        if self.settled() {
            self.behind = None;
        } else {
            self.behind.get_or_insert(now);
        }
    }

    fn is_stuck(&self, now: Instant) -> bool {
        self.behind.is_some_and(|since| now.saturating_duration_since(since) >= STUCK)
    }
}

/// All consumers' cursors.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    compiled: u64,
    subscriptions: u64,
    cursors: BTreeMap<Subscriber, Cursor>,
}

impl Cursors {
    /// A consumer connected and will be sent a snapshot of `revision`. The answer names the subscription;
    /// an older one of the same consumer is void from now on.
    pub(crate) fn connect(&mut self, subscriber: Subscriber, revision: u64, now: Instant) -> u64 {
        self.subscriptions += 1;
        let known = self.cursors.get(&subscriber);
        let ever = known.is_some_and(|cursor| cursor.ever);
        let behind = known.and_then(|cursor| cursor.behind).or(Some(now));
        let cursor = Cursor {
            subscription: self.subscriptions,
            lost: None,
            behind,
            sent: revision,
            // Something may have been compiled since the subscriber looked.
            due: revision.max(self.compiled),
            applied: 0,
            acknowledged: false,
            ever,
        };
        self.cursors.insert(subscriber, cursor);
        self.subscriptions
    }

    /// The subscription ended. Void if the consumer has another one by now.
    pub(crate) fn disconnect(&mut self, subscriber: &Subscriber, subscription: u64, now: Instant) {
        let compiled = self.compiled;
        if let Some(cursor) = self.current(subscriber, subscription) {
            if cursor.settled() {
                cursor.applied = compiled.max(cursor.applied);
            }
            cursor.lost = Some(now);
            cursor.acknowledged = false;
        }
    }

    /// Whether this is still the consumer's subscription.
    pub(crate) fn is_current(&self, subscriber: &Subscriber, subscription: u64) -> bool {
        self.cursors.get(subscriber).is_some_and(|cursor| cursor.subscription == subscription)
    }

    /// A revision was compiled. `has_content` says for whom it may hold something; to be called before
    /// anyone can see the compiled state, so that no consumer ever looks settled while it is not.
    pub(crate) fn compiled(
        &mut self,
        revision: u64,
        now: Instant,
        has_content: impl Fn(&Subscriber) -> bool,
    ) {
        let previous = std::mem::replace(&mut self.compiled, revision);
        for (subscriber, cursor) in &mut self.cursors {
            if cursor.lost.is_none() && has_content(subscriber) {
                if cursor.settled() {
                    cursor.applied = previous.max(cursor.applied);
                }
                cursor.due = revision;
                cursor.judge(now);
            }
        }
    }

    /// A change was sent at `revision`.
    pub(crate) fn sent(&mut self, subscriber: &Subscriber, subscription: u64, revision: u64) {
        if let Some(cursor) = self.current(subscriber, subscription) {
            cursor.sent = revision;
            cursor.due = cursor.due.max(revision);
        }
    }

    /// Up to `revision` there is nothing to send after all: changes cancelled out.
    pub(crate) fn nothing_to_send(
        &mut self,
        subscriber: &Subscriber,
        subscription: u64,
        revision: u64,
        now: Instant,
    ) {
        if let Some(cursor) = self.current(subscriber, subscription)
            && cursor.due <= revision
        {
            cursor.due = cursor.sent;
            cursor.judge(now);
        }
    }

    /// The consumer has `revision` in force. One that was not sent is a word of an earlier connection: ignored.
    pub(crate) fn acknowledge(
        &mut self,
        subscriber: &Subscriber,
        subscription: u64,
        revision: u64,
        now: Instant,
    ) {
        if let Some(cursor) = self.current(subscriber, subscription) {
            // Until the snapshot of this connection is in force, an older number is the last connection's, too.
            if revision == cursor.sent || (cursor.acknowledged && revision < cursor.sent) {
                cursor.applied = cursor.applied.max(revision);
                cursor.acknowledged = true;
                cursor.ever = true;
                cursor.judge(now);
            }
        }
    }

    /// What the consumer has in force; `None` while it is not connected.
    pub(crate) fn applied(&self, subscriber: &Subscriber) -> Option<u64> {
        let cursor = self.cursors.get(subscriber).filter(|cursor| cursor.lost.is_none())?;
        Some(if cursor.settled() { self.compiled.max(cursor.applied) } else { cursor.applied })
    }

    /// Connected and acknowledged at least once; a reconnect of up to ten seconds does not count.
    pub(crate) fn ready(&self, subscriber: &Subscriber, now: Instant) -> bool {
        self.cursors.get(subscriber).is_some_and(|cursor| {
            let absent = cursor.lost.map_or(Duration::ZERO, |lost| now.saturating_duration_since(lost));
            cursor.ever && absent < RECONNECT && !cursor.is_stuck(now)
        })
    }

    /// Whether the consumer ever acknowledged anything to this controller.
    pub(crate) fn ever_ready(&self, subscriber: &Subscriber) -> bool {
        self.cursors.get(subscriber).is_some_and(|cursor| cursor.ever)
    }

    /// Whether the consumer was ever connected to this controller.
    pub(crate) fn known(&self, subscriber: &Subscriber) -> bool {
        self.cursors.contains_key(subscriber)
    }

    /// Connected now.
    pub(crate) fn connected(&self, subscriber: &Subscriber) -> bool {
        self.cursors.get(subscriber).is_some_and(|cursor| cursor.lost.is_none())
    }

    /// What every one of `live` has in force. One that reconnects still has what it had; one that stays away, is
    /// stuck, or never came does not count.
    pub(crate) fn acknowledged(&self, live: impl IntoIterator<Item = Subscriber>, now: Instant) -> u64 {
        let in_force = |subscriber: Subscriber| {
            let cursor = self.cursors.get(&subscriber)?;
            let away = cursor.lost.is_some_and(|lost| now.saturating_duration_since(lost) >= RECONNECT);
            match (away || cursor.is_stuck(now), cursor.lost) {
                (true, _) => None,
                (false, Some(_)) => Some(cursor.applied),
                (false, None) => self.applied(&subscriber),
            }
        };
        live.into_iter().filter_map(in_force).min().unwrap_or(self.compiled)
    }

    /// Forgets members that are gone.
    pub(crate) fn retain(&mut self, exists: impl Fn(&str) -> bool) {
        self.cursors.retain(|(member, _), cursor| exists(member) || cursor.lost.is_none());
    }

    fn current(&mut self, subscriber: &Subscriber, subscription: u64) -> Option<&mut Cursor> {
        self.cursors.get_mut(subscriber).filter(|cursor| cursor.subscription == subscription)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn netd(name: &str) -> Subscriber {
        (name.to_owned(), Consumer::Netd)
    }

    fn all(cursors: &Cursors) -> u64 {
        cursors.acknowledged([netd("a"), netd("b")], Instant::now())
    }

    #[test]
    fn a_revision_without_content_needs_no_message() {
        let mut cursors = Cursors::default();
        cursors.compiled(5, Instant::now(), |_| true);
        let a = cursors.connect(netd("a"), 5, Instant::now());
        assert_eq!(all(&cursors), 0, "the snapshot is outstanding");
        cursors.acknowledge(&netd("a"), a, 5, Instant::now());
        cursors.compiled(9, Instant::now(), |_| false);
        assert_eq!(all(&cursors), 9);
        cursors.compiled(10, Instant::now(), |_| true);
        assert_eq!(all(&cursors), 9, "what came before the content is in force");
        cursors.sent(&netd("a"), a, 10);
        assert_eq!(all(&cursors), 9);
        cursors.acknowledge(&netd("a"), a, 10, Instant::now());
        assert_eq!(all(&cursors), 10);
    }

    #[test]
    fn the_slowest_decides() {
        let mut cursors = Cursors::default();
        cursors.compiled(1, Instant::now(), |_| false);
        let (a, b) =
            (cursors.connect(netd("a"), 1, Instant::now()), cursors.connect(netd("b"), 1, Instant::now()));
        cursors.acknowledge(&netd("a"), a, 1, Instant::now());
        assert_eq!(all(&cursors), 0);
        cursors.acknowledge(&netd("b"), b, 1, Instant::now());
        assert_eq!(all(&cursors), 1);
        cursors.disconnect(&netd("b"), b, Instant::now());
        cursors.compiled(2, Instant::now(), |_| true);
        assert_eq!(cursors.applied(&netd("b")), None);
        assert_eq!(all(&cursors), 1, "both had 1 in force, and b still has");
        let later = Instant::now() + RECONNECT;
        assert_eq!(cursors.acknowledged([netd("b")], later), 2, "b stayed away: nobody waits for it");
    }

    #[test]
    fn nobody_to_wait_for_means_everything_is_applied() {
        let mut cursors = Cursors::default();
        cursors.compiled(7, Instant::now(), |_| true);
        assert_eq!(all(&cursors), 7);
    }

    #[test]
    fn changes_that_cancel_out_are_settled() {
        let mut cursors = Cursors::default();
        cursors.compiled(1, Instant::now(), |_| true);
        let a = cursors.connect(netd("a"), 1, Instant::now());
        cursors.acknowledge(&netd("a"), a, 1, Instant::now());
        cursors.compiled(2, Instant::now(), |_| true);
        cursors.compiled(3, Instant::now(), |_| true);
        cursors.nothing_to_send(&netd("a"), a, 2, Instant::now());
        assert_eq!(all(&cursors), 1, "3 has not been looked at");
        cursors.nothing_to_send(&netd("a"), a, 3, Instant::now());
        assert_eq!(all(&cursors), 3);
    }

    #[test]
    fn an_old_connection_cannot_speak_for_a_new_one() {
        let now = Instant::now();
        let mut cursors = Cursors::default();
        cursors.compiled(4, Instant::now(), |_| true);
        let old = cursors.connect(netd("a"), 4, Instant::now());
        let new = cursors.connect(netd("a"), 4, Instant::now());
        cursors.acknowledge(&netd("a"), old, 4, Instant::now());
        cursors.disconnect(&netd("a"), old, now);
        assert!(cursors.connected(&netd("a")) && !cursors.is_current(&netd("a"), old));
        assert_eq!(all(&cursors), 0);
        cursors.acknowledge(&netd("a"), new, 3, Instant::now());
        assert_eq!(all(&cursors), 0, "3 was acknowledged of an earlier connection");
        cursors.acknowledge(&netd("a"), new, 900, Instant::now());
        assert_eq!(all(&cursors), 0, "900 was never sent");
        cursors.acknowledge(&netd("a"), new, 4, Instant::now());
        assert_eq!(all(&cursors), 4);
    }

    #[test]
    fn nobody_waits_for_a_consumer_that_is_stuck() {
        let start = Instant::now();
        let mut cursors = Cursors::default();
        cursors.compiled(1, start, |_| true);
        let (a, b) = (cursors.connect(netd("a"), 1, start), cursors.connect(netd("b"), 1, start));
        cursors.acknowledge(&netd("a"), a, 1, start);
        cursors.acknowledge(&netd("b"), b, 1, start);
        cursors.compiled(2, start, |_| true);
        cursors.sent(&netd("a"), a, 2);
        cursors.sent(&netd("b"), b, 2);
        cursors.acknowledge(&netd("a"), a, 2, start);
        let both = || [netd("a"), netd("b")];
        assert_eq!(cursors.acknowledged(both(), start + STUCK / 2), 1);
        assert_eq!(cursors.acknowledged(both(), start + STUCK), 2);
        assert!(cursors.ready(&netd("a"), start + STUCK) && !cursors.ready(&netd("b"), start + STUCK));
        cursors.acknowledge(&netd("b"), b, 2, start + STUCK);
        assert!(cursors.ready(&netd("b"), start + STUCK), "it has recovered");
    }

    #[test]
    fn a_short_reconnect_keeps_a_node_ready_a_long_one_does_not() {
        let start = Instant::now();
        let mut cursors = Cursors::default();
        let a = cursors.connect(netd("a"), 1, Instant::now());
        assert!(!cursors.ready(&netd("a"), start), "never acknowledged");
        cursors.acknowledge(&netd("a"), a, 1, Instant::now());
        assert!(cursors.ready(&netd("a"), start));
        cursors.disconnect(&netd("a"), a, start);
        assert!(cursors.ready(&netd("a"), start + Duration::from_secs(9)));
        assert!(!cursors.ready(&netd("a"), start + Duration::from_secs(10)));
        cursors.connect(netd("a"), 1, start + Duration::from_secs(60));
        assert!(cursors.ready(&netd("a"), start + Duration::from_secs(60)));
    }

    /// A consumer that really applies what it is sent, to compare with what the cursors believe.
    #[derive(Debug, Default, Clone)]
    struct Model {
        subscription: u64,
        connected: bool,
        /// The delivered revision that it has applied; zero before the first.
        in_force: u64,
        delivered: u64,
    }

    #[derive(Debug, Clone)]
    enum Happening {
        Compile(bool),
        Connect,
        Disconnect,
        Deliver,
        Apply,
    }

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            4 => any::<bool>().prop_map(Happening::Compile),
            1 => Just(Happening::Connect),
            1 => Just(Happening::Disconnect),
            4 => Just(Happening::Deliver),
            4 => Just(Happening::Apply),
        ]
    }

    proptest! {
        /// The cursors never claim more than what is really in force, and claim everything once all is applied.
        #[test]
        fn belief_never_exceeds_truth(happenings in prop::collection::vec(happening(), 0..60)) {
            let now = Instant::now();
            let a = netd("a");
            let mut cursors = Cursors::default();
            let mut model = Model::default();
            let mut contents = Vec::new();
            cursors.compiled(1, Instant::now(), |_| true);
            let mut revision = 1;
            for happening in happenings {
                match happening {
                    Happening::Compile(content) => {
                        revision += 1;
                        if content { contents.push(revision); }
                        cursors.compiled(revision, Instant::now(), |_| content);
                    }
                    Happening::Connect => {
                        model = Model { subscription: cursors.connect(a.clone(), revision, Instant::now()), connected: true, in_force: 0, delivered: revision };
                    }
                    Happening::Disconnect => {
                        cursors.disconnect(&a, model.subscription, now);
                        model.connected = false;
                    }
                    Happening::Deliver if model.connected => {
                        if contents.last().is_some_and(|last| *last > model.delivered) {
                            model.delivered = revision;
                            cursors.sent(&a, model.subscription, revision);
                        } else {
                            cursors.nothing_to_send(&a, model.subscription, revision, Instant::now());
                        }
                    }
                    Happening::Apply if model.connected => {
                        model.in_force = model.delivered;
                        cursors.acknowledge(&a, model.subscription, model.delivered, Instant::now());
                    }
                    Happening::Deliver | Happening::Apply => {}
                }
                match cursors.applied(&a) {
                    None => prop_assert!(!model.connected),
                    Some(claimed) => {
                        let unapplied = contents.iter().find(|content| **content > model.in_force);
                        let truth = match (model.in_force, unapplied) {
                            (0, _) => 0,
                            (_, Some(content)) => content - 1,
                            (_, None) => revision,
                        };
                        prop_assert!(claimed <= truth, "{claimed} > {truth}");
                        if truth == revision && model.delivered == model.in_force {
                            cursors.nothing_to_send(&a, model.subscription, revision, Instant::now());
                            prop_assert_eq!(cursors.applied(&a), Some(revision));
                        }
                    }
                }
            }
        }
    }
}
