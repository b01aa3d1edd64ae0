//! Attacks on the calls: every method of the contract, as whoever may dial.

use std::time::Duration;

use http::Request;
use warren_proto::bounded::{METHODS, Method};

use crate::fixture::{Answer, Who, send, unfinished, url, whole};

/// The codes of gRPC.
pub(crate) const UNAUTHENTICATED: i32 = 16;
const PERMISSION_DENIED: i32 = 7;
const JOIN: &str = "/warren.control.v1.Join/Join";
const MEBIBYTE: usize = 1 << 20;

/// The methods that the controller serves; those of netd are not on this port.
pub(crate) fn methods() -> impl Iterator<Item = &'static Method> {
    METHODS.iter().filter(|method| method.path.starts_with("/warren.control."))
}

pub(crate) fn head(path: &str) -> http::request::Builder {
    Request::post(url(path))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", warren_runtime::connection::user_agent())
}

/// The frame around a message of this length.
fn prefix(length: usize) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(length).expect("short enough").to_be_bytes());
    bytes
}

/// A message of nothing but empty items, in its frame.
fn bomb(method: &Method, size: usize) -> Vec<u8> {
    let number = method.repeated_messages().next().unwrap_or(1);
    let tag = u8::try_from(number << 3 | 2).expect("a tag of one byte");
    let mut bytes = prefix(size);
    bytes.extend([tag, 0].repeat(size / 2));
    bytes
}

/// Judges what a call was answered.
fn judge(who: &Who, method: &Method, answer: Result<Answer, String>) {
    let status = answer.as_ref().ok().and_then(Answer::grpc_status);
    let (label, path) = (who.label, method.path);
    match label {
        // From the head: the answer is there whatever happens to the body.
        "guest" if path != JOIN => assert_eq!(status, Some(UNAUTHENTICATED), "{label} {path}"),
        "administrator" if path != JOIN => assert_eq!(status, Some(PERMISSION_DENIED), "{label} {path}"),
        _ => assert!(status != Some(0), "{label} {path} was let through"),
    }
}

/// Messages that swell when they are decoded.
pub(crate) async fn swell(who: Who) {
    for method in methods() {
        for size in [MEBIBYTE / 4, MEBIBYTE, 4 * MEBIBYTE, 14 * MEBIBYTE] {
            let answer = who.ask(head(method.path), whole(bomb(method, size))).await;
            judge(&who, method, answer);
        }
    }
}

/// Many calls on one connection, none of which is ever finished. All must end.
pub(crate) async fn leave_unfinished(who: Who, count: usize) {
    let mut calls = tokio::task::JoinSet::new();
    for method in methods().filter(|method| who.label != "guest" || method.path == JOIN) {
        let sender = who.connect().await.expect("connected");
        for number in 0..count {
            // Some promise more than may be, some as much as may be.
            let promised = if number % 2 == 0 { 14 * MEBIBYTE } else { 900 };
            let mut begin = prefix(promised);
            begin.extend(vec![0x0a; 800]);
            let (mut sender, who) = (sender.clone(), who.clone());
            calls.spawn(async move {
                judge(&who, method, send(&mut sender, head(method.path), unfinished(begin, None)).await);
            });
        }
    }
    while let Some(ended) = calls.join_next().await {
        ended.expect("judged");
    }
}

/// A message that comes byte by byte. All must end.
pub(crate) async fn drip(who: Who) {
    let mut calls = tokio::task::JoinSet::new();
    for method in methods() {
        let (who, request) = (who.clone(), head(method.path));
        calls.spawn(async move {
            let body = unfinished(prefix(1_000), Some(Duration::from_secs(2)));
            judge(&who, method, who.ask(request, body).await);
        });
    }
    while let Some(ended) = calls.join_next().await {
        ended.expect("judged");
    }
}

/// Joins with long names, which the log must not repeat.
pub(crate) async fn shout(who: Who) {
    let name = "x\n\u{1b}[2J".repeat(2_000);
    let mut message = vec![0x12];
    prost::encoding::encode_varint(name.len() as u64, &mut message);
    message.extend(name.as_bytes());
    let mut body = prefix(message.len());
    body.extend(message);
    for _ in 0..100 {
        // Refused by its token; or told to ask less.
        if let Ok(answer) = who.ask(head(JOIN), whole(body.clone())).await {
            assert_ne!(answer.grpc_status(), Some(0));
        }
    }
}
