//! Errors in a config file, shown with their place in it.

use std::{
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Why a configuration could not be loaded. The text says where and what to do.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config file {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// The file is invalid.
    #[error(transparent)]
    Invalid(Box<Complaint>),
}

/// One error in a config file, with its place.
///
/// Its text has the form of a compiler message: `file:line:column: message`, the line, and a caret
/// under the key or value, with what to write instead where that is known.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Complaint {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead, or empty.
    pub help: String,
    source_line: String,
    width: usize,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        // Tabs are kept, so that the caret lines up at any tab width.
        let indent: String =
            self.source_line.chars().take(self.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let carets = "^".repeat(self.width);
        writeln!(f, "{}:{}:{}: {}", self.path.display(), self.line, self.column, self.message)?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {}", self.source_line)?;
        write!(f, "{gutter} | {indent}{carets}")?;
        if self.help.is_empty() { Ok(()) } else { write!(f, " {}", self.help) }
    }
}

/// The text of a config file while it is read.
pub(super) struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl<'a> Source<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text }
    }

    /// A path written in the file: relative ones start at the file's folder.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    /// A complaint about the bytes `at`, cut at the end of their first line.
    pub(super) fn complain(
        &self,
        at: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> ConfigError {
        let start = self.boundary(at.start);
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |newline| start + newline);
        let marked = &self.text[start..self.boundary(at.end).clamp(start, line_end)];
        let (source_line, longest) = without_secret(&self.text[line_start..line_end]);
        ConfigError::Invalid(Box::new(Complaint {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: self.text[line_start..start].chars().count() + 1,
            message: message.into(),
            help: help.into(),
            source_line,
            width: marked.trim_end().chars().count().clamp(1, longest),
        }))
    }

    /// An error of the TOML parser, reworded.
    pub(super) fn refused(&self, error: &toml::de::Error) -> ConfigError {
        let at = error.span().unwrap_or(0..0);
        let (message, help) = self.reword(error.message(), at.start);
        self.complain(at, message, help)
    }

    /// serde names unknown keys and values only in its text: the words in backticks, first what was found.
    fn reword(&self, message: &str, at: usize) -> (String, String) {
        let mut quoted = message.split('`').skip(1).step_by(2);
        let found = quoted.next().unwrap_or_default();
        if message.starts_with("unknown field") {
            let section = self.section(at);
            let place = if section.is_empty() { String::new() } else { format!(" in {section}") };
            (format!("unknown key `{found}`{place}"), did_you_mean(found, quoted))
        } else if message.starts_with("unknown variant") {
            let allowed: Vec<_> = quoted.map(|word| format!("\"{word}\"")).collect();
            (format!("unknown value \"{found}\""), format!("expected {}", allowed.join(" or ")))
        } else if message.starts_with("missing field") {
            (format!("the key `{found}` is missing"), String::new())
        } else {
            match message.split_once(", expected ") {
                Some((message, expected)) => (message.to_owned(), format!("expected {}", plain(expected))),
                None => (message.to_owned(), String::new()),
            }
        }
    }

    /// The header of the section that a byte stands in, or nothing for the top of the file.
    fn section(&self, at: usize) -> &'a str {
        let before = &self.text[..self.boundary(at)];
        let whole_lines = before.rfind('\n').map_or("", |newline| &before[..newline]);
        let header = whole_lines.lines().rev().map(str::trim).find(|line| line.starts_with('['));
        header.and_then(|line| line.rfind(']').map(|end| &line[..=end])).unwrap_or_default()
    }

    fn boundary(&self, at: usize) -> usize {
        let at = at.min(self.text.len());
        (0..=at).rev().find(|&i| self.text.is_char_boundary(i)).unwrap_or(0)
    }
}

/// The line as it may be shown, and how many of its characters may be marked. A secret must not reach terminals and logs, not
/// even its length.
fn without_secret(line: &str) -> (String, usize) {
    let values = line.match_indices("secret").filter_map(|(at, key)| {
        let rest = &line[at + key.len()..];
        let value = rest.trim_start_matches(['"', '\'']).trim_start().strip_prefix('=')?.trim_start();
        Some(line.len() - value.len())
    });
    match values.min() {
        Some(value) => (format!("{}...", &line[..value]), "...".len()),
        None => (line.trim_end().to_owned(), usize::MAX),
    }
}

/// What serde expected, without the names of Rust types.
fn plain(expected: &str) -> &str {
    match expected {
        "usize" => "a whole number, not negative",
        "a sequence" => "a list, or sections with double brackets",
        _ if expected.starts_with("struct ") => "a section with keys",
        _ => expected,
    }
}

/// Suggests the candidate that was probably meant, or all of them if they are few.
fn did_you_mean<'a>(found: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    let candidates: Vec<_> = candidates.collect();
    let nearest = candidates.iter().map(|candidate| (distance(found, candidate), candidate)).min();
    match nearest {
        Some((edits, candidate)) if edits <= (found.len() / 3).max(1) => format!("did you mean `{candidate}`?"),
        Some(_) if candidates.len() <= 8 => format!("the keys here are {}", candidates.join(", ")),
        _ => "`quip-relay config` prints every key".to_owned(),
    }
}

/// The number of edits (insert, delete, replace, swap of neighbours) between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("listen", "listen", 0),
            ("lisen", "listen", 1),
            ("listne", "listen", 1),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }

    #[test]
    fn a_place_inside_a_character_or_past_the_end_does_not_panic() {
        let source = Source::new(Path::new("x"), "name = \"é\"\n");
        for start in 0..14 {
            for end in 0..14 {
                let _ = source.complain(start..end, "m", "").to_string();
            }
        }
    }
}
