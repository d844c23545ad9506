//! Hash values as QR codes (ISO/IEC 18004), for cameras: what a film shows is bound to the record.

use qrcodegen::{DataTooLong, QrCode, QrCodeEcc};

use crate::digest::Digest;

/// A QR code of a hash value in characters: its 64 hexadecimal digits, and nothing else.
pub fn to_terminal(digest: Digest) -> String {
    Code::of(digest).map(|code| code.in_characters()).unwrap_or_default()
}

/// The same as an SVG image, black on white, of any size.
pub fn to_svg(digest: Digest) -> String {
    Code::of(digest).map(|code| code.in_svg()).unwrap_or_default()
}

struct Code(QrCode);

impl Code {
    /// The digits of a hash value fit into any code of this kind: tests read them back.
    fn of(digest: Digest) -> Result<Self, DataTooLong> {
        // A quarter of it may be lost to glare or to somebody's hand.
        QrCode::encode_text(&digest.to_string(), QrCodeEcc::Quartile).map(Self)
    }

    /// Two rows in each line: light is drawn, because terminals are dark.
    fn in_characters(&self) -> String {
        let rows = (0..self.width()).step_by(2);
        let line = |y: i32| {
            let cell = |x: i32| match (self.is_dark(x, y), self.is_dark(x, y + 1)) {
                (true, true) => ' ',
                (true, false) => '▄',
                (false, true) => '▀',
                (false, false) => '█',
            };
            (0..self.width()).map(cell).chain(['\n']).collect::<String>()
        };
        rows.map(line).collect()
    }

    fn in_svg(&self) -> String {
        let width = self.width();
        let cells = (0..width).flat_map(|y| (0..width).map(move |x| (x, y)));
        let dark = cells.filter(|(x, y)| self.is_dark(*x, *y));
        let path: String = dark.map(|(x, y)| format!("M{x} {y}h1v1h-1z")).collect();
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {width}\" \
             shape-rendering=\"crispEdges\"><path d=\"M0 0h{width}v{width}h-{width}z\" \
             fill=\"#fff\"/><path d=\"{path}\"/></svg>\n"
        )
    }

    /// With its margin.
    fn width(&self) -> i32 {
        self.0.size() + 2 * MARGIN
    }

    fn is_dark(&self, x: i32, y: i32) -> bool {
        self.0.get_module(x - MARGIN, y - MARGIN)
    }
}

/// What a reader needs around it (ISO/IEC 18004 section 6.3.8).
const MARGIN: i32 = 4;

#[cfg(test)]
mod tests {
    use rqrr::PreparedImage;

    use super::*;

    #[test]
    fn what_is_on_the_terminal_is_read_by_another_program() {
        for digest in digests() {
            let text = to_terminal(digest);
            let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
            let width = lines[0].len();
            assert!(width < 60 && lines.len() < 30, "it fits on a screen of 80 by 30");
            let dark = |x: usize, y: usize| {
                let cell = lines.get(y / 2).and_then(|line| line.get(x)).unwrap_or(&'█');
                matches!((cell, y % 2), (' ', _) | ('▄', 0) | ('▀', 1))
            };
            assert_eq!(seen(width, dark), digest.to_string());
        }
    }

    #[test]
    fn what_is_in_the_image_is_read_by_another_program() {
        for digest in digests() {
            let svg = to_svg(digest);
            let path = svg.split("<path d=\"").nth(2).unwrap().split('"').next().unwrap();
            let cells: Vec<(usize, usize)> = path
                .split_terminator("h1v1h-1z")
                .map(|cell| cell.strip_prefix('M').unwrap().split_once(' ').unwrap())
                .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
                .collect();
            let width = svg.split("viewBox=\"0 0 ").nth(1).unwrap().split(' ').next().unwrap();
            let dark = |x: usize, y: usize| cells.contains(&(x, y));
            assert_eq!(seen(width.parse().unwrap(), dark), digest.to_string());
        }
    }

    fn digests() -> impl Iterator<Item = Digest> {
        (0..2_u8).map(|number| Digest::of_file(&[number]))
    }

    /// What a reader of images sees, each cell some pixels wide.
    fn seen(width: usize, dark: impl Fn(usize, usize) -> bool) -> String {
        let pixels = width * CELL;
        let pixel = |x: usize, y: usize| if dark(x / CELL, y / CELL) { 0 } else { 255 };
        let mut image = PreparedImage::prepare_from_greyscale(pixels, pixels, pixel);
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1);
        grids[0].decode().unwrap().1
    }

    const CELL: usize = 5;
}
