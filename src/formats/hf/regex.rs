//! Regexes between two dialects: that of Oniguruma, in which Hugging Face's tokenizers read the regexes of a
//! `tokenizer.json` (its Ruby syntax), and that of the `regex` crate, in which they run here.
//!
//! What differs and occurs is translated; what differs and does not occur in practice is refused by its name. What
//! [`to_onig`] writes, [`from_onig`] reads back to what matches the same.
//!
//! Word characters differ in two joiners, which Oniguruma has not among them, and in six superscripts and fractions, which
//! it has outside of classes only. (All others, and all general categories, are the same: tests/cross/components.py.)

/// `\w` of Oniguruma within a class, and the opposite.
const WORD_IN_CLASS: &str = r"[\w--[\u{200C}\u{200D}]]";
const OTHER_IN_CLASS: &str = r"[^[\w--[\u{200C}\u{200D}]]]";
/// The same outside of classes.
const WORD: &str = r"[[\w--[\u{200C}\u{200D}]]\u{B2}\u{B3}\u{B9}\u{BC}-\u{BE}]";
const OTHER: &str = r"[^[\w--[\u{200C}\u{200D}]]\u{B2}\u{B3}\u{B9}\u{BC}-\u{BE}]";
/// `\w` of the `regex` crate, and the opposite, as Oniguruma reads them.
const OWN_WORD: &str = r"[\w\u200C\u200D]";
const OWN_OTHER: &str = r"[^\w\u200C\u200D]";

/// `^` of Oniguruma: a line end that ends the text begins no line.
const LINE_START: &str = r"(?:\A|(?m:^)(?!\z))";

/// Where a word begins or ends, whatever a word character is; or where neither.
fn boundary(word: &str, is_one: bool) -> String {
    let (left, right) = if is_one { ("!", "=") } else { ("=", "!") };
    format!("(?:(?<={word})(?{left}{word})|(?<!{word})(?{right}{word}))")
}

/// A reader of a regex that knows escapes and classes.
struct Walk<'r> {
    chars: std::iter::Peekable<std::str::Chars<'r>>,
    /// How many classes are open.
    depth: usize,
    /// Of the whole and of each open group, whether case is ignored.
    folds: Vec<bool>,
    out: String,
}

impl Walk<'_> {
    fn take_if(&mut self, wanted: char) -> bool {
        self.chars.next_if_eq(&wanted).is_some()
    }

    /// The digits that come next.
    fn digits(&mut self) -> String {
        let mut digits = String::new();
        while let Some(digit) = self.chars.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        digits
    }
}

/// A regex as the `regex` crate reads it.
///
/// # Errors
/// The name of what has no counterpart.
pub(super) fn from_onig(regex: &str) -> Result<String, String> {
    let out = String::with_capacity(regex.len() + 8);
    let mut walk = Walk { chars: regex.chars().peekable(), depth: 0, folds: vec![false], out };
    while let Some(c) = walk.chars.next() {
        match c {
            '\\' => escape(&mut walk)?,
            '[' if walk.depth > 0 && walk.chars.peek() == Some(&':') => {
                return Err("a POSIX bracket ([:name:]) is not supported".to_owned());
            }
            '[' => {
                walk.depth += 1;
                walk.out.push('[');
                if walk.take_if('^') {
                    walk.out.push('^');
                }
                // A bracket that comes first is itself.
                if walk.take_if(']') {
                    walk.out.push_str(r"\]");
                }
            }
            ']' if walk.depth > 0 => {
                walk.depth -= 1;
                walk.out.push(']');
            }
            // Doubled, these are operators here and themselves there.
            '-' | '~' if walk.depth > 0 && walk.chars.peek() == Some(&c) => {
                walk.out.push('\\');
                walk.out.push(c);
            }
            _ if walk.depth > 0 => walk.out.push(c),
            '^' => walk.out.push_str(LINE_START),
            '$' => walk.out.push_str("(?m:$)"),
            '{' => interval(&mut walk)?,
            '(' => {
                walk.folds.extend(walk.folds.last().copied());
                walk.out.push('(');
                if walk.take_if('?') {
                    group(&mut walk)?;
                }
            }
            ')' => {
                walk.folds.pop();
                walk.out.push(')');
            }
            _ => walk.out.push(c),
        }
    }
    Ok(walk.out)
}

fn escape(walk: &mut Walk<'_>) -> Result<(), String> {
    let c = walk.chars.next().ok_or("a backslash ends the regex")?;
    match c {
        'h' if walk.depth > 0 => walk.out.push_str("0-9A-Fa-f"),
        'h' => walk.out.push_str("[0-9A-Fa-f]"),
        'H' if walk.depth == 0 => walk.out.push_str("[^0-9A-Fa-f]"),
        'p' | 'P' if walk.take_if('{') => {
            let negated = walk.take_if('^') != (c == 'P');
            let property = if negated { r"\P{" } else { r"\p{" };
            // Case is never ignored in a property, and always here.
            match (walk.folds.last(), walk.depth) {
                (Some(true), 0) => {
                    let name: String = walk.chars.by_ref().take_while(|&c| c != '}').collect();
                    walk.out.push_str(&format!("(?-i:{property}{name}}})"));
                }
                (Some(true), _) => {
                    return Err("a property in a class where case is ignored is not supported".to_owned());
                }
                _ => walk.out.push_str(property),
            }
        }
        'w' => walk.out.push_str(if walk.depth > 0 { WORD_IN_CLASS } else { WORD }),
        'W' => walk.out.push_str(if walk.depth > 0 { OTHER_IN_CLASS } else { OTHER }),
        'b' | 'B' if walk.depth == 0 => walk.out.push_str(&boundary(WORD, c == 'b')),
        'u' => {
            let digits: String = walk.chars.by_ref().take(4).collect();
            walk.out.push_str(&format!("\\u{{{digits}}}"));
        }
        'e' if walk.depth == 0 => walk.out.push_str(r"\x1b"),
        'A' | 'z' | 'd' | 'D' | 's' | 'S' | 't' | 'n' | 'r' | 'f' | 'v' | 'a' | 'x' | 'p' | 'P' => {
            walk.out.push('\\');
            walk.out.push(c);
        }
        // Letters and digits mean something, other characters themselves.
        c if c.is_ascii_alphanumeric() => return Err(format!("\\{c} is not supported")),
        c if c.is_ascii_punctuation() => {
            walk.out.push('\\');
            walk.out.push(c);
        }
        c => walk.out.push(c),
    }
    Ok(())
}

/// `{n,m}`; in this dialect a `+` behind it repeats it, and makes nothing possessive.
fn interval(walk: &mut Walk<'_>) -> Result<(), String> {
    let low = walk.digits();
    let comma = walk.take_if(',');
    let high = walk.digits();
    if !walk.take_if('}') || (low.is_empty() && high.is_empty()) {
        // No interval: the characters themselves.
        walk.out.push_str(r"\{");
        walk.out.push_str(&low);
        walk.out.push_str(if comma { "," } else { "" });
        walk.out.push_str(&high);
        return Ok(());
    }
    let low = if low.is_empty() { "0".to_owned() } else { low };
    if walk.chars.peek() == Some(&'?') && !comma {
        return Err("{n}? is not supported".to_owned());
    }
    if walk.take_if('+') {
        match low.as_str() {
            "0" => walk.out.push('*'),
            "1" => walk.out.push('+'),
            _ => return Err("{n,m}+ with n over 1 is not supported".to_owned()),
        }
        return Ok(());
    }
    walk.out.push_str(&match (comma, high.as_str()) {
        (false, _) => format!("{{{low}}}"),
        (true, high) => format!("{{{low},{high}}}"),
    });
    Ok(())
}

/// What stands behind `(?`, of which the bracket is written.
fn group(walk: &mut Walk<'_>) -> Result<(), String> {
    walk.out.push('?');
    match walk.chars.next() {
        Some(c @ (':' | '=' | '!' | '>')) => walk.out.push(c),
        Some('<') => match walk.chars.next() {
            Some(c @ ('=' | '!')) => {
                walk.out.push('<');
                walk.out.push(c);
            }
            _ => return Err("a named group is not supported".to_owned()),
        },
        Some(c @ ('i' | '-')) => {
            walk.out.push(c);
            let mut on = c == 'i';
            let mut folds = on;
            loop {
                match walk.chars.next() {
                    Some(c @ ('i' | '-')) => {
                        on = on && c == 'i';
                        folds = on;
                        walk.out.push(c);
                    }
                    Some(c @ (':' | ')')) => {
                        if c == ')' {
                            // It holds to the end of the group around it.
                            walk.folds.pop();
                        }
                        if let Some(last) = walk.folds.last_mut() {
                            *last = folds;
                        }
                        walk.out.push(c);
                        break;
                    }
                    _ => return Err("of the flags only i is supported".to_owned()),
                }
            }
        }
        _ => return Err("a group of this kind is not supported".to_owned()),
    }
    Ok(())
}

/// A regex of the `regex` crate as Oniguruma reads it.
///
/// # Errors
/// The name of what has no counterpart.
pub(super) fn to_onig(regex: &str) -> Result<String, String> {
    let mut rest = regex;
    let mut out = String::with_capacity(regex.len());
    let mut depth = 0usize;
    // Of the whole and of each open group, whether case is ignored.
    let mut folds = vec![false];
    let ours = [
        (WORD.to_owned(), r"\w"),
        (OTHER.to_owned(), r"\W"),
        (boundary(WORD, true), r"\b"),
        (boundary(WORD, false), r"\B"),
        (WORD_IN_CLASS.to_owned(), r"\w"),
        (OTHER_IN_CLASS.to_owned(), r"\W"),
        (LINE_START.to_owned(), "^"),
    ];
    while let Some(c) = rest.chars().next() {
        if let Some((known, theirs)) = ours.iter().find(|(known, _)| rest.starts_with(known)) {
            out.push_str(theirs);
            rest = &rest[known.len()..];
            continue;
        }
        let mut len = c.len_utf8();
        match c {
            '\\' if rest[1..].starts_with(['w', 'W']) => {
                len = 2;
                out.push_str(if rest[1..].starts_with('w') { OWN_WORD } else { OWN_OTHER });
            }
            '\\' if rest[1..].starts_with(['p', 'P']) && folds.last() == Some(&true) => {
                return Err("a property where case is ignored".to_owned());
            }
            '\\' if rest[1..].starts_with(['b', 'B']) && depth == 0 => {
                len = 2;
                out.push_str(&boundary(OWN_WORD, rest[1..].starts_with('b')));
            }
            '\\' => {
                len += rest[1..].chars().next().map_or(0, char::len_utf8);
                out.push_str(&rest[..len]);
            }
            '[' => {
                depth += 1;
                out.push(c);
            }
            ']' => {
                depth = depth.saturating_sub(1);
                out.push(c);
            }
            _ if depth > 0 => out.push(c),
            '^' => out.push_str(r"\A"),
            '$' => out.push_str(r"\z"),
            '(' => {
                let lines = [("(?m:^)", r"(?:^|(?<=\n)\z)"), ("(?m:$)", "$")];
                let (fold, closed) = folding(rest, folds.last() == Some(&true));
                if let Some((line, theirs)) = lines.into_iter().find(|(line, _)| rest.starts_with(line)) {
                    len = line.len();
                    out.push_str(theirs);
                } else if rest.starts_with("(?P<") || is_flags(rest) {
                    return Err("a named group or a flag other than i".to_owned());
                } else {
                    match (closed, folds.last_mut()) {
                        // It is `)` that takes it off again.
                        (true, Some(last)) => {
                            *last = fold;
                            folds.push(fold);
                        }
                        _ => folds.push(fold),
                    }
                    out.push(c);
                }
            }
            ')' => {
                folds.pop();
                out.push(c);
            }
            '}' if rest.starts_with("}+") && depth == 0 && !out.ends_with(is_name_char) => {
                return Err("a possessive interval".to_owned());
            }
            '}' if rest.starts_with("}+") && closes_interval(&out) => {
                return Err("a possessive interval".to_owned());
            }
            _ => out.push(c),
        }
        rest = &rest[len..];
    }
    Ok(out)
}

/// What the flags at the beginning of a group make of whether case is ignored, and whether they are all of the group.
fn folding(group: &str, now: bool) -> (bool, bool) {
    let Some(flags) = group.strip_prefix("(?") else { return (now, false) };
    let end = flags.find(|c: char| !c.is_ascii_alphabetic() && c != '-').unwrap_or(flags.len());
    let (on, off) = flags[..end].split_once('-').unwrap_or((&flags[..end], ""));
    ((now || on.contains('i')) && !off.contains('i'), end > 0 && flags[end..].starts_with(')'))
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | ',')
}

/// Whether the text ends in `{` and digits.
fn closes_interval(before: &str) -> bool {
    let body = before.rfind('{').map(|at| &before[at + 1..]);
    body.is_some_and(|body| body.bytes().all(|b| b.is_ascii_digit() || b == b','))
}

/// Whether a group begins with flags, others than `i` among them.
fn is_flags(rest: &str) -> bool {
    let Some(flags) = rest.strip_prefix("(?") else { return false };
    let flags: String = flags.chars().take_while(|c| c.is_ascii_alphabetic() || *c == '-').collect();
    flags.chars().any(|c| c.is_ascii_alphabetic() && c != 'i')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(onig: &str, ours: &str) {
        assert_eq!(from_onig(onig).as_deref(), Ok(ours));
    }

    #[test]
    fn what_both_read_alike_stays() {
        for regex in [
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            "[一-龥぀-ゟ゠-ヿ]+",
            r"[!\x22#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+",
            r"\s+\z|(?<=a)b(?>c+)",
        ] {
            check(regex, regex);
            assert_eq!(to_onig(regex).as_deref(), Ok(regex));
        }
    }

    #[test]
    fn what_they_read_otherwise_is_translated() {
        check(r"^a$", &format!("{LINE_START}a(?m:$)"));
        check(r"\p{N}{1,3}+", r"\p{N}+");
        check(r"a{,3}", r"a{0,3}");
        check(r"\p{^L}\P{^L}", r"\P{L}\p{L}");
        check(r"\h\u0041", r"[0-9A-Fa-f]\u{0041}");
        check(r"[--~~]", r"[\--\~~]");
        check(r"\w\W[\w\W]", &format!("{WORD}{OTHER}[{WORD_IN_CLASS}{OTHER_IN_CLASS}]"));
        check(r"(?i:\p{Lu}(?-i:\p{Lu}))\p{L}(?i)\p{N}", r"(?i:(?-i:\p{Lu})(?-i:\p{Lu}))\p{L}(?i)(?-i:\p{N})");
    }

    /// What a translated regex matches is what Oniguruma matched, told by tokenizers.
    #[test]
    fn word_characters_are_those_of_the_reference() {
        let found = |regex: &str, text: &str| -> Vec<String> {
            let ours = from_onig(regex).unwrap();
            let pattern = crate::engine::Pattern::from_regexes(&[&ours]).unwrap();
            let mut pieces = Vec::new();
            pattern
                .for_each(text, |piece| {
                    pieces.push(piece.to_owned());
                    std::ops::ControlFlow::Continue(())
                })
                .unwrap();
            pieces
        };
        assert_eq!(found(r"\w+", "a²\u{200d}b"), ["a²", "\u{200d}", "b"]);
        assert_eq!(found(r"[\w]+", "a²\u{200d}b"), ["a", "²\u{200d}", "b"]);
        assert_eq!(found(r"\W+", "a²\u{200d}!b"), ["a²", "\u{200d}!", "b"]);
        assert_eq!(found(r"[^\w]+", "a²\u{200d}!b"), ["a", "²\u{200d}!", "b"]);
        assert_eq!(found(r"\b", "a²\u{200d}b!"), ["a²", "\u{200d}", "b", "!"]);
        assert_eq!(found(r"\B", "ab\u{200d}!"), ["a", "b\u{200d}", "!"]);
        assert_eq!(found(r"(?i:a\p{Lu})", "aBAbAB"), ["aB", "Ab", "AB"]);
        assert_eq!(found(r"^\s*", "a\n b\n"), ["a\n", " ", "b\n"]);
    }

    #[test]
    fn there_and_back_is_the_identity() {
        for ours in [&format!("{LINE_START}a(?m:$)"), r"\s+\z", r"\Aa{0,3}"] {
            assert_eq!(from_onig(&to_onig(ours).unwrap()).as_deref(), Ok(ours));
        }
        for onig in [r"^\w+|\W", r"[\w-]\b", r"[^\W]\B$"] {
            assert_eq!(to_onig(&from_onig(onig).unwrap()).as_deref(), Ok(onig));
        }
        assert_eq!(to_onig(r"\w[\w.]").as_deref(), Ok(r"[\w\u200C\u200D][[\w\u200C\u200D].]"));
        assert!(to_onig(r"(?i:\p{Lu})").is_err());
        assert!(to_onig(r"(a(?i)b(?:\p{Lu}))").is_err());
        for regex in [r"(?i:'s)|\p{Lu}", r"(?i:(?-i:\p{Lu}))", r"(a(?i)b)\p{Lu}"] {
            assert_eq!(to_onig(regex).as_deref(), Ok(regex));
        }
        assert_eq!(to_onig("^a$").as_deref(), Ok(r"\Aa\z"));
        assert!(to_onig(r"\p{N}{1,3}+").is_err());
        assert!(to_onig(r"\p{N}+").is_ok());
        assert!(to_onig(r"(?s:.)").is_err());
    }

    #[test]
    fn what_has_no_counterpart_is_refused() {
        for regex in [
            r"\Ra",
            r"\Z",
            r"(?m:a)",
            r"(?<n>a)",
            "[[:alpha:]]",
            r"a{2,3}+",
            r"\1",
            "a{2}?",
            r"a\",
            r"(?i:[\p{Lu}])",
        ] {
            assert!(from_onig(regex).is_err(), "{regex}");
        }
    }
}
