//! The script is the one that is written down, and names in it stay names. A parser of PowerShell
//! that is not ours says so; no PowerShell has run it here.

use std::{fs, path::Path};

use proptest::prelude::*;
use tree_sitter::{Node, Parser, Tree};

use super::*;

#[test]
fn the_script_is_as_written_down() {
    let plan = Plan { ecc: true, lock_on_removal: true, ..plan() };
    for (name, plan) in
        [("bootstrap.ps1", plan), ("what-if.ps1", Plan { what_if: true, ..self::plan() })]
    {
        let path = Path::new(DIRECTORY).join("expected").join(name);
        let expected = fs::read_to_string(&path).unwrap_or_default();
        let script = plan.script();
        assert!(script == expected, "{} should be\n{script}", path.display());
    }
}

#[test]
fn a_parser_of_powershell_has_nothing_against_it() {
    for what_if in [false, true] {
        let plan = Plan { ecc: true, lock_on_removal: true, what_if, ..plan() };
        let script = plan.script();
        assert!(script.is_ascii() && !script.contains("_COMMENTS@"), "{script}");
        assert_eq!(wrong(&script), None);
    }
    assert!(wrong("if (1 { }").is_some(), "the parser refuses what is wrong");
}

#[test]
fn no_name_becomes_a_command() {
    let plain = kinds(&plan().script());
    for hostile in [
        "x'; Remove-Item C:\\ -Recurse; '",
        "$(Remove-Item C:\\)",
        "`'\"; exit #",
        "@GPO@ @CRL_URL@ @CERTIFICATES@",
        "#> exit <#",
    ] {
        let mut plan = plan();
        plan.authority = format!("{hostile}\r\nRemove-Item C:\\");
        plan.gpo = hostile.to_owned();
        plan.chain.iter_mut().for_each(|it| it.subject = hostile.to_owned());
        let script = plan.script();
        assert_eq!(wrong(&script), None, "{hostile}");
        assert_eq!(kinds(&script), plain, "{hostile}");
    }
}

proptest! {
    #[test]
    fn a_literal_is_one_expression_and_that_text(text in any::<String>()) {
        says(&text);
    }

    #[test]
    fn so_is_one_of_quotes(text in "['\"`$‘’‚‛“”\u{85}\u{2028}\r\n a-c]{0,12}") {
        says(&text);
    }

    #[test]
    fn a_comment_is_one_line_of_ascii(text in any::<String>()) {
        let comment = comment(&text);
        prop_assert!(comment.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{comment}");
    }
}

fn says(text: &str) {
    let literal = literal(text);
    assert!(literal.is_ascii());
    assert_eq!(value(&literal), text, "{literal}");
    assert_eq!(wrong(&format!("$name = {literal}\n")), None, "{literal}");
}

/// What PowerShell makes of strings in single quotes and `[char]`s that are added up.
fn value(expression: &str) -> String {
    let inner = expression.strip_prefix('(').and_then(|it| it.strip_suffix(')'));
    let mut rest = inner.unwrap_or(expression);
    let mut units = Vec::new();
    while !rest.is_empty() {
        if let Some(number) = rest.strip_prefix("[char] 0x") {
            units.push(u16::from_str_radix(&number[..4], 16).unwrap());
            rest = &number[4..];
        } else {
            let mut quoted = rest.strip_prefix('\'').expect("a quote");
            loop {
                let end = quoted.find('\'').expect("an end");
                units.extend(quoted[..end].encode_utf16());
                quoted = &quoted[end + 1..];
                match quoted.strip_prefix('\'') {
                    Some(more) => {
                        units.push(b'\''.into());
                        quoted = more;
                    }
                    None => break,
                }
            }
            rest = quoted;
        }
        rest = rest.strip_prefix(" + ").unwrap_or(rest);
    }
    String::from_utf16(&units).unwrap()
}

fn parse(script: &str) -> Tree {
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_powershell::LANGUAGE.into()).unwrap();
    parser.parse(script, None).unwrap()
}

/// The first line that the parser does not understand.
fn wrong(script: &str) -> Option<String> {
    let tree = parse(script);
    let mut found = None;
    walk(tree.root_node(), &mut |node| {
        if (node.is_error() || node.is_missing()) && found.is_none() {
            let line = node.start_position().row;
            found = Some(format!("line {}: {}", line + 1, script.lines().nth(line).unwrap_or("")));
        }
    });
    found
}

/// What each part of the script is, whatever it says.
fn kinds(script: &str) -> Vec<String> {
    let mut kinds = Vec::new();
    walk(parse(script).root_node(), &mut |node| kinds.push(node.kind().to_owned()));
    kinds
}

fn walk(node: Node<'_>, visit: &mut impl FnMut(Node<'_>)) {
    visit(node);
    let mut cursor = node.walk();
    for child in node.children(&mut cursor) {
        walk(child, visit);
    }
}

fn plan() -> Plan {
    let read = |name| {
        let pem = fs::read_to_string(Path::new(DIRECTORY).join(name)).unwrap();
        Trusted::read(&pem).map_err(|error| error.to_string()).unwrap()
    };
    Plan {
        authority: "issuing".to_owned(),
        chain: vec![read("issuing.pem"), read("root.pem")],
        crl_url: "http://pki.example.test/issuing.crl".parse().unwrap(),
        gpo: "Chancery smart-card logon".to_owned(),
        ecc: false,
        lock_on_removal: false,
        what_if: false,
    }
}

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cli/windows/script");
