//! Where everything is: text is wrapped, and filled into pages of A4. Sizes are in points, and places
//! are measured from the top left, as people read.

use super::{
    super::{Block, Cell, Line, Paper, Table, printable},
    font::{Font, Style},
};

/// What is drawn.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    /// The border of a box.
    Frame { x: f32, y: f32, width: f32, height: f32 },
    /// A straight line.
    Rule { from: (f32, f32), to: (f32, f32) },
    /// The background of a table's head.
    Shade { x: f32, y: f32, width: f32, height: f32 },
    /// A text on this line.
    Text { x: f32, y: f32, style: Style, size: f32, text: String },
}

/// A part that stays on one page.
#[derive(Clone, Debug, Default)]
struct Band {
    height: f32,
    items: Vec<Item>,
    /// The next one begins on the same page.
    leads: bool,
    /// A page begins with it.
    page: bool,
    /// What is repeated before it, where it is the first of a page.
    head: Option<usize>,
}

/// The three fonts.
pub(super) struct Fonts(pub(super) [Font; 3]);

impl Fonts {
    pub(super) fn of(&mut self, style: Style) -> &mut Font {
        &mut self.0[style as usize]
    }

    fn width(&self, style: Style, text: &str, size: f32) -> f32 {
        self.0[style as usize].width(text, size)
    }
}

/// The pages.
pub(super) fn pages(paper: &Paper, fonts: &Fonts) -> Vec<Vec<Item>> {
    let mut layout = Layout { fonts, bands: Vec::new(), heads: Vec::new() };
    layout.lines(&paper.title, Style::Bold, 20.0);
    layout.lines(&paper.subtitle, Style::Plain, 12.5);
    layout.space(10.0);
    paper.blocks.iter().for_each(|block| layout.block(block));
    let mark = paper.mark.as_deref().map(|mark| layout.mark(mark));
    let foot = layout.foot(&paper.foot);
    let pages = layout.fill(&mark, foot.height);
    let count = pages.len();
    let numbered = (1..).zip(pages).map(|(number, mut items)| {
        items.extend(moved(&foot, BOTTOM - foot.height));
        let text = format!("page {number} of {count}");
        let x = RIGHT - fonts.width(Style::Mono, &text, FOOT);
        items.push(Item::Text { x, y: BOTTOM + 10.0, style: Style::Mono, size: FOOT, text });
        items
    });
    numbered.collect()
}

struct Layout<'a> {
    fonts: &'a Fonts,
    bands: Vec<Band>,
    heads: Vec<Band>,
}

impl Layout<'_> {
    fn block(&mut self, block: &Block) {
        match block {
            Block::Heading(text) => {
                self.space(10.0);
                self.lines(text, Style::Bold, 12.5);
                let ruled = Item::Rule { from: (LEFT, 1.0), to: (RIGHT, 1.0) };
                self.bands.push(Band { height: 6.0, items: vec![ruled], ..Band::default() });
                let heading = self.bands.iter_mut().rev().take(3);
                heading.for_each(|band| band.leads = true);
            }
            Block::Lines(lines) => {
                for line in lines {
                    let bands = self.line(line, LEFT, RIGHT - LEFT);
                    self.bands.extend(bands);
                }
                self.space(4.0);
            }
            Block::Page => self.bands.push(Band { page: true, ..Band::default() }),
            Block::Table(table) => self.table(table),
        }
    }

    fn space(&mut self, height: f32) {
        self.bands.push(Band { height, ..Band::default() });
    }

    fn lines(&mut self, text: &str, style: Style, size: f32) {
        let bands = self.text(text, style, size, LEFT, RIGHT - LEFT);
        self.bands.extend(bands);
    }

    fn table(&mut self, table: &Table) {
        let first = self.bands.len();
        let head = table.has_head().then(|| {
            let titles = table.columns.iter().map(|column| vec![Line::strong(column.title)]);
            let mut band = self.row(table, &titles.collect::<Vec<_>>()).swap_remove(0);
            let (width, height) = (RIGHT - LEFT, band.height);
            band.items.insert(0, Item::Shade { x: LEFT, y: 0.0, width, height });
            self.heads.push(band.clone());
            band.leads = true;
            self.bands.push(band);
            self.heads.len() - 1
        });
        for row in &table.rows {
            let bands = self.row(table, row);
            self.bands.extend(bands.into_iter().map(|band| Band { head, ..band }));
        }
        // A short table stays whole.
        let height: f32 = self.bands[first..].iter().map(|band| band.height).sum();
        if let (true, Some((_, before))) = (height < SHORT, self.bands[first..].split_last_mut()) {
            before.iter_mut().for_each(|band| band.leads = true);
        }
        self.space(8.0);
    }

    /// A row: one band, but where it would not fit on a page.
    fn row(&self, table: &Table, row: &[Cell]) -> Vec<Band> {
        let mut x = LEFT;
        let mut columns = Vec::new();
        let mut edges = vec![LEFT];
        for (column, cell) in table.columns.iter().zip(row) {
            let width = (RIGHT - LEFT) * f32::from(column.share) / 100.0;
            let (inner, room) = (x + CELL, width - 2.0 * CELL);
            columns.push(cell.iter().flat_map(|line| self.line(line, inner, room)).collect());
            x += width;
            edges.push(x);
        }
        let mut bands = Vec::new();
        loop {
            let mut band = Band { height: CELL, ..Band::default() };
            for column in &mut columns {
                band.height = band.height.max(CELL + take(column, &mut band.items));
            }
            band.height += CELL;
            let height = band.height;
            let sides = edges.iter().map(|x| Item::Rule { from: (*x, 0.0), to: (*x, height) });
            band.items.extend(sides);
            let ends = [0.0, height].map(|y| Item::Rule { from: (LEFT, y), to: (x, y) });
            band.items.extend(ends);
            bands.push(band);
            if columns.iter().all(Vec::is_empty) {
                return bands;
            }
        }
    }

    fn line(&self, line: &Line, x: f32, width: f32) -> Vec<Band> {
        match line {
            Line::Blank(label) => {
                let label_width = self.fonts.width(Style::Plain, label, TEXT) + 6.0;
                let mut bands = self.text(label, Style::Plain, TEXT, x, width);
                if label_width > width - 60.0 {
                    // The label has the line for itself.
                    let under = Item::Rule { from: (x, 17.0), to: (x + width, 17.0) };
                    bands.push(Band { height: 20.0, items: vec![under], ..Band::default() });
                    bands
                } else {
                    let under = Item::Rule { from: (x + label_width, 17.0), to: (x + width, 17.0) };
                    let label = Band { items: bands.swap_remove(0).items, ..Band::default() };
                    let items = moved(&label, 7.0).chain([under]).collect();
                    vec![Band { height: 20.0, items, ..Band::default() }]
                }
            }
            Line::Code(text) => self.text(text, Style::Mono, CODE, x, width),
            Line::Room => vec![Band { height: 22.0, ..Band::default() }],
            Line::Strong(text) => self.text(text, Style::Bold, TEXT, x, width),
            Line::Text(text) => self.text(text, Style::Plain, TEXT, x, width),
            Line::Tick(text) => {
                let mut bands = self.text(text, Style::Plain, TEXT, x + 16.0, width - 16.0);
                let side = 9.5;
                let square = Item::Frame { x, y: 2.0, width: side, height: side };
                match bands.first_mut() {
                    Some(first) => first.items.push(square),
                    None => {
                        bands.push(Band { height: 14.0, items: vec![square], ..Band::default() })
                    }
                }
                bands
            }
        }
    }

    /// A text, wrapped: one band a line.
    fn text(&self, text: &str, style: Style, size: f32, x: f32, width: f32) -> Vec<Band> {
        let font = &self.fonts.0[style as usize];
        let text = font.shown(&printable(text));
        let height = size * 1.35;
        let band = |text| {
            let item = Item::Text { x, y: size * 1.05, style, size, text };
            Band { height, items: vec![item], ..Band::default() }
        };
        wrapped(&text, |text| font.width(text, size) <= width).into_iter().map(band).collect()
    }

    fn mark(&self, mark: &str) -> Band {
        let inner = RIGHT - LEFT - 12.0;
        let mut bands = self.text(mark, Style::Bold, 10.0, LEFT + 6.0, inner);
        let mut items = Vec::new();
        let height = take(&mut bands, &mut items) + 6.0;
        items.push(Item::Frame { x: LEFT, y: 0.0, width: RIGHT - LEFT, height });
        Band { height: height + 8.0, items, ..Band::default() }
    }

    fn foot(&self, lines: &[String]) -> Band {
        let mut bands = vec![Band { height: 4.0, ..Band::default() }];
        for line in lines {
            bands.extend(self.text(line, Style::Mono, FOOT, LEFT, RIGHT - LEFT));
        }
        let mut items = vec![Item::Rule { from: (LEFT, 0.0), to: (RIGHT, 0.0) }];
        let height = bands.iter().map(|band| band.height).sum();
        take(&mut bands, &mut items);
        Band { height, items, ..Band::default() }
    }

    /// Fills the bands into pages.
    fn fill(&self, mark: &Option<Band>, foot: f32) -> Vec<Vec<Item>> {
        let top = TOP + mark.as_ref().map_or(0.0, |mark| mark.height);
        let bottom = BOTTOM - foot - 6.0;
        let begun = || mark.iter().flat_map(|mark| moved(mark, TOP)).collect::<Vec<Item>>();
        let mut pages = vec![begun()];
        let mut y = top;
        for (at, band) in self.bands.iter().enumerate() {
            let together: f32 = self.bands[at..]
                .iter()
                .scan(true, |more, band| {
                    let counted = *more;
                    *more &= band.leads;
                    counted.then_some(band.height)
                })
                .sum();
            if y > top && (band.page || y + together.min(bottom - top) > bottom) {
                pages.push(begun());
                y = top;
            }
            // Nothing but space does not begin a page.
            if y == top && pages.len() > 1 && band.items.is_empty() {
                continue;
            }
            let repeated = band.head.filter(|_| y == top).map(|head| &self.heads[head]);
            for band in repeated.into_iter().chain([band]) {
                if let Some(page) = pages.last_mut() {
                    page.extend(moved(band, y));
                }
                y += band.height;
            }
        }
        pages
    }
}

/// Takes bands from the beginning, as many as fit on a page, and tells how high they are together.
fn take(bands: &mut Vec<Band>, items: &mut Vec<Item>) -> f32 {
    let mut height = 0.0;
    let mut count = 0;
    for band in bands.iter() {
        if count > 0 && height + band.height > HIGHEST {
            break;
        }
        items.extend(moved(band, CELL + height));
        height += band.height;
        count += 1;
    }
    bands.drain(..count);
    height
}

/// What is drawn of a band that begins here.
fn moved(band: &Band, down: f32) -> impl Iterator<Item = Item> {
    band.items.iter().cloned().map(move |mut item| {
        match &mut item {
            Item::Frame { y, .. } | Item::Shade { y, .. } | Item::Text { y, .. } => *y += down,
            Item::Rule { from, to } => {
                from.1 += down;
                to.1 += down;
            }
        }
        item
    })
}

/// Breaks a text at spaces, and words that are too long anywhere.
fn wrapped(text: &str, fits: impl Fn(&str) -> bool) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let joined = match lines[last].as_str() {
            "" => word.to_owned(),
            begun => format!("{begun} {word}"),
        };
        if fits(&joined) {
            lines[last] = joined;
            continue;
        }
        if !lines[last].is_empty() {
            lines.push(String::new());
        }
        for letter in word.chars() {
            let last = lines.len() - 1;
            let joined = format!("{}{letter}", lines[last]);
            if lines[last].is_empty() || fits(&joined) {
                lines[last] = joined;
            } else {
                lines.push(letter.to_string());
            }
        }
    }
    lines
}

/// A4, with margins for a punch on the left.
pub(super) const WIDTH: f32 = 595.0;
pub(super) const HEIGHT: f32 = 842.0;
const LEFT: f32 = 54.0;
const RIGHT: f32 = WIDTH - 42.0;
const TOP: f32 = 40.0;
const BOTTOM: f32 = HEIGHT - 42.0;
/// The highest row of a table that is not cut.
const HIGHEST: f32 = 560.0;
/// The highest table that is not cut.
const SHORT: f32 = 240.0;
/// The room around what is in a cell.
const CELL: f32 = 3.0;
const TEXT: f32 = 9.5;
const CODE: f32 = 8.5;
const FOOT: f32 = 7.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_broken_at_spaces_and_a_hash_anywhere() {
        let fits = |text: &str| text.chars().count() <= 8;
        assert_eq!(wrapped("what is long breaks", fits), ["what is", "long", "breaks"]);
        assert_eq!(wrapped("a 0123456789ab b", fits), ["a", "01234567", "89ab b"]);
        assert_eq!(wrapped("", fits), [""]);
    }
}
