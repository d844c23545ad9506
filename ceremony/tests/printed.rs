//! What is printed says all that is needed, on each page what it is of, and the same in both forms.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "harness/place.rs"]
mod place;

use std::{collections::BTreeSet, fs, path::Path};

use ceremony::{
    clauses::{clauses, ranges},
    paper::{Block, Line, Paper, html, pdf},
    plan::{Plan, Step},
    script::script,
    verify::Verified,
    words::words,
};

use place::*;

#[test]
fn the_script_has_the_words_that_each_person_types() {
    let place = Place::new();
    let plan = place.write("meeting.toml", &with_people(&place));
    let [page, sheets] = ["script.html", "script.pdf"].map(|name| place.text(name));
    program(&["script", &plan, "--html", &page, "--pdf", &sheets]).ok();

    let plan = Plan::read(&place.path("meeting.toml")).unwrap();
    let (page, sheets) = (place.text_of("script.html"), text_of_pdf(&place, "script.pdf"));
    let mut confirmed = BTreeSet::new();
    for (number, step) in plan.steps() {
        let effect = step.to_string();
        assert!(page.contains(&format!("<b>{effect}</b>")), "{effect}");
        if matches!(step, Step::HandOff | Step::SignOff) {
            continue;
        }
        for name in plan.script().people.persons.keys() {
            let line = format!("{name}: {}", plan.confirmation(number, &effect, Some(name)));
            assert!(page.contains(&format!("<p class=\"code\">{line}</p>")), "{line}");
            assert!(sheets.contains(&line), "{line}");
            confirmed.insert(line);
        }
    }
    assert_eq!(confirmed.len(), 2 * 6, "each person has words of their own at each step");
    for key in plan.keys() {
        let id = plan.key_id(&key.name).to_string();
        assert!(page.contains(&id) && sheets.contains(&id), "{id}");
    }
    let fingerprint = peer("ssh-keygen", &["-l", "-f"], &[&place.path("alice.pub")]).ok();
    let fingerprint = fingerprint.split(' ').nth(1).unwrap();
    assert!(page.contains(fingerprint), "{fingerprint}");
}

#[test]
fn the_plan_is_named_on_every_page() {
    let place = Place::new();
    for template in [DEMO, ROOT_AND_ISSUING] {
        let plan = Plan::read(Path::new(&manifest(template))).unwrap();
        fs::write(place.path("script.pdf"), pdf::render(&script(&plan)).unwrap()).unwrap();
        let text = text_of_pdf(&place, "script.pdf");
        // pdftotext ends each page with a form feed.
        let pages: Vec<&str> = text.trim_end_matches('\u{c}').split('\u{c}').collect();
        assert!(pages.len() >= 6, "{} pages", pages.len());
        for (number, page) in (1..).zip(&pages) {
            assert!(page.contains(&words(&plan.hash().as_bytes()[..10])), "{number}: {page}");
            assert!(page.contains(&format!("page {number} of {}", pages.len())), "{page}");
        }
    }
}

#[test]
fn both_forms_say_the_same_and_the_same_bytes_each_time() {
    let place = Place::new();
    let plan = Plan::read(Path::new(&manifest(DEMO))).unwrap();
    let paper = script(&plan);
    let sheets = pdf::render(&paper).unwrap();
    assert_eq!(sheets, pdf::render(&paper).unwrap());
    fs::write(place.path("script.pdf"), sheets).unwrap();
    let sheets = without_spaces(&text_of_pdf(&place, "script.pdf"));
    let page = without_spaces(&html::render(&paper));
    let texts = texts(&paper);
    assert!(texts.len() > 100, "{}", texts.len());
    for text in texts {
        let text = without_spaces(text);
        assert!(sheets.contains(&text), "not in the PDF: {text}");
        let text = text.replace('&', "&amp;").replace('"', "&quot;");
        assert!(page.contains(&text), "not in the page: {text}");
    }
}

#[test]
fn long_texts_foreign_letters_and_tall_rows_are_printed_whole() {
    let place = Place::new();
    let letters = "Přerov, Łódź, Ελλάδα, Москва; 中文 has numbers";
    let hash = "0123456789abcdef".repeat(40);
    let mut table = ceremony::paper::Table::new([("a", 30), ("b", 70)]);
    let tall = (0..200).map(|number| Line::text(format!("line {number} of a tall row"))).collect();
    table.rows = vec![vec![vec![Line::code(&hash)], tall], vec![vec![Line::text(letters)], vec![]]];
    let paper = Paper {
        title: "Test".into(),
        subtitle: "of the pages".into(),
        mark: Some("REHEARSAL".into()),
        foot: vec!["foot".into()],
        blocks: vec![Block::Heading("Heading".into()), Block::Table(table)],
    };
    fs::write(place.path("test.pdf"), pdf::render(&paper).unwrap()).unwrap();
    let text = text_of_pdf(&place, "test.pdf");
    let pages = text.trim_end_matches('\u{c}').split('\u{c}');
    assert!(pages.clone().count() >= 4, "{text}");
    assert!(pages.clone().all(|page| page.contains("REHEARSAL")), "{text}");
    let text = without_spaces(&text);
    assert!(text.contains("Ελλάδα,Москва;"), "{text}");
    assert!(text.contains("[U+4E2D][U+6587]hasnumbers"), "{text}");
    for number in 0..200 {
        assert!(text.contains(&format!("line{number}ofatallrow")), "{number}");
    }
    let fonts = peer("pdffonts", &[], &[&place.path("test.pdf")]).ok();
    let embedded = fonts.lines().skip(2).all(|line| line.contains(" yes yes yes "));
    assert!(embedded && fonts.lines().count() == 5, "{fonts}");
}

#[test]
fn the_report_says_what_was_made_and_which_records_answer_what() {
    let place = Place::new();
    let plan = Plan::read(Path::new(&manifest(ROOT_AND_ISSUING))).unwrap();
    let words = confirmations(&plan);
    place
        .run_typing(ROOT_AND_ISSUING, &(clock() + &words[..3].concat()))
        .refused(1, "not confirmed");
    let except = ["--text", "a <seal> was broken"];
    place.about(&[&["except"], &except[..]].concat()).ok();
    place.resume_typing(&[], &(clock() + &words[3..].concat())).ok();

    let transcript = place.text("transcript.jsonl");
    let [page, sheets, bundle] = ["r.html", "r.pdf", "r.bundle"].map(|name| place.text(name));
    program(&["report", &transcript, "--html", &page, "--pdf", &sheets]).ok();
    let verified = Verified::read(Path::new(&transcript)).unwrap();
    let (page, sheets) = (place.text_of("r.html"), text_of_pdf(&place, "r.pdf"));
    let sheets = without_spaces(&sheets);
    let mut said = vec![
        verified.head.to_string(),
        plan.hash().to_string(),
        "CKR_KEY_UNEXTRACTABLE".to_owned(),
        "gone on with after: the lights went out".to_owned(),
        "the step was not confirmed".to_owned(),
        format!("the site says why: {MEANT}"),
    ];
    for key in verified.progress.made.keys() {
        said.extend([key.public_key.fingerprint(), key.id.to_string()]);
    }
    for name in ["root", "issuing"] {
        let path = place.path(&format!("handoff/{name}.pem"));
        let arguments = ["x509", "-noout", "-fingerprint", "-sha256", "-in"];
        let answer = peer("openssl", &arguments, &[&path]).ok();
        said.push(answer.split_once('=').unwrap().1.trim().replace(':', "").to_lowercase());
    }
    for clause in clauses(&verified) {
        said.extend([clause.demand.to_owned(), ranges(&clause.records)]);
    }
    assert!(said.len() > 50);
    for text in said {
        assert!(page.contains(&text), "not in the page: {text}");
        assert!(sheets.contains(&without_spaces(&text)), "not in the PDF: {text}");
    }
    assert!(page.contains("exception: a &lt;seal&gt; was broken"));
    assert!(!page.contains("REHEARSAL") && !page.contains("UNATTENDED"));

    // A bundle gives the same report as its transcript.
    let site = place.text("site.toml");
    let rehearsal = place.text("rehearsal.jsonl");
    let given = ["--rehearsal", &rehearsal, "--site", &site, "-o", &bundle];
    program(&[&["bundle", &transcript], &given[..]].concat()).ok();
    program(&["report", &bundle, "--html", &place.text("again.html")]).ok();
    assert_eq!(place.text_of("again.html"), page);
}

#[test]
fn the_report_of_a_rehearsal_is_marked_on_every_page() {
    let place = Place::new();
    let rehearsal = place.rehearsal(ROOT_AND_ISSUING);
    program(&["report", &rehearsal, "--pdf", &place.text("r.pdf")]).ok();
    let text = text_of_pdf(&place, "r.pdf");
    let pages: Vec<&str> = text.trim_end_matches('\u{c}').split('\u{c}').collect();
    assert!(pages.len() >= 6, "{}", pages.len());
    assert!(pages.iter().all(|page| page.starts_with("REHEARSAL: ")), "{text}");

    // Of what does not verify, nothing is reported.
    let whole = place.text_of("rehearsal.jsonl");
    let forged = place.write("forged.jsonl", &whole.replacen("rehearsed", "attended", 1));
    let report = ["report", &forged, "--pdf", &place.text("forged.pdf")];
    program(&report).refused(5, "line 1");
    assert!(!place.path("forged.pdf").exists());
}

#[test]
fn nothing_that_is_printed_replaces_a_file() {
    let place = Place::new();
    let kept = place.write("kept.html", "kept");
    program(&["script", &manifest(DEMO), "-o", &kept]).refused(1, "cannot write");
    assert_eq!(place.text_of("kept.html"), "kept");
    let neither = program(&["script", &manifest(DEMO)]);
    assert_eq!(neither.0.status.code(), Some(2));
}

/// The plan of a root, with two persons who confirm.
fn with_people(place: &Place) -> String {
    let mut text = fs::read_to_string(manifest(ROOT_AND_ISSUING)).unwrap();
    text += "[[role]]\nname = \"operator\"\nmin = 1\n[[role]]\nname = \"witness\"\nmin = 1\n\
             [quorum]\nconfirm = { operator = 1, witness = 1 }\n";
    for (name, role) in [("alice", "operator"), ("bob", "witness")] {
        let arguments = ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"];
        peer("ssh-keygen", &arguments, &[&place.path(name)]).ok();
        let key = place.text_of(&format!("{name}.pub"));
        text += &format!("[persons.{name}]\nrole = \"{role}\"\nkey = \"{}\"\n", key.trim());
    }
    let sign_off = "[[steps]]\ndo = \"sign-off\"\n\n[[steps]]\ndo = \"hand-off\"";
    text.replace("[[steps]]\ndo = \"hand-off\"", sign_off)
}

/// The text in the order in which it was written.
fn text_of_pdf(place: &Place, name: &str) -> String {
    peer("pdftotext", &["-raw", "-enc", "UTF-8"], &[&place.path(name), Path::new("-")]).ok()
}

fn without_spaces(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_whitespace()).collect()
}

/// Every text of the pages.
fn texts(paper: &Paper) -> Vec<&str> {
    let of_line = |line| match line {
        &Line::Room => "",
        Line::Blank(text)
        | Line::Code(text)
        | Line::Strong(text)
        | Line::Text(text)
        | Line::Tick(text) => text,
    };
    let mut texts = vec![paper.title.as_str(), &paper.subtitle];
    for block in &paper.blocks {
        match block {
            Block::Heading(text) => texts.push(text),
            Block::Lines(lines) => texts.extend(lines.iter().map(of_line)),
            Block::Page => {}
            Block::Table(table) => {
                texts.extend(table.columns.iter().map(|column| column.title));
                texts.extend(table.rows.iter().flatten().flatten().map(of_line));
            }
        }
    }
    texts
}
