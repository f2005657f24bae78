//! What is in a vocabulary: its tokens, filtered, page by page.

use crate::engine::{Rank, SPACE_MARK, TokenId, TokenScript, Tokenizer};
use hashbrown::HashMap;
use memchr::memmem::Finder;

/// What a token is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Stands for its bytes.
    Text,
    /// Steers a model, and is recognised by its name only where the caller says so.
    Special,
    /// Is recognised by its name always.
    Added,
    /// No text is ever spelled by it: the unknown token, a byte of what no token spells, or one that is not used.
    Unreached,
}

impl TokenKind {
    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Special => "special",
            Self::Added => "added",
            Self::Unreached => "unreached",
        }
    }
}

/// The kinds of the tokens of one vocabulary.
#[derive(Debug)]
pub struct Kinds<'t> {
    tokenizer: &'t Tokenizer,
    by_id: HashMap<TokenId, TokenKind>,
}

impl<'t> Kinds<'t> {
    /// Those of a vocabulary.
    pub fn of(tokenizer: &'t Tokenizer) -> Self {
        let kind = |special| if special { TokenKind::Special } else { TokenKind::Added };
        let specials = tokenizer.specials().list().iter();
        Self { tokenizer, by_id: specials.map(|token| (token.id, kind(token.special))).collect() }
    }

    /// The kind of a token.
    pub fn get(&self, id: TokenId) -> TokenKind {
        match self.by_id.get(&id) {
            Some(kind) => *kind,
            None if self.tokenizer.vocab().is_ordinary(id) => TokenKind::Text,
            None => TokenKind::Unreached,
        }
    }
}

/// Which tokens are wanted: those that pass all that is given.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// A part of the token; a space is also found as SentencePiece's mark for one.
    pub search: Option<String>,
    /// Its script.
    pub script: Option<TokenScript>,
    /// Its least length in bytes.
    pub min_bytes: Option<usize>,
    /// Its greatest length in bytes.
    pub max_bytes: Option<usize>,
    /// Whether it is one of the special and added tokens.
    pub special: Option<bool>,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token<'t> {
    /// Its id.
    pub id: TokenId,
    /// Its bytes, or those of its name.
    pub bytes: &'t [u8],
    /// What it is there for.
    pub kind: TokenKind,
    /// What it is made of.
    pub script: TokenScript,
    /// The first merge that makes it: rank, left and right part.
    pub merge: Option<(Rank, TokenId, TokenId)>,
}

/// Some of the tokens that were asked for, by ascending id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<'t> {
    /// The tokens.
    pub tokens: Vec<Token<'t>>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

/// The first `limit` of the tokens that pass the filter, of those with an id over `after`.
pub fn page<'t>(tokenizer: &'t Tokenizer, filter: &Filter, after: Option<TokenId>, limit: usize) -> Page<'t> {
    let needles = needles(filter.search.as_deref().unwrap_or_default());
    let finders: Vec<Finder<'_>> = needles.iter().map(Finder::new).collect();
    let kinds = Kinds::of(tokenizer);
    let passes = |id: TokenId, bytes: &[u8]| {
        let length = filter.min_bytes.is_none_or(|least| bytes.len() >= least)
            && filter.max_bytes.is_none_or(|most| bytes.len() <= most);
        let special = || matches!(kinds.get(id), TokenKind::Special | TokenKind::Added);
        length
            && (finders.is_empty() || finders.iter().any(|finder| finder.find(bytes).is_some()))
            && filter.special.is_none_or(|wanted| special() == wanted)
            && filter.script.is_none_or(|script| TokenScript::of(bytes) == script)
    };
    let first = after.map_or(Some(0), |after| after.checked_add(1));
    let ids = first.map_or(0..0, |first| first..tokenizer.vocab_size() as TokenId);
    let found =
        ids.filter_map(|id| Some((id, tokenizer.vocab().bytes(id)?))).filter(|(id, b)| passes(*id, b));
    let mut tokens: Vec<Token<'t>> = found
        .take(limit.saturating_add(1))
        .map(|(id, bytes)| Token {
            id,
            bytes,
            kind: kinds.get(id),
            script: TokenScript::of(bytes),
            merge: None,
        })
        .collect();
    let more = tokens.len() > limit;
    tokens.truncate(limit);
    add_merges(tokenizer, &mut tokens);
    Page { tokens, more }
}

/// What to look for: the text, and where it has spaces the same with marks.
fn needles(search: &str) -> Vec<String> {
    match search {
        "" => Vec::new(),
        _ if search.contains(' ') => vec![search.to_owned(), search.replace(' ', &SPACE_MARK.to_string())],
        _ => vec![search.to_owned()],
    }
}

fn add_merges(tokenizer: &Tokenizer, tokens: &mut [Token<'_>]) {
    let mut wanted: HashMap<TokenId, usize> =
        tokens.iter().zip(0..).map(|(token, at)| (token.id, at)).collect();
    for (position, merge) in tokenizer.merges().iter().enumerate() {
        if let Some(at) = wanted.remove(&merge.id) {
            tokens[at].merge = Some((rank(tokenizer, position), merge.left, merge.right));
        }
    }
}

/// The rank of the merge at a position of the list.
pub(super) fn rank(tokenizer: &Tokenizer, position: usize) -> Rank {
    tokenizer.ranks().and_then(|ranks| ranks.get(position).copied()).unwrap_or(position as Rank)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::Script;
    use crate::engine::{Merge, Pattern, Special, TokenizerParts};

    /// The bytes, tokens with the merges that make them, and two named ones; `ids` begin at 256.
    pub(crate) fn tokenizer(merged: &[(&[u8], &[u8])], specials: &[(&str, TokenId, bool)]) -> Tokenizer {
        let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        let mut merges = Vec::new();
        for (left, right) in merged {
            let id = |of: &[u8]| tokens.iter().position(|t| t == of).unwrap() as TokenId;
            let (left_id, right_id) = (id(left), id(right));
            tokens.push([*left, *right].concat());
            merges.push(Merge { left: left_id, right: right_id, id: tokens.len() as TokenId - 1 });
        }
        let specials =
            specials.iter().map(|(name, id, special)| Special::new(*name, *id, *special)).collect();
        let tokens = (0..).zip(tokens).collect();
        let parts = TokenizerParts::byte_level(tokens, merges, Pattern::parse("cl100k").unwrap());
        Tokenizer::new(TokenizerParts { specials, ..parts }).unwrap()
    }

    #[test]
    fn pages_are_the_whole_and_nothing_twice() {
        let t = tokenizer(&[(b"a", b"b"), (b" ", b"ab")], &[("<end>", 300, true), ("<x>", 301, false)]);
        for limit in [1, 7, 100, 258, 260, 1000] {
            let (mut ids, mut after) = (Vec::new(), None);
            loop {
                let page = page(&t, &Filter::default(), after, limit);
                assert!(page.tokens.len() <= limit);
                ids.extend(page.tokens.iter().map(|token| token.id));
                after = ids.last().copied();
                if !page.more {
                    break;
                }
                assert_eq!(page.tokens.len(), limit);
            }
            assert_eq!(ids, (0..258).chain([300, 301]).collect::<Vec<_>>());
        }
        assert_eq!(page(&t, &Filter::default(), Some(TokenId::MAX), 5).tokens, []);
    }

    #[test]
    fn filters_let_through_what_passes_all_of_them() {
        let t = tokenizer(&[(b"a", b"b"), (b" ", b"ab")], &[("<ab>", 300, true), ("<x>", 301, false)]);
        let check = |filter: &Filter, expect: &[TokenId]| {
            let found: Vec<_> = page(&t, filter, None, 1000).tokens.iter().map(|token| token.id).collect();
            assert_eq!(found, expect, "{filter:?}");
        };
        let search = |text: &str| Filter { search: Some(text.to_owned()), ..Filter::default() };
        check(&search("ab"), &[256, 257, 300]);
        check(&search(" a"), &[257]);
        check(&Filter { special: Some(true), ..Filter::default() }, &[300, 301]);
        check(&Filter { special: Some(false), ..search("ab") }, &[256, 257]);
        check(&Filter { min_bytes: Some(3), ..search("ab") }, &[257, 300]);
        check(&Filter { min_bytes: Some(3), max_bytes: Some(3), ..search("ab") }, &[257]);
        let digits = Filter { script: Some(TokenScript::One(Script::Digit)), ..Filter::default() };
        check(&digits, &(48..58).collect::<Vec<_>>());
    }

    #[test]
    fn tokens_tell_their_kind_and_the_merge_that_makes_them() {
        let t = tokenizer(&[(b"a", b"b"), (b" ", b"ab")], &[("<end>", 300, true), ("<x>", 301, false)]);
        let tokens = page(&t, &Filter::default(), Some(255), 9).tokens;
        assert_eq!(
            tokens.iter().map(|t| t.kind.name()).collect::<Vec<_>>(),
            ["text", "text", "special", "added"]
        );
        assert_eq!(tokens[1].merge, Some((1, 32, 256)));
        assert_eq!((tokens[2].merge, tokens[2].bytes), (None, &b"<end>"[..]));
    }
}
