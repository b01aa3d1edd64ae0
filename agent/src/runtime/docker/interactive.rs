//! Processes to which a client is connected: exec and attach.
//!
//! bollard asks and inspects; the connection itself is taken over here, because only its owner can tell a
//! terminal's bytes from multiplexed ones, close one direction, and hand on long pieces as they come.

use std::time::Duration;

use bollard::{exec::CreateExecOptions, query_parameters as query};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::UnixStream,
};
use warren_proto::control::{ContainerStreams, TerminalSize};

use super::{
    super::{EngineError, Output, Process, ProcessHandle, process as kernel},
    DockerEngine, LONG, SHORT,
};

/// How much is read at once.
const PIECE: usize = 32 << 10;
/// The longest refusal that is read.
const MOST_REFUSAL: usize = 64 << 10;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;
/// What a command without a client may take to leave before it is killed.
const GRACE: Duration = Duration::from_secs(3);
/// How often it is looked after meanwhile.
const LOOK: Duration = Duration::from_millis(100);

impl DockerEngine {
    pub(super) async fn exec_process(
        &self,
        id: &str,
        command: &[String],
        streams: ContainerStreams,
    ) -> Result<Process, EngineError> {
        let client = self.client()?;
        let options = CreateExecOptions {
            attach_stdin: Some(streams.stdin),
            attach_stdout: Some(streams.stdout),
            attach_stderr: Some(streams.stderr || streams.tty),
            tty: Some(streams.tty),
            cmd: Some(command.to_vec()),
            ..CreateExecOptions::default()
        };
        let exec = self.within(SHORT, "create exec", client.create_exec(id, options)).await?.id;
        let body = serde_json::json!({"Detach": false, "Tty": streams.tty}).to_string();
        match self.take_over(&format!("/exec/{exec}/start"), body).await {
            Ok(connection) => Ok(process(ProcessHandle::Exec(exec), connection, streams.tty)),
            Err(error) => {
                // It may have been started all the same.
                let _ = self.end_exec(id, &exec).await;
                Err(error)
            }
        }
    }

    pub(super) async fn attach_process(
        &self,
        id: &str,
        streams: ContainerStreams,
    ) -> Result<Process, EngineError> {
        let client = self.client()?;
        let options = None::<query::InspectContainerOptions>;
        let known = self.within(SHORT, "inspect", client.inspect_container(id, options)).await?;
        // Whether it has a terminal was decided when it was made.
        let tty = known.config.and_then(|config| config.tty).unwrap_or_default();
        let flag = |wanted: bool| u8::from(wanted);
        let path = format!(
            "/containers/{id}/attach?stream=1&stdin={}&stdout={}&stderr={}",
            flag(streams.stdin),
            flag(streams.stdout),
            flag(streams.stderr || tty),
        );
        let connection = self.take_over(&path, String::new()).await?;
        Ok(process(ProcessHandle::Container(id.to_owned()), connection, tty))
    }

    pub(super) async fn resize_process(
        &self,
        handle: &ProcessHandle,
        size: TerminalSize,
    ) -> Result<(), EngineError> {
        let client = self.client()?;
        let number = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
        let (w, h) = (number(size.width), number(size.height));
        match handle {
            ProcessHandle::Exec(id) => {
                let options = query::ResizeExecOptions { w, h };
                self.within(SHORT, "resize exec", client.resize_exec(id, options)).await
            }
            ProcessHandle::Container(id) => {
                let options = query::ResizeContainerTTYOptions { w, h };
                self.within(SHORT, "resize", client.resize_container_tty(id, options)).await
            }
        }
    }

    pub(super) async fn exec_exit_code(&self, id: &str) -> Result<Option<i64>, EngineError> {
        let client = self.client()?;
        let state = self.within(SHORT, "inspect exec", client.inspect_exec(id)).await?;
        // The engine knows the code a moment before it says that the command runs no more.
        Ok(state.exit_code.filter(|_| state.running != Some(true)))
    }

    /// The engine itself never ends a command, and a shell whose client has gone would wait for input for ever. So
    /// it gets what a terminal that is hung up sends: SIGHUP, as does its group. Then SIGKILL, to itself alone: what
    /// it started with `nohup` wants to stay.
    pub(super) async fn end_exec(&self, container: &str, exec: &str) -> Result<(), EngineError> {
        let failed = |error: std::io::Error| {
            EngineError::Other(format!("a command without a client cannot be ended: {error}"))
        };
        let deadline = tokio::time::Instant::now() + GRACE;
        let mut told = false;
        while let Some(pid) = self.exec_pid(exec).await? {
            if tokio::time::Instant::now() >= deadline {
                tracing::debug!(container, pid, "a command without a client does not leave: killing it");
                return kernel::kill(pid, container).map_err(failed);
            }
            // The engine knows the number a moment after the command was started.
            if pid > 0 && !told {
                kernel::hang_up(pid, container).map_err(failed)?;
                told = true;
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// The process of a command that runs; 0 while that is not known.
    async fn exec_pid(&self, exec: &str) -> Result<Option<i64>, EngineError> {
        let client = self.client()?;
        match self.within(SHORT, "inspect exec", client.inspect_exec(exec)).await {
            Ok(state) => Ok((state.running == Some(true)).then_some(state.pid.unwrap_or_default())),
            Err(EngineError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for a connection of bytes.
    async fn take_over(&self, path: &str, body: String) -> Result<TokioIo<Upgraded>, EngineError> {
        let broken = |error: &dyn std::error::Error| self.unavailable(error);
        let work = async {
            let stream = UnixStream::connect(&self.socket).await.map_err(|error| broken(&error))?;
            let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = handshake.map_err(|error| broken(&error))?;
            let request = Request::post(path)
                .header(header::HOST, "docker")
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::CONNECTION, "Upgrade")
                .header(header::UPGRADE, "tcp")
                .body(Full::new(Bytes::from(body)))
                .map_err(|error| EngineError::Other(error.to_string()))?;
            let answer = async move {
                let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
                if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                    return Err(refusal(response).await);
                }
                hyper::upgrade::on(response).await.map(TokioIo::new).map_err(|error| broken(&error))
            };
            // The connection's own work is done as soon as it was upgraded, or refused and its sender dropped. What
            // it has to say about a failure, the answer says.
            let (answer, _) = tokio::join!(answer, connection.with_upgrades());
            answer
        };
        match tokio::time::timeout(LONG, work).await {
            Ok(result) => result,
            Err(_) => Err(EngineError::TimedOut { call: "a connection", seconds: LONG.as_secs() }),
        }
    }
}

pub(super) async fn refusal(response: http::Response<hyper::body::Incoming>) -> EngineError {
    let status = response.status();
    let body = Limited::new(response.into_body(), MOST_REFUSAL).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let value: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = value["message"].as_str().map_or_else(
        || format!("the Docker engine answered {status}: {}", String::from_utf8_lossy(&body).trim()),
        str::to_owned,
    );
    match status {
        StatusCode::NOT_FOUND => EngineError::NotFound(message),
        StatusCode::CONFLICT => EngineError::Conflict(message),
        _ => EngineError::Other(message),
    }
}

fn process(handle: ProcessHandle, connection: TokioIo<Upgraded>, tty: bool) -> Process {
    let (read, write) = tokio::io::split(connection);
    let output = if tty { raw(read) } else { multiplexed(read) };
    Process { handle, output, input: Box::new(write) }
}

/// A terminal's bytes.
fn raw(read: impl AsyncRead + Unpin + Send + 'static) -> Output {
    stream::unfold(Some(read), |read| async move {
        let mut read = read?;
        let mut buffer = BytesMut::with_capacity(PIECE);
        match read.read_buf(&mut buffer).await {
            Ok(0) => None,
            Ok(_) => Some((Ok((STDOUT, buffer.freeze())), Some(read))),
            Err(error) => Some((Err(broken_off(&error.to_string())), None)),
        }
    })
    .boxed()
}

struct Multiplexed<R> {
    read: R,
    buffer: BytesMut,
    channel: u32,
    left: usize,
}

/// Pieces behind headers of eight bytes: which stream, three zeros, the length.
fn multiplexed(read: impl AsyncRead + Unpin + Send + 'static) -> Output {
    let start = Multiplexed { read, buffer: BytesMut::new(), channel: STDOUT, left: 0 };
    stream::unfold(Some(start), |state| async move {
        let mut state = state?;
        loop {
            if state.left > 0 && !state.buffer.is_empty() {
                let data = state.buffer.split_to(state.left.min(state.buffer.len())).freeze();
                state.left -= data.len();
                return Some((Ok((state.channel, data)), Some(state)));
            }
            if state.left == 0 && state.buffer.len() >= 8 {
                state.channel = if state.buffer.get_u32() >> 24 > 1 { STDERR } else { STDOUT };
                state.left = state.buffer.get_u32() as usize;
                continue;
            }
            state.buffer.reserve(PIECE);
            match state.read.read_buf(&mut state.buffer).await {
                Ok(0) if state.left == 0 && state.buffer.is_empty() => return None,
                Ok(0) => return Some((Err(broken_off("it ended within a piece")), None)),
                Ok(_) => {}
                Err(error) => return Some((Err(broken_off(&error.to_string())), None)),
            }
        }
    })
    .boxed()
}

fn broken_off(why: &str) -> EngineError {
    EngineError::Other(format!("the Docker engine broke off the connection to the process: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8], tty: bool) -> Vec<Result<(u32, String), EngineError>> {
        let reader = std::io::Cursor::new(bytes.to_vec());
        let output = if tty { raw(reader) } else { multiplexed(reader) };
        let text = |(channel, data): (u32, Bytes)| (channel, String::from_utf8_lossy(&data).into_owned());
        output.map(|piece| piece.map(text)).collect().await
    }

    #[tokio::test]
    async fn pieces_are_told_apart_and_a_terminal_is_taken_as_it_is() {
        let bytes = b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x00\x02\0\0\0\0\0\0\x03err";
        let pieces = read(bytes, false).await;
        assert_eq!(pieces, [Ok((STDOUT, "out".into())), Ok((STDERR, "err".into()))]);
        // What begins like a header is none on a terminal.
        let pieces = read(b"\x01\0\0\0\0\0\0\x03out", true).await;
        assert_eq!(pieces, [Ok((STDOUT, "\u{1}\0\0\0\0\0\0\u{3}out".into()))]);
        let pieces = read(b"\x01\0\0\0\0\0\0\x09cut", false).await;
        assert!(pieces.len() == 2 && pieces[1].is_err(), "{pieces:?}");
    }
}
