//! `serviceaccounts/token`: a token for an account, bound to an object or not. Nothing is stored.

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use warren_objects::{ErrorKind, FieldError};
use warren_tokens::{Reference, SignError, Tokens, Unbound, bind};

use crate::{
    body::{self, WriteOptions},
    kinds, meta,
    negotiate::Expected,
    respond::Reply,
    server::Call,
    state::{ApiState, key_of},
    status::Status,
};

const REQUEST: Expected<'static> =
    Expected { group: "authentication.k8s.io", version: "v1", kind: "TokenRequest" };
/// When a request says nothing.
const DEFAULT_SECONDS: i64 = 3_600;
const LEAST_SECONDS: i64 = 600;
const MOST_SECONDS: i64 = 1 << 32;
/// More audiences, or longer ones, nobody has.
const MOST_AUDIENCES: usize = 64;

pub(super) fn create(api: &ApiState, call: &Call) -> Result<Reply, Status> {
    let mut request = body::of_kind(&call.headers, &call.body, REQUEST)?;
    WriteOptions::parse(&call.query, "CreateOptions")?;
    for part in ["metadata", "spec"] {
        if !request[part].is_null() && !request[part].is_object() {
            return Err(Status::bad_request(format!("TokenRequest: {part}: must be an object")));
        }
    }
    let snapshot = api.snapshot();
    let (kind, name, namespace) = (&call.target.kind, &*call.target.name, &*call.target.namespace);
    agree(&request, name, namespace)?;
    let account = snapshot.get(&key_of(&call.target)).ok_or_else(|| Status::not_found(kind, name))?;
    let uid = meta::text(&account.value, "uid");
    let asked = meta::text(&request, "uid");
    if !asked.is_empty() && asked != uid {
        let why = format!(
            "the UID in the token request ({asked}) does not match the UID of the service account ({uid})"
        );
        return Err(conflict("TokenRequest.authentication.k8s.io", name, &why));
    }
    let audiences = audiences(api, &request["spec"])?;
    let seconds = seconds(&request["spec"])?;
    let binding = bind(&snapshot, namespace, name, reference(&request["spec"])?).map_err(unbound)?;
    let shortened = Tokens::shortened(seconds);
    let issued = api.tokens.issue(binding, &audiences, shortened, Timestamp::now());
    let issued = issued.map_err(|error| match error {
        SignError::TooLong => Status::bad_request(error.to_string()),
        SignError::NoKey | SignError::Sign(_) => Status::internal(error.to_string()),
    })?;
    let now = meta::timestamp(Timestamp::now());
    let metadata = meta::of(&mut request);
    for (field, value) in
        [("name", name), ("namespace", namespace), ("uid", uid), ("creationTimestamp", &*now)]
    {
        metadata.insert(field.to_owned(), json!(value));
    }
    request["apiVersion"] = json!("authentication.k8s.io/v1");
    request["kind"] = json!(REQUEST.kind);
    request["spec"]["audiences"] = json!(audiences);
    request["spec"]["expirationSeconds"] = json!(shortened);
    // As typed clients expect it: there, though nothing is in it.
    if let Some(spec) = request["spec"].as_object_mut() {
        spec.entry("boundObjectRef").or_insert(Value::Null);
    }
    request["status"] =
        json!({"token": issued.token, "expirationTimestamp": issued.expires.map(meta::timestamp)});
    let warning = format!("requested expiration of {seconds} seconds shortened to {shortened} seconds");
    let warnings = if seconds == shortened { Vec::new() } else { vec![warning] };
    Ok(Reply { code: StatusCode::CREATED, ..Reply::fresh(request) }.with_warnings(warnings))
}

/// 422 for one field.
fn invalid(name: &str, field: &str, value: &Value, detail: &str) -> Status {
    let error = FieldError {
        field: field.to_owned(),
        kind: ErrorKind::Invalid,
        value: Some(value.clone()),
        detail: detail.to_owned(),
    };
    Status::invalid_kind(REQUEST.group, REQUEST.kind, name, &[error])
}

fn conflict(what: &str, name: &str, why: &str) -> Status {
    Status::new(409, "Conflict", format!("Operation cannot be fulfilled on {what} \"{name}\": {why}"))
}

/// A request that names an account must name that of the path.
fn agree(request: &Value, name: &str, namespace: &str) -> Result<(), Status> {
    for (field, wanted) in [("name", name), ("namespace", namespace)] {
        let given = meta::text(request, field);
        if !given.is_empty() && given != wanted {
            let detail = format!("must match the service account {field} if specified");
            return Err(invalid(name, &format!("metadata.{field}"), &json!(given), &detail));
        }
    }
    Ok(())
}

fn audiences(api: &ApiState, spec: &Value) -> Result<Vec<String>, Status> {
    let wrong = || Status::bad_request("TokenRequest: spec.audiences: must be a list of texts");
    let given = match &spec["audiences"] {
        Value::Null => return Ok(api.tokens.audiences().to_vec()),
        Value::Array(given) => given,
        _ => return Err(wrong()),
    };
    let texts: Option<Vec<String>> = given.iter().map(|text| text.as_str().map(str::to_owned)).collect();
    let texts = texts.ok_or_else(wrong)?;
    if texts.len() > MOST_AUDIENCES {
        let why =
            format!("TokenRequest: spec.audiences: a token may have at most {MOST_AUDIENCES} audiences");
        return Err(Status::bad_request(why));
    }
    Ok(if texts.is_empty() { api.tokens.audiences().to_vec() } else { texts })
}

fn seconds(spec: &Value) -> Result<i64, Status> {
    let given = &spec["expirationSeconds"];
    let seconds = match given {
        Value::Null => DEFAULT_SECONDS,
        given => given.as_i64().ok_or_else(|| {
            Status::bad_request("TokenRequest: spec.expirationSeconds: must be a whole number of seconds")
        })?,
    };
    let refused = |detail| Err(invalid("", "spec.expirationSeconds", given, detail));
    match seconds {
        ..LEAST_SECONDS => refused("may not specify a duration less than 10 minutes"),
        LEAST_SECONDS..=MOST_SECONDS => Ok(seconds),
        _ => refused("may not specify a duration larger than 2^32 seconds"),
    }
}

fn reference(spec: &Value) -> Result<Option<Reference<'_>>, Status> {
    let given = match &spec["boundObjectRef"] {
        Value::Null => return Ok(None),
        given if given.is_object() => given,
        _ => return Err(Status::bad_request("TokenRequest: spec.boundObjectRef: must be an object")),
    };
    let text = |field: &str| given[field].as_str().unwrap_or("");
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    Ok(Some(Reference { api_version, kind, name: text("name"), uid: text("uid") }))
}

fn unbound(why: Unbound) -> Status {
    match &why {
        Unbound::NotFound { resource, name } => match kinds::of(resource) {
            Some(kind) => Status::not_found(kind, name),
            None => Status::new(404, "NotFound", why.to_string()),
        },
        Unbound::OtherUid { kind, name, .. } => conflict(kind, name, &why.to_string()),
        Unbound::OtherAccount { .. } | Unbound::Kind(_) => Status::bad_request(why.to_string()),
    }
}
