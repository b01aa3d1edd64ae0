//! `warren member`: who belongs to a cluster.

use anyhow::Context as _;

use super::{access, status};
use crate::{
    args::{AccessOptions, MemberAction, Output},
    output,
};

pub(crate) async fn run(cluster: &AccessOptions, action: MemberAction) -> anyhow::Result<()> {
    let api = access::api(cluster).await?;
    let member = match action {
        MemberAction::List(form) => {
            let overlay: serde_json::Value =
                api.get(status::OVERLAY).await.context("cannot list the members")?;
            output::print(match form.output {
                Output::Json => format!("{overlay:#}\n"),
                Output::Table => status::members(&serde_json::from_value(overlay)?),
            });
            return Ok(());
        }
        MemberAction::Remove { member } => member,
    };
    let name: warren_proto::vocabulary::NodeName = member.parse()?;
    let removed = api.delete(&format!("/warren/v1/members/{name}")).await;
    removed.with_context(|| format!("cannot remove the member {name}"))?;
    output::print(format_args!("member {name} removed\n"));
    Ok(())
}
