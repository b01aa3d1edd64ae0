//! exec and attach: a session joined to a process of a container.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::{io::AsyncWriteExt, sync::mpsc};
use warren_proto::control::{SessionFrame, SessionOpen, session_open::Kind};
use warren_runtime::CancellationToken;

use super::{End, FRAME, GONE};
use crate::{
    driver::Driver,
    netd::Links,
    runtime::{ContainerEngine, Process, ProcessHandle},
};

/// How often the engine is asked whether a command that closed its output has ended.
const LOOK_FIRST: Duration = Duration::from_millis(10);
const LOOK_LONGEST: Duration = Duration::from_millis(500);

/// Serves a session to its end, or until `gone`: then a command that was started for it ends, too.
pub(super) async fn serve<E: ContainerEngine, L: Links>(
    driver: &Driver<E, L>,
    open: &SessionOpen,
    frames: &mpsc::Sender<SessionFrame>,
    incoming: mpsc::Receiver<SessionFrame>,
    gone: &CancellationToken,
) -> Result<End, String> {
    let found = driver.find_running(&open.pod_uid, &open.container)?;
    let engine = driver.engine();
    // Not given up half-way: what was started must be known, to be ended.
    let process = match &open.kind {
        Some(Kind::Exec(request)) => {
            let streams = request.streams.unwrap_or_default();
            engine.open_exec(&found.instance.id, &request.command, streams).await
        }
        Some(Kind::Attach(streams)) => engine.open_attach(&found.instance.id, *streams).await,
        _ => return Err("this is neither exec nor attach".to_owned()),
    };
    let Process { handle, mut output, input } = process.map_err(|error| error.to_string())?;
    let outwards = async {
        while let Some(piece) = output.next().await {
            let (channel, mut data) = piece.map_err(|error| error.to_string())?;
            while !data.is_empty() {
                let data = data.split_to(data.len().min(FRAME)).to_vec();
                let frame = SessionFrame { channel, data, ..SessionFrame::default() };
                frames.send(frame).await.map_err(|_| GONE.to_owned())?;
            }
        }
        exit_code(&**engine, &handle).await
    };
    let exit_code = tokio::select! {
        exit_code = outwards => exit_code,
        never = inwards(&**engine, &handle, input, incoming) => match never {},
        () = gone.cancelled() => Err(GONE.to_owned()),
    };
    if let (Err(_), ProcessHandle::Exec(exec)) = (&exit_code, &handle)
        && let Err(error) = engine.hang_up(&found.instance.id, exec).await
    {
        tracing::warn!(%error, container = open.container, "a command may go on without its client");
    }
    Ok(End { error: String::new(), exit_code: exit_code? })
}

/// From the client to the process, for as long as the process gives output. The end of the output is the end.
async fn inwards<E: ContainerEngine>(
    engine: &E,
    handle: &ProcessHandle,
    input: crate::runtime::Input,
    mut incoming: mpsc::Receiver<SessionFrame>,
) -> std::convert::Infallible {
    let mut input = Some(input);
    while let Some(frame) = incoming.recv().await {
        if let Some(size) = frame.resize
            && let Err(error) = engine.resize(handle, size).await
        {
            tracing::debug!(%error, "a terminal could not be resized");
        }
        let Some(open) = input.as_mut() else { continue };
        let written = open.write_all(&frame.data).await;
        let written = if written.is_ok() { open.flush().await } else { written };
        if let Err(error) = &written {
            tracing::debug!(%error, "a process takes no more input");
        }
        if frame.close || written.is_err() {
            let _ = open.shutdown().await;
            input = None;
        }
    }
    std::future::pending().await
}

/// How a command ended; a container's own process is reported by its status.
async fn exit_code<E: ContainerEngine>(engine: &E, handle: &ProcessHandle) -> Result<Option<i32>, String> {
    let ProcessHandle::Exec(id) = handle else { return Ok(None) };
    let mut wait = LOOK_FIRST;
    loop {
        if let Some(code) = engine.exit_code(id).await.map_err(|error| error.to_string())? {
            return Ok(Some(i32::try_from(code).unwrap_or(-1)));
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LOOK_LONGEST);
    }
}
