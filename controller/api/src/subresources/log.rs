//! `pods/log`: which container, may it have a log yet, then a plain text stream from its node.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{TryStreamExt, stream::BoxStream};
use serde_json::{Value, json};
use warren_objects::{ErrorKind, FieldError};
use warren_proto::control::LogsRequest;

use crate::{
    StreamError,
    path::ResourceTarget,
    query::Query,
    respond::{Content, Reply},
    server::Call,
    state::{ApiState, key_of},
    status::Status,
    streams::reference,
};

/// How long the node may take to open the stream.
const PATIENCE: Duration = Duration::from_secs(30);
/// Names the container that is meant when the client names none.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

pub(super) async fn get(api: &ApiState, call: &Call) -> Result<Reply, Status> {
    let stream = open(api, &call.target, &call.query).await?;
    let body = Body::from_stream(stream.map_err(std::io::Error::other));
    Ok(Reply::ok(Content::Stream { body, content_type: "text/plain" }))
}

/// Opens the log that is asked for.
pub(crate) async fn open(
    api: &ApiState,
    target: &ResourceTarget,
    query: &Query,
) -> Result<BoxStream<'static, Result<Bytes, String>>, Status> {
    let snapshot = api.snapshot();
    let name = &target.name;
    let pod = &snapshot.get(&key_of(target)).ok_or_else(|| Status::not_found(&target.kind, name))?.value;
    let options = options(name, query)?;
    let container = container(pod, name, query.text("container"))?;
    check_state(pod, name, &container, options.previous)?;
    let pod = reference(&target.namespace, name, pod)?;
    let opening = api.streams.logs(&pod, &container, options);
    let opened = tokio::time::timeout(PATIENCE, opening).await.map_err(|_| {
        Status::timeout(format!("node {} did not open the log within {} s", pod.node, PATIENCE.as_secs()))
    })?;
    opened.map_err(refusal)
}

pub(crate) fn refusal(error: StreamError) -> Status {
    match error {
        StreamError::NodeUnavailable { .. } => Status::unavailable(error.to_string()),
        StreamError::NotFound(why) => Status::bad_request(why),
        StreamError::Failed(why) => Status::internal(why),
    }
}

fn options(pod: &str, query: &Query) -> Result<LogsRequest, Status> {
    let options = LogsRequest {
        follow: query.flag("follow")?,
        previous: query.flag("previous")?,
        timestamps: query.flag("timestamps")?,
        tail_lines: query.number("tailLines")?,
        since_seconds: query.number("sinceSeconds")?,
        since_time: query.text("sinceTime").unwrap_or("").to_owned(),
        limit_bytes: query.number("limitBytes")?,
    };
    let invalid = |field: &str, kind: ErrorKind, value: Option<Value>, detail: &str| {
        let error = FieldError { field: field.into(), kind, value, detail: detail.into() };
        Err(Status::invalid_kind("", "PodLogOptions", pod, &[error]))
    };
    for (field, value, least) in [
        ("tailLines", options.tail_lines, 0),
        ("sinceSeconds", options.since_seconds, 1),
        ("limitBytes", options.limit_bytes, 1),
    ] {
        if let Some(value) = value.filter(|value| *value < least) {
            let detail = format!("must be greater than or equal to {least}");
            return invalid(field, ErrorKind::Invalid, Some(json!(value)), &detail);
        }
    }
    if options.since_time.is_empty() {
        return Ok(options);
    }
    if options.since_seconds.is_some() {
        return invalid(
            "sinceSeconds",
            ErrorKind::Forbidden,
            None,
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        );
    }
    if options.since_time.parse::<jiff::Timestamp>().is_err() {
        let value = Some(json!(options.since_time));
        return invalid("sinceTime", ErrorKind::Invalid, value, "must be a time as in RFC 3339");
    }
    Ok(options)
}

fn names<'a>(pod: &'a Value, field: &str) -> Vec<&'a str> {
    pod["spec"][field]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|container| container["name"].as_str())
        .collect()
}

/// The container that is meant.
pub(crate) fn container(pod: &Value, name: &str, wanted: Option<&str>) -> Result<String, Status> {
    let (containers, init) = (names(pod, "containers"), names(pod, "initContainers"));
    let default = pod["metadata"]["annotations"][DEFAULT_CONTAINER].as_str();
    let wanted = wanted.or_else(|| default.filter(|name| containers.contains(name)));
    match (wanted, containers.as_slice()) {
        (Some(wanted), _) if containers.contains(&wanted) || init.contains(&wanted) => Ok(wanted.to_owned()),
        (Some(wanted), _) => {
            Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}")))
        }
        (None, [only]) => Ok((*only).to_owned()),
        (None, _) => {
            let also = if init.is_empty() {
                String::new()
            } else {
                format!(" or one of the init containers: [{}]", init.join(" "))
            };
            let choice = containers.join(" ");
            Err(Status::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{choice}]{also}"
            )))
        }
    }
}

/// A container that never ran has no log; say why, as Kubernetes does.
fn check_state(pod: &Value, name: &str, container: &str, previous: bool) -> Result<(), Status> {
    let statuses = ["containerStatuses", "initContainerStatuses"];
    let mut all = statuses.iter().flat_map(|field| pod["status"][*field].as_array().into_iter().flatten());
    let status = all.find(|status| status["name"] == container);
    let ended = status.is_some_and(|status| status["lastState"]["terminated"].is_object());
    if previous {
        if ended {
            return Ok(());
        }
        return Err(Status::bad_request(format!(
            "previous terminated container \"{container}\" in pod \"{name}\" not found"
        )));
    }
    let waiting = match status {
        None => Some("ContainerCreating"),
        Some(status) if ended || status["state"]["waiting"].is_null() => None,
        Some(status) => Some(status["state"]["waiting"]["reason"].as_str().unwrap_or("ContainerCreating")),
    };
    let Some(reason) = waiting else { return Ok(()) };
    let why = match reason {
        "ErrImagePull" => "image can't be pulled",
        "ImagePullBackOff" => "trying and failing to pull image",
        other => other,
    };
    Err(Status::bad_request(format!(
        "container \"{container}\" in pod \"{name}\" is waiting to start: {why}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: &[&str]) -> Value {
        let containers: Vec<Value> = containers.iter().map(|name| json!({"name": name})).collect();
        json!({"metadata": {"name": "p"}, "spec": {"containers": containers}})
    }

    #[test]
    fn the_container_is_chosen_or_asked_for() {
        assert_eq!(container(&pod(&["a"]), "p", None).unwrap(), "a");
        assert_eq!(container(&pod(&["a", "b"]), "p", Some("b")).unwrap(), "b");
        assert_eq!(
            container(&pod(&["a", "b"]), "p", None).unwrap_err().message,
            "a container name must be specified for pod p, choose one of: [a b]"
        );
        assert_eq!(
            container(&pod(&["a"]), "p", Some("x")).unwrap_err().message,
            "container x is not valid for pod p"
        );
        let mut annotated = pod(&["a", "b"]);
        annotated["metadata"]["annotations"] = json!({DEFAULT_CONTAINER: "b"});
        assert_eq!(container(&annotated, "p", None).unwrap(), "b");
        let mut with_init = pod(&["a"]);
        with_init["spec"]["initContainers"] = json!([{"name": "i"}]);
        assert_eq!(container(&with_init, "p", None).unwrap(), "a", "the only one that is no init container");
        with_init["spec"]["containers"] = json!([{"name": "a"}, {"name": "b"}]);
        assert_eq!(
            container(&with_init, "p", None).unwrap_err().message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
    }

    #[test]
    fn a_waiting_container_says_why() {
        let mut pod = pod(&["c"]);
        let expected = "container \"c\" in pod \"p\" is waiting to start: ContainerCreating";
        assert_eq!(check_state(&pod, "p", "c", false).unwrap_err().message, expected);
        pod["status"]["containerStatuses"] =
            json!([{"name": "c", "state": {"waiting": {"reason": "ErrImagePull"}}}]);
        assert!(check_state(&pod, "p", "c", false).unwrap_err().message.ends_with("image can't be pulled"));
        pod["status"]["containerStatuses"] = json!([{"name": "c", "state": {"running": {}}}]);
        assert!(check_state(&pod, "p", "c", false).is_ok());
        assert!(
            check_state(&pod, "p", "c", true)
                .unwrap_err()
                .message
                .starts_with("previous terminated container")
        );
        pod["status"]["containerStatuses"] = json!([{"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {}}}]);
        assert!(check_state(&pod, "p", "c", false).is_ok() && check_state(&pod, "p", "c", true).is_ok());
    }

    #[test]
    fn options_are_checked() {
        let good =
            options("p", &Query::parse(Some("follow=true&tailLines=0&sinceTime=2026-01-01T00:00:00Z")))
                .unwrap();
        assert!(good.follow);
        assert_eq!(good.tail_lines, Some(0));
        for bad in [
            "tailLines=-1",
            "sinceSeconds=0",
            "sinceTime=yesterday",
            "sinceTime=2026-01-01T00:00:00Z&sinceSeconds=5",
        ] {
            assert_eq!(options("p", &Query::parse(Some(bad))).unwrap_err().code, 422, "{bad}");
        }
        assert_eq!(options("p", &Query::parse(Some("tailLines=x"))).unwrap_err().code, 400);
    }
}
