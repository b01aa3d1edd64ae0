//! Events that follow from a change of status, rather than from an action.

use warren_proto::control::{PodStatus, container_state::State};

/// An event about a pod, without the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Container it is about; empty for the pod.
    pub container: String,
    /// An init container.
    pub init: bool,
    /// Not as it should be.
    pub warning: bool,
    /// Kubernetes' reason.
    pub reason: &'static str,
    /// Kubernetes' message.
    pub message: String,
}

impl Event {
    /// Where in the pod's spec: `spec.containers{web}`.
    pub fn field_path(&self) -> String {
        match (self.container.as_str(), self.init) {
            ("", _) => String::new(),
            (name, true) => format!("spec.initContainers{{{name}}}"),
            (name, false) => format!("spec.containers{{{name}}}"),
        }
    }
}

/// Events about back-offs that begin between two reports.
pub fn between(before: Option<&PodStatus>, after: &PodStatus) -> Vec<Event> {
    let lists = [
        (false, before.map(|status| &status.containers), &after.containers),
        (true, before.map(|status| &status.init_containers), &after.init_containers),
    ];
    let mut events = Vec::new();
    for (init, before, after_list) in lists {
        for container in after_list {
            let previous = before
                .and_then(|list| list.iter().find(|other| other.name == container.name))
                .and_then(|other| waiting(other.state.as_ref().and_then(|state| state.state.as_ref())));
            let Some((reason, message)) =
                waiting(container.state.as_ref().and_then(|state| state.state.as_ref()))
            else {
                continue;
            };
            if previous.is_some_and(|(old, text)| old == reason && text == message) {
                continue;
            }
            let text = match reason {
                "CrashLoopBackOff" => format!(
                    "Back-off restarting failed container {} in pod {}_{}({})",
                    container.name, after.name, after.namespace, after.uid
                ),
                "ImagePullBackOff" => format!("Back-off pulling image \"{}\"", container.image),
                _ => continue,
            };
            let name = container.name.clone();
            events.push(Event { container: name, init, warning: true, reason: "BackOff", message: text });
        }
    }
    events
}

fn waiting(state: Option<&State>) -> Option<(&str, &str)> {
    match state {
        Some(State::Waiting(waiting)) => Some((&waiting.reason, &waiting.message)),
        _ => None,
    }
}
