//! Paper: what a ceremony prints, as text, tables and places to write on. One content becomes a web
//! page that stands alone, and a PDF with its fonts in it: who prints it needs no network, and sees
//! the same either way.

pub mod html;
pub mod pdf;

use std::fmt::Write as _;

/// Pages to be printed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Paper {
    /// What it is.
    pub title: String,
    /// What it is about.
    pub subtitle: String,
    /// What is said on top of every page, because nobody may overlook it.
    pub mark: Option<String>,
    /// What is said at the foot of every page: what ties it to its plan or transcript.
    pub foot: Vec<String>,
    /// The content, in order.
    pub blocks: Vec<Block>,
}

/// A part of the content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Block {
    /// A heading; what follows it begins on the same page.
    Heading(String),
    /// Paragraphs.
    Lines(Vec<Line>),
    /// A new page begins.
    Page,
    /// A table; its rows are not cut, and its head is repeated on each page.
    Table(Table),
}

/// A table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Table {
    /// Its columns; a table whose columns have no titles has no head.
    pub columns: Vec<Column>,
    /// The cells of each row, one for each column.
    pub rows: Vec<Vec<Cell>>,
}

/// A column of a table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Column {
    /// Its title.
    pub title: &'static str,
    /// Its part of the table's width, in hundredths.
    pub share: u8,
}

/// A cell of a table.
pub type Cell = Vec<Line>;

/// One line, which is wrapped where it is too long.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Line {
    /// A label, and a line to write on.
    Blank(String),
    /// For machines: letters of one width, and wrapped anywhere.
    Code(String),
    /// Room for a note, an initial or a signature.
    Room,
    /// What must be seen first.
    Strong(String),
    /// Text.
    Text(String),
    /// A box to tick, and what for.
    Tick(String),
}

impl Table {
    /// A table of names and what they stand for.
    pub fn of_facts(facts: impl IntoIterator<Item = (&'static str, Cell)>) -> Self {
        let rows = facts.into_iter().map(|(name, cell)| vec![vec![Line::text(name)], cell]);
        Self {
            columns: vec![Column { title: "", share: 26 }, Column { title: "", share: 74 }],
            rows: rows.collect(),
        }
    }

    /// A table with these columns, and no rows yet.
    pub fn new<const N: usize>(columns: [(&'static str, u8); N]) -> Self {
        let columns = columns.map(|(title, share)| Column { title, share });
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Whether it has a head.
    fn has_head(&self) -> bool {
        self.columns.iter().any(|column| !column.title.is_empty())
    }
}

impl Line {
    /// A line to write on.
    pub fn blank(label: impl Into<String>) -> Self {
        Self::Blank(label.into())
    }

    /// A hash, a path, an identifier.
    pub fn code(text: impl ToString) -> Self {
        Self::Code(text.to_string())
    }

    /// What must be seen first.
    pub fn strong(text: impl ToString) -> Self {
        Self::Strong(text.to_string())
    }

    /// Text.
    pub fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    /// A box to tick.
    pub fn tick(text: impl Into<String>) -> Self {
        Self::Tick(text.into())
    }
}

/// The text with nothing in it that a reader could not see, or that moves what is around it:
/// control characters and those that change the direction of writing are shown by their numbers.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        let hidden = matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{61c}' | '\u{ad}' | '\u{feff}');
        if hidden || character.is_control() {
            let _ = write!(shown, "[U+{:04X}]", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_is_shown() {
        assert_eq!(printable("gnp.\u{202e}exe\u{7}"), "gnp.[U+202E]exe[U+0007]");
        assert_eq!(printable("CN=Übersicht & Söhne"), "CN=Übersicht & Söhne");
    }
}
