//! `warren agent`.

use std::time::Duration;

use warren_agent::Config;
use warren_runtime::CancellationToken;

use crate::{
    args::{AgentOptions, Logging},
    daemon,
    local::{engine::LocalDocker, image::Image},
};

/// The longest wait between two attempts to give Docker the sandbox image.
const IMAGE_RETRY_MAXIMUM: Duration = Duration::from_secs(10);

pub(crate) fn main(options: AgentOptions, logging: &Logging) -> anyhow::Result<()> {
    // A user who names an image has put it there; otherwise this binary becomes the image.
    let (sandbox_image, own) = match options.pods.sandbox_image {
        Some(name) => (name, None),
        None => {
            let image = Image::of_this_binary()?;
            (image.name(), Some(image))
        }
    };
    let config = Config {
        state_dir: options.member.state_dir,
        controller: options.member.controller,
        docker_socket: options.pods.docker_socket,
        cluster: options.pods.cluster.to_string(),
        cgroup_parent: options.cgroup_parent,
        host_path_prefix: options.pods.host_path_prefix,
        sandbox_image,
        pids_limit: Some(options.pods.pod_pids_limit).filter(|limit| *limit > 0),
    };
    daemon::main("agent", logging, options.metrics, |stop| {
        if let Some(image) = own {
            tokio::spawn(keep_image(image, config.docker_socket.clone(), stop.clone()));
        }
        warren_agent::run(config, stop)
    })
}

/// Imports the sandbox image as soon as Docker answers.
async fn keep_image(image: Image, socket: String, stop: CancellationToken) {
    let mut wait = Duration::from_millis(200);
    loop {
        let imported = async { image.ensure(&LocalDocker::open(socket.as_ref()).await?).await };
        match imported.await {
            Ok(_) => return,
            Err(error) => tracing::warn!(%error, "cannot import the sandbox image yet"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(IMAGE_RETRY_MAXIMUM),
        }
    }
}
