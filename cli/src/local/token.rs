//! `warren token`: join tokens.

use std::time::Duration;

use anyhow::Context as _;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use warren_controller::Networks;

use super::access::{self, Api};
use crate::{
    args::{Output, TokenAction, TokenOptions, TokenRole},
    output,
};

/// Where the controller says by which address members reach it.
const CONTROLLER: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";

#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    tokens: Vec<Token>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Token {
    id: String,
    role: String,
    expires: String,
}

pub(crate) async fn run(options: TokenOptions) -> anyhow::Result<()> {
    let api = access::api(&options.access).await?;
    match options.action {
        TokenAction::Create { role, lifetime, token_only } => {
            let token = api.create_token(role, lifetime.as_secs()).await?;
            if token_only {
                output::print(format_args!("{token}\n"));
                return Ok(());
            }
            let networks = network_options(&api).await;
            output::print(how_to_join(&token, role, &controller(&api).await, &networks, lifetime));
        }
        TokenAction::List(form) => {
            let listed: Listed = api.get("/warren/v1/tokens").await.context("cannot list the join tokens")?;
            if form.output == Output::Json {
                output::print(format_args!("{:#}\n", serde_json::to_value(&listed)?));
                return Ok(());
            }
            let rows: Vec<_> =
                listed.tokens.into_iter().map(|token| vec![token.id, token.role, token.expires]).collect();
            output::print(output::table(&["ID", "ROLE", "EXPIRES"], &rows));
        }
        TokenAction::Revoke { token } => {
            let id = identifier(&token)?;
            let revoked = api.delete(&format!("/warren/v1/tokens/{id}")).await;
            revoked.with_context(|| format!("cannot revoke the join token {id}"))?;
            output::print(format_args!("token {id} revoked\n"));
        }
    }
    Ok(())
}

/// What a person does with a new token. The token is in the environment, not among the arguments: a user who lists a
/// machine's processes sees those.
fn how_to_join(token: &str, role: TokenRole, controller: &str, networks: &str, lifetime: Duration) -> String {
    let lifetime = jiff::SignedDuration::try_from(lifetime).unwrap_or(jiff::SignedDuration::MAX);
    let gateway = if role == TokenRole::Gateway { " --gateway" } else { "" };
    format!(
        "# on the new machine, as root, within {lifetime:#}:\n\
         WARREN_TOKEN={token} warren join --controller {controller}{gateway}{networks}\n"
    )
}

/// The options that tell a machine of the cluster's networks, if they are not those by default.
async fn network_options(api: &Api) -> String {
    let overlay = api.get::<Value>("/warren/v1/overlay").await.inspect_err(|error| {
        tracing::warn!(error = format!("{error:#}"), "the cluster's networks are unknown");
    });
    overlay.map(|overlay| other_networks(&overlay["networks"])).unwrap_or_default()
}

fn other_networks(networks: &Value) -> String {
    let default = Networks::default();
    [("cluster", default.cluster()), ("service", default.services())]
        .into_iter()
        .filter_map(|(what, default)| {
            let field = if what == "service" { "services" } else { what };
            let network: Ipv4Net = networks[field].as_str()?.parse().ok()?;
            (network != default).then(|| format!(" --{what}-network {network}"))
        })
        .collect()
}

/// HOST:PORT by which members reach the controller, as it publishes it itself.
async fn controller(api: &Api) -> String {
    let published = api.get::<Value>(CONTROLLER).await.inspect_err(|error| {
        tracing::warn!(error = format!("{error:#}"), "the controller's address for members is unknown");
    });
    published.ok().and_then(|slice| address(&slice)).unwrap_or_else(|| "HOST:6443".to_owned())
}

fn address(slice: &Value) -> Option<String> {
    let address: std::net::IpAddr = slice.pointer("/endpoints/0/addresses/0")?.as_str()?.parse().ok()?;
    let port = u16::try_from(slice.pointer("/ports/0/port")?.as_u64()?).ok()?;
    Some(std::net::SocketAddr::new(address, port).to_string())
}

/// The identifier of a token that is given whole (`wrn1.ID.SECRET.CAHASH`) or by its identifier.
fn identifier(token: &str) -> anyhow::Result<&str> {
    let id = match token.split('.').collect::<Vec<_>>()[..] {
        ["wrn1", id, _, _] => id,
        [id] => id,
        _ => "",
    };
    let valid = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    valid.then_some(id).with_context(|| format!("{token:?} is neither a join token nor the ID of one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_comes_with_the_command_that_uses_it() {
        let slice =
            serde_json::json!({"endpoints": [{"addresses": ["192.0.2.7"]}], "ports": [{"port": 6443}]});
        let text = how_to_join(
            "wrn1.a.b.c",
            TokenRole::Node,
            &address(&slice).unwrap(),
            "",
            Duration::from_secs(600),
        );
        assert!(
            text.ends_with("\nWARREN_TOKEN=wrn1.a.b.c warren join --controller 192.0.2.7:6443\n"),
            "{text}"
        );
        assert!(text.contains("within 10m"), "{text}");
        let text = how_to_join("wrn1.a.b.c", TokenRole::Gateway, "c:6443", "", Duration::from_secs(600));
        assert!(text.ends_with("--controller c:6443 --gateway\n"), "{text}");
        let others =
            serde_json::json!({"cluster": "10.64.0.0/11", "services": "10.43.0.0/16", "nodePrefix": 24});
        assert_eq!(other_networks(&others), " --cluster-network 10.64.0.0/11");
        assert_eq!(other_networks(&Value::Null), "");
        let text =
            how_to_join("t", TokenRole::Node, "c:6443", &other_networks(&others), Duration::from_secs(1));
        assert!(text.ends_with("--controller c:6443 --cluster-network 10.64.0.0/11\n"), "{text}");
        assert_eq!(address(&serde_json::json!({})), None);
    }

    #[test]
    fn a_token_is_named_whole_or_by_its_identifier() {
        assert_eq!(identifier("wrn1.abc.secret.hash").unwrap(), "abc");
        assert_eq!(identifier("abc").unwrap(), "abc");
        for bad in ["", "a.b", "wrn1..s.h", "../pods", "a/b"] {
            assert!(identifier(bad).is_err(), "{bad}");
        }
    }
}
