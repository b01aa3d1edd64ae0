//! What a person reads: results on standard output, errors on standard error.

use std::{fmt, io::Write as _};

/// Prints a result. A closed pipe (`warren status | head -1`) is the reader's choice, not an error.
pub(crate) fn print(text: impl fmt::Display) {
    let mut stdout = std::io::stdout().lock();
    let _ = write!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// Prints one line of progress or warning.
pub(crate) fn note(text: impl fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints an error as one line, its causes joined.
pub(crate) fn error(error: &anyhow::Error) {
    note(format_args!("error: {}", chain(error)));
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
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
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
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["a".into(), "1".into()], vec!["longer".into(), "2".into()]];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME    N\na       1\nlonger  2\n");
    }
}
