//! The agent's side of netd's socket: plugging pods into the overlay.

use std::{collections::BTreeMap, future::Future, path::PathBuf, time::Duration};

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Uri};
use warren_proto::attach::{
    AttachRequest, DetachRequest, ListRequest, attachments_client::AttachmentsClient,
};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Why netd did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// netd does not answer.
    #[error(
        "netd does not answer at {socket}: {problem}; it is started by `warren node`, the agent goes on trying"
    )]
    Absent {
        /// Where it should listen.
        socket: String,
        /// What happened instead.
        problem: String,
    },
    /// netd answered with a refusal.
    #[error("netd refused: {0}")]
    Refused(String),
}

/// Who plugs pods in. Every call ends within a bounded time, and is idempotent.
pub trait Links: Send + Sync + 'static {
    /// Plugs a pod's namespace into the overlay.
    fn attach(
        &self,
        uid: &str,
        address: &str,
        namespace_path: &str,
        pod: &str,
    ) -> impl Future<Output = Result<(), LinkError>> + Send;
    /// Unplugs a pod.
    fn detach(&self, uid: &str) -> impl Future<Output = Result<(), LinkError>> + Send;
    /// Addresses of the pods that are plugged in, by UID.
    fn list(&self) -> impl Future<Output = Result<BTreeMap<String, String>, LinkError>> + Send;
}

/// netd behind its unix socket; connects anew whenever needed.
pub struct NetdLinks {
    socket: PathBuf,
    channel: Channel,
}

impl NetdLinks {
    /// Does not connect yet. Must be called within a runtime.
    pub fn new(socket: PathBuf) -> Self {
        let path = socket.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel =
            Endpoint::from_static("http://netd").timeout(TIMEOUT).connect_with_connector_lazy(connector);
        Self { socket, channel }
    }

    fn client(&self) -> AttachmentsClient<Channel> {
        AttachmentsClient::new(self.channel.clone())
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send,
    ) -> Result<T, LinkError> {
        let absent =
            |problem: String| LinkError::Absent { socket: self.socket.display().to_string(), problem };
        match tokio::time::timeout(TIMEOUT, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => match status.code() {
                tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::DeadlineExceeded => {
                    Err(absent(status.message().to_owned()))
                }
                _ => Err(LinkError::Refused(status.message().to_owned())),
            },
            Err(_) => Err(absent(format!("no answer within {} s", TIMEOUT.as_secs()))),
        }
    }
}

impl Links for NetdLinks {
    async fn attach(
        &self,
        uid: &str,
        address: &str,
        namespace_path: &str,
        pod: &str,
    ) -> Result<(), LinkError> {
        let request = AttachRequest {
            pod_uid: uid.to_owned(),
            address: address.to_owned(),
            namespace_path: namespace_path.to_owned(),
            pod: pod.to_owned(),
        };
        self.within(self.client().attach(request)).await.map(drop)
    }

    async fn detach(&self, uid: &str) -> Result<(), LinkError> {
        self.within(self.client().detach(DetachRequest { pod_uid: uid.to_owned() })).await.map(drop)
    }

    async fn list(&self) -> Result<BTreeMap<String, String>, LinkError> {
        let response = self.within(self.client().list(ListRequest {})).await?;
        Ok(response.attachments.into_iter().map(|link| (link.pod_uid, link.address)).collect())
    }
}
