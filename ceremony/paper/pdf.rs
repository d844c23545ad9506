//! The PDF: A4, with its fonts in it, and the same bytes for the same content.

mod font;
mod layout;

use pdf_writer::{Content, Pdf, Rect, Ref, Str, TextStr};
use thiserror::Error;

use self::{
    font::{Font, Style},
    layout::{Fonts, HEIGHT, Item, WIDTH},
};
use super::Paper;

/// The pages (PDF 1.7).
///
/// # Errors
///
/// A font cannot be written.
pub fn render(paper: &Paper) -> Result<Vec<u8>, PdfError> {
    let [plain, bold, mono] = Style::ALL.map(Font::new);
    let mut fonts = Fonts([plain?, bold?, mono?]);
    let drawn: Vec<Vec<u8>> =
        layout::pages(paper, &fonts).into_iter().map(|items| page(&items, &mut fonts)).collect();

    let mut pdf = Pdf::new();
    let mut count = 0;
    let mut next = |objects: i32| {
        let first = Ref::new(count + 1);
        count += objects;
        first
    };
    let (catalog, tree, about) = (next(1), next(1), next(1));
    let fonts_at = Style::ALL.map(|style| (style, next(5)));
    pdf.catalog(catalog).pages(tree).lang(TextStr("en")).viewer_preferences();
    let title = format!("{}: {}", paper.title, paper.subtitle);
    pdf.document_info(about).title(TextStr(&title));
    for (style, first) in fonts_at {
        fonts.of(style).write(&mut pdf, first)?;
    }
    let mut pages = Vec::with_capacity(drawn.len());
    for content in &drawn {
        let (page, content_at) = (next(1), next(1));
        pages.push(page);
        let mut page = pdf.page(page);
        page.parent(tree).media_box(Rect::new(0.0, 0.0, WIDTH, HEIGHT)).contents(content_at);
        let named = fonts_at.map(|(style, first)| (style.resource(), first));
        page.resources().fonts().pairs(named);
        drop(page);
        pdf.stream(content_at, content);
    }
    pdf.pages(tree).count(i32::try_from(pages.len()).unwrap_or(i32::MAX)).kids(pages);
    Ok(pdf.finish())
}

fn page(items: &[Item], fonts: &mut Fonts) -> Vec<u8> {
    let mut content = Content::new();
    content.set_line_width(0.5);
    for item in items {
        match item {
            Item::Frame { x, y, width, height } => {
                content.rect(*x, HEIGHT - y - height, *width, *height).stroke();
            }
            Item::Rule { from, to } => {
                content.move_to(from.0, HEIGHT - from.1).line_to(to.0, HEIGHT - to.1).stroke();
            }
            Item::Shade { x, y, width, height } => {
                content.set_fill_gray(0.9);
                content.rect(*x, HEIGHT - y - height, *width, *height).fill_nonzero();
                content.set_fill_gray(0.0);
            }
            Item::Text { x, y, style, size, text } => {
                let glyphs = fonts.of(*style).glyphs(text);
                content.begin_text().set_font(style.resource(), *size);
                content.next_line(*x, HEIGHT - y).show(Str(&glyphs)).end_text();
            }
        }
    }
    content.finish().into_vec()
}

/// A PDF cannot be made.
#[derive(Clone, Copy, Debug, Error)]
pub enum PdfError {
    /// A font in the program is none.
    #[error("a font in this program cannot be read")]
    Font,
}
