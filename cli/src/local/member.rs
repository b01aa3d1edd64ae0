//! `warren member`: who belongs to a cluster.

use anyhow::Context as _;

use super::access;
use crate::{
    args::{AccessOptions, MemberAction},
    output,
};

pub(crate) async fn run(cluster: &AccessOptions, action: MemberAction) -> anyhow::Result<()> {
    let api = access::api(cluster).await?;
    let MemberAction::Remove { member } = action;
    let name: warren_proto::vocabulary::NodeName = member.parse()?;
    let removed = api.delete(&format!("/warren/v1/members/{name}")).await;
    removed.with_context(|| format!("cannot remove the member {name}"))?;
    output::print(format_args!("member {name} removed\n"));
    Ok(())
}
