//! The node-local socket by which the agent asks for pods to be plugged in. Only root reaches it.

use std::{os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use anyhow::Context as _;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};
use warren_proto::{
    attach::{
        AttachRequest, AttachResponse, Attachment as WireAttachment, DetachRequest, DetachResponse,
        ListRequest, ListResponse, StatusRequest, StatusResponse,
        attachments_server::{Attachments, AttachmentsServer},
    },
    vocabulary::PodUid,
};
use warren_runtime::CancellationToken;

use crate::{
    data_plane::{AttachFailure, DataPlane},
    kernel::pods::PlugError,
    plan::attachments::Attachment,
};

/// Binds the socket; one that a previous process left is replaced.
pub(crate) fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", path.display()));
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until `stop`.
pub(crate) async fn serve(
    listener: UnixListener,
    data_plane: Arc<DataPlane>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    tonic::transport::Server::builder()
        .add_service(AttachmentsServer::new(Service { data_plane }))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled_owned())
        .await
        .context("the attach server failed")
}

struct Service {
    data_plane: Arc<DataPlane>,
}

#[tonic::async_trait]
impl Attachments for Service {
    async fn attach(&self, request: Request<AttachRequest>) -> Result<Response<AttachResponse>, Status> {
        let request = request.into_inner();
        let address = request.address.parse().map_err(|_| {
            Status::invalid_argument(format!("address: {:?} is no IPv4 address", request.address))
        })?;
        if !request.namespace_path.starts_with('/') {
            let message = format!("namespace_path: {:?} is no absolute path", request.namespace_path);
            return Err(Status::invalid_argument(message));
        }
        let wanted = Attachment { uid: uid(&request.pod_uid)?, address, pod: request.pod };
        self.data_plane.attach(&wanted, Path::new(&request.namespace_path)).await.map_err(refusal)?;
        Ok(Response::new(AttachResponse {}))
    }

    async fn detach(&self, request: Request<DetachRequest>) -> Result<Response<DetachResponse>, Status> {
        self.data_plane.detach(&uid(&request.into_inner().pod_uid)?).await.map_err(refusal)?;
        Ok(Response::new(DetachResponse {}))
    }

    async fn list(&self, _: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let attachments = self.data_plane.attachments().await.map_err(|error| refusal(error.into()))?;
        let attachments = attachments.into_iter().map(|attachment| WireAttachment {
            interface: attachment.interface(),
            pod_uid: attachment.uid.into(),
            address: attachment.address.to_string(),
        });
        Ok(Response::new(ListResponse { attachments: attachments.collect() }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let json = self.data_plane.status().await.map_err(refusal)?.to_string();
        Ok(Response::new(StatusResponse { json }))
    }
}

fn uid(text: &str) -> Result<PodUid, Status> {
    text.parse().map_err(|error| Status::invalid_argument(format!("pod_uid: {error}")))
}

fn refusal(failure: AttachFailure) -> Status {
    let message = failure.to_string();
    match failure {
        AttachFailure::NotConfigured => Status::unavailable(message),
        AttachFailure::Invalid(_) => Status::invalid_argument(message),
        AttachFailure::Plug(PlugError::Refused(_)) => Status::failed_precondition(message),
        AttachFailure::Plug(PlugError::Kernel(_)) => Status::internal(message),
        AttachFailure::Timeout => Status::deadline_exceeded(message),
    }
}
