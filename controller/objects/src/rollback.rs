//! The annotation that says whether a deployment's failed rollouts are taken back.

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::get,
    kinds::Kind,
};

/// On a Deployment; on its Namespace for all that say nothing themselves; on the Namespace `kube-system` for the cluster.
pub const AUTOMATIC_ROLLBACK: &str = "warren.dev/automatic-rollback";

/// What an object says; nothing where it says nothing, or what the gate would refuse.
pub fn automatic_rollback(value: &Value) -> Option<bool> {
    get(get(get(value, "metadata"), "annotations"), AUTOMATIC_ROLLBACK).as_str()?.parse().ok()
}

/// Judges it on the kinds that may have it.
pub(crate) fn judge(kind: &Kind, value: &Value, errors: &mut Errors) {
    if !["deployments.apps", "namespaces"].contains(&&*kind.resource) {
        return;
    }
    let said = get(get(get(value, "metadata"), "annotations"), AUTOMATIC_ROLLBACK);
    if !said.is_null() && automatic_rollback(value).is_none() {
        let path = Path::new("metadata").child("annotations").key(AUTOMATIC_ROLLBACK);
        errors.invalid(&path, said.clone(), "must be \"true\" or \"false\"");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{kinds, validate};

    #[test]
    fn anything_but_true_and_false_is_refused_by_the_name_of_the_field() {
        for (said, fine) in
            [("true", true), ("false", true), ("", false), ("True", false), ("yes", false), ("1", false)]
        {
            let metadata = json!({"name": "a", "annotations": {AUTOMATIC_ROLLBACK: said}});
            let mut deployment = json!({"metadata": metadata, "spec": {"selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
            let mut namespace = json!({"metadata": metadata});
            for (resource, value) in [("deployments.apps", &mut deployment), ("namespaces", &mut namespace)] {
                let kind = kinds::of(resource).expect("it is served");
                crate::defaults::apply(kind, value);
                let found: Vec<_> = validate::create(kind, value).iter().map(ToString::to_string).collect();
                let expected = format!(
                    "metadata.annotations[warren.dev/automatic-rollback]: Invalid value: \"{said}\": must be \"true\" or \
                     \"false\""
                );
                let plain =
                    json!({"metadata": {"name": "a"}, "spec": value["spec"], "status": value["status"]});
                let texts = |errors: Vec<crate::FieldError>| {
                    errors.iter().map(ToString::to_string).collect::<Vec<_>>()
                };
                assert_eq!(texts(validate::update(kind, &plain, value)), found, "{resource}");
                assert_eq!(texts(validate::around(kind, &plain, value)), found, "{resource}");
                assert_eq!(found, if fine { vec![] } else { vec![expected] }, "{resource}");
            }
            assert_eq!(automatic_rollback(&namespace), fine.then_some(said == "true"));
        }
        assert_eq!(automatic_rollback(&json!({})), None);
    }
}
