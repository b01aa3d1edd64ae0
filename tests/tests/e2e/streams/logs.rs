//! logs, with all of its options.

use super::{expect, hands::Hands, text};

const ONE: [&str; 4] = ["logs", "teller", "-c", "one"];

fn one(hands: &Hands<'_>, options: &[&str]) -> Result<String, String> {
    hands.get(&[&ONE[..], options].concat())
}

/// Everything that this life of the container has said.
fn whole() -> String {
    let lines: Vec<String> = (1..=20).map(|number| format!("line {number}\n")).collect();
    format!("early\n{}", lines.concat())
}

pub fn parts(hands: &Hands<'_>) -> Result<(), String> {
    let all = one(hands, &[])?;
    expect("whole", all == whole(), all)?;
    let tail = one(hands, &["--tail=2"])?;
    expect("tail", tail == "line 19\nline 20\n", tail)?;
    let none = one(hands, &["--tail=0"])?;
    expect("no tail", none.is_empty(), none)?;
    let cut = one(hands, &["--limit-bytes=9"])?;
    expect("limit", cut == "early\nlin", cut)?;
    let timed = one(hands, &["--timestamps", "--tail=1"])?;
    let (time, rest) = timed.split_once(' ').unwrap_or_default();
    expect("time", time.starts_with("20") && time.ends_with('Z') && rest == "line 20\n", timed)
}

pub fn since(hands: &Hands<'_>) -> Result<(), String> {
    let timed = one(hands, &["--timestamps"])?;
    let late = timed.lines().find(|line| line.ends_with("line 1")).unwrap_or_default();
    let time = late.split(' ').next().unwrap_or_default();
    // Whole seconds, as Kubernetes counts; "early" is three seconds older.
    let second = format!("{}Z", time.split('.').next().unwrap_or_default().trim_end_matches('Z'));
    let found = one(hands, &[&format!("--since-time={second}")])?;
    expect("since that time", found.starts_with("line 1\n") && found.ends_with("line 20\n"), found)?;
    let found = one(hands, &["--since-time=2040-01-01T00:00:00Z"])?;
    expect("since the future", found.is_empty(), found)?;
    let found = one(hands, &["--since=10h"])?;
    expect("since hours", found == whole(), found)?;
    // It was told a while ago, when the other checks began.
    for _ in 0..100 {
        if one(hands, &["--since=1s"])?.is_empty() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    Err("--since=1s still shows old lines".to_owned())
}

pub fn follow(hands: &Hands<'_>) -> Result<(), String> {
    let following = hands.start(&["logs", "-f", "--tail=1", "hands", "-c", "shell"])?;
    let word = format!("told to {}", hands.scratch.display());
    let told = hands.in_shell(&format!("echo '{word}' > /proc/1/fd/1"), b"")?;
    expect("telling", told.status.success(), text(&told.stderr))?;
    following.wait_for(&word).map(drop)
}

pub fn previous(hands: &Hands<'_>) -> Result<(), String> {
    let before = one(hands, &["--previous"])?;
    expect("first life", before == "the first life\n", before)?;
    let output = hands.run(&["logs", "teller", "-c", "two", "--previous"], b"")?;
    let said = text(&output.stderr);
    let refused = said.contains("previous terminated container \"two\" in pod \"teller\" not found");
    expect("no life before", !output.status.success() && refused, said)
}

pub fn selected(hands: &Hands<'_>) -> Result<(), String> {
    let all = hands.get(&["logs", "-l", "app=teller", "--all-containers", "--prefix", "--tail=2"])?;
    for line in ["[pod/teller/one] line 19", "[pod/teller/one] line 20", "[pod/teller/two] only this"] {
        expect(line, all.lines().any(|found| found == line), &all)?;
    }
    expect("no more", all.lines().count() == 3, all)?;
    let all = hands.get(&["logs", "teller", "--all-containers"])?;
    // Old clients ask for the containers in another order.
    let expected = [format!("{}only this\n", whole()), format!("only this\n{}", whole())];
    expect("all containers", expected.contains(&all), all)
}

/// Newer clients choose the first container themselves; the server wants to be told.
pub fn which_container(hands: &Hands<'_>) -> Result<(), String> {
    let output = hands.run(&["logs", "teller"], b"")?;
    let said = text(&output.stderr);
    let fits = said.contains("choose one of: [one two]") || said.contains("Defaulted container \"one\"");
    expect("without a name", fits, said)?;
    let output = hands.run(&["get", "--raw", "/api/v1/namespaces/default/pods/teller/log"], b"")?;
    let said = text(&output.stderr);
    let expected = "a container name must be specified for pod teller, choose one of: [one two]";
    expect("server", !output.status.success() && said.contains(expected), said)?;
    let output = hands.run(&["logs", "teller", "-c", "three"], b"")?;
    let said = text(&output.stderr);
    expect("unknown", said.contains("container three is not valid for pod teller"), said)
}
