//! The fonts, which are in the program: an offline machine may have none.

use pdf_writer::{
    Name, Pdf, Rect, Ref, Str,
    types::{CidFontType, FontFlags, SystemInfo, UnicodeCmap},
};
use subsetter::{GlyphRemapper, subset};
use ttf_parser::{Face, GlyphId};

use super::PdfError;

/// One of the three fonts, and which of its letters were used.
pub(super) struct Font {
    face: Face<'static>,
    file: &'static [u8],
    name: &'static str,
    used: GlyphRemapper,
    /// What each used glyph stands for, in the order of their new numbers; the first is of no letter.
    letters: Vec<char>,
}

/// Which font.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Style {
    Plain,
    Bold,
    Mono,
}

impl Style {
    pub(super) const ALL: [Self; 3] = [Self::Plain, Self::Bold, Self::Mono];

    /// What the pages call it.
    pub(super) fn resource(self) -> Name<'static> {
        match self {
            Self::Plain => Name(b"plain"),
            Self::Bold => Name(b"bold"),
            Self::Mono => Name(b"mono"),
        }
    }

    fn file(self) -> (&'static str, &'static [u8]) {
        match self {
            Self::Plain => {
                ("LiberationSans", include_bytes!("../fonts/LiberationSans-Regular.ttf"))
            }
            Self::Bold => {
                ("LiberationSans-Bold", include_bytes!("../fonts/LiberationSans-Bold.ttf"))
            }
            Self::Mono => ("LiberationMono", include_bytes!("../fonts/LiberationMono-Regular.ttf")),
        }
    }
}

impl Font {
    pub(super) fn new(style: Style) -> Result<Self, PdfError> {
        let (name, file) = style.file();
        let face = Face::parse(file, 0).map_err(|_| PdfError::Font)?;
        Ok(Self { face, file, name, used: GlyphRemapper::new(), letters: vec!['\0'] })
    }

    /// How wide a text is, in points at this size.
    pub(super) fn width(&self, text: &str, size: f32) -> f32 {
        text.chars().map(|letter| self.advance(letter)).sum::<f32>() * size / 1000.0
    }

    /// The text in letters that the font has; others are shown by their numbers, not left out.
    pub(super) fn shown(&self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        for letter in text.chars() {
            match self.face.glyph_index(letter) {
                Some(_) => shown.push(letter),
                None => shown += &format!("[U+{:04X}]", u32::from(letter)),
            }
        }
        shown
    }

    /// The glyphs of a text, as a page shows them.
    pub(super) fn glyphs(&mut self, text: &str) -> Vec<u8> {
        let mut octets = Vec::with_capacity(2 * text.len());
        for letter in text.chars() {
            let glyph = self.face.glyph_index(letter).unwrap_or(GlyphId(0));
            let number = self.used.remap(glyph.0);
            if usize::from(number) == self.letters.len() {
                self.letters.push(letter);
            }
            octets.extend(number.to_be_bytes());
        }
        octets
    }

    /// In thousandths of the size.
    fn advance(&self, letter: char) -> f32 {
        let glyph = self.face.glyph_index(letter).unwrap_or(GlyphId(0));
        self.in_thousandths(self.face.glyph_hor_advance(glyph).unwrap_or_default().into())
    }

    fn in_thousandths(&self, units: f32) -> f32 {
        units * 1000.0 / f32::from(self.face.units_per_em())
    }

    /// Writes what was used of the font: five objects, from this number on (ISO 32000-1 section 9.7).
    pub(super) fn write(&self, pdf: &mut Pdf, first: Ref) -> Result<(), PdfError> {
        let [descendant, descriptor, program, unicode] =
            [1, 2, 3, 4].map(|place| Ref::new(first.get() + place));
        // A part of a font carries a tag before its name.
        let name = format!("CHANCE+{}", self.name);
        let name = Name(name.as_bytes());
        let info =
            SystemInfo { registry: Str(b"Adobe"), ordering: Str(b"Identity"), supplement: 0 };

        let mut font = pdf.type0_font(first);
        font.base_font(name).encoding_predefined(Name(b"Identity-H"));
        font.descendant_font(descendant).to_unicode(unicode);
        drop(font);

        let mut font = pdf.cid_font(descendant);
        font.subtype(CidFontType::Type2).base_font(name).system_info(info);
        font.font_descriptor(descriptor).default_width(0.0);
        font.cid_to_gid_map_predefined(Name(b"Identity"));
        let widths = self.letters.iter().map(|letter| self.advance(*letter));
        font.widths().consecutive(0, widths);
        drop(font);

        let (face, bounds) = (&self.face, self.face.global_bounding_box());
        let bounds = [bounds.x_min, bounds.y_min, bounds.x_max, bounds.y_max];
        let [x1, y1, x2, y2] = bounds.map(|units| self.in_thousandths(units.into()));
        let mut written = pdf.font_descriptor(descriptor);
        written.name(name).flags(FontFlags::SYMBOLIC).bbox(Rect::new(x1, y1, x2, y2));
        written.italic_angle(0.0).ascent(self.in_thousandths(face.ascender().into()));
        written.descent(self.in_thousandths(face.descender().into()));
        let capitals = face.capital_height().unwrap_or(face.ascender());
        written.cap_height(self.in_thousandths(capitals.into())).stem_v(80.0).font_file2(program);
        drop(written);

        let part = subset(self.file, 0, &self.used).map_err(|_| PdfError::Font)?;
        pdf.stream(program, &part).pair(Name(b"Length1"), part.len() as i32);

        let mut map = UnicodeCmap::new(Name(b"Chancery"), info);
        for (number, letter) in (0_u16..).zip(&self.letters).skip(1) {
            map.pair(number, *letter);
        }
        let map = map.finish();
        pdf.stream(unicode, &map);
        Ok(())
    }
}
