//! Aligned columns and labelled lines for people.
//!
//! Invariant: whatever a task is called, printing it moves no cursor and changes no colour: control characters are
//! shown, not sent. Absent on purpose: borders, colours and wrapping, which get in the way of `grep` and `awk`.

use std::fmt::{self, Write as _};

/// Characters of a free text that a column shows; the rest is in `show` and in the JSON.
const TEXT_CHARS_MAX: usize = 48;
/// Columns are this far apart.
const GAP: &str = "  ";

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// Rows under a header.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(String, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Starts a table. A header that begins with `>` stands at the right, as its numbers do.
    pub(crate) fn new<'a>(headers: impl IntoIterator<Item = &'a str>) -> Self {
        let columns = headers.into_iter().map(|header| match header.strip_prefix('>') {
            Some(header) => (header.to_owned(), Side::Right),
            None => (header.to_owned(), Side::Left),
        });
        Self { columns: columns.collect(), rows: Vec::new() }
    }

    /// Adds a row; what is missing stays empty, what is too much is dropped.
    pub(crate) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let mut row: Vec<String> = cells.into_iter().map(|cell| visible(&cell.into())).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// Says whether there is no row.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<String> = self.columns.iter().map(|(header, _)| header.clone()).collect();
        let lines = || std::iter::once(&headers).chain(&self.rows);
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| lines().map(|line| line[column].chars().count()).max().unwrap_or(0))
            .collect();
        for line in lines() {
            let mut text = String::new();
            for ((cell, (_, side)), width) in line.iter().zip(&self.columns).zip(&widths) {
                match side {
                    Side::Left => write!(text, "{cell:<width$}{GAP}")?,
                    Side::Right => write!(text, "{cell:>width$}{GAP}")?,
                }
            }
            writeln!(formatter, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// One thing with its properties, one a line.
#[derive(Debug, Default)]
pub(crate) struct Sheet(Vec<(String, String)>);

impl Sheet {
    /// Adds a property, unless there is nothing to say about it.
    pub(crate) fn line(&mut self, label: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.0.push((label.to_owned(), visible(&value)));
        }
    }
}

impl fmt::Display for Sheet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
        self.0.iter().try_for_each(|(label, value)| writeln!(formatter, "{label:<width$}{GAP}{value}"))
    }
}

/// Returns a free text short enough for a column.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some(_) => text.chars().take(TEXT_CHARS_MAX - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

/// Returns the text with every control character written out.
pub(crate) fn visible(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.chars()
            .map(|char| if char.is_control() { char.escape_default().to_string() } else { char.into() })
            .collect()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_blanks() {
        let mut table = Table::new(["NAME", ">FIRES", "STATE"]);
        table.row(["a", "1", "active"]);
        table.row(["größer", "1000000", ""]);
        assert_eq!(table.to_string(), "NAME      FIRES  STATE\na             1  active\ngrößer  1000000\n");
    }

    #[test]
    fn a_row_that_is_too_short_is_filled() {
        let mut table = Table::new(["A", "B"]);
        table.row(["x"]);
        assert_eq!(table.to_string(), "A  B\nx\n");
    }

    #[test]
    fn a_name_cannot_move_the_cursor() {
        let mut table = Table::new(["NAME"]);
        table.row(["evil\u{1b}[2J\nrow"]);
        assert_eq!(table.to_string(), "NAME\nevil\\u{1b}[2J\\nrow\n");
    }

    #[test]
    fn a_long_text_ends_in_an_ellipsis() {
        assert_eq!(shortened(&"é".repeat(TEXT_CHARS_MAX)).chars().count(), TEXT_CHARS_MAX);
        let cut = shortened(&"é".repeat(TEXT_CHARS_MAX + 1));
        assert_eq!((cut.chars().count(), cut.ends_with('…')), (TEXT_CHARS_MAX, true));
    }

    #[test]
    fn a_sheet_aligns_its_values_and_leaves_out_what_is_empty() {
        let mut sheet = Sheet::default();
        sheet.line("id", "1");
        sheet.line("error", "");
        sheet.line("status", "running");
        assert_eq!(sheet.to_string(), "id      1\nstatus  running\n");
    }
}
