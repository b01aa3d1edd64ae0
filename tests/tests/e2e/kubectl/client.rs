//! One kubectl in a namespace of its own, and the words in which the rows say what it must bring about.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::streams::hands::{Going, Hands, finish};

/// What a row or a part of it comes to: what is wrong, in words.
pub type Outcome = Result<(), String>;

/// What does not come about by then never does.
const PATIENCE: Duration = Duration::from_secs(60);

/// One kubectl in the namespace of one family of rows.
pub struct Client<'a> {
    pub hands: &'a Hands<'a>,
    /// Of its version 1.x.
    pub minor: u32,
    /// `$NS` in commands and manifests.
    pub namespace: String,
    /// `$NODE`: a node that no other kubectl taints or drains.
    pub node: String,
}

impl Client<'_> {
    /// What `$NS`, `$NODE` and `$DIR` stand for.
    pub fn fill(&self, text: &str) -> String {
        let scratch = self.hands.scratch.display().to_string();
        text.replace("$NS", &self.namespace).replace("$NODE", &self.node).replace("$DIR", &scratch)
    }

    fn command(&self, line: &str) -> Command {
        let words: Vec<_> = words(line).iter().map(|word| self.fill(word)).collect();
        let arguments: Vec<_> = words.iter().map(String::as_str).collect();
        let mut command = self.hands.command(&arguments);
        // Nobody else's cache of what the cluster serves.
        command.env("HOME", &self.hands.scratch).env("KUBECONFIG", self.hands.scratch.join("kubeconfig"));
        command
    }

    /// Makes the namespace, to be that of all commands.
    pub fn enter(&self) -> Outcome {
        let given = self.hands.command(&[]);
        let given = given.get_envs().find(|(name, _)| *name == "KUBECONFIG").and_then(|(_, path)| path);
        let copied = fs::copy(given.unwrap_or_default(), self.hands.scratch.join("kubeconfig"));
        copied.map_err(|error| format!("the kubeconfig: {error}"))?;
        self.ok("create namespace $NS")?;
        self.ok("config set-context --current --namespace=$NS").map(drop)
    }

    /// Runs a command line, whatever comes of it.
    pub fn run(&self, line: &str, input: &str) -> Result<Output, String> {
        self.run_with(line, input, &[])
    }

    /// The same with more environment.
    pub fn run_with(
        &self,
        line: &str,
        input: &str,
        environment: &[(&str, String)],
    ) -> Result<Output, String> {
        let mut command = self.command(line);
        command.envs(environment.iter().map(|(name, value)| (*name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command.spawn().map_err(|error| error.to_string())?, self.fill(input).as_bytes())
            .map_err(|why| format!("kubectl {line}: {why}"))
    }

    /// A command line that goes on.
    pub fn start(&self, line: &str) -> Result<Going, String> {
        Going::start(self.command(line))
    }

    /// Runs a command line, which must succeed, and answers with what it printed.
    pub fn ok(&self, line: &str) -> Result<String, String> {
        succeeded(line, &self.run(line, "")?)
    }

    /// The same with a manifest on its input.
    pub fn give(&self, line: &str, manifest: &str) -> Result<String, String> {
        succeeded(line, &self.run(line, manifest)?)
    }

    /// Runs a command line, which must succeed and print this.
    pub fn says(&self, line: &str, texts: &[&str]) -> Outcome {
        contains(line, &self.ok(line)?, texts.iter().map(|text| self.fill(text)))
    }

    /// Runs a command line, which must exit with 1 and say this on standard error.
    pub fn refused(&self, line: &str, texts: &[&str]) -> Outcome {
        let output = self.run(line, "")?;
        if output.status.code() != Some(1) {
            return Err(format!("kubectl {line}: {} and not 1: {}", output.status, said(&output)));
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        contains(line, &errors, texts.iter().map(|text| self.fill(text)))
    }

    /// An object, or a list of some.
    pub fn json(&self, objects: &str) -> Result<Value, String> {
        let printed = self.ok(&format!("get {objects} -o json"))?;
        serde_json::from_str(&printed).map_err(|error| format!("get {objects}: {error}"))
    }

    /// Sees that the object on the server has all of this.
    pub fn holds(&self, object: &str, expected: &str) -> Outcome {
        let expected = self.fill(expected);
        let expected = serde_json::from_str(&expected).map_err(|error| format!("{expected}: {error}"))?;
        covers(&self.json(object)?, &expected, object)
    }

    /// Waits until the object on the server has all of this.
    pub fn comes_to_hold(&self, object: &str, expected: &str) -> Outcome {
        eventually(|| self.holds(object, expected))
    }

    /// Sees that there is no such object.
    pub fn is_gone(&self, object: &str) -> Outcome {
        match self.ok(&format!("get {object} --ignore-not-found -o name"))?.trim() {
            "" => Ok(()),
            left => Err(format!("{left} is still there")),
        }
    }

    /// Writes a file into the scratch directory; directories above it come to be.
    pub fn file(&self, name: &str, content: &str) -> Result<PathBuf, String> {
        let path = self.hands.scratch.join(name);
        let made = fs::create_dir_all(path.parent().unwrap_or(&path));
        made.and_then(|()| fs::write(&path, self.fill(content))).map_err(|error| error.to_string())?;
        Ok(path)
    }
}

/// Tries until it holds; the last complaint is the answer.
pub fn eventually(mut check: impl FnMut() -> Outcome) -> Outcome {
    let begun = Instant::now();
    loop {
        match check() {
            Err(_) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(200)),
            outcome => return outcome,
        }
    }
}

/// The words of a command line; `'` quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for character in line.chars() {
        match character {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

/// All that a command printed.
pub fn said(output: &Output) -> String {
    warren_tests::text(output)
}

fn succeeded(line: &str, output: &Output) -> Result<String, String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("kubectl {line}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// Sees that all these texts are there.
pub fn contains(what: &str, seen: &str, texts: impl IntoIterator<Item = impl AsRef<str>>) -> Outcome {
    for text in texts {
        let text = text.as_ref();
        if !seen.contains(text) {
            return Err(format!("{what}: {text:?} is not in:\n{seen}"));
        }
    }
    Ok(())
}

/// Sees that a value has all that is expected: fields may be more, items of a list not.
fn covers(seen: &Value, expected: &Value, at: &str) -> Outcome {
    match (seen, expected) {
        (Value::Object(seen), Value::Object(expected)) => expected.iter().try_for_each(|(name, expected)| {
            covers(seen.get(name).unwrap_or(&Value::Null), expected, &format!("{at}.{name}"))
        }),
        (Value::Array(seen), Value::Array(expected)) if seen.len() == expected.len() => {
            let mut pairs = seen.iter().zip(expected).enumerate();
            pairs.try_for_each(|(index, (seen, expected))| covers(seen, expected, &format!("{at}[{index}]")))
        }
        _ if seen == expected => Ok(()),
        _ => Err(format!("{at} is {seen}, not {expected}")),
    }
}
