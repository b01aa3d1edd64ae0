//! Label and field selectors: parsed once, matched against JSON. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{kinds::Kind, query::Query, status::Status};

/// What a list, watch or deletecollection selects.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selector {
    labels: Vec<LabelRequirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct LabelRequirement {
    key: String,
    operator: Operator,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operator {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldRequirement {
    field: String,
    value: String,
    equal: bool,
}

impl Selector {
    /// Reads `labelSelector` and `fieldSelector`.
    pub(crate) fn parse(kind: &Kind, query: &Query) -> Result<Self, Status> {
        let labels = parse_labels(query.get("labelSelector").unwrap_or(""))
            .map_err(|why| Status::bad_request(format!("unable to parse requirement: {why}")))?;
        let fields =
            parse_fields(kind, query.get("fieldSelector").unwrap_or("")).map_err(Status::bad_request)?;
        Ok(Self { labels, fields })
    }

    /// Adds `metadata.name=NAME`.
    pub(crate) fn with_name(mut self, name: &str) -> Self {
        let field = "metadata.name".to_owned();
        self.fields.push(FieldRequirement { field, value: name.to_owned(), equal: true });
        self
    }

    /// The one name that objects must have to be selected, if it is asked for.
    pub(crate) fn name(&self) -> Option<&str> {
        let is_name = |r: &&FieldRequirement| r.equal && r.field == "metadata.name";
        self.fields.iter().find(is_name).map(|requirement| requirement.value.as_str())
    }

    /// Whether everything is selected.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object is selected.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|requirement| requirement.matches(labels[&requirement.key].as_str()))
            && self.fields.iter().all(|r| (field_value(object, &r.field) == r.value) == r.equal)
    }
}

impl LabelRequirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|text| text.parse::<i64>().ok());
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::Absent => value.is_none(),
            Operator::Greater(bound) => number().is_some_and(|value| value > *bound),
            Operator::Less(bound) => number().is_some_and(|value| value < *bound),
        }
    }
}

/// Each requirement is asked of each object.
const MOST_REQUIREMENTS: usize = 1_000;

fn few_enough(requirements: usize) -> Result<(), String> {
    if requirements <= MOST_REQUIREMENTS {
        return Ok(());
    }
    Err(format!("a selector may have at most {MOST_REQUIREMENTS} requirements"))
}

/// The tokens of a label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Symbol(&'static str),
}

const SYMBOLS: [&str; 9] = ["!=", "==", "=", "!", "(", ")", ",", ">", "<"];

fn tokens(text: &str) -> Vec<Token> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            out.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || "!=(),<>".contains(c)).unwrap_or(rest.len());
            out.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    out
}

fn parse_labels(text: &str) -> Result<Vec<LabelRequirement>, String> {
    let tokens = tokens(text);
    let mut rest = tokens.as_slice();
    let mut out = Vec::new();
    while !rest.is_empty() {
        let (requirement, after) = parse_requirement(rest)?;
        out.push(requirement);
        few_enough(out.len())?;
        rest = match after {
            [] => after,
            [Token::Symbol(","), after @ ..] if !after.is_empty() => after,
            [Token::Symbol(",")] => return Err("found '', expected: identifier after ','".into()),
            [other, ..] => return Err(format!("found '{}', expected: ',' or end", spelling(other))),
        };
    }
    Ok(out)
}

fn parse_requirement(tokens: &[Token]) -> Result<(LabelRequirement, &[Token]), String> {
    use Token::{Symbol, Word};
    let (key, operator, rest) = match tokens {
        [Symbol("!"), Word(key), rest @ ..] => (key, Operator::Absent, rest),
        [Word(key), Symbol(operator @ ("=" | "==" | "!=")), rest @ ..] => {
            let (value, rest) = match rest {
                [Word(value), rest @ ..] => (value.clone(), rest),
                rest => (String::new(), rest), // `a=` selects the empty value
            };
            check_value(&value)?;
            let values = BTreeSet::from([value]);
            (key, if *operator == "!=" { Operator::NotIn(values) } else { Operator::In(values) }, rest)
        }
        [Word(key), Symbol(operator @ (">" | "<")), Word(bound), rest @ ..] => {
            let bound = bound.parse().map_err(|_| format!("'{bound}' is not a whole number"))?;
            (key, if *operator == ">" { Operator::Greater(bound) } else { Operator::Less(bound) }, rest)
        }
        [Word(key), Word(operator), Symbol("("), rest @ ..] if operator == "in" || operator == "notin" => {
            let (values, rest) = parse_values(rest)?;
            (key, if operator == "in" { Operator::In(values) } else { Operator::NotIn(values) }, rest)
        }
        [Word(key)] | [Word(key), Symbol(","), ..] => (key, Operator::Exists, &tokens[1..]),
        [Word(_), other, ..] => {
            let expected = "in, notin, =, ==, !=, gt, lt";
            return Err(format!("found '{}', expected: {expected}", spelling(other)));
        }
        [other, ..] => {
            return Err(format!("found '{}', expected: !, identifier, or 'end of string'", spelling(other)));
        }
        [] => return Err("found '', expected: identifier".into()),
    };
    check_key(key)?;
    Ok((LabelRequirement { key: key.clone(), operator }, rest))
}

/// The values after an opening bracket, up to and with the closing one.
fn parse_values(tokens: &[Token]) -> Result<(BTreeSet<String>, &[Token]), String> {
    let mut values = BTreeSet::new();
    let mut word = String::new();
    for (index, token) in tokens.iter().enumerate() {
        match token {
            Token::Word(text) if word.is_empty() => word.clone_from(text),
            Token::Symbol(end @ ("," | ")")) => {
                check_value(&word)?;
                values.insert(std::mem::take(&mut word));
                if *end == ")" {
                    return Ok((values, &tokens[index + 1..]));
                }
            }
            other => return Err(format!("found '{}', expected: ',', or ')'", spelling(other))),
        }
    }
    Err("found '', expected: ')'".into())
}

fn spelling(token: &Token) -> &str {
    match token {
        Token::Word(text) => text,
        Token::Symbol(text) => text,
    }
}

fn check_key(key: &str) -> Result<(), String> {
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    if is_label_text(name) && !name.is_empty() && key.matches('/').count() <= 1 {
        return Ok(());
    }
    Err(format!(
        "key: Invalid value: {key:?}: name part must consist of alphanumeric characters, '-', '_' or '.', and must \
         start and end with an alphanumeric character"
    ))
}

fn check_value(value: &str) -> Result<(), String> {
    if is_label_text(value) {
        return Ok(());
    }
    Err(format!(
        "values: Invalid value: {value:?}: a valid label must be an empty string or consist of alphanumeric \
         characters, '-', '_' or '.', and must start and end with an alphanumeric character"
    ))
}

fn is_label_text(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && ends(text.chars().next())
        && ends(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn parse_fields(kind: &Kind, text: &str) -> Result<Vec<FieldRequirement>, String> {
    let mut out = Vec::new();
    for term in split_unescaped(text) {
        if term.is_empty() {
            continue;
        }
        let (field, operator, value) = split_operator(&term)
            .ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{term}'"))?;
        if !supports_field(kind, field) {
            return Err(format!("field label not supported: {field}"));
        }
        out.push(FieldRequirement {
            field: field.to_owned(),
            value: unescape(value),
            equal: operator != "!=",
        });
        few_enough(out.len())?;
    }
    Ok(out)
}

/// Splits at commas that no backslash precedes.
fn split_unescaped(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut escaped = false;
    for character in text.chars() {
        if character == ',' && !escaped {
            terms.push(String::new());
            continue;
        }
        escaped = character == '\\' && !escaped;
        if let Some(term) = terms.last_mut() {
            term.push(character);
        }
    }
    terms
}

fn split_operator(term: &str) -> Option<(&str, &str, &str)> {
    let at = term.find(['=', '!'])?;
    let operator = ["!=", "==", "="].into_iter().find(|operator| term[at..].starts_with(operator))?;
    Some((&term[..at], operator, &term[at + operator.len()..]))
}

fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        out.push(if character == '\\' { characters.next().unwrap_or('\\') } else { character });
    }
    out
}

/// Whether objects of a kind may be selected by a field.
fn supports_field(kind: &Kind, field: &str) -> bool {
    field == "metadata.name"
        || (field == "metadata.namespace" && kind.namespaced)
        || kind.fields.iter().any(|known| known == field)
}

/// A field as text; absent is empty, except where Kubernetes says otherwise.
fn field_value(object: &Value, field: &str) -> String {
    let at = |path: &str| path.split('.').fold(object, |value, segment| &value[segment]);
    // What events are about has another name in their other version.
    let value = match field {
        "reportingController" => at("reportingComponent"),
        "status.successful" => at("status.succeeded"),
        path if path.starts_with("regarding.") => at(&path.replacen("regarding", "involvedObject", 1)),
        "source" if at("source.component").is_null() => at("reportingComponent"),
        "source" => at("source.component"),
        path => at(path),
    };
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        _ if matches!(field, "spec.unschedulable" | "spec.hostNetwork") => "false".to_owned(),
        _ if matches!(field, "status.replicas" | "status.successful") => "0".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
#[path = "selectors_tests.rs"]
mod tests;
