//! `warren secrets`: the key by which Secrets are encrypted at rest.

use anyhow::Context as _;

use super::{access, engine::Engine, names::ClusterName};
use crate::{args::SecretsAction, output};

pub(crate) async fn run(cluster: &ClusterName, action: SecretsAction) -> anyhow::Result<()> {
    let api = access::client(&Engine::connect().await?, cluster).await?;
    match action {
        SecretsAction::Rotate => {
            let rotated = api.rotate_secrets().await.context("cannot change the key of the Secrets")?;
            output::print(format_args!(
                "{} objects are encrypted by the new key {}; backups taken before open with the old key that is in them\n",
                rotated.objects, rotated.key
            ));
        }
    }
    Ok(())
}
