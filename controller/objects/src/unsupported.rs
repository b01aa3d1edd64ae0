//! What this version does not do although an object says it, told to who writes the object: in a warning per field, or
//! by a refusal where it would run wrongly. Which field is which is in [`crate::classes`].

use serde_json::Value;

use crate::{
    classes::{Class, Step, classes_of_entry},
    field::{Errors, Path},
    json::get,
    kinds::Kind,
};

/// Begins the reason of every refusal.
const NOT_SUPPORTED: &str = "not supported by this version of Warren";

/// What is stored but not acted upon: the object as a whole, when nobody does anything with its kind yet, and one
/// sentence per field, for `Warning` headers.
pub fn warnings(kind: &Kind, value: &Value) -> Vec<String> {
    let mut found: Vec<String> = (!kind.idle.is_empty()).then(|| kind.idle.to_owned()).into_iter().collect();
    let elsewhere = kind.is_of_others(value);
    tell(kind, value, &mut |class, here| match class {
        Class::Warns(_, text) => found.push(format!("{}: {text}", here.path())),
        // No client is let in by an Ingress that is not served.
        Class::Refused(_, advice) if elsewhere && here.is_entry() => {
            found.push(format!("{}: {NOT_SUPPORTED}: {advice}", here.path()));
        }
        _ => {}
    });
    found
}

/// Refuses what would run wrongly if it were only stored.
pub(crate) fn refuse(kind: &Kind, value: &Value, errors: &mut Errors) {
    let elsewhere = kind.is_of_others(value);
    tell(kind, value, &mut |class, here| {
        if let Class::Refused(_, advice) = class
            && !(elsewhere && here.is_entry())
        {
            let colon = if advice.is_empty() { "" } else { ": " };
            errors.forbidden(&here.path(), format!("{NOT_SUPPORTED}{colon}{advice}"));
        }
    });
}

/// Calls back with every warning and refusal whose time has come, and where in the object that is.
fn tell(kind: &Kind, value: &Value, report: &mut dyn FnMut(&Class, &Here<'_>)) {
    for field in kind.telling() {
        visit(value, &field.steps, &Here::Root, &mut |value, here| {
            for class in &field.classes {
                judge(class, value, here, report);
            }
        });
    }
}

fn judge(class: &Class, value: &Value, here: &Here<'_>, report: &mut dyn FnMut(&Class, &Here<'_>)) {
    match class {
        Class::Warns(when, _) | Class::Refused(when, _) if when.holds(value) => report(class, here),
        Class::Keys(tables) => {
            for (name, entry) in value.as_object().into_iter().flatten() {
                let here = Here::Entry(here, name);
                classes_of_entry(tables, name).for_each(|class| judge(class, entry, &here, report));
            }
        }
        _ => {}
    }
}

/// Calls back with what lies at the end of some steps, for each item of the lists on the way.
fn visit(value: &Value, steps: &[Step], here: &Here<'_>, report: &mut dyn FnMut(&Value, &Here<'_>)) {
    match steps.split_first() {
        _ if value.is_null() => {}
        None => report(value, here),
        Some((Step::Field(name), rest)) => visit(get(value, name), rest, &Here::Field(here, name), report),
        Some((Step::Each, rest)) => {
            for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                visit(item, rest, &Here::Item(here, index), report);
            }
        }
    }
}

/// Where in an object we are. It becomes a text only when something is said.
enum Here<'a> {
    Root,
    Field(&'a Here<'a>, &'a str),
    Item(&'a Here<'a>, usize),
    Entry(&'a Here<'a>, &'a str),
}

impl Here<'_> {
    fn path(&self) -> Path {
        match self {
            Self::Root => Path::default(),
            Self::Field(above, name) => above.path().child(name),
            Self::Item(above, index) => above.path().index(*index),
            Self::Entry(above, name) => above.path().key(name),
        }
    }

    fn is_entry(&self) -> bool {
        matches!(self, Self::Entry(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;
    use serde_json::json;

    fn served(resource: &str) -> &'static Kind {
        kinds::of(resource).expect("it is served")
    }

    #[test]
    fn defaults_are_never_warned_about() {
        let mut pod = json!({"metadata": {"name": "a"}, "spec": {
            "volumes": [{"name": "v"}],
            "containers": [{"name": "a", "image": "b", "ports": [{"containerPort": 80}],
                "livenessProbe": {"httpGet": {"port": 80}}}]}});
        crate::defaults::apply(served("pods"), &mut pod);
        assert_eq!(warnings(served("pods"), &pod), Vec::<String>::new());
        for kind in ["ClusterIP", "ExternalName"] {
            let mut service =
                json!({"metadata": {"name": "a"}, "spec": {"type": kind, "ports": [{"port": 80}]}});
            crate::defaults::apply(served("services"), &mut service);
            assert_eq!(warnings(served("services"), &service), Vec::<String>::new());
        }
    }

    #[test]
    fn fields_are_named() {
        let value = json!({"spec": {"template": {"spec": {
            "runtimeClassName": "kata", "readinessGates": [{"conditionType": "a/b"}],
            "containers": [{"name": "a"}, {"name": "b", "ports": [{"hostPort": 0}, {"hostPort": 80}],
                "securityContext": {"procMount": "Unmasked"}}]}}}});
        let found = warnings(served("deployments.apps"), &value);
        assert_eq!(found.len(), 4, "{found:#?}");
        let named = |text: &str| found.iter().any(|warning| warning.starts_with(text));
        assert!(named("spec.template.spec.runtimeClassName: its overhead and its nodes count"));
        assert!(named("spec.template.spec.containers[1].ports[1].hostPort: stored, but not opened"));
    }

    #[test]
    fn what_the_scheduler_does_is_told_as_it_is() {
        let value = json!({"spec": {"priority": 7, "overhead": {"cpu": "1m"}, "schedulerName": "mine"}});
        let found = warnings(served("pods"), &value);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(
            found[0].starts_with("spec.schedulerName: Warren's scheduler leaves the pod alone"),
            "{found:?}"
        );
    }

    #[test]
    fn services_and_others() {
        let value = json!({"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}});
        assert_eq!(warnings(served("services"), &value).len(), 2);
        assert!(warnings(served("configmaps"), &json!({"data": {}})).is_empty());
        let value = json!({"spec": {"containers": [{"resources": {"limits": {
            "cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1", "ephemeral-storage": "1Gi"}}}]}});
        let found = warnings(served("pods"), &value);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("spec.containers[0].resources.limits[ephemeral-storage]: "),
            "{found:?}"
        );
    }

    const INGRESSES: &str = "ingresses.networking.k8s.io";

    fn ingress(class: &str, annotations: &Value) -> (Vec<String>, Vec<String>) {
        let value = json!({"metadata": {"annotations": annotations}, "spec": {"ingressClassName": class}});
        let mut errors = Errors::default();
        refuse(served(INGRESSES), &value, &mut errors);
        (warnings(served(INGRESSES), &value), errors.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn annotations_of_an_ingress() {
        let nginx = |name: &str| format!("nginx.ingress.kubernetes.io/{name}");
        let fine = json!({nginx("rewrite-target"): "/", nginx("auth-type"): "basic", "prometheus.io/scrape": "true",
            "kubernetes.io/ingress.class": "warren", nginx("backend-protocol"): "HTTP"});
        assert_eq!(ingress("warren", &fine), (vec![], vec![]));
        let (warned, refused) = ingress(
            "warren",
            &json!({nginx("canary"): "true", nginx("auth-type"): "digest",
            nginx("auth-url"): "http://a", "cert-manager.io/issuer": "a", "haproxy.org/cors-enable": "true"}),
        );
        assert_eq!((warned.len(), refused.len()), (3, 2), "{warned:#?} {refused:#?}");
        assert!(warned.iter().any(|warning| warning.starts_with(
            "metadata.annotations[nginx.ingress.kubernetes.io/canary]: stored, but not acted upon"
        )));
        assert!(refused[0].starts_with(
            "metadata.annotations[nginx.ingress.kubernetes.io/auth-type]: Forbidden: not supported"
        ));
    }

    #[test]
    fn an_ingress_for_another_controller_is_kept_as_it_is() {
        let annotations = json!({"nginx.ingress.kubernetes.io/auth-url": "http://a"});
        let (warned, refused) = ingress("nginx", &annotations);
        assert_eq!((warned.len(), refused.len()), (2, 0), "{warned:#?} {refused:#?}");
        assert!(warned.iter().any(|warning| warning.starts_with("spec.ingressClassName: stored, but")));
    }
}
