//! What is said of the engine's and the kernel's answers about a container that takes values from Secrets.
//!
//! Those answers repeat words of the command, paths and sometimes variables, and what is said of them goes into
//! events, statuses, logs and the controller's store, which anybody may read who may not read the Secret.

use warren_proto::control::Container;

/// Phrases that name the cause, in the words of the kernel and of the engine. More telling ones come first.
const CAUSES: [&str; 14] = [
    "executable file not found in $PATH",
    "exec format error",
    "argument list too long",
    "permission denied",
    "operation not permitted",
    "no such file or directory",
    "not a directory",
    "is a directory",
    "too many levels of symbolic links",
    "leads out of the volume",
    "file exists",
    "no space left on device",
    "cannot allocate memory",
    "device or resource busy",
];

/// The text as it may be said to everybody.
///
/// Where a Secret's value is in the command, its arguments or a path, or where the text contains one or might contain
/// one in a disguise, nothing of the text is passed on but the cause. No attempt is made to cut a value out of it: the
/// engine quotes and escapes, and cuts, in ways of its own.
pub fn tell(container: &Container, text: &str) -> String {
    let values = container.env.iter().filter(|variable| container.secret_variables.contains(&variable.name));
    let mut values = values.map(|variable| variable.value.as_str()).filter(|value| !value.is_empty());
    // A controller of an earlier version says only that there are some.
    let unknown = container.holds_secrets && container.secret_variables.is_empty();
    if !container.words_hold_secrets
        && !unknown
        && !values.any(|value| !is_plain(value) || text.contains(value))
    {
        return text.to_owned();
    }
    let lower = text.to_lowercase();
    let cause = CAUSES.iter().find(|cause| lower.contains(&cause.to_lowercase()));
    format!(
        "{}; the rest of the answer is withheld, because it may repeat a value of a Secret",
        cause.unwrap_or(&"it cannot be made or started as it is")
    )
}

/// Whether the value stands in a text as it is, if at all: nothing in it would be escaped.
fn is_plain(value: &str) -> bool {
    value.bytes().all(|byte| {
        byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\' | b'%' | b'<' | b'>' | b'&')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use warren_proto::control::EnvVar;

    const ANSWER: &str =
        "OCI runtime create failed: exec: \"hunter2\": executable file not found in $PATH: unknown";

    fn container(value: &str, words: bool) -> Container {
        let variable = |name: &str, value: &str| EnvVar { name: name.into(), value: value.into() };
        Container {
            env: vec![variable("SECRET", value), variable("OTHER", "unknown")],
            secret_variables: vec!["SECRET".into()],
            words_hold_secrets: words,
            ..Container::default()
        }
    }

    #[test]
    fn nothing_is_withheld_without_need() {
        assert_eq!(tell(&Container::default(), ANSWER), ANSWER);
        assert_eq!(tell(&container("another", false), ANSWER), ANSWER);
        assert_eq!(tell(&container("", false), ANSWER), ANSWER);
    }

    #[test]
    fn a_secret_and_whatever_may_hide_one_is_withheld_but_for_the_cause() {
        for (value, words) in [("hunter2", false), ("other", true), ("two\nlines", false), ("q\"uote", false)]
        {
            let told = tell(&container(value, words), ANSWER);
            assert!(told.starts_with("executable file not found in $PATH; "), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
        let of_old = Container { holds_secrets: true, ..Container::default() };
        assert!(!tell(&of_old, ANSWER).contains("hunter2"), "where a Secret's value is, is not known");
        assert!(tell(&container("x", true), "hunter2 is odd").starts_with("it cannot be made or started"));
    }
}
