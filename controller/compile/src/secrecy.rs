//! Where values of Secrets go in a container, so that no message repeats them.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Container;

use crate::references::References;

/// Names of the variables whose value comes from a Secret, directly or through `$(NAME)`.
pub(crate) fn variables(references: &References<'_>, container: &Container) -> BTreeSet<String> {
    let mut secret = BTreeSet::new();
    for source in container.env_from.iter().flatten() {
        let Some(from) = &source.secret_ref else { continue };
        let Ok(Some(from)) = references.secret(&from.name, from.optional) else { continue };
        let prefix = source.prefix.as_deref().unwrap_or_default();
        secret.extend(from.data.iter().flatten().map(|(name, _)| format!("{prefix}{name}")));
    }
    for variable in container.env.iter().flatten() {
        let from_secret = variable.value_from.as_ref().is_some_and(|source| source.secret_key_ref.is_some());
        let value = variable.value.as_deref().unwrap_or_default();
        if from_secret && value.is_empty() || refers_to(value, &secret) {
            secret.insert(variable.name.clone());
        } else {
            secret.remove(&variable.name);
        }
    }
    secret
}

/// Whether a text in which `$(NAME)` is replaced may receive the value of one of the variables.
fn refers_to(text: &str, variables: &BTreeSet<String>) -> bool {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("$(") {
        rest = after;
        if after.split_once(')').is_some_and(|(name, _)| variables.contains(name)) {
            return true;
        }
    }
    false
}

/// Whether the command, its arguments or a path of a mount receives one of those values.
pub(crate) fn in_words(container: &Container, variables: &BTreeSet<String>) -> bool {
    let words = container.command.iter().chain(&container.args).flatten();
    let paths = container.volume_mounts.iter().flatten().filter_map(|mount| mount.sub_path_expr.as_ref());
    !variables.is_empty() && words.chain(paths).any(|text| refers_to(text, variables))
}
