//! The web page: whole in one file, without scripts, and made to be printed.

use super::{Block, Cell, Line, Paper, Table, printable};

/// The page (HTML, UTF-8).
pub fn render(paper: &Paper) -> String {
    let title = escaped(&format!("{}: {}", paper.title, paper.subtitle));
    let mark = paper.mark.as_deref().map(|mark| format!("<p class=\"mark\">{}</p>", escaped(mark)));
    let mark = mark.unwrap_or_default();
    let foot: Vec<String> = paper.foot.iter().map(|line| escaped(line)).collect();
    let foot = foot.join("<br>");
    let mut body = String::new();
    paper.blocks.iter().for_each(|block| body += &of_block(block));
    // Browsers repeat head and foot of a table on every page that they print.
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <table class=\"paper\">\n<thead><tr><td>{mark}</td></tr></thead>\n\
         <tfoot><tr><td><p class=\"foot\">{foot}</p></td></tr></tfoot>\n<tbody><tr><td>\n\
         <h1>{}</h1>\n<p class=\"subtitle\">{}</p>\n{body}</td></tr></tbody>\n</table>\n</body>\n\
         </html>\n",
        escaped(&paper.title),
        escaped(&paper.subtitle)
    )
}

fn of_block(block: &Block) -> String {
    match block {
        Block::Heading(text) => format!("<h2>{}</h2>\n", escaped(text)),
        Block::Lines(lines) => lines.iter().map(of_line).collect(),
        Block::Page => "<div class=\"page\"></div>\n".to_owned(),
        Block::Table(table) => of_table(table),
    }
}

fn of_table(table: &Table) -> String {
    let mut text = String::from("<table>\n<colgroup>");
    for column in &table.columns {
        text += &format!("<col style=\"width: {}%\">", column.share);
    }
    text += "</colgroup>\n";
    if table.has_head() {
        let titles = table.columns.iter();
        let titles: String =
            titles.map(|column| format!("<th>{}</th>", escaped(column.title))).collect();
        text += &format!("<thead><tr>{titles}</tr></thead>\n");
    }
    for row in &table.rows {
        let cells: String = row.iter().map(of_cell).collect();
        text += &format!("<tr>{cells}</tr>\n");
    }
    text + "</table>\n"
}

fn of_cell(cell: &Cell) -> String {
    let lines: String = cell.iter().map(of_line).collect();
    format!("<td>{}</td>", lines.trim_end())
}

fn of_line(line: &Line) -> String {
    match line {
        Line::Blank(label) => {
            format!("<p class=\"blank\"><span>{}</span><i></i></p>\n", escaped(label))
        }
        Line::Code(text) => format!("<p class=\"code\">{}</p>\n", escaped(text)),
        Line::Room => "<p class=\"room\"></p>\n".to_owned(),
        Line::Strong(text) => format!("<p><b>{}</b></p>\n", escaped(text)),
        Line::Text(text) => format!("<p>{}</p>\n", escaped(text)),
        Line::Tick(text) => format!("<p class=\"tick\"><i></i>{}</p>\n", escaped(text)),
    }
}

fn escaped(text: &str) -> String {
    let text = printable(text);
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = include_str!("paper.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        let paper = Paper {
            title: "<script>".into(),
            subtitle: "a & b".into(),
            mark: Some("\"<b>\"".into()),
            foot: vec!["<i>".into()],
            blocks: vec![Block::Lines(vec![Line::text("<img src=x>"), Line::blank("<u>")])],
        };
        let page = render(&paper);
        for markup in ["<script", "<img", "<b>", "<u>", "a & b"] {
            assert!(!page.contains(markup), "{markup} in {page}");
        }
        assert!(page.contains("&lt;img src=x&gt;"), "{page}");
    }
}
