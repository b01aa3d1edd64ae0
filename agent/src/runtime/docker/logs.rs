//! The log of a container, in whole lines.
//!
//! Asked for with the time of each piece always: that tells which pieces are of one line (`log_lines`). The connection
//! is our own, because only code that knows whether there is a terminal can tell text from headers.

use std::time::Duration;

use bollard::query_parameters as query;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

use super::{
    super::{
        EngineError, LogOptions, LogStream,
        log_lines::{Lines, Mark, Piece, Pieces, Skip, Start, locate},
    },
    DockerEngine, LONG, SHORT,
    interactive::refusal,
};

/// What may be written between the search for the last lines and their reading, in pieces.
const LEEWAY: usize = 1000;
/// The engine counts in a machine word; no log has so many pieces.
const MOST_PIECES: usize = i32::MAX as usize;
/// Nothing for so long while the last lines are searched for: the engine hangs.
const SILENCE: Duration = Duration::from_secs(60);

type PieceStream = BoxStream<'static, Result<Piece, EngineError>>;

/// Which pieces.
#[derive(Clone, Copy, Default)]
struct Range {
    follow: bool,
    tail: Option<usize>,
    since: Option<i64>,
}

impl DockerEngine {
    pub(super) async fn read_log(&self, id: &str, options: LogOptions) -> Result<LogStream, EngineError> {
        let client = self.client()?;
        let inspect = client.inspect_container(id, None::<query::InspectContainerOptions>);
        let known = self.within(SHORT, "inspect", inspect).await?;
        let tty = known.config.and_then(|config| config.tty).unwrap_or_default();
        let mut range = Range { follow: options.follow, since: options.since, tail: None };
        let start = match options.tail.map(|lines| usize::try_from(lines).unwrap_or(MOST_PIECES)) {
            None => Start::Beginning,
            Some(0) => {
                range.tail = Some(0);
                Start::Beginning
            }
            Some(lines) => self.find_start(id, tty, lines).await?,
        };
        if let Start::At { pieces, .. } = &start {
            range.tail = Some(pieces.saturating_add(LEEWAY));
        }
        let pieces = self.pieces(id, tty, range).await?;
        Ok(whole_lines(pieces, Lines::new(options.timestamps), Skip::new(&start)))
    }

    /// Where the last `lines` lines begin. The engine counts pieces, of which a line has one or many.
    async fn find_start(&self, id: &str, tty: bool, lines: usize) -> Result<Start, EngineError> {
        // One more for each output, to see where the first line of it begins.
        let mut asked = lines.saturating_add(2).min(MOST_PIECES);
        loop {
            let mut pieces = self.pieces(id, tty, Range { tail: Some(asked), ..Range::default() }).await?;
            let mut marks = Vec::new();
            loop {
                let next = tokio::time::timeout(SILENCE, pieces.try_next()).await;
                let silent = |_| EngineError::TimedOut { call: "logs", seconds: SILENCE.as_secs() };
                let Some(piece) = next.map_err(silent)?? else { break };
                marks.push(Mark::of(&piece));
            }
            let whole = marks.len() < asked || asked == MOST_PIECES;
            match locate(&marks, whole, lines) {
                Start::Unknown => asked = asked.saturating_mul(4).min(MOST_PIECES),
                start => return Ok(start),
            }
        }
    }

    async fn pieces(&self, id: &str, tty: bool, range: Range) -> Result<PieceStream, EngineError> {
        let tail = range.tail.map_or_else(|| "all".to_owned(), |pieces| pieces.to_string());
        let path = format!(
            "/containers/{id}/logs?stdout=1&stderr=1&timestamps=1&follow={}&since={}&tail={tail}",
            u8::from(range.follow),
            range.since.unwrap_or_default().max(0),
        );
        let (body, connection) = self.get(&path).await?;
        let start = Some(Reading { body, pieces: Pieces::new(tty), ended: false, _connection: connection });
        Ok(stream::unfold(start, |reading| async move {
            let mut reading = reading?;
            reading.next().await.map(|piece| match piece {
                Ok(piece) => (Ok(piece), Some(reading)),
                Err(problem) => (Err(broken_off(&problem)), None),
            })
        })
        .boxed())
    }

    /// Asks on a connection of its own, which lasts as long as the answer is read.
    async fn get(&self, path: &str) -> Result<(Incoming, AbortOnDropHandle<()>), EngineError> {
        let broken = |error: &dyn std::error::Error| self.unavailable(error);
        let work = async {
            let stream = UnixStream::connect(&self.socket).await.map_err(|error| broken(&error))?;
            let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = handshake.map_err(|error| broken(&error))?;
            let request = Request::get(path).header(header::HOST, "docker").body(Empty::<Bytes>::new());
            let request = request.map_err(|error| EngineError::Other(error.to_string()))?;
            // What it has to say about a failure, the answer says.
            let connection = AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) }));
            let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
            if response.status() != StatusCode::OK {
                return Err(refusal(response).await);
            }
            Ok((response.into_body(), connection))
        };
        let limit = EngineError::TimedOut { call: "logs", seconds: LONG.as_secs() };
        tokio::time::timeout(LONG, work).await.unwrap_or(Err(limit))
    }
}

/// An answer of which a part was read.
struct Reading {
    body: Incoming,
    pieces: Pieces,
    ended: bool,
    _connection: AbortOnDropHandle<()>,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Piece, String>> {
        loop {
            match self.pieces.next(self.ended) {
                Ok(Some(piece)) => return Some(Ok(piece)),
                Ok(None) if self.ended => return None,
                Ok(None) => {}
                Err(problem) => return Some(Err(problem)),
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.pieces.push(data);
                    }
                }
                Some(Err(error)) => return Some(Err(error.to_string())),
                None => self.ended = true,
            }
        }
    }
}

fn whole_lines(pieces: PieceStream, lines: Lines, skip: Skip) -> LogStream {
    let start = (pieces, skip, Some(lines));
    let lines = stream::unfold(start, |(mut pieces, mut skip, lines)| async move {
        let mut lines = lines?;
        let (mut done, error, lines) = match pieces.next().await {
            Some(Ok(piece)) if skip.passes(&piece) => (lines.push(piece), None, Some(lines)),
            Some(Ok(_)) => (Vec::new(), None, Some(lines)),
            ending => (lines.finish(), ending.and_then(Result::err), None),
        };
        done.retain(|line| skip.shows(line));
        let done: Vec<_> = done.into_iter().map(Ok).chain(error.map(Err)).collect();
        Some((done, (pieces, skip, lines)))
    });
    lines.flat_map(stream::iter).boxed()
}

fn broken_off(why: &str) -> EngineError {
    EngineError::Other(format!("the Docker engine broke off the log: {why}"))
}
