//! How far each consumer has applied the desired state. Pure: time is an argument.
//!
//! What was compiled is noted once for each view, not for each of its consumers: which revisions had content for it. A
//! consumer that has applied the last of those has, in effect, applied the current compiled revision, without a message
//! and without being looked at. That is what keeps a write from being O(nodes).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use warren_proto::control::Consumer;

use crate::views::Name;

/// A member's process.
pub(crate) type Subscriber = (String, Consumer);

/// How long a subscriber that had been in step counts as ready while it reconnects.
const RECONNECT: Duration = Duration::from_secs(10);

/// A consumer that does not apply what it was sent for so long is broken: the planners wait for it no more, and its
/// node is not ready.
const STUCK: Duration = Duration::from_secs(15);

/// So many revisions with content are told apart, for each view; when there are more, those within this time are not.
const MARKS: usize = 128;
const GRAIN: Duration = Duration::from_millis(500);

/// A revision, or a few in a row, that had content for a view.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// The last of them.
    revision: u64,
    /// What was compiled before the first of them: who has not applied them may still have that in force.
    before: u64,
    /// When the first of them was compiled.
    since: Instant,
}

/// The revisions that had content for a view.
#[derive(Debug, Default)]
struct Marks(VecDeque<Mark>);

impl Marks {
    /// When there are too many, neighbours in time become one; those that are older than [`STUCK`] all do. The only
    /// effect is that a consumer that is behind is believed a little less, or held for stuck a little earlier.
    fn push(&mut self, mark: Mark) {
        self.0.push_back(mark);
        if self.0.len() <= MARKS {
            return;
        }
        let now = mark.since;
        for mark in std::mem::take(&mut self.0) {
            let is_old = now.saturating_duration_since(mark.since) >= STUCK;
            match self.0.back_mut() {
                Some(last) if is_old || mark.since.saturating_duration_since(last.since) < GRAIN => {
                    last.revision = mark.revision;
                }
                _ => self.0.push_back(mark),
            }
        }
    }

    fn last(&self) -> u64 {
        self.0.back().map_or(0, |mark| mark.revision)
    }

    /// What comes first of what has content and is newer.
    fn after(&self, revision: u64) -> Option<&Mark> {
        self.0.get(self.0.partition_point(|mark| mark.revision <= revision))
    }
}

#[derive(Debug, Clone)]
struct Cursor {
    /// Distinguishes a reconnected consumer from its predecessor.
    subscription: u64,
    view: Name,
    /// While disconnected: since when. What it had in force then, it still has.
    lost: Option<Instant>,
    /// Since when something was outstanding that no mark tells of: from before this subscription, or its snapshot.
    behind: Option<Instant>,
    /// The last revision sent with content.
    sent: u64,
    /// Up to here there was nothing to send besides.
    cleared: u64,
    /// Everything up to here is in force.
    applied: u64,
    /// Whether this subscription has acknowledged anything.
    acknowledged: bool,
    /// Whether any subscription ever has.
    ever: bool,
    /// Its member is gone.
    orphaned: bool,
}

impl Cursor {
    /// Up to which revision it has everything that was for it.
    fn holds(&self) -> u64 {
        if self.applied >= self.sent { self.applied.max(self.cleared) } else { self.applied }
    }
}

/// All consumers' cursors.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    compiled: u64,
    subscriptions: u64,
    views: BTreeMap<Name, Marks>,
    cursors: BTreeMap<Subscriber, Cursor>,
}

fn view_of((member, consumer): &Subscriber) -> Name {
    match consumer {
        Consumer::Netd => Name::Network,
        Consumer::Gateway => Name::Gateway,
        Consumer::Agent | Consumer::Unspecified => Name::Agent(Arc::from(member.as_str())),
    }
}

impl Cursors {
    /// A consumer connected and will be sent a snapshot of `revision`. The answer names the subscription;
    /// an older one of the same consumer is void from now on.
    pub(crate) fn connect(&mut self, subscriber: Subscriber, revision: u64, now: Instant) -> u64 {
        self.subscriptions += 1;
        let known = self.cursors.get(&subscriber);
        let ever = known.is_some_and(|cursor| cursor.ever);
        let behind = known.and_then(|cursor| self.behind(cursor)).or(Some(now));
        let cursor = Cursor {
            subscription: self.subscriptions,
            view: view_of(&subscriber),
            lost: None,
            behind,
            sent: revision,
            cleared: 0,
            applied: 0,
            acknowledged: false,
            ever,
            orphaned: false,
        };
        self.cursors.insert(subscriber, cursor);
        self.subscriptions
    }

    /// The subscription ended. Void if the consumer has another one by now.
    pub(crate) fn disconnect(&mut self, subscriber: &Subscriber, subscription: u64, now: Instant) {
        let Some(cursor) = self.current(subscriber, subscription) else { return };
        if cursor.orphaned {
            self.cursors.remove(subscriber);
            return;
        }
        let (behind, applied) = (self.behind(cursor), self.believed(cursor));
        if let Some(cursor) = self.cursors.get_mut(subscriber) {
            (cursor.behind, cursor.applied) = (behind, applied);
            (cursor.lost, cursor.acknowledged) = (Some(now), false);
        }
    }

    /// Whether this is still the consumer's subscription.
    pub(crate) fn is_current(&self, subscriber: &Subscriber, subscription: u64) -> bool {
        self.current(subscriber, subscription).is_some()
    }

    /// A revision was compiled that has content for some views; to be called before anyone can see it, so that no
    /// consumer ever looks settled while it is not.
    pub(crate) fn compiled<'v>(
        &mut self,
        revision: u64,
        now: Instant,
        with_content: impl IntoIterator<Item = &'v Name>,
    ) {
        let before = std::mem::replace(&mut self.compiled, revision);
        for view in with_content {
            let mark = Mark { revision, before, since: now };
            match self.views.get_mut(view) {
                Some(marks) => marks.push(mark),
                None => self.views.entry(view.clone()).or_default().push(mark),
            }
        }
    }

    /// A change was sent at `revision`.
    pub(crate) fn sent(&mut self, subscriber: &Subscriber, subscription: u64, revision: u64) {
        if let Some(cursor) = self.current_mut(subscriber, subscription) {
            cursor.sent = revision;
        }
    }

    /// Up to `revision` there is nothing to send, or nothing more: what changed was not for this consumer.
    pub(crate) fn nothing_to_send(&mut self, subscriber: &Subscriber, subscription: u64, revision: u64) {
        let Some(cursor) = self.current(subscriber, subscription) else { return };
        let due = self.views.get(&cursor.view).map_or(0, Marks::last);
        if due <= revision
            && let Some(cursor) = self.current_mut(subscriber, subscription)
        {
            cursor.cleared = revision;
        }
    }

    /// The consumer has `revision` in force. One that was not sent is a word of an earlier connection: ignored.
    pub(crate) fn acknowledge(&mut self, subscriber: &Subscriber, subscription: u64, revision: u64) {
        if let Some(cursor) = self.current_mut(subscriber, subscription) {
            // Until the snapshot of this connection is in force, an older number is the last connection's, too.
            if revision == cursor.sent || (cursor.acknowledged && revision < cursor.sent) {
                cursor.applied = cursor.applied.max(revision);
                cursor.acknowledged = true;
                cursor.ever = true;
                cursor.behind = None;
            }
        }
    }

    /// What the consumer has in force; `None` while it is not connected.
    pub(crate) fn applied(&self, subscriber: &Subscriber) -> Option<u64> {
        let cursor = self.cursors.get(subscriber).filter(|cursor| cursor.lost.is_none())?;
        Some(self.believed(cursor))
    }

    /// Connected and acknowledged at least once; a reconnect of up to ten seconds does not count.
    pub(crate) fn ready(&self, subscriber: &Subscriber, now: Instant) -> bool {
        self.cursors.get(subscriber).is_some_and(|cursor| {
            let absent = cursor.lost.map_or(Duration::ZERO, |lost| now.saturating_duration_since(lost));
            cursor.ever && absent < RECONNECT && !self.is_stuck(cursor, now)
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
            (!away && !self.is_stuck(cursor, now)).then(|| self.believed(cursor))
        };
        live.into_iter().filter_map(in_force).min().unwrap_or(self.compiled)
    }

    /// A member is gone: its cursors go, too, once their connections have ended.
    pub(crate) fn forget(&mut self, member: &str) {
        self.views.remove(&Name::Agent(Arc::from(member)));
        for consumer in [Consumer::Agent, Consumer::Netd, Consumer::Gateway] {
            let subscriber = (member.to_owned(), consumer);
            if let Some(cursor) = self.cursors.get_mut(&subscriber) {
                cursor.orphaned = true;
                if cursor.lost.is_some() {
                    self.cursors.remove(&subscriber);
                }
            }
        }
    }

    /// The first content that the consumer has not applied.
    fn outstanding(&self, cursor: &Cursor) -> Option<&Mark> {
        self.views.get(&cursor.view)?.after(cursor.holds())
    }

    /// What is certainly in force: with nothing outstanding everything, else what came before that.
    fn believed(&self, cursor: &Cursor) -> u64 {
        if !cursor.acknowledged || cursor.lost.is_some() {
            return cursor.applied;
        }
        match self.outstanding(cursor) {
            Some(mark) => mark.before.max(cursor.applied),
            None if cursor.applied < cursor.sent => cursor.applied,
            None => self.compiled.max(cursor.applied),
        }
    }

    /// Since when something is outstanding.
    fn behind(&self, cursor: &Cursor) -> Option<Instant> {
        if cursor.behind.is_some() || !cursor.acknowledged {
            return cursor.behind;
        }
        self.outstanding(cursor).map(|mark| mark.since)
    }

    fn is_stuck(&self, cursor: &Cursor, now: Instant) -> bool {
        self.behind(cursor).is_some_and(|since| now.saturating_duration_since(since) >= STUCK)
    }

    fn current(&self, subscriber: &Subscriber, subscription: u64) -> Option<&Cursor> {
        self.cursors.get(subscriber).filter(|cursor| cursor.subscription == subscription)
    }

    fn current_mut(&mut self, subscriber: &Subscriber, subscription: u64) -> Option<&mut Cursor> {
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
        cursors.compiled(5, Instant::now(), &[Name::Network]);
        let a = cursors.connect(netd("a"), 5, Instant::now());
        assert_eq!(all(&cursors), 0, "the snapshot is outstanding");
        cursors.acknowledge(&netd("a"), a, 5);
        cursors.compiled(9, Instant::now(), &[]);
        assert_eq!(all(&cursors), 9);
        cursors.compiled(10, Instant::now(), &[Name::Network]);
        assert_eq!(all(&cursors), 9, "what came before the content is in force");
        cursors.sent(&netd("a"), a, 10);
        assert_eq!(all(&cursors), 9);
        cursors.acknowledge(&netd("a"), a, 10);
        assert_eq!(all(&cursors), 10);
    }

    #[test]
    fn the_slowest_decides() {
        let mut cursors = Cursors::default();
        cursors.compiled(1, Instant::now(), &[]);
        let (a, b) =
            (cursors.connect(netd("a"), 1, Instant::now()), cursors.connect(netd("b"), 1, Instant::now()));
        cursors.acknowledge(&netd("a"), a, 1);
        assert_eq!(all(&cursors), 0);
        cursors.acknowledge(&netd("b"), b, 1);
        assert_eq!(all(&cursors), 1);
        cursors.disconnect(&netd("b"), b, Instant::now());
        cursors.compiled(2, Instant::now(), &[Name::Network]);
        assert_eq!(cursors.applied(&netd("b")), None);
        assert_eq!(all(&cursors), 1, "both had 1 in force, and b still has");
        let later = Instant::now() + RECONNECT;
        assert_eq!(cursors.acknowledged([netd("b")], later), 2, "b stayed away: nobody waits for it");
    }

    #[test]
    fn nobody_to_wait_for_means_everything_is_applied() {
        let mut cursors = Cursors::default();
        cursors.compiled(7, Instant::now(), &[Name::Network]);
        assert_eq!(all(&cursors), 7);
    }

    #[test]
    fn changes_that_cancel_out_are_settled() {
        let mut cursors = Cursors::default();
        cursors.compiled(1, Instant::now(), &[Name::Network]);
        let a = cursors.connect(netd("a"), 1, Instant::now());
        cursors.acknowledge(&netd("a"), a, 1);
        cursors.compiled(2, Instant::now(), &[Name::Network]);
        cursors.compiled(3, Instant::now(), &[Name::Network]);
        cursors.nothing_to_send(&netd("a"), a, 2);
        assert_eq!(all(&cursors), 1, "3 has not been looked at");
        cursors.nothing_to_send(&netd("a"), a, 3);
        assert_eq!(all(&cursors), 3);
    }

    #[test]
    fn an_old_connection_cannot_speak_for_a_new_one() {
        let now = Instant::now();
        let mut cursors = Cursors::default();
        cursors.compiled(4, Instant::now(), &[Name::Network]);
        let old = cursors.connect(netd("a"), 4, Instant::now());
        let new = cursors.connect(netd("a"), 4, Instant::now());
        cursors.acknowledge(&netd("a"), old, 4);
        cursors.disconnect(&netd("a"), old, now);
        assert!(cursors.connected(&netd("a")) && !cursors.is_current(&netd("a"), old));
        assert_eq!(all(&cursors), 0);
        cursors.acknowledge(&netd("a"), new, 3);
        assert_eq!(all(&cursors), 0, "3 was acknowledged of an earlier connection");
        cursors.acknowledge(&netd("a"), new, 900);
        assert_eq!(all(&cursors), 0, "900 was never sent");
        cursors.acknowledge(&netd("a"), new, 4);
        assert_eq!(all(&cursors), 4);
    }

    #[test]
    fn nobody_waits_for_a_consumer_that_is_stuck() {
        let start = Instant::now();
        let mut cursors = Cursors::default();
        cursors.compiled(1, start, &[Name::Network]);
        let (a, b) = (cursors.connect(netd("a"), 1, start), cursors.connect(netd("b"), 1, start));
        cursors.acknowledge(&netd("a"), a, 1);
        cursors.acknowledge(&netd("b"), b, 1);
        cursors.compiled(2, start, &[Name::Network]);
        cursors.sent(&netd("a"), a, 2);
        cursors.sent(&netd("b"), b, 2);
        cursors.acknowledge(&netd("a"), a, 2);
        let both = || [netd("a"), netd("b")];
        assert_eq!(cursors.acknowledged(both(), start + STUCK / 2), 1);
        assert_eq!(cursors.acknowledged(both(), start + STUCK), 2);
        assert!(cursors.ready(&netd("a"), start + STUCK) && !cursors.ready(&netd("b"), start + STUCK));
        cursors.acknowledge(&netd("b"), b, 2);
        assert!(cursors.ready(&netd("b"), start + STUCK), "it has recovered");
    }

    #[test]
    fn a_short_reconnect_keeps_a_node_ready_a_long_one_does_not() {
        let start = Instant::now();
        let mut cursors = Cursors::default();
        let a = cursors.connect(netd("a"), 1, Instant::now());
        assert!(!cursors.ready(&netd("a"), start), "never acknowledged");
        cursors.acknowledge(&netd("a"), a, 1);
        assert!(cursors.ready(&netd("a"), start));
        cursors.disconnect(&netd("a"), a, start);
        assert!(cursors.ready(&netd("a"), start + Duration::from_secs(9)));
        assert!(!cursors.ready(&netd("a"), start + Duration::from_secs(10)));
        cursors.connect(netd("a"), 1, start + Duration::from_secs(60));
        assert!(cursors.ready(&netd("a"), start + Duration::from_secs(60)));
    }

    #[test]
    fn a_consumer_that_is_far_behind_is_believed_no_more_than_it_has() {
        let start = Instant::now();
        let mut cursors = Cursors::default();
        cursors.compiled(1, start, &[Name::Network]);
        let (a, b) = (cursors.connect(netd("a"), 1, start), cursors.connect(netd("b"), 1, start));
        cursors.acknowledge(&netd("a"), a, 1);
        cursors.acknowledge(&netd("b"), b, 1);
        // A change every ten milliseconds; "a" stays at the hundredth, "b" follows, two revisions behind.
        let at = |revision: u64| start + Duration::from_millis(10 * (revision - 1));
        for revision in 2..=4_000 {
            cursors.compiled(revision, at(revision), &[Name::Network]);
            for (name, subscription) in [("a", a), ("b", b)] {
                cursors.sent(&netd(name), subscription, revision);
            }
            cursors.acknowledge(&netd("b"), b, revision.saturating_sub(2).max(1));
            if revision == 100 {
                cursors.acknowledge(&netd("a"), a, 100);
            }
            let believed = cursors.applied(&netd("a")).expect("connected");
            assert!(believed <= 100 && (revision < 100 || believed == 100), "{believed} at {revision}");
            assert!(cursors.ready(&netd("b"), at(revision)), "{revision}");
            let behind = at(revision).saturating_duration_since(at(101));
            if behind >= STUCK {
                assert!(!cursors.ready(&netd("a"), at(revision)), "stuck at {revision}");
            } else if behind < STUCK * 9 / 10 {
                assert!(cursors.ready(&netd("a"), at(revision)), "not yet at {revision}");
            }
        }
        assert!(cursors.views[&Name::Network].0.len() <= MARKS);
    }

    #[test]
    fn a_member_that_is_gone_is_forgotten_when_its_connection_ends() {
        let now = Instant::now();
        let mut cursors = Cursors::default();
        let a = cursors.connect(netd("a"), 1, now);
        let b = cursors.connect(netd("b"), 1, now);
        cursors.disconnect(&netd("b"), b, now);
        cursors.forget("a");
        cursors.forget("b");
        assert!(cursors.known(&netd("a")) && !cursors.known(&netd("b")));
        cursors.disconnect(&netd("a"), a, now);
        assert!(!cursors.known(&netd("a")));
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
            cursors.compiled(1, Instant::now(), &[Name::Network]);
            let mut revision = 1;
            for happening in happenings {
                match happening {
                    Happening::Compile(content) => {
                        revision += 1;
                        if content { contents.push(revision); }
                        cursors.compiled(revision, Instant::now(), content.then_some(&Name::Network));
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
                            cursors.nothing_to_send(&a, model.subscription, revision);
                        }
                    }
                    Happening::Apply if model.connected => {
                        model.in_force = model.delivered;
                        cursors.acknowledge(&a, model.subscription, model.delivered);
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
                            cursors.nothing_to_send(&a, model.subscription, revision);
                            prop_assert_eq!(cursors.applied(&a), Some(revision));
                        }
                    }
                }
            }
        }
    }
}
