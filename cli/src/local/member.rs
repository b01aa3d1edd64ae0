//! `warren member`: who belongs to a local cluster.

use anyhow::Context as _;

use super::{access, engine::Engine, names::ClusterName};
use crate::{args::MemberAction, output};

pub(crate) async fn run(cluster: &ClusterName, action: MemberAction) -> anyhow::Result<()> {
    let api = access::client(&Engine::connect().await?, cluster).await?;
    let MemberAction::Remove { member } = action;
    let name: warren_proto::vocabulary::NodeName = member.parse()?;
    let removed = api.delete(&format!("/warren/v1/members/{name}")).await;
    removed.with_context(|| format!("cannot remove the member {name}"))?;
    output::print(format_args!("member {name} removed\n"));
    Ok(())
}
