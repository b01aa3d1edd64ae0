//! PATCH.

use serde_json::Value;
use warren_objects::{strict, unsupported};
use warren_write::Scope;

use super::{write, written};
use crate::{
    body::{self, WriteOptions},
    decode, meta,
    negotiate::content_type,
    patch::Patch,
    respond::Reply,
    server::Call,
    state::ApiState,
    status::Status,
};

pub(crate) async fn patch(api: &ApiState, call: &Call) -> Result<Reply, Status> {
    patch_scope(api, call, Scope::Main).await
}

/// PATCH of an object, or of a part of it.
pub(crate) async fn patch_scope(api: &ApiState, call: &Call, scope: Scope) -> Result<Reply, Status> {
    let kind = &call.target.kind;
    let options = WriteOptions::parse(&call.query, "PatchOptions")?;
    let patch = Patch::parse(&content_type(&call.headers), &call.body)?;
    let mut warnings = Vec::new();
    let result = write(api, call, scope, options.dry_run, |old| {
        let shown = kind.shown(old);
        let mut new = patch.apply(kind.message(), shown.as_ref().unwrap_or(old))?;
        if !new.is_object() {
            return Err(Status::unprocessable("the patch does not leave an object"));
        }
        strict::strip_nulls_of(kind, &mut new);
        warnings = body::check(kind, &mut new, patch.duplicates(), options.validation)?;
        bounded(&new)?;
        meta::agree_with_url(kind, &call.target.namespace, &call.target.name, &mut new)?;
        Ok(new)
    })
    .await?;
    if scope == Scope::Main {
        warnings.extend(unsupported::warnings(kind, &result));
    }
    Ok(written(api, &call.target, result, options.dry_run).with_warnings(warnings))
}

/// Patches may add up to more than any body could bring.
fn bounded(object: &Value) -> Result<(), Status> {
    if decode::encoded_length(object) > body::LIMIT { Err(Status::too_large(body::LIMIT)) } else { Ok(()) }
}
