//! POST: a new object.

use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;
use warren_objects::unsupported;
use warren_store::{Key, Precondition, Snapshot, Transaction};
use warren_vocabulary::resources::{INGRESSES, NAMESPACES};

use super::{stamp, written};
use crate::{
    addresses, admission,
    body::{self, WriteOptions},
    engine::{ATTEMPTS, Engine, key},
    kinds::Kind,
    meta,
    respond::Reply,
    server::Call,
    status::Status,
};

pub(crate) async fn create(engine: &Engine, call: &Call) -> Result<Reply, Status> {
    let kind = call.target.kind;
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let (mut object, mut warnings) = body::object(kind, &call.headers, &call.body, options.validation)?;
    meta::agree_with_url(kind, &call.target.namespace, "", &mut object)?;
    meta::on_create(kind, &mut object, Timestamp::now())?;
    let generates = meta::wants_generated_name(&object);
    for _ in 0..ATTEMPTS {
        if generates {
            let name = meta::generated_name(meta::text(&object, "generateName"), &(engine.suffix)());
            meta::of(&mut object).insert("name".into(), name.into());
        }
        let mut candidate = object.clone();
        if let Some(revision) =
            attempt(engine, kind, &call.target.namespace, &mut candidate, generates, options.dry_run).await?
        {
            if !options.dry_run {
                stamp(&mut candidate, revision);
            }
            warnings.extend(unsupported::warnings(kind, &candidate));
            let reply = written(engine, &call.target, candidate, options.dry_run);
            return Ok(Reply { code: StatusCode::CREATED, ..reply }.with_warnings(warnings));
        }
    }
    let name = meta::text(&object, "name");
    Err(if generates { Status::no_name_generated(kind, name) } else { Status::conflict(kind, name) })
}

/// One try; `None`: somebody else was faster in a way that another try can mend.
async fn attempt(
    engine: &Engine,
    kind: &Kind,
    namespace: &str,
    object: &mut Value,
    generated: bool,
    dry_run: bool,
) -> Result<Option<u64>, Status> {
    let name = meta::text(object, "name").to_owned();
    let snapshot = engine.snapshot();
    let mut transaction = Transaction::new();
    if kind.namespaced {
        transaction.preconditions.push(living_namespace(kind, &name, &snapshot, namespace)?);
    }
    let key = key(kind, namespace, &name);
    match snapshot.get(&key) {
        Some(_) if generated => return Ok(None),
        Some(other) if meta::is_terminating(&other.value) => {
            return Err(Status::still_being_deleted(kind, &name));
        }
        Some(_) => return Err(Status::already_exists(kind, &name)),
        None => {}
    }
    admission::create(kind, object);
    if kind.resource == INGRESSES {
        admission::default_ingress_class(kind, &snapshot, object)?;
    }
    let claim = if kind.resource == "services" {
        addresses::claim(&engine.addresses, &engine.config, &snapshot, object)
            .map_err(|error| Status::invalid(kind, &name, &[error]))?
    } else {
        None
    };
    admission::validate_new(kind, object)?;
    if dry_run {
        return Ok(Some(snapshot.revision));
    }
    transaction = transaction.create(key, object.clone());
    if let Some(claim) = &claim {
        transaction = claim.reserve(transaction, object);
    }
    engine.commit(transaction).await
}

/// The namespace must be there and not be on its way out, still at the moment of the commit.
fn living_namespace(
    kind: &Kind,
    name: &str,
    snapshot: &Snapshot,
    namespace: &str,
) -> Result<Precondition, Status> {
    let key = Key::new(NAMESPACES, "", namespace);
    let Some(found) = snapshot.get(&key) else {
        let namespaces = crate::kinds::find("", "v1", "namespaces").ok_or_else(Status::unknown_path)?;
        return Err(Status::not_found(namespaces, namespace));
    };
    if meta::is_terminating(&found.value) || found.value["status"]["phase"] == "Terminating" {
        return Err(Status::namespace_terminating(kind, name, namespace));
    }
    Ok(Precondition::Revision(key, found.revision))
}
