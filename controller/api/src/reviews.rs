//! Questions that are answered and not kept: who am I, who is it, may I, may he. Until RBAC comes the answers follow
//! from [`crate::auth`]: administrators may do everything, everybody may see whether the server lives. Pure.

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use warren_objects::{Registry, validate};
use warren_write::User;

use crate::{
    auth,
    body::{self, WriteOptions},
    meta, path,
    respond::Reply,
    server::Call,
    state::ApiState,
    status::Status,
};

/// Answers a question.
pub(crate) fn answer(api: &ApiState, call: &Call) -> Result<Reply, Status> {
    let kind = &call.target.kind;
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let (mut review, warnings) = body::object(kind, &call.headers, &call.body, options.validation)?;
    if kind.namespaced {
        meta::agree_with_url(kind, &call.target.namespace, "", &mut review)?;
    }
    let errors = validate::question(kind, &review);
    if !errors.is_empty() {
        return Err(Status::invalid(kind, meta::text(&review, "name"), &errors));
    }
    review["status"] = match &*kind.kind {
        "SelfSubjectReview" => json!({ "userInfo": user_info(&call.user) }),
        "TokenReview" => token_review(api, &review["spec"])?,
        "SelfSubjectRulesReview" => rules(&call.user),
        "SelfSubjectAccessReview" => verdict(&call.user, &review["spec"]),
        _ => verdict(&subject(&review["spec"]), &review["spec"]),
    };
    // `metadata` is there in every answer of Kubernetes, though nothing is in it.
    meta::of(&mut review).entry("creationTimestamp").or_insert(Value::Null);
    Ok(Reply { code: StatusCode::CREATED, ..Reply::fresh(review) }.with_warnings(warnings))
}

/// Whom a SubjectAccessReview is about.
fn subject(spec: &Value) -> User {
    let groups = spec["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    let texts = |list: &Value| serde_json::from_value(list.clone()).unwrap_or_default();
    let extra = spec["extra"].as_object().into_iter().flatten();
    User {
        name: spec["user"].as_str().unwrap_or("").to_owned(),
        uid: spec["uid"].as_str().unwrap_or("").to_owned(),
        groups: groups.collect(),
        extra: extra.map(|(key, list)| (key.clone(), texts(list))).collect(),
    }
}

/// Whose a token is, for one of the audiences that are asked for.
fn token_review(api: &ApiState, spec: &Value) -> Result<Value, Status> {
    let token = spec["token"].as_str().unwrap_or("");
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let asked = spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let asked: Vec<String> = asked.map(str::to_owned).collect();
    let audiences = if asked.is_empty() { api.tokens.audiences() } else { &asked };
    Ok(match api.tokens.review(&api.snapshot(), token, audiences, Timestamp::now()) {
        Ok((user, audiences)) => {
            json!({"authenticated": true, "user": user_info(&user), "audiences": audiences})
        }
        Err(why) => {
            json!({"authenticated": false, "user": {}, "error": format!("[invalid bearer token, {why}]")})
        }
    })
}

/// What is known of a user; what is not known is left out.
fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn verdict(user: &User, spec: &Value) -> Value {
    if user.is_master() {
        return json!({"allowed": true, "reason": "members of system:masters may do everything"});
    }
    let open = spec["nonResourceAttributes"]["path"].as_str().is_some_and(|path| {
        let verb = spec["nonResourceAttributes"]["verb"].as_str().unwrap_or("");
        auth::authorize(user, verb, path::parse(&Registry::built_in(), path).as_ref(), path).is_ok()
    });
    if open {
        json!({"allowed": true, "reason": "everybody may"})
    } else {
        json!({"allowed": false, "reason": "only members of system:masters may, until this version of Warren knows RBAC"})
    }
}

fn rules(user: &User) -> Value {
    let all = json!(["*"]);
    let (resources, others) = if user.is_master() {
        (
            json!([{"verbs": all, "apiGroups": all, "resources": all}]),
            json!([{"verbs": all, "nonResourceURLs": all}]),
        )
    } else {
        let open = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
        (json!([]), json!([{"verbs": ["get"], "nonResourceURLs": open}]))
    };
    json!({"resourceRules": resources, "nonResourceRules": others, "incomplete": false})
}
