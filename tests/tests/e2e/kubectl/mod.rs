//! The matrix: every kubectl at hand does every command, and each cell sees what came of it on the server.
//!
//! A family of rows has a namespace of its own for each kubectl, so that these work side by side; what concerns whole
//! nodes comes afterwards, one after the other. A cell that is not well must be in [`exceptions::EXCEPTIONS`], which
//! `deploy/kubectl.md` repeats for people.

mod apply;
mod change;
mod client;
mod create;
mod delete;
mod describe;
mod dry_run;
mod exceptions;
mod nodes;
mod read;
mod rollout;
mod workloads;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use warren_tests::cluster::{Cluster, kubectl_versions};

use self::{
    client::{Client, Outcome},
    exceptions::Exception,
};
use crate::streams::hands::Hands;

/// One command, or a few that belong together.
pub struct Row {
    name: &'static str,
    check: Check,
}

enum Check {
    /// Whatever the function says.
    Own(fn(&Client<'_>) -> Outcome),
    /// The command prints this, and afterwards the object on the server has all of that.
    Does { line: &'static str, says: &'static str, object: &'static str, holds: &'static str },
    /// The command prints all of this.
    Shows { line: &'static str, texts: &'static [&'static str] },
    /// The command exits with 1 and says all of this on standard error.
    Refuses { line: &'static str, texts: &'static [&'static str] },
}

/// Rows that share a namespace, in their order.
pub struct Family {
    /// The first part of the namespace's name.
    name: &'static str,
    /// What the rows find there.
    before: fn(&Client<'_>) -> Outcome,
    rows: &'static [&'static [Row]],
    /// Commands that remove what is in no namespace.
    after: &'static [&'static str],
}

/// Side by side.
const FAMILIES: &[Family] = &[
    create::FAMILY,
    apply::FAMILY,
    dry_run::FAMILY,
    read::FAMILY,
    describe::FAMILY,
    change::FAMILY,
    rollout::FAMILY,
    workloads::FAMILY,
    delete::FAMILY,
];

/// One kubectl after the other.
const ALONE: &[Family] = &[nodes::FAMILY];

impl Check {
    fn outcome(&self, client: &Client<'_>) -> Outcome {
        match *self {
            Self::Own(check) => check(client),
            Self::Does { line, says, object, holds } => {
                client.says(line, &[says])?;
                client.holds(object, holds)
            }
            Self::Shows { line, texts } => client.says(line, texts),
            Self::Refuses { line, texts } => client.refused(line, texts),
        }
    }
}

const fn row(name: &'static str, check: fn(&Client<'_>) -> Outcome) -> Row {
    Row { name, check: Check::Own(check) }
}

const fn does(
    name: &'static str,
    line: &'static str,
    says: &'static str,
    object: &'static str,
    holds: &'static str,
) -> Row {
    Row { name, check: Check::Does { line, says, object, holds } }
}

const fn shows(name: &'static str, line: &'static str, texts: &'static [&'static str]) -> Row {
    Row { name, check: Check::Shows { line, texts } }
}

const fn refuses(name: &'static str, line: &'static str, texts: &'static [&'static str]) -> Row {
    Row { name, check: Check::Refuses { line, texts } }
}

/// One kubectl: the minor part of its version, and where it is.
type Kubectl = (u32, PathBuf);

/// What came of a row, by kubectl.
type Cells = BTreeMap<u32, Cell>;

enum Cell {
    /// After so many seconds.
    Well(f32),
    /// As documented: the number of the note.
    Documented(usize),
    Failed(String),
}

pub fn every_kubectl_does_every_command(cluster: &Cluster) {
    let mut clients: Vec<Kubectl> =
        kubectl_versions().into_iter().map(|(version, path)| (minor(&version), path)).collect();
    clients.sort_unstable();
    clients.dedup_by_key(|(minor, _)| *minor);
    let newest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/kubectl-sid/usr/bin/kubectl");
    assert!(newest.exists(), "the newest kubectl is missing: run deploy/prerequisites.sh --test");
    let mut table = Table::default();
    let side_by_side: Vec<_> = std::thread::scope(|scope| {
        let threads = clients.iter().enumerate().map(|(number, kubectl)| {
            scope.spawn(move || {
                cluster.machines.enter();
                run(cluster, number, kubectl, FAMILIES)
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().expect("no check panics")).collect()
    });
    for ((minor, _), cells) in clients.iter().zip(side_by_side) {
        table.add(*minor, cells);
    }
    for (number, kubectl) in clients.iter().enumerate() {
        table.add(kubectl.0, run(cluster, number, kubectl, ALONE));
    }
    println!("\n{}\n", table.print(&clients));
    let failures = table.failures();
    assert!(failures.is_empty(), "{} cells failed:\n{}", failures.len(), failures.join("\n"));
    exceptions::are_documented();
}

/// `v1.32.4-dispatcher` is 32.
fn minor(version: &str) -> u32 {
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse().ok());
    minor.unwrap_or_else(|| panic!("{version} is no version of kubectl"))
}

/// All rows of these families by one kubectl, in order.
fn run(
    cluster: &Cluster,
    number: usize,
    (minor, path): &Kubectl,
    families: &[Family],
) -> Vec<(&'static str, Cell)> {
    let hands = Hands::new(cluster, path, &format!("kubectl-{minor}"));
    let mut cells = Vec::new();
    let only = only();
    for family in families.iter().filter(|family| only.is_empty() || only.contains(family.name)) {
        let client = Client {
            hands: &hands,
            minor: *minor,
            namespace: format!("{}-{minor}", family.name),
            // The first node is left for the pods of the others.
            node: format!("{}-node-{}", cluster.name, number % 2 + 2),
        };
        cells.extend(run_family(&client, family));
    }
    cells
}

fn run_family(client: &Client<'_>, family: &Family) -> Vec<(&'static str, Cell)> {
    let made = client.enter().and_then(|()| (family.before)(client));
    let check = |row: &Row| {
        let begun = Instant::now();
        let outcome = made.clone().and_then(|()| row.check.outcome(client));
        let cell = judge(outcome, begun, exceptions::of(row.name, client.minor));
        tell(row.name, client.minor, &cell);
        (row.name, cell)
    };
    let mut cells: Vec<_> = family.rows.iter().copied().flatten().map(check).collect();
    let after = family.after.iter().chain(&["delete namespace $NS --wait=false"]);
    for line in after {
        // That its namespace ends is a row of its own: of the family of deletions.
        if let Err(why) = client.ok(line) {
            cells.push((family.name, Cell::Failed(why)));
        }
    }
    cells
}

/// `WARREN_MATRIX` names families and lets each cell be told at once, for who works on one.
fn only() -> String {
    std::env::var("WARREN_MATRIX").unwrap_or_default()
}

fn tell(name: &str, minor: u32, cell: &Cell) {
    if only().is_empty() {
        return;
    }
    match cell {
        Cell::Well(seconds) => eprintln!("1.{minor} {name}: {seconds:.1} s ok"),
        Cell::Documented(note) => eprintln!("1.{minor} {name}: [{note}]"),
        Cell::Failed(why) => eprintln!("1.{minor} {name}: FAILED {why}"),
    }
}

/// An exception must be true: a command that works in spite of it is as wrong as one that fails.
fn judge(outcome: Outcome, begun: Instant, exception: Option<(usize, &Exception)>) -> Cell {
    match (outcome, exception) {
        (Ok(()), None) => Cell::Well(begun.elapsed().as_secs_f32()),
        (Ok(()), Some((_, exception))) => {
            Cell::Failed(format!("it works, but deploy/kubectl.md says: {}", exception.why))
        }
        (Err(why), Some((note, exception))) if why.contains(exception.says) => {
            let _ = why;
            Cell::Documented(note)
        }
        (Err(why), _) => Cell::Failed(why),
    }
}

/// The rows in their order, with their cells.
#[derive(Default)]
struct Table {
    rows: Vec<(&'static str, Cells)>,
}

impl Table {
    fn add(&mut self, minor: u32, cells: Vec<(&'static str, Cell)>) {
        for (name, cell) in cells {
            let known = self.rows.iter().position(|(row, _)| *row == name);
            let at = known.unwrap_or_else(|| {
                self.rows.push((name, Cells::new()));
                self.rows.len() - 1
            });
            self.rows[at].1.insert(minor, cell);
        }
    }

    fn print(&self, clients: &[Kubectl]) -> String {
        let mut table = format!("{:44}", "");
        for (minor, _) in clients {
            table += &format!(" {:>10}", format!("1.{minor}"));
        }
        for (name, cells) in &self.rows {
            table += &format!("\n{name:44}");
            for (minor, _) in clients {
                let cell = match cells.get(minor) {
                    Some(Cell::Well(seconds)) => format!("{seconds:.1} s ok"),
                    Some(Cell::Documented(note)) => format!("[{note}]"),
                    Some(Cell::Failed(_)) => "FAILED".to_owned(),
                    None => "-".to_owned(),
                };
                table += &format!(" {cell:>10}");
            }
        }
        table + "\n" + &self.notes()
    }

    fn notes(&self) -> String {
        let all = self.rows.iter().flat_map(|(_, cells)| cells.values());
        let mut notes: Vec<_> = all
            .filter_map(|cell| if let Cell::Documented(note) = cell { Some(*note) } else { None })
            .collect();
        notes.sort_unstable();
        notes.dedup();
        notes.iter().map(|note| format!("\n[{note}] {}", exceptions::note(*note))).collect()
    }

    fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for (name, cells) in &self.rows {
            for (minor, cell) in cells {
                if let Cell::Failed(why) = cell {
                    failures.push(format!("{name} by 1.{minor}: {why}"));
                }
            }
        }
        failures
    }
}
