//! Patterns of claims and of names in certificates: text that must be equal, `*` for any part without
//! a `/`, `**` for any part.

/// A pattern. The time that it takes grows with the text, however many stars there are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Pattern(Vec<Part>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Any,
    Segment,
    Text(String),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// It is empty, too long, or has three stars in a row.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_LEN {
            return Err(format!("a pattern has 1 to {MAX_LEN} octets"));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let text = rest.find('*').unwrap_or(rest.len());
            let stars = rest[text..].len() - rest[text..].trim_start_matches('*').len();
            if text > 0 {
                parts.push(Part::Text(rest[..text].to_owned()));
            }
            match stars {
                0 => {}
                1 => parts.push(Part::Segment),
                2 => parts.push(Part::Any),
                _ => return Err("write * for a part without a /, ** for any part".to_owned()),
            }
            rest = &rest[text + stars..];
        }
        Ok(Self(parts))
    }

    /// Whether it asks for anything: stars alone do not.
    pub(super) fn says_something(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Text(_)))
    }

    /// Whether the whole text is as the pattern says.
    pub(super) fn matches(&self, text: &str) -> bool {
        let text = text.as_bytes();
        // Before which octets of the text the parts so far may end.
        let mut reached = vec![false; text.len() + 1];
        reached[0] = true;
        for part in &self.0 {
            reached = part.follow(&reached, text);
        }
        reached[text.len()]
    }
}

impl Part {
    fn follow(&self, reached: &[bool], text: &[u8]) -> Vec<bool> {
        let mut next = vec![false; reached.len()];
        if let Self::Text(wanted) = self {
            for start in (0..reached.len()).filter(|start| reached[*start]) {
                if text[start..].starts_with(wanted.as_bytes()) {
                    next[start + wanted.len()] = true;
                }
            }
            return next;
        }
        let mut open = false;
        for position in 0..reached.len() {
            if *self == Self::Segment && position > 0 && text[position - 1] == b'/' {
                open = false;
            }
            open |= reached[position];
            next[position] = open;
        }
        next
    }
}

/// Octets of a pattern.
const MAX_LEN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_a_part_and_all_else_for_itself() {
        for (pattern, text, wanted) in [
            ("main", "main", true),
            ("main", "mainline", false),
            ("main", "xmain", false),
            ("main", "Main", false),
            ("repo:acme/*:ref:**", "repo:acme/web:ref:refs/heads/main", true),
            ("repo:acme/*:ref:**", "repo:acme/web/x:ref:refs/heads/main", false),
            ("repo:acme/*:ref:**", "repo:acme-evil/web:ref:refs/heads/main", false),
            ("refs/heads/*", "refs/heads/main", true),
            ("refs/heads/*", "refs/heads/a/b", false),
            ("refs/heads/*", "refs/heads/", true),
            ("refs/heads/**", "refs/heads/a/b", true),
            ("*", "ab", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("*/*", "a/b/c", false),
            ("**", "", true),
            ("a**b", "ab", true),
            ("a**b", "a/bc/b", true),
            ("a**b", "a/bc/", false),
            ("a.c", "abc", false),
            ("[a]", "a", false),
            ("é*", "éa", true),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(text), wanted, "{pattern} {text}");
        }
        for bad in ["", "***", "a****", &"a".repeat(1025)] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        for (pattern, wanted) in [("*", false), ("**", false), ("*/*", true), ("a", true)] {
            assert_eq!(Pattern::parse(pattern).unwrap().says_something(), wanted, "{pattern}");
        }
    }

    /// A matcher that goes back would not come to an end.
    #[test]
    fn many_stars_cost_no_time() {
        let pattern = Pattern::parse(&"a**".repeat(300)).unwrap();
        assert!(!pattern.matches(&format!("{}b", "a".repeat(299))));
        assert!(pattern.matches(&"a".repeat(16_000)));
    }
}
