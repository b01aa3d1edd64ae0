//! A running watch, as a client reads it.

use super::*;

/// A running watch, read line by line.
pub(super) struct Events {
    body: Body,
    buffer: Vec<u8>,
}

impl Events {
    pub(super) async fn open(server: &Server, path: &str, accept: &str) -> Self {
        let response =
            server.open(Server::request(Method::GET, path, &[("accept", accept)], Body::empty())).await;
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), buffer: Vec::new() }
    }

    /// The next event; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Value> {
        tokio::time::timeout(PATIENCE, self.next_at_last()).await.expect("no event in time")
    }

    /// The same, however long it takes.
    pub(super) async fn next_at_last(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.body.frame().await?;
            self.buffer.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    }
}
