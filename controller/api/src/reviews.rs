//! Questions that are answered and not kept: who am I, who is it, may I, may he. Pure.

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use warren_access::{Access, Request, Resource, Rule};
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
    let access = api.gate.access(&api.snapshot());
    review["status"] = match &*kind.kind {
        "SelfSubjectReview" => json!({ "userInfo": user_info(&call.user) }),
        "TokenReview" => token_review(api, &review["spec"])?,
        "SelfSubjectRulesReview" => {
            rules(&access, &call.user, review["spec"]["namespace"].as_str().unwrap_or(""))
        }
        "SelfSubjectAccessReview" => verdict(&access, &call.user, &review["spec"]),
        _ => verdict(&access, &subject(&review["spec"]), &review["spec"]),
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

fn verdict(access: &Access, user: &User, spec: &Value) -> Value {
    let decided = if spec["nonResourceAttributes"].is_object() {
        let text = |field: &str| spec["nonResourceAttributes"][field].as_str().unwrap_or("");
        let path = text("path");
        let target = path::parse(&Registry::built_in(), path);
        auth::decide_path(access, user, text("verb"), target.as_ref(), path)
    } else {
        let text = |field: &str| spec["resourceAttributes"][field].as_str().unwrap_or("");
        let asked = Resource {
            verb: text("verb"),
            group: text("group"),
            resource: text("resource"),
            subresource: text("subresource"),
            namespace: text("namespace"),
            name: text("name"),
        };
        auth::decide(access, user, &Request::Resource(asked))
    };
    let (allowed, reason) = match decided {
        Ok(reason) => (true, reason),
        Err(reason) => (false, reason),
    };
    let mut status = json!({ "allowed": allowed });
    if !reason.is_empty() {
        status["reason"] = json!(reason);
    }
    status
}

/// All that a user may do, everywhere and in a namespace.
fn rules(access: &Access, user: &User, namespace: &str) -> Value {
    let (mut resources, mut others) = (Vec::new(), Vec::new());
    let all = || vec!["*".to_owned()];
    let everything = Rule { verbs: all(), groups: all(), resources: all(), names: Vec::new(), urls: all() };
    let open = ["/healthz", "/livez", "/readyz", "/version", "/version/"].map(str::to_owned);
    let open = Rule { verbs: vec!["get".to_owned()], urls: open.to_vec(), ..Rule::default() };
    let always = if user.is_master() { &everything } else { &open };
    let is_member = !user.is_master() && auth::is_member(user);
    let held = access.rules_for(user.who(), namespace).filter(|_| !is_member);
    for rule in std::iter::once(always).chain(held) {
        if !rule.resources.is_empty() {
            let mut shown =
                json!({"verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources});
            if !rule.names.is_empty() {
                shown["resourceNames"] = json!(rule.names);
            }
            resources.push(shown);
        }
        if !rule.urls.is_empty() {
            others.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.urls}));
        }
    }
    let mut status = json!({"resourceRules": resources, "nonResourceRules": others, "incomplete": false});
    let faults = access.faults(user.who(), namespace);
    if !faults.is_empty() {
        status["evaluationError"] = json!(faults.join(", "));
    }
    status
}
