//! The log of one container.

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use jiff::Timestamp;
use warren_proto::control::LogsRequest;

use crate::{
    driver::Driver,
    netd::Links,
    runtime::{ContainerEngine, LogOptions},
};

/// Both output streams as one text, or why it ends early.
pub type LogBytes = BoxStream<'static, Result<Bytes, String>>;

/// Opens the log that is asked for.
pub async fn open<E: ContainerEngine, L: Links>(
    driver: &Driver<E, L>,
    uid: &str,
    container: &str,
    request: &LogsRequest,
) -> Result<LogBytes, String> {
    let options = options(request, Timestamp::now())?;
    let found = driver.find_for_logs(uid, container, request.previous)?;
    let stream =
        driver.engine().logs(&found.instance.id, options).await.map_err(|error| error.to_string())?;
    let stream = stream.map(|piece| piece.map_err(|error| error.to_string()));
    Ok(match request.limit_bytes {
        Some(limit) => limited(stream.boxed(), usize::try_from(limit).unwrap_or(0)),
        None => stream.boxed(),
    })
}

/// What the engine is asked, from what the client asked.
fn options(request: &LogsRequest, now: Timestamp) -> Result<LogOptions, String> {
    let since_time = match request.since_time.as_str() {
        "" => None,
        text => Some(
            text.parse::<Timestamp>()
                .map_err(|error| format!("sinceTime {text:?} is not an RFC 3339 time: {error}"))?
                .as_second(),
        ),
    };
    let since_seconds = request.since_seconds.map(|seconds| now.as_second().saturating_sub(seconds));
    Ok(LogOptions {
        follow: request.follow,
        timestamps: request.timestamps,
        tail: request.tail_lines.and_then(|lines| u64::try_from(lines).ok()),
        since: since_time.max(since_seconds),
    })
}

/// At most `limit` bytes of a stream.
fn limited(stream: LogBytes, limit: usize) -> LogBytes {
    let cut = stream.scan(limit, |left, piece| {
        let piece = match piece {
            _ if *left == 0 => None,
            Ok(bytes) => {
                let bytes = bytes.slice(..bytes.len().min(*left));
                *left -= bytes.len();
                Some(Ok(bytes))
            }
            Err(error) => Some(Err(error)),
        };
        std::future::ready(piece)
    });
    // `scan` would ask the engine once more only to find that nothing may follow.
    cut.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_the_later_of_both() {
        let now = Timestamp::from_second(1_000_000).expect("valid");
        let request = LogsRequest {
            since_seconds: Some(100),
            since_time: "1970-01-12T13:45:00Z".into(),
            tail_lines: Some(5),
            ..LogsRequest::default()
        };
        let options_of = |request: &LogsRequest| options(request, now);
        assert_eq!(options_of(&request).expect("valid").since, Some(999_900));
        assert_eq!(options_of(&request).expect("valid").tail, Some(5));
        let bad = LogsRequest { since_time: "yesterday".into(), ..LogsRequest::default() };
        assert!(options_of(&bad).expect_err("no time").contains("sinceTime"));
    }

    #[tokio::test]
    async fn a_limit_cuts_within_a_piece() {
        let pieces = ["abc", "def", "ghi"].map(|text| Ok(Bytes::from_static(text.as_bytes())));
        let all: Vec<_> = limited(futures_util::stream::iter(pieces).boxed(), 5).collect().await;
        let text: Vec<u8> = all.into_iter().flat_map(|piece| piece.expect("data")).collect();
        assert_eq!(text, b"abcde");
    }
}
