//! `warren token`: join tokens.

use anyhow::Context as _;
use serde::Deserialize;

use super::access;
use crate::{
    args::{TokenAction, TokenOptions},
    output,
};

#[derive(Debug, Deserialize)]
struct Listed {
    tokens: Vec<Token>,
}

#[derive(Debug, Deserialize)]
struct Token {
    id: String,
    role: String,
    expires: String,
}

pub(crate) async fn run(options: TokenOptions) -> anyhow::Result<()> {
    let api = access::api(&options.access).await?;
    match options.action {
        TokenAction::Create { role, lifetime } => {
            let token = api.create_token(role, lifetime).await?;
            output::print(format_args!("{token}\n"));
        }
        TokenAction::List => {
            let listed: Listed = api.get("/warren/v1/tokens").await.context("cannot list the join tokens")?;
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
    fn a_token_is_named_whole_or_by_its_identifier() {
        assert_eq!(identifier("wrn1.abc.secret.hash").unwrap(), "abc");
        assert_eq!(identifier("abc").unwrap(), "abc");
        for bad in ["", "a.b", "wrn1..s.h", "../pods", "a/b"] {
            assert!(identifier(bad).is_err(), "{bad}");
        }
    }
}
