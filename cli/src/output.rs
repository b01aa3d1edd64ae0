//! What a person reads: results on standard output, errors on standard error.

use std::{borrow::Cow, fmt, io::Write as _};

/// Prints a result. A closed pipe (`warren status | head -1`) is the reader's choice, not an error.
pub(crate) fn print(text: impl fmt::Display) {
    let mut stdout = std::io::stdout().lock();
    let _ = write!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// Prints one line of progress or warning.
pub(crate) fn note(text: impl fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Whether a terminal shows a character and does nothing else: neither a control character nor one that turns the
/// direction of the text around it.
pub(crate) fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with everything escaped that a terminal would act upon: it may come from a pod, a peer or a file.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if is_printable(c) { c.to_string() } else { c.escape_default().to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// Prints an error as one line, its causes joined.
pub(crate) fn error(error: &anyhow::Error) {
    note(format_args!("error: {}", printable(&chain(error))));
}

/// The error and its causes on one line; a cause that its parent already quotes is not repeated.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(|cause| cause.to_string().replace('\n', " ")) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// A table with two spaces between columns, as kubectl prints them.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([header[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{:<width$}", printable(cell))).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    std::iter::once(&header).chain(rows).map(line).collect()
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_error_is_one_line_and_says_nothing_twice() {
        let error = std::io::Error::other("connection refused");
        let error = Err::<(), _>(error).context("cannot reach the engine: connection refused");
        let error = error.context("cannot start\nthe cluster").unwrap_err();
        assert_eq!(chain(&error), "cannot start the cluster: cannot reach the engine: connection refused");
    }

    #[test]
    fn what_a_terminal_would_act_upon_is_escaped() {
        assert_eq!(printable("a\u{1b}[2J\u{202e}b\n"), "a\\u{1b}[2J\\u{202e}b\\n");
        assert!(matches!(printable("näme 名"), Cow::Borrowed(_)));
        assert!(!table(&["A"], &[vec!["\u{1b}]0;x\u{7}".into()]]).contains('\u{1b}'));
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["a".into(), "1".into()], vec!["longer".into(), "2".into()]];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME    N\na       1\nlonger  2\n");
    }
}
