//! exec, cp, attach, run and debug.

use std::{fs, path::Path};

use super::{
    expect,
    hands::{Hands, checksum, sequence},
    text,
};

pub fn exec(hands: &Hands<'_>) -> Result<(), String> {
    let output = hands.in_shell("cat; echo wrong >&2; exit 7", b"given")?;
    expect("output", output.stdout == b"given", text(&output.stdout))?;
    expect("errors", text(&output.stderr).starts_with("wrong"), text(&output.stderr))?;
    expect("exit code", output.status.code() == Some(7), output.status)
}

/// The end of the input is not the end of the output.
pub fn half_close(hands: &Hands<'_>) -> Result<(), String> {
    let output = hands.in_shell("wc -c; sleep 1; echo afterwards", b"12345")?;
    expect("output", text(&output.stdout) == "5\nafterwards\n", text(&output.stdout))
}

pub fn terminal(hands: &Hands<'_>) -> Result<(), String> {
    let line = "stty size; while :; do read word; echo \"size $(stty size) $word.\"; done";
    let mut shell = hands.at_terminal(&format!("exec -it hands -c shell -- sh -c '{line}'"))?;
    // The first size may come a moment after the shell has looked.
    until(|| {
        shell.type_in("first\r")?;
        shell.wait_for("first.").map(|said| said.contains("size 33 101 first."))
    })?;
    shell.resize(77, 22)?;
    until(|| {
        shell.type_in("second\r")?;
        shell.wait_for("second.").map(|said| said.contains("size 22 77 second."))
    })?;
    // Ctrl-C reaches the process, whose end the shell reports as it does on any terminal.
    shell.type_in("\u{3}")?;
    let (status, said) = shell.end()?;
    expect("exit code", status.code() == Some(130), (status, said))
}

/// Does it until it holds; each try waits by itself for what it needs.
fn until(mut attempt: impl FnMut() -> Result<bool, String>) -> Result<(), String> {
    for _ in 0..100 {
        if attempt()? {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    Err("it never held".to_owned())
}

pub fn refusals(hands: &Hands<'_>) -> Result<(), String> {
    for (arguments, expected, codes) in [
        (
            &["exec", "hands", "-c", "nobody", "--", "true"][..],
            "container nobody is not valid for pod hands",
            &[1][..],
        ),
        (&["exec", "ghost", "--", "true"][..], "pods \"ghost\" not found", &[1][..]),
        // What the engine says: older ones say 126 to both.
        (&["exec", "hands", "-c", "shell", "--", "no-such-command"][..], "no-such-command", &[126, 127][..]),
        (&["exec", "hands", "-c", "shell", "--", "/etc/passwd"][..], "permission denied", &[126][..]),
        // What a shell says.
        (&["exec", "hands", "-c", "shell", "--", "sh", "-c", "no-such"][..], "not found", &[127][..]),
        (&["exec", "hands", "-c", "shell", "--", "sh", "-c", "kill -9 $$"][..], "", &[137][..]),
    ] {
        let output = hands.run(arguments, b"")?;
        let said = text(&output.stdout) + &text(&output.stderr);
        expect("refusal", said.contains(expected), &said)?;
        let code = output.status.code();
        expect("exit code", code.is_some_and(|code| codes.contains(&code)), (arguments, code))?;
    }
    Ok(())
}

pub fn large_transfers(hands: &Hands<'_>) -> Result<(), String> {
    // 69 MB.
    let (last, content) = (8_900_000, sequence(8_900_000));
    let output = hands.in_shell(&format!("seq 1 {last}"), b"")?;
    expect("bytes out", output.stdout == content, output.stdout.len())?;
    let output = hands.in_shell("md5sum", &content)?;
    expect("bytes in", text(&output.stdout).starts_with(&checksum(&content)?), text(&output.stdout))
}

fn copy(hands: &Hands<'_>, from: &str, to: &str) -> Result<(), String> {
    hands.get(&["cp", "-c", "shell", from, to]).map(drop)
}

pub fn copy_file(hands: &Hands<'_>) -> Result<(), String> {
    let content = sequence(3_000_000);
    let (there, back) = (hands.scratch.join("there"), hands.scratch.join("back"));
    fs::write(&there, &content).map_err(|error| error.to_string())?;
    copy(hands, &there.display().to_string(), "hands:/tmp/copied")?;
    copy(hands, "hands:/tmp/copied", &back.display().to_string())?;
    let copied = fs::read(&back).map_err(|error| error.to_string())?;
    expect("content", copied == content, copied.len())
}

pub fn copy_directory(hands: &Hands<'_>) -> Result<(), String> {
    let (there, back) = (hands.scratch.join("many"), hands.scratch.join("many-back"));
    let write = |path: &Path, text: &str| {
        fs::create_dir_all(path.parent().unwrap_or(path)).and_then(|()| fs::write(path, text))
    };
    for number in 0..50 {
        let path = there.join(format!("folder {}/file {number}", number % 7));
        write(&path, &"x".repeat(number * 1000)).map_err(|error| error.to_string())?;
    }
    hands.in_shell("rm -rf /tmp/many", b"")?;
    copy(hands, &there.display().to_string(), "hands:/tmp/many")?;
    copy(hands, "hands:/tmp/many", &back.display().to_string())?;
    let compared = std::process::Command::new("diff").arg("-r").args([&there, &back]).output();
    let compared = compared.map_err(|error| error.to_string())?;
    expect("copy", compared.status.success(), text(&compared.stdout))
}

pub fn attach(hands: &Hands<'_>) -> Result<(), String> {
    let mut talk = hands.start(&["attach", "-i", "hands", "-c", "talker"])?;
    talk.type_in("me\n")?;
    talk.wait_for("heard me").map(drop)?;
    // Whoever leaves ends nothing: the next one is heard, too.
    drop(talk);
    let mut talk = hands.start(&["attach", "-i", "hands", "-c", "talker"])?;
    talk.type_in("me again\n")?;
    talk.wait_for("heard me again").map(drop)
}

pub fn attach_terminal(hands: &Hands<'_>) -> Result<(), String> {
    let mut talk = hands.at_terminal("attach -it hands -c screen")?;
    until(|| {
        talk.type_in("this\r")?;
        talk.wait_for("saw this").map(|said| said.contains("saw this on 33 101"))
    })?;
    talk.resize(66, 11)?;
    until(|| {
        talk.type_in("that\r")?;
        talk.wait_for("saw that").map(|said| said.contains("saw that on 11 66"))
    })
}

/// Waits for input, so that it cannot have ended before somebody attached.
const VISIT: &str = "read word; echo got $word; exit 4";

pub fn run_with_input(hands: &Hands<'_>) -> Result<(), String> {
    let arguments =
        ["run", "visitor", "--image=busybox:1.36", "--restart=Never", "--rm", "-i", "--", "sh", "-c", VISIT];
    let output = hands.run(&arguments, b"carrots\n")?;
    expect("output", text(&output.stdout).contains("got carrots"), &output)?;
    expect("exit code", output.status.code() == Some(4), &output)?;
    is_removed(hands)
}

pub fn run_on_terminal(hands: &Hands<'_>) -> Result<(), String> {
    let line = format!("run visitor --image=busybox:1.36 --restart=Never --rm -it -- sh -c '{VISIT}'");
    let mut visit = hands.at_terminal(&line)?;
    visit.wait_for("If you don't see a command prompt")?;
    visit.type_in("carrots\r")?;
    let (status, said) = visit.end()?;
    expect("output", said.contains("got carrots"), &said)?;
    expect("exit code", status.code() == Some(4), (status, said))?;
    is_removed(hands)
}

fn is_removed(hands: &Hands<'_>) -> Result<(), String> {
    let left = hands.cluster.try_kubectl(&["get", "pod", "visitor"]);
    expect("removal", !left.status.success(), text(&left.stdout))
}

/// Ephemeral containers are not served, and that is said.
pub fn debug_is_refused(hands: &Hands<'_>) -> Result<(), String> {
    let output = hands.run(&["debug", "hands", "--image=busybox:1.36"], b"")?;
    let said = text(&output.stderr);
    expect("refusal", !output.status.success() && said.contains("ephemeral containers are not run"), said)
}
