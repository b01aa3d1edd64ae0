//! The index: roles by name, and what is granted by whom it is granted to.

use std::{fmt, sync::Arc};

use imbl::OrdMap;
use serde_json::Value;
use warren_state::{Difference, Object, Snapshot};
use warren_vocabulary::resources::{CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES};

use crate::{GROUP, Request, Rule, Who};

/// By namespace (empty: everywhere) and by the name of the binding.
type Granted = OrdMap<Arc<str>, OrdMap<Arc<str>, Grant>>;

/// One role that a binding gives to one subject.
#[derive(Debug, Clone)]
struct Grant {
    binding: Arc<str>,
    /// Empty for a binding of the whole cluster.
    namespace: Arc<str>,
    in_cluster: bool,
    role: Arc<str>,
    /// `User "jane"`.
    subject: Arc<str>,
}

/// What roles allow, by their name.
type Roles = OrdMap<Arc<str>, Arc<[Rule]>>;

/// Who may do what, at one moment. Copies are cheap: they share what they have in common.
#[derive(Debug, Clone, Default)]
pub struct Access {
    cluster_roles: Roles,
    /// By namespace and name.
    roles: OrdMap<Arc<str>, Roles>,
    users: OrdMap<Arc<str>, Granted>,
    groups: OrdMap<Arc<str>, Granted>,
}

/// By which binding something is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Why<'a>(&'a Grant);

/// Nothing allows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Denial {
    /// The roles that are bound to who asks and are not there.
    missing: Vec<String>,
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Grant { binding, namespace, in_cluster, role, subject } = self.0;
        let kind = if *in_cluster { "ClusterRole" } else { "Role" };
        match &**namespace {
            "" => {
                write!(f, "RBAC: allowed by ClusterRoleBinding {binding:?} of {kind} {role:?} to {subject}")
            }
            namespace => write!(
                f,
                "RBAC: allowed by RoleBinding \"{binding}/{namespace}\" of {kind} {role:?} to {subject}"
            ),
        }
    }
}

/// Empty when there is nothing to say.
impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.missing.as_slice() {
            [] => Ok(()),
            [one] => write!(f, "RBAC: {one}"),
            several => write!(f, "RBAC: [{}]", several.join(", ")),
        }
    }
}

impl Access {
    /// The index of a state, made afresh.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut access = Self::default();
        for resource in [CLUSTERROLES, ROLES, CLUSTERROLEBINDINGS, ROLEBINDINGS] {
            snapshot.list(resource).for_each(|object| access.put_in(object));
        }
        access
    }

    /// Whether a difference is about roles or bindings.
    pub(crate) fn concerns(difference: &Difference) -> bool {
        matches!(&*difference.key().resource, CLUSTERROLES | ROLES | CLUSTERROLEBINDINGS | ROLEBINDINGS)
    }

    /// Takes out what an object was, and puts in what it is.
    pub(crate) fn apply(&mut self, difference: &Difference) {
        difference.previous.iter().for_each(|object| self.take_out(object));
        difference.current.iter().for_each(|object| self.put_in(object));
    }

    fn put_in(&mut self, object: &Object) {
        let (namespace, name) = (&object.key.namespace, &object.key.name);
        match &*object.key.resource {
            CLUSTERROLES => {
                drop(self.cluster_roles.insert(Arc::clone(name), Rule::all_of(&object.value).into()))
            }
            ROLES => {
                let rules = Rule::all_of(&object.value).into();
                self.roles.entry(Arc::clone(namespace)).or_default().insert(Arc::clone(name), rules);
            }
            _ => self.bind(object),
        }
    }

    fn bind(&mut self, binding: &Object) {
        let role = &binding.value["roleRef"];
        let in_cluster = role["kind"] == "ClusterRole";
        let role: Arc<str> = role["name"].as_str().unwrap_or("").into();
        let (namespace, name) = (&binding.key.namespace, &binding.key.name);
        for (holder, subject) in subjects(binding) {
            let grant = || Grant {
                binding: Arc::clone(name),
                namespace: Arc::clone(namespace),
                in_cluster,
                role: Arc::clone(&role),
                subject: subject.as_str().into(),
            };
            let (holders, holder) = self.holders(&holder);
            let granted = holders.entry(holder.into()).or_default();
            granted.entry(Arc::clone(namespace)).or_default().entry(Arc::clone(name)).or_insert_with(grant);
        }
    }

    fn take_out(&mut self, object: &Object) {
        let (namespace, name) = (&object.key.namespace, &object.key.name);
        match &*object.key.resource {
            CLUSTERROLES => drop(self.cluster_roles.remove(&**name)),
            ROLES => {
                if let Some(of_namespace) = self.roles.get_mut(&**namespace) {
                    of_namespace.remove(&**name);
                    if of_namespace.is_empty() {
                        self.roles.remove(&**namespace);
                    }
                }
            }
            _ => {
                for (holder, _) in subjects(object) {
                    let (holders, holder) = self.holders(&holder);
                    let Some(granted) = holders.get_mut(holder) else { continue };
                    if let Some(bindings) = granted.get_mut(&**namespace) {
                        bindings.remove(&**name);
                        if bindings.is_empty() {
                            granted.remove(&**namespace);
                        }
                    }
                    if granted.is_empty() {
                        holders.remove(holder);
                    }
                }
            }
        }
    }

    fn holders<'h>(&mut self, holder: &'h Holder) -> (&mut OrdMap<Arc<str>, Granted>, &'h str) {
        match holder {
            Holder::User(name) => (&mut self.users, name),
            Holder::Group(name) => (&mut self.groups, name),
        }
    }

    /// May they? Members of [`crate::MASTERS`] are not known here: nobody is asked about them.
    pub fn judge(&self, who: Who<'_>, request: &Request<'_>) -> Result<Why<'_>, Denial> {
        let mut denial = Denial::default();
        let found = self.grants(who, request.namespace()).find(|grant| match self.rules_of(grant) {
            Some(rules) => rules.iter().any(|rule| rule.allows(request)),
            None => {
                denial.missing.push(grant.missing());
                false
            }
        });
        found.map(Why).ok_or(denial)
    }

    /// Every rule that somebody holds: everywhere and, with a namespace, there.
    pub fn rules_for<'a>(&'a self, who: Who<'a>, namespace: &'a str) -> impl Iterator<Item = &'a Rule> + 'a {
        self.grants(who, namespace).filter_map(|grant| self.rules_of(grant)).flatten()
    }

    /// The roles that are bound to somebody and are not there, in words.
    pub fn faults(&self, who: Who<'_>, namespace: &str) -> Vec<String> {
        let grants = self.grants(who, namespace).filter(|grant| self.rules_of(grant).is_none());
        grants.map(Grant::missing).collect()
    }

    /// The rules of a role, or of a cluster role with an empty namespace.
    pub fn role(&self, namespace: &str, name: &str) -> Option<&[Rule]> {
        let rules = if namespace.is_empty() {
            self.cluster_roles.get(name)
        } else {
            self.roles.get(namespace).and_then(|roles| roles.get(name))
        };
        rules.map(|rules| &**rules)
    }

    fn rules_of(&self, grant: &Grant) -> Option<&[Rule]> {
        self.role(if grant.in_cluster { "" } else { &grant.namespace }, &grant.role)
    }

    fn grants<'a, 'q>(
        &'a self,
        who: Who<'q>,
        namespace: &'q str,
    ) -> impl Iterator<Item = &'a Grant> + use<'a, 'q> {
        let of_user = self.users.get(who.name).into_iter();
        let of_groups = who.groups.iter().filter_map(|group| self.groups.get(group.as_str()));
        let places = std::iter::once("").chain((!namespace.is_empty()).then_some(namespace));
        of_user
            .chain(of_groups)
            .flat_map(move |granted| places.clone().filter_map(|place| granted.get(place)))
            .flat_map(OrdMap::values)
    }
}

impl Grant {
    fn missing(&self) -> String {
        let kind = if self.in_cluster { "clusterrole" } else { "role" };
        format!("{kind}.{GROUP} {:?} not found", &*self.role)
    }
}

enum Holder {
    User(String),
    Group(String),
}

/// Whom a binding is about, as they are looked for and in words.
fn subjects(binding: &Object) -> impl Iterator<Item = (Holder, String)> + '_ {
    let text = |subject: &Value, field: &str| subject[field].as_str().unwrap_or("").to_owned();
    binding.value["subjects"].as_array().into_iter().flatten().filter_map(move |subject| {
        let name = text(subject, "name");
        match subject["kind"].as_str()? {
            "User" => Some((Holder::User(name.clone()), format!("User {name:?}"))),
            "Group" => Some((Holder::Group(name.clone()), format!("Group {name:?}"))),
            "ServiceAccount" => {
                let namespace = Some(text(subject, "namespace")).filter(|namespace| !namespace.is_empty());
                let namespace = namespace.unwrap_or_else(|| binding.key.namespace.to_string());
                let account = format!("system:serviceaccount:{namespace}:{name}");
                // In this order Kubernetes says it.
                let words = format!("ServiceAccount \"{name}/{namespace}\"");
                (!namespace.is_empty()).then_some((Holder::User(account), words))
            }
            _ => None,
        }
    })
}
