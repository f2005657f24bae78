//! As much of a reader of Rust as the house rules need: words and signs with their lines, without comments and literals.

/// One file of Rust, cut into tokens.
pub(super) struct Source {
    /// From the root of the tree, such as `src/engine/vocab.rs`.
    pub(super) path: String,
    pub(super) lines: usize,
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq)]
struct Token {
    line: usize,
    /// A word, or a single sign.
    text: String,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), lines: text.lines().count(), tokens: tokens(text) }
    }

    /// The module of the crate that the file belongs to: the first folder or the file under `src`.
    pub(super) fn module(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        below.split('/').next().unwrap_or(below).trim_end_matches(".rs")
    }

    /// Whether the file as a whole is compiled for tests only; the oracles of fast paths count as tests.
    pub(super) fn is_test(&self) -> bool {
        ["/tests.rs", "/oracle.rs", "/naive.rs"].iter().any(|end| self.path.ends_with(end))
            || self.path.contains("/tests/")
    }

    /// The same file without the items under a `#[cfg(...)]` that asks for tests.
    pub(super) fn without_tests(&self) -> Self {
        let (mut at, mut kept) = (0, Vec::new());
        while at < self.tokens.len() {
            match self.test_attribute(at) {
                Some(end) => at = self.item_end(end),
                None => {
                    kept.push(self.tokens[at].clone());
                    at += 1;
                }
            }
        }
        Self { path: self.path.clone(), lines: self.lines, tokens: kept }
    }

    /// The words of the code, each with its line.
    pub(super) fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        self.tokens.iter().map(|token| (token.line, token.text.as_str()))
    }

    /// The modules at the root of the crate that the file names by a path from `crate`, from `vocabd` or from as many
    /// `super` as lead to the root, each with its line.
    pub(super) fn named_modules(&self) -> Vec<(usize, String)> {
        let mut named = self.named_in("crate");
        named.extend(self.named_in("vocabd"));
        named.extend(self.named_by_super());
        named.sort();
        named
    }

    /// What follows `root::`, each with its line; of a group the first name of every item.
    pub(super) fn named_in(&self, root: &str) -> Vec<(usize, String)> {
        let starts =
            (0..self.tokens.len()).filter(|&at| self.is(at, root) && !self.is_path(at.wrapping_sub(2)));
        starts.filter(|&at| self.is_path(at + 1)).flat_map(|at| self.first_names(at + 3)).collect()
    }

    fn named_by_super(&self) -> Vec<(usize, String)> {
        let in_file = self.path.trim_start_matches("src/").split('/').count();
        let (mut named, mut blocks, mut at) = (Vec::new(), Vec::new(), 0);
        while at < self.tokens.len() {
            match self.tokens[at].text.as_str() {
                "{" => blocks.push(at >= 2 && self.is(at - 2, "mod")),
                "}" => {
                    blocks.pop();
                }
                "super" => {
                    let (mut climbed, mut next) = (1, at + 1);
                    while self.is_path(next) && self.is(next + 2, "super") {
                        (climbed, next) = (climbed + 1, next + 3);
                    }
                    let depth = in_file + blocks.iter().filter(|is_module| **is_module).count();
                    if climbed == depth && self.is_path(next) {
                        named.extend(self.first_names(next + 2));
                    }
                    at = next - 1;
                }
                _ => {}
            }
            at += 1;
        }
        named
    }

    /// The name at a position, or those that begin the items of a group there.
    fn first_names(&self, at: usize) -> Vec<(usize, String)> {
        let name = |at: usize| self.tokens.get(at).map(|token| (token.line, token.text.clone()));
        if !self.is(at, "{") {
            return name(at).into_iter().collect();
        }
        let (mut names, mut depth, mut begins) = (Vec::new(), 0, false);
        for at in at..self.tokens.len() {
            match self.tokens[at].text.as_str() {
                "{" => (depth, begins) = (depth + 1, depth == 0),
                "}" if depth == 1 => break,
                "}" => depth -= 1,
                "," => begins = depth == 1,
                _ if begins => {
                    names.extend(name(at));
                    begins = false;
                }
                _ => {}
            }
        }
        names
    }

    /// Where the attribute that begins here ends, if it is a `cfg` that asks for tests.
    fn test_attribute(&self, at: usize) -> Option<usize> {
        if !(self.is(at, "#") && self.is(at + 1, "[") && self.is(at + 2, "cfg")) {
            return None;
        }
        let end = (at..self.tokens.len()).find(|&at| self.is(at, "]"))?;
        let asks = |word: &str| (at..end).any(|at| self.is(at, word));
        (asks("test") && !asks("not")).then_some(end + 1)
    }

    /// Where the item that begins here ends: after its `;` or its block.
    fn item_end(&self, at: usize) -> usize {
        let mut depth = 0_usize;
        for at in at..self.tokens.len() {
            match self.tokens[at].text.as_str() {
                ";" if depth == 0 => return at + 1,
                "}" if depth <= 1 => return at + 1,
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
        }
        self.tokens.len()
    }

    fn is(&self, at: usize, text: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.text == text)
    }

    fn is_path(&self, at: usize) -> bool {
        self.is(at, ":") && self.is(at.wrapping_add(1), ":")
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut at, mut line, mut tokens) = (0, 1, Vec::new());
    while at < chars.len() {
        let end = skipped(&chars, at);
        if end > at {
            line += chars[at..end].iter().filter(|c| **c == '\n').count();
            at = end;
            continue;
        }
        let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
        let length = chars[at..].iter().take_while(|c| is_word(c)).count().max(1);
        tokens.push(Token { line, text: chars[at..at + length].iter().collect() });
        at += length;
    }
    tokens
}

/// The end of the space, comment, string or character literal that begins here; `at` itself where none does.
fn skipped(chars: &[char], at: usize) -> usize {
    let from = |word: &str| chars[at..].iter().take(word.len()).copied().eq(word.chars());
    match chars[at] {
        c if c.is_whitespace() => at + 1,
        '/' if from("//") => {
            chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |length| at + length)
        }
        '/' if from("/*") => comment_end(chars, at),
        '"' => string_end(chars, at),
        'r' | 'b' | 'c' if !at.checked_sub(1).is_some_and(|before| chars[before].is_alphanumeric()) => {
            prefixed_end(chars, at)
        }
        '\'' => char_end(chars, at),
        _ => at,
    }
}

fn comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut at) = (0, at);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut at = at + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// `r"..."`, `r#"..."#`, `b"..."`, `b'x'`, `br"..."`, `c"..."`; a word such as `ranks` or `r#type` is none.
fn prefixed_end(chars: &[char], at: usize) -> usize {
    let letters = chars[at..].iter().take(2).take_while(|c| "rbc".contains(**c)).count();
    let raw = chars[at..at + letters].contains(&'r');
    let hashes = chars[at + letters..].iter().take_while(|c| **c == '#').count();
    let quote = at + letters + hashes;
    match chars.get(quote) {
        Some('"') if raw => {
            let closes =
                |end: usize| chars[end] == '"' && chars[end + 1..].iter().take(hashes).all(|c| *c == '#');
            (quote + 1..chars.len()).find(|&end| closes(end)).map_or(chars.len(), |end| end + 1 + hashes)
        }
        Some('"') if hashes == 0 => string_end(chars, quote),
        Some('\'') if hashes == 0 && letters == 1 && chars[at] == 'b' => char_end(chars, quote),
        _ => at,
    }
}

/// A lifetime is no literal: it has no closing quote after one character.
fn char_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            (at + 3..chars.len()).find(|&end| chars[end] == '\'').map_or(chars.len(), |end| end + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}
