//! What one kubectl or all of them cannot do, and why. `deploy/kubectl.md` has the same table; [`are_documented`] says
//! what it must be.

/// Which kubectl.
#[derive(Debug, Clone, Copy)]
pub enum Clients {
    All,
    /// Those before 1.x.
    Before(u32),
    /// Those from 1.x on.
    From(u32),
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

use Clients::{All, Before, From};

pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        rows: &["create cronjob", "create job --from=cronjob", "describe cronjob"],
        clients: Before(21),
        says: "the server could not find the requested resource",
        why: "it asks for `batch/v1beta1`, which Kubernetes 1.25 removed",
    },
    Exception {
        rows: &["create poddisruptionbudget", "describe poddisruptionbudget"],
        clients: Before(21),
        says: "the server could not find the requested resource",
        why: "it asks for `policy/v1beta1`, which Kubernetes 1.25 removed",
    },
];

impl Clients {
    fn has(self, minor: u32) -> bool {
        match self {
            All => true,
            Before(first) => minor < first,
            From(first) => minor >= first,
        }
    }

    fn name(self) -> String {
        match self {
            All => "all".to_owned(),
            Before(first) => format!("before 1.{first}"),
            From(first) => format!("1.{first} and later"),
        }
    }
}

/// The exception that holds for this row and this kubectl, with the number of its note.
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
