//! Where tokens of service accounts come from: the controller.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, Semaphore};
use tonic::{Code, Status, transport::Channel};
use warren_proto::control::{IssueTokenRequest, IssueTokenResponse, control_client::ControlClient};
use warren_runtime::connection::Controller;

/// Calls that are open at once; the controller takes no more than 16.
const AT_ONCE: usize = 8;
const CALL: Duration = Duration::from_secs(10);
/// The longest token that is believed in.
const LONGEST: usize = 64 << 10;

/// Who issues tokens. Every call ends within a bounded time, and may be made again.
pub trait Issuer: Send + Sync + 'static {
    /// A token, or why there is none.
    fn issue(&self, request: IssueTokenRequest) -> BoxFuture<'_, Result<IssueTokenResponse, String>>;
}

/// The controller as the issuer.
pub struct ControllerIssuer {
    controller: Controller,
    /// The last connection that answered.
    client: Mutex<Option<ControlClient<Channel>>>,
    permits: Semaphore,
}

impl ControllerIssuer {
    /// An issuer that has not been asked yet.
    pub fn new(controller: Controller) -> Arc<Self> {
        Arc::new(Self { controller, client: Mutex::default(), permits: Semaphore::new(AT_ONCE) })
    }

    async fn ask(&self, request: IssueTokenRequest) -> Result<IssueTokenResponse, String> {
        let answer = tokio::time::timeout(CALL, async {
            let _permit =
                self.permits.acquire().await.map_err(|error| Status::internal(error.to_string()))?;
            self.client().await?.issue_token(request).await
        });
        let answer = answer.await.unwrap_or_else(|_| Err(Status::unavailable("it does not answer")));
        match answer {
            Ok(answer) => judge(answer.into_inner()),
            Err(status) => {
                if matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled) {
                    // The next one who asks looks for a new connection.
                    self.client.lock().await.take();
                }
                Err(explain(&status))
            }
        }
    }

    async fn client(&self) -> Result<ControlClient<Channel>, Status> {
        let mut kept = self.client.lock().await;
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        let channel = self.controller.channel().await;
        let channel = channel.map_err(|error| Status::unavailable(format!("{error:#}")))?;
        Ok(kept.insert(ControlClient::new(channel)).clone())
    }
}

impl Issuer for ControllerIssuer {
    fn issue(&self, request: IssueTokenRequest) -> BoxFuture<'_, Result<IssueTokenResponse, String>> {
        Box::pin(self.ask(request))
    }
}

/// A token is a word of its own: nothing else becomes a file that programs take for one.
pub(crate) fn judge(answer: IssueTokenResponse) -> Result<IssueTokenResponse, String> {
    let is_word = !answer.token.is_empty() && answer.token.bytes().all(|byte| byte.is_ascii_graphic());
    match is_word && answer.token.len() <= LONGEST {
        true => Ok(answer),
        false => Err("the controller answered with something that is no token".to_owned()),
    }
}

fn explain(status: &Status) -> String {
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => {
            format!("the controller cannot be asked ({}); the agent goes on trying", status.message())
        }
        Code::Unimplemented => {
            format!("{}: upgrade the controller before its nodes", status.message())
        }
        _ => status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_token_is_not_taken() {
        let of =
            |token: &str| judge(IssueTokenResponse { token: token.to_owned(), expires_at_ms: 1 }).is_ok();
        assert!(of("eyJhbGciOi.eyJpc3Mi.c2ln"));
        for wrong in ["", "two words", "line\n", "\u{e4}", &"a".repeat(LONGEST + 1)] {
            assert!(!of(wrong), "{wrong:.20?}");
        }
    }

    #[test]
    fn an_absent_controller_is_told_from_one_that_refuses() {
        let refusal = Status::not_found("serviceaccounts \"builder\" not found");
        assert_eq!(explain(&refusal), "serviceaccounts \"builder\" not found");
        assert!(explain(&Status::unavailable("connection refused")).contains("goes on trying"));
        assert!(explain(&Status::unimplemented("no such call")).contains("upgrade the controller"));
    }
}
