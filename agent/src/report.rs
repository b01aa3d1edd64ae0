//! What goes up: statuses when they change, everything after a reconnection, events as they happen.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tonic::transport::Channel;
use prost::Message as _;
use warren_proto::control::{
    EventReport, PodStatus, PodsReport, container_state::State, control_client::ControlClient,
};
use warren_runtime::{CancellationToken, connection::Controller};

use crate::plan::{events::Event, status::seconds};

/// Statuses and events per message.
const BATCH: usize = 50;
/// What all statuses of a message may take, in bytes: half of what the controller reads.
const BATCH_BYTES: usize = 1 << 20;
/// The longest text of a status or an event; the controller keeps no more. An engine's errors can be of any length.
const TEXT: usize = 4_096;
/// Events kept while the controller is away; older ones are dropped.
const EVENTS_KEPT: usize = 1000;
/// Pods that are gone, kept to be reported again after a reconnection.
const DEPARTED_KEPT: usize = 1000;
const CALL: Duration = Duration::from_secs(10);
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// Whose event it is.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The pod's UID.
    pub uid: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
}

/// What waits to be reported.
#[derive(Default)]
pub struct Outbox {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    current: BTreeMap<String, PodStatus>,
    departed: VecDeque<PodStatus>,
    sent: BTreeMap<String, PodStatus>,
    events: VecDeque<EventReport>,
}

impl Outbox {
    /// Replaces all statuses; wakes the reporter when something differs.
    pub fn publish(&self, mut statuses: BTreeMap<String, PodStatus>) {
        statuses.values_mut().for_each(shorten);
        let mut inner = self.inner.lock();
        if inner.current != statuses {
            inner.current = statuses;
            self.changed.notify_one();
        }
    }

    /// The last word about a pod that nobody wants any more.
    pub fn depart(&self, mut status: PodStatus) {
        shorten(&mut status);
        let mut inner = self.inner.lock();
        inner.departed.retain(|other| other.uid != status.uid);
        inner.departed.push_back(status);
        if inner.departed.len() > DEPARTED_KEPT {
            inner.departed.pop_front();
        }
        self.changed.notify_one();
    }

    /// The last published status of a pod, wanted or gone.
    pub fn status(&self, uid: &str) -> Option<PodStatus> {
        let inner = self.inner.lock();
        let departed = || inner.departed.iter().find(|status| status.uid == uid);
        inner.current.get(uid).or_else(departed).cloned()
    }

    /// Queues an event.
    pub fn event(&self, subject: &Subject, event: Event) {
        tracing::info!(
            pod = format!("{}/{}", subject.namespace, subject.name),
            container = event.container,
            reason = event.reason,
            message = event.message,
            "event"
        );
        let mut report = EventReport {
            pod_uid: subject.uid.clone(),
            pod_namespace: subject.namespace.clone(),
            pod_name: subject.name.clone(),
            field_path: event.field_path(),
            warning: event.warning,
            reason: event.reason.to_owned(),
            message: event.message,
            time: seconds(Timestamp::now()),
        };
        cut(&mut report.message);
        let mut inner = self.inner.lock();
        if inner.events.len() >= EVENTS_KEPT {
            inner.events.pop_front();
            metrics::counter!("warren_agent_events_dropped_total").increment(1);
        }
        inner.events.push_back(report);
        self.changed.notify_one();
    }

    /// Events not sent yet.
    pub fn pending_events(&self) -> Vec<EventReport> {
        self.inner.lock().events.iter().cloned().collect()
    }

    /// Forgets what was sent: the next report is a full one.
    pub fn forget_sent(&self) {
        self.inner.lock().sent.clear();
        self.changed.notify_one();
    }

    /// The next message; none when everything was said.
    fn next(&self) -> Option<PodsReport> {
        let inner = self.inner.lock();
        let all = inner.current.values().chain(&inner.departed);
        let fresh = all.filter(|status| inner.sent.get(&status.uid) != Some(status));
        let mut bytes = 0;
        let fits = |status: &&PodStatus| {
            let first = bytes == 0;
            bytes += status.encoded_len();
            first || bytes <= BATCH_BYTES
        };
        let pods: Vec<PodStatus> = fresh.take(BATCH).take_while(fits).cloned().collect();
        let events: Vec<EventReport> = inner.events.iter().take(BATCH).cloned().collect();
        (!pods.is_empty() || !events.is_empty()).then_some(PodsReport { pods, events })
    }

    fn sent(&self, report: PodsReport) {
        let mut inner = self.inner.lock();
        for event in &report.events {
            // Others may have been dropped from the front meanwhile.
            if inner.events.front() == Some(event) {
                inner.events.pop_front();
            }
        }
        for status in report.pods {
            inner.sent.insert(status.uid.clone(), status);
        }
        let Inner { current, departed, sent, .. } = &mut *inner;
        sent.retain(|uid, _| current.contains_key(uid) || departed.iter().any(|status| status.uid == *uid));
    }
}

/// Cuts the texts of a status, so that no status is too long to be taken.
fn shorten(status: &mut PodStatus) {
    cut(&mut status.message);
    for container in status.containers.iter_mut().chain(&mut status.init_containers) {
        let states = [&mut container.state, &mut container.last_state];
        for state in states.into_iter().flatten().filter_map(|state| state.state.as_mut()) {
            match state {
                State::Waiting(waiting) => cut(&mut waiting.message),
                State::Terminated(terminated) => cut(&mut terminated.message),
                State::Running(_) => {}
            }
        }
    }
}

fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(TEXT));
}

/// Sends what the outbox holds, until `stop`.
pub(crate) async fn run(
    outbox: Arc<Outbox>,
    controller: Controller,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut wait = RETRY_FIRST;
    loop {
        let error = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            result = session(&outbox, &controller, &mut wait) => match result {
                Err(error) => error,
                Ok(never) => match never {},
            },
        };
        tracing::debug!(error = format!("{error:#}"), "cannot report to the controller; trying again");
        outbox.forget_sent();
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(RETRY_LONGEST);
    }
}

async fn session(
    outbox: &Outbox,
    controller: &Controller,
    wait: &mut Duration,
) -> anyhow::Result<std::convert::Infallible> {
    let channel = tokio::time::timeout(CALL, controller.channel()).await??;
    let mut client: ControlClient<Channel> = ControlClient::new(channel);
    loop {
        while let Some(report) = outbox.next() {
            tokio::time::timeout(CALL, client.report_pods(report.clone())).await??;
            metrics::counter!("warren_agent_reports_total").increment(1);
            outbox.sent(report);
            *wait = RETRY_FIRST;
        }
        outbox.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::status::gone_status;

    #[test]
    fn only_changes_are_sent_and_everything_after_a_reconnection() {
        let outbox = Outbox::default();
        let status = |name: &str| PodStatus { uid: name.into(), name: name.into(), ..PodStatus::default() };
        let publish = |names: &[&str]| {
            outbox.publish(names.iter().map(|name| ((*name).to_owned(), status(name))).collect());
        };
        let send = || {
            let report = outbox.next()?;
            let uids: Vec<String> = report.pods.iter().map(|pod| pod.uid.clone()).collect();
            outbox.sent(report);
            Some(uids)
        };
        publish(&["a", "b"]);
        assert_eq!(send(), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(send(), None);
        publish(&["b", "c"]);
        outbox.depart(gone_status("a", "ns", "a"));
        assert_eq!(send(), Some(vec!["c".to_owned(), "a".to_owned()]));
        outbox.forget_sent();
        assert_eq!(send().map(|uids| uids.len()), Some(3));
    }

    #[test]
    fn no_message_is_longer_than_the_controller_reads() {
        use warren_proto::control::{ContainerState, ContainerStatus, Waiting};
        let outbox = Outbox::default();
        let long = |uid: String| {
            let waiting = Waiting { message: "ä".repeat(1 << 20), ..Waiting::default() };
            let state = Some(ContainerState { state: Some(State::Waiting(waiting)) });
            let container = ContainerStatus { state, ..ContainerStatus::default() };
            let status = PodStatus { uid: uid.clone(), containers: vec![container; 60], ..PodStatus::default() };
            (uid, status)
        };
        outbox.publish((0..40).map(|number| long(format!("uid-{number}"))).collect());
        let mut told = 0;
        while let Some(report) = outbox.next() {
            assert!(report.encoded_len() <= 2 * BATCH_BYTES, "{}", report.encoded_len());
            told += report.pods.len();
            outbox.sent(report);
        }
        assert_eq!(told, 40);
    }
}
