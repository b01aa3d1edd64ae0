//! Events that the cluster's own components tell: where they lie, how they are counted, and how many that are alike become
//! one, as Kubernetes' clients do it. Pure functions of what is told and of the state.
//!
//! What is told again (same source, object, type, reason and message) is counted in one object. What differs by its message
//! alone is told in objects of its own until there were [`FEW`] of them within [`WINDOW`]; then one object combines what
//! comes, so that nothing that goes on and on fills the store.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use warren_state::{Key, Object, Snapshot};

use crate::{
    derived::hex16,
    json::{has, text},
};

/// How many events that differ by their messages alone are told one by one.
pub const FEW: usize = 9;
/// Within which time they are alike.
pub const WINDOW: SignedDuration = SignedDuration::from_secs(600);
/// Begins the message of an event that combines others.
pub const COMBINED: &str = "(combined from similar events): ";

const RESOURCE: &str = "events";
/// How many events of objects of the same name are looked at for those that are alike. Users may make any number of them.
const MOST_LOOKED_AT: usize = 1_024;
/// How much of an object's name is in the names of its events, which have 253 characters at most.
const MOST_OF_NAME: usize = 236;

/// Something that is told about an object.
#[derive(Debug, Clone, Copy)]
pub struct Telling<'a> {
    /// Where the event lies.
    pub namespace: &'a str,
    /// What it is about: an `ObjectReference`, with `kind`, `name` and `uid` at least.
    pub involved: &'a Value,
    /// Who tells it: "deployment-controller".
    pub component: &'a str,
    /// On which node that is, if on any.
    pub host: &'a str,
    /// A word in CamelCase.
    pub reason: &'a str,
    /// A sentence.
    pub message: &'a str,
    /// Whether it needs attention.
    pub warning: bool,
}

/// Where something is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The event's key.
    pub key: Key,
    /// Whether the event combines others.
    pub combines: bool,
}

impl Telling<'_> {
    fn kind(&self) -> &'static str {
        if self.warning { "Warning" } else { "Normal" }
    }

    fn named(&self, more: &[&str]) -> Key {
        let (involved, kind) = (self.involved, self.kind());
        let alike =
            [text(involved, "kind"), text(involved, "uid"), self.component, self.host, kind, self.reason];
        let hash = hex16(alike.into_iter().chain(more.iter().copied()));
        Key::new(RESOURCE, self.namespace, &format!("{}{hash}", self.prefix()))
    }

    /// What the names of all events about objects of this name begin with.
    fn prefix(&self) -> String {
        format!("{:.MOST_OF_NAME$}.", text(self.involved, "name"))
    }

    /// Where it is told by itself.
    pub fn own_key(&self) -> Key {
        self.named(&[text(self.involved, "fieldPath"), self.message])
    }

    /// Where it is told together with what is alike.
    pub fn combined_key(&self) -> Key {
        self.named(&[])
    }

    /// Where to tell it, when events like it are told elsewhere that are not in the state yet.
    pub fn place(&self, snapshot: &Snapshot, elsewhere: usize, now: Timestamp) -> Place {
        let (own, combined) = (self.own_key(), self.combined_key());
        if snapshot.get(&own).is_some() {
            return Place { key: own, combines: false };
        }
        let goes_on = snapshot.get(&combined).is_some_and(|event| is_recent(&event.value, now));
        if goes_on || elsewhere.saturating_add(self.alike(snapshot, now)) >= FEW {
            return Place { key: combined, combines: true };
        }
        Place { key: own, combines: false }
    }

    /// How many events told lately differ from this one by their messages alone; no more than matter.
    fn alike(&self, snapshot: &Snapshot, now: Timestamp) -> usize {
        let prefix = self.prefix();
        let first = Key::new(RESOURCE, self.namespace, &prefix);
        let about = snapshot.from(Some(&first)).take(MOST_LOOKED_AT).take_while(|event| {
            let key = &event.key;
            &*key.resource == RESOURCE && *key.namespace == *self.namespace && key.name.starts_with(&prefix)
        });
        about.filter(|event| self.is_like(event) && is_recent(&event.value, now)).take(FEW).count()
    }

    fn is_like(&self, event: &Object) -> bool {
        let told = &event.value;
        let same = |path: &str, expected: &str| text(told, path) == expected;
        same("reason", self.reason)
            && same("type", self.kind())
            && same("source.component", self.component)
            && same("source.host", self.host)
            && same("involvedObject.uid", text(self.involved, "uid"))
            && same("involvedObject.kind", text(self.involved, "kind"))
            && !text(told, "message").starts_with(COMBINED)
    }

    /// The event object: a first one, or the one that is there, in which this is counted `times` times.
    pub fn value(
        &self,
        place: &Place,
        known: Option<&Object>,
        times: i64,
        at: Timestamp,
        uid: &str,
    ) -> Value {
        let time = whole_seconds(at);
        let message =
            if place.combines { format!("{COMBINED}{}", self.message) } else { self.message.to_owned() };
        let mut value = match known {
            Some(known) => known.value.clone(),
            None => self.first(place, &time, uid),
        };
        let before =
            if known.is_some() { value.get("count").and_then(Value::as_i64).unwrap_or(1) } else { 0 };
        // A number of 32 bits in the API.
        let count = before.max(0).saturating_add(times).clamp(1, i64::from(i32::MAX));
        let Some(fields) = value.as_object_mut() else { return value };
        fields.insert("message".into(), message.into());
        fields.insert("count".into(), count.into());
        fields.insert("lastTimestamp".into(), time.into());
        if place.combines {
            fields.insert("involvedObject".into(), self.involved.clone());
        }
        if count > 1 {
            let observed = format!("{at:.6}");
            fields.insert("series".into(), json!({"count": count, "lastObservedTime": observed}));
        }
        value
    }

    fn first(&self, place: &Place, time: &str, uid: &str) -> Value {
        let mut value = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": &*place.key.name, "namespace": &*place.key.namespace, "uid": uid, "creationTimestamp": time,
            },
            "involvedObject": self.involved,
            "reason": self.reason,
            "type": self.kind(),
            "firstTimestamp": time,
            "eventTime": null,
            "source": {"component": self.component},
            "reportingComponent": self.component,
            "reportingInstance": self.host,
        });
        if !self.host.is_empty() {
            value["source"]["host"] = self.host.into();
        }
        if let Some(action) = action(self.component, self.reason) {
            value["action"] = action.into();
        }
        value
    }
}

/// What a component did, where Kubernetes' says it too.
fn action(component: &str, reason: &str) -> Option<&'static str> {
    match (component, reason) {
        ("default-scheduler", "FailedScheduling") => Some("Scheduling"),
        ("default-scheduler", "Scheduled") => Some("Binding"),
        ("default-scheduler", "Preempted") => Some("Preempting"),
        _ => None,
    }
}

/// Whether an event was told within [`WINDOW`].
fn is_recent(event: &Value, now: Timestamp) -> bool {
    let field = if has(event, "lastTimestamp") { "lastTimestamp" } else { "metadata.creationTimestamp" };
    text(event, field).parse().is_ok_and(|last: Timestamp| now.duration_since(last) <= WINDOW)
}

fn whole_seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn web() -> Value {
        json!({"kind": "Pod", "apiVersion": "v1", "namespace": "default", "name": "web", "uid": "u"})
    }

    fn telling<'a>(involved: &'a Value, message: &'a str) -> Telling<'a> {
        let (namespace, component) = ("default", "default-scheduler");
        Telling {
            namespace,
            involved,
            component,
            host: "",
            reason: "FailedScheduling",
            message,
            warning: true,
        }
    }

    /// Tells it, and where.
    fn tell(snapshot: &mut Snapshot, telling: &Telling<'_>, now: Timestamp) -> Place {
        let place = telling.place(snapshot, 0, now);
        let known = snapshot.get(&place.key).cloned();
        let value = telling.value(&place, known.as_deref(), 1, now, "e");
        snapshot.insert(Object::new(place.key.clone(), 1, value).into());
        place
    }

    #[test]
    fn what_is_told_again_is_counted_and_is_a_series() {
        let (involved, mut snapshot) = (web(), Snapshot::default());
        let telling = telling(&involved, "0/3 nodes are available: 3 Insufficient cpu.");
        let first = tell(&mut snapshot, &telling, at("2026-01-01T00:00:00.7Z"));
        let told = snapshot.get(&first.key).unwrap().value.clone();
        assert_eq!((&told["count"], told.get("series")), (&json!(1), None));
        assert_eq!(
            (&told["firstTimestamp"], &told["action"], &told["reportingComponent"], &told["type"]),
            (
                &json!("2026-01-01T00:00:00Z"),
                &json!("Scheduling"),
                &json!("default-scheduler"),
                &json!("Warning")
            )
        );
        assert_eq!(tell(&mut snapshot, &telling, at("2026-01-01T00:20:00.5Z")), first);
        let told = &snapshot.get(&first.key).unwrap().value;
        assert_eq!(told["count"], 2);
        assert_eq!(told["series"], json!({"count": 2, "lastObservedTime": "2026-01-01T00:20:00.500000Z"}));
        assert_eq!(
            (&told["firstTimestamp"], &told["lastTimestamp"]),
            (&json!("2026-01-01T00:00:00Z"), &json!("2026-01-01T00:20:00Z"))
        );
        assert_eq!(snapshot.len(), 1);
    }

    #[test]
    fn many_that_are_alike_become_one() {
        let (involved, mut snapshot) = (web(), Snapshot::default());
        let mut now = at("2026-01-01T00:00:00Z");
        for number in 0..50 {
            tell(&mut snapshot, &telling(&involved, &format!("message {number}")), now);
            now += SignedDuration::from_secs(30);
        }
        assert_eq!(snapshot.len(), FEW + 1);
        let combined = snapshot.get(&telling(&involved, "").combined_key()).unwrap();
        assert_eq!(combined.value["message"], "(combined from similar events): message 49");
        assert_eq!((&combined.value["count"], &combined.value["series"]["count"]), (&json!(41), &json!(41)));
        // What was told by itself goes on to be.
        assert!(!tell(&mut snapshot, &telling(&involved, "message 3"), now).combines);
        // After a while it is told anew.
        now += SignedDuration::from_secs(601);
        assert!(!tell(&mut snapshot, &telling(&involved, "message 51"), now).combines);
        assert_eq!(snapshot.len(), FEW + 2);
    }

    #[test]
    fn what_is_told_at_the_same_time_counts_too() {
        let (involved, snapshot) = (web(), Snapshot::default());
        let telling = telling(&involved, "x");
        let now = at("2026-01-01T00:00:00Z");
        assert!(!telling.place(&snapshot, FEW - 1, now).combines);
        let place = telling.place(&snapshot, FEW, now);
        assert!(place.combines);
        assert_eq!(telling.value(&place, None, 3, now, "e")["count"], 3);
    }

    #[test]
    fn others_are_not_alike() {
        let (involved, mut snapshot) = (web(), Snapshot::default());
        let now = at("2026-01-01T00:00:00Z");
        for number in 0..FEW {
            tell(&mut snapshot, &telling(&involved, &format!("message {number}")), now);
        }
        assert!(telling(&involved, "x").place(&snapshot, 0, now).combines);
        let mut elder = web();
        elder["uid"] = "other".into();
        let same = telling(&involved, "x");
        for other in [
            telling(&elder, "x"),
            Telling { reason: "Other", ..same },
            Telling { component: "other", ..same },
            Telling { host: "node-1", ..same },
            Telling { warning: false, ..same },
            Telling { namespace: "other", ..same },
        ] {
            assert!(!other.place(&snapshot, 0, now).combines, "{other:?}");
        }
    }

    #[test]
    fn whatever_users_store_as_events_is_survived() {
        let (involved, mut snapshot) = (web(), Snapshot::default());
        let now = at("2026-01-01T00:00:00Z");
        let telling = telling(&involved, "x");
        let own = telling.own_key();
        for value in
            [json!({"count": -7}), json!({"count": i64::MAX}), json!({"count": "x", "series": 3}), json!([])]
        {
            snapshot.insert(Object::new(own.clone(), 1, value).into());
            tell(&mut snapshot, &telling, now);
            let count = snapshot.get(&own).unwrap().value.get("count").and_then(Value::as_i64).unwrap_or(1);
            assert!((1..=i64::from(i32::MAX)).contains(&count), "{count}");
        }
        let mut long = web();
        long["name"] = "n".repeat(253).into();
        let telling = Telling { involved: &long, ..telling };
        assert_eq!(telling.own_key().name.len(), 253);
    }
}
