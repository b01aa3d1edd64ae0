//! What one kubectl or all of them cannot do, and why. `deploy/kubectl.md` has the same table; [`are_documented`] says
//! what it must be.

/// Which kubectl.
#[derive(Debug, Clone, Copy)]
pub enum Clients {
    All,
    /// Those before 1.x.
    Before(u32),
}

/// Rows that some kubectl cannot do.
#[derive(Debug)]
pub struct Exception {
    /// Names of rows.
    pub rows: &'static [&'static str],
    pub clients: Clients,
    /// What the failure says, word by word: any other failure is one.
    pub says: &'static str,
    pub why: &'static str,
}

use Clients::{All, Before};

pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        rows: &["create token"],
        clients: Before(24),
        says: "unknown command \"token robot\"",
        why: "kubectl: the command came with 1.24",
    },
    Exception {
        rows: &["create service nodeport"],
        clients: All,
        says: "its node port is 0",
        why: "Warren: node ports are not opened yet, so none is allocated; a warning says so",
    },
    Exception {
        rows: &["apply --server-side"],
        clients: All,
        says: "server-side apply is not served yet",
        why: "Warren: server-side apply is not served yet",
    },
    Exception {
        rows: &["apply --prune"],
        clients: Before(21),
        says: "no matches for kind \"Ingress\" in version \"extensions/v1beta1\"",
        why: "kubectl: it prunes kinds that Kubernetes no longer has; with `--prune-whitelist` it works",
    },
    Exception {
        rows: &["get --subresource", "patch --subresource=status"],
        clients: Before(24),
        says: "unknown flag: --subresource",
        why: "kubectl: the option came with 1.24",
    },
    Exception {
        rows: &["events --for", "events --types"],
        clients: Before(23),
        says: "unknown command \"events\"",
        why: "kubectl: the command came with 1.23; `kubectl get events` works",
    },
    Exception {
        rows: &["auth whoami"],
        clients: Before(27),
        says: "unknown command \"whoami\"",
        why: "kubectl: the command came with 1.27",
    },
    Exception {
        rows: &["auth whoami"],
        clients: Before(28),
        says: "the selfsubjectreviews API is not enabled in the cluster",
        why: "kubectl: it asks for a version before `authentication.k8s.io/v1`",
    },
    Exception {
        rows: &["describe networkpolicy"],
        clients: All,
        says: "networkpolicies.networking.k8s.io \"closed\" not found",
        why: "Warren: NetworkPolicies are refused until they are enforced",
    },
    Exception {
        rows: &["wait --for=jsonpath"],
        clients: Before(23),
        says: "unrecognized condition",
        why: "kubectl: the option came with 1.23",
    },
    Exception {
        rows: &["wait --for=create"],
        clients: Before(31),
        says: "unrecognized condition",
        why: "kubectl: the option came with 1.31",
    },
];

impl Clients {
    fn has(self, minor: u32) -> bool {
        match self {
            All => true,
            Before(first) => minor < first,
        }
    }

    fn name(self) -> String {
        match self {
            All => "all".to_owned(),
            Before(first) => format!("before 1.{first}"),
        }
    }
}

/// The first exception that holds for this row and this kubectl, with the number of its note.
pub fn of(row: &str, minor: u32) -> Option<(usize, &'static Exception)> {
    let holds = |exception: &Exception| exception.clients.has(minor) && exception.rows.contains(&row);
    EXCEPTIONS.iter().enumerate().find(|(_, exception)| holds(exception)).map(|(at, found)| (at + 1, found))
}

/// The note of this number.
pub fn note(number: usize) -> String {
    let exception = &EXCEPTIONS[number - 1];
    format!("{} ({}): {}", exception.rows.join(", "), exception.clients.name(), exception.why)
}

/// The table as the docs must have it.
fn documented() -> String {
    let line = |exception: &Exception| {
        let rows: Vec<_> = exception.rows.iter().map(|row| format!("`{row}`")).collect();
        format!("| {} | {} | {} |\n", rows.join(", "), exception.clients.name(), exception.why)
    };
    let lines: String = EXCEPTIONS.iter().map(line).collect();
    format!("| command | kubectl | why |\n|---|---|---|\n{lines}")
}

/// Sees that the docs have this table.
pub fn are_documented() {
    let page = include_str!("../../../../deploy/kubectl.md");
    let table = documented();
    assert!(page.contains(&table), "deploy/kubectl.md must have this table:\n\n{table}");
}
