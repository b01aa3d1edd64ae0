//! Nobody grants what he does not hold.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping>.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Access, Rule, Who};

/// How many single permissions are compared: a role of a few lists may be as many as all their combinations.
const MOST_COMPARED: usize = 20_000;

/// Why somebody may not grant some rules, in Kubernetes' words; `None` when he holds them all. Rights of a namespace
/// count where one is given.
pub fn refusal(access: &Access, who: Who<'_>, namespace: &str, wanted: &[Rule]) -> Option<String> {
    let held: Vec<&Rule> = access.rules_for(who, namespace).collect();
    let begin = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held",
        who.name,
        quoted(who.groups)
    );
    let missing = match missing(&held, wanted) {
        Ok(missing) if missing.is_empty() => return None,
        Ok(missing) => missing,
        Err(count) => {
            return Some(format!(
                "{begin}: its rules are {count} permissions or more, and at most {MOST_COMPARED} are compared one by one: \
                 make several roles of it"
            ));
        }
    };
    let lines: BTreeSet<String> = compact(missing).iter().map(Rule::to_string).collect();
    let mut message = format!("{begin}:\n{}", lines.into_iter().collect::<Vec<_>>().join("\n"));
    let faults = access.faults(who, namespace);
    if !faults.is_empty() {
        message.push_str(&format!("; resolution errors: [{}]", faults.join(", ")));
    }
    Some(message)
}

/// As Go writes a list of texts.
fn quoted(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", texts.join(" "))
}

/// The single permissions of `wanted` that no rule of `held` has; the number of them when they are too many to compare.
pub fn missing(held: &[&Rule], wanted: &[Rule]) -> Result<Vec<Rule>, usize> {
    let mut missing = Vec::new();
    let mut compared = 0_usize;
    for rule in wanted.iter().filter(|rule| !held.iter().any(|own| own.covers(rule))) {
        compared = compared.saturating_add(combinations(rule));
        if compared > MOST_COMPARED {
            return Err(compared);
        }
        missing.extend(broken_down(rule).into_iter().filter(|part| !held.iter().any(|own| own.covers(part))));
    }
    Ok(missing)
}

fn combinations(rule: &Rule) -> usize {
    let lists = [&rule.groups, &rule.resources, &rule.verbs].map(Vec::len);
    let resources = lists.into_iter().fold(rule.names.len().max(1), usize::saturating_mul);
    resources.saturating_add(rule.urls.len().saturating_mul(rule.verbs.len()))
}

/// The same as rules of one verb and one resource, one name or one path.
fn broken_down(rule: &Rule) -> Vec<Rule> {
    let mut parts = Vec::new();
    for verb in &rule.verbs {
        for group in &rule.groups {
            for resource in &rule.resources {
                let names: Vec<Vec<String>> = match rule.names.as_slice() {
                    [] => vec![Vec::new()],
                    names => names.iter().map(|name| vec![name.clone()]).collect(),
                };
                parts.extend(names.into_iter().map(|names| Rule {
                    verbs: vec![verb.clone()],
                    groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    names,
                    urls: Vec::new(),
                }));
            }
        }
        let url =
            |url: &String| Rule { verbs: vec![verb.clone()], urls: vec![url.clone()], ..Rule::default() };
        parts.extend(rule.urls.iter().map(url));
    }
    parts
}

/// Rules that differ by their verbs alone become one.
pub fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut by_rest: BTreeMap<Rule, Vec<String>> = BTreeMap::new();
    for mut rule in rules {
        let verbs = std::mem::take(&mut rule.verbs);
        let all = by_rest.entry(rule).or_default();
        all.extend(verbs.into_iter().filter(|verb| !all.contains(verb)).collect::<Vec<_>>());
    }
    by_rest.into_iter().map(|(rule, verbs)| Rule { verbs, ..rule }).collect()
}
