//! Special and added tokens: where their names stand in a text, and which of them count.
//!
//! Names are matched leftmost, and of several at one place the longest.

use super::TokenId;
use aho_corasick::{AhoCorasick, MatchKind};
use std::collections::HashMap;
use std::ops::Range;

/// A token that is recognised by its name before the text is split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Special {
    /// The name as it stands in a text, such as `<|endoftext|>`.
    pub name: String,
    /// Its id.
    pub id: TokenId,
    /// Whether it steers a model: such a token is text unless the caller says otherwise, and is left out when a
    /// decoder skips special tokens. An added token that is not special is always recognised.
    pub special: bool,
}

/// What happens to the name of a special token inside a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnSpecial {
    /// It is plain text.
    #[default]
    Text,
    /// It becomes the special token.
    Parse,
    /// It is an error.
    Error,
}

/// Which special tokens are recognised in a text: those in `allowed` always, the others as `others` says.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpecialPolicy<'a> {
    /// Names that are parsed whatever `others` is.
    pub allowed: &'a [String],
    /// What the other names mean.
    pub others: OnSpecial,
}

/// Why a set of special tokens, or a policy over it, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecialError {
    /// `allowed` names a token that the vocabulary does not have.
    #[error("entry {index} of the allowed special tokens is not a special token of this vocabulary")]
    UnknownName {
        /// Position in `allowed`.
        index: usize,
    },
    /// A name given twice.
    #[error("special token {id} has the name of another")]
    DuplicateName {
        /// The later id.
        id: TokenId,
    },
    /// A token without a name.
    #[error("special token {id} has an empty name")]
    EmptyName {
        /// The id.
        id: TokenId,
    },
    /// So many or so long names that no matcher can be built.
    #[error("the names of the special tokens are too many or too long")]
    TooLarge,
}

/// The special and added tokens of one tokenizer.
#[derive(Debug, Clone)]
pub struct SpecialTokens {
    list: Vec<Special>,
    /// Position in `list` of each name.
    by_name: HashMap<String, usize>,
    all: Option<AhoCorasick>,
    added: Option<AhoCorasick>,
    /// Position in `list` of each pattern of `added`.
    added_index: Vec<usize>,
}

/// A policy made ready for one call.
#[derive(Debug)]
pub struct Matcher<'t> {
    tokens: &'t SpecialTokens,
    automaton: Option<std::borrow::Cow<'t, AhoCorasick>>,
    /// Position in `tokens.list` of each pattern, where the automaton is not over the whole list.
    index: Option<std::borrow::Cow<'t, [usize]>>,
    /// With `OnSpecial::Error`: whether each token of the list is allowed; another one is an error.
    strict: Option<Vec<bool>>,
    /// Stretches of the text in which the names of tokens flagged special are plain text.
    plain: &'t [Range<usize>],
}

/// A special token found in a text.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A token to emit.
    Token(Range<usize>, TokenId),
    /// A name that the policy does not allow here.
    Denied(Range<usize>),
}

impl SpecialTokens {
    /// Takes a list of tokens.
    ///
    /// # Errors
    /// Empty or repeated names.
    pub fn new(list: Vec<Special>) -> Result<Self, SpecialError> {
        let mut by_name = HashMap::with_capacity(list.len());
        for (position, token) in list.iter().enumerate() {
            if token.name.is_empty() {
                return Err(SpecialError::EmptyName { id: token.id });
            }
            if by_name.insert(token.name.clone(), position).is_some() {
                return Err(SpecialError::DuplicateName { id: token.id });
            }
        }
        let added_index: Vec<usize> = (0..list.len()).filter(|&i| !list[i].special).collect();
        let all = automaton(list.iter().map(|t| &t.name))?;
        let added = automaton(added_index.iter().map(|&i| &list[i].name))?;
        Ok(Self { list, by_name, all, added, added_index })
    }

    /// The tokens, in the order given.
    pub fn list(&self) -> &[Special] {
        &self.list
    }

    /// The token of that name.
    pub fn by_name(&self, name: &str) -> Option<&Special> {
        self.by_name.get(name).map(|&position| &self.list[position])
    }

    /// Bytes of heap that names and matchers hold.
    pub fn memory_bytes(&self) -> usize {
        let names: usize = self.list.iter().map(|t| t.name.len() + size_of::<Special>()).sum();
        let automata = self.all.iter().chain(&self.added).map(AhoCorasick::memory_usage).sum::<usize>();
        names + automata
    }

    /// Makes a policy ready to run over a text.
    ///
    /// # Errors
    /// [`SpecialError::UnknownName`] where `allowed` names a token that is not here.
    pub fn matcher(&self, policy: &SpecialPolicy<'_>) -> Result<Matcher<'_>, SpecialError> {
        use std::borrow::Cow;
        let allowed = policy
            .allowed
            .iter()
            .enumerate()
            .map(|(index, name)| self.by_name.get(name).copied().ok_or(SpecialError::UnknownName { index }))
            .collect::<Result<Vec<_>, _>>()?;
        let whole = |strict| Matcher {
            tokens: self,
            automaton: self.all.as_ref().map(Cow::Borrowed),
            index: None,
            strict,
            plain: &[],
        };
        Ok(match policy.others {
            OnSpecial::Parse => whole(None),
            OnSpecial::Error => {
                let mut strict = vec![false; self.list.len()];
                allowed.into_iter().for_each(|position| strict[position] = true);
                whole(Some(strict))
            }
            OnSpecial::Text if allowed.is_empty() => Matcher {
                tokens: self,
                automaton: self.added.as_ref().map(Cow::Borrowed),
                index: Some(Cow::Borrowed(&self.added_index)),
                strict: None,
                plain: &[],
            },
            OnSpecial::Text => {
                let mut index = self.added_index.clone();
                index.extend(allowed.into_iter().filter(|&i| self.list[i].special));
                index.sort_unstable();
                index.dedup();
                let automaton = automaton(index.iter().map(|&i| &self.list[i].name))?.map(Cow::Owned);
                Matcher { tokens: self, automaton, index: Some(Cow::Owned(index)), strict: None, plain: &[] }
            }
        })
    }
}

impl<'t> Matcher<'t> {
    /// The same for one text in which tokens flagged special are not recognised where they touch one of `ranges`:
    /// byte ranges in order that do not overlap. An empty range is touched by a name that spans it.
    pub fn sparing(mut self, ranges: &'t [Range<usize>]) -> Self {
        self.plain = ranges;
        self
    }

    /// Whether a name may be an error.
    pub(super) fn denies(&self) -> bool {
        self.strict.is_some()
    }

    /// The first special token at or after `from`.
    pub fn next(&self, text: &str, from: usize) -> Option<Found> {
        let automaton = self.automaton.as_ref()?;
        let mut from = from;
        loop {
            let found = automaton.find(aho_corasick::Input::new(text).span(from..text.len()))?;
            let pattern = found.pattern().as_usize();
            let position = self.index.as_ref().map_or(pattern, |index| index[pattern]);
            let token = &self.tokens.list[position];
            if token.special && self.is_plain(&found.range()) {
                // Another name may start inside of this one. Names are whole characters, so none matches within one.
                from = found.start() + 1;
                continue;
            }
            let denied = token.special && self.strict.as_ref().is_some_and(|allowed| !allowed[position]);
            let range = found.range();
            return Some(if denied { Found::Denied(range) } else { Found::Token(range, token.id) });
        }
    }

    fn is_plain(&self, found: &Range<usize>) -> bool {
        let next = self.plain.partition_point(|range| range.end <= found.start);
        self.plain.get(next).is_some_and(|range| range.start < found.end)
    }
}

fn automaton<'a>(names: impl Iterator<Item = &'a String>) -> Result<Option<AhoCorasick>, SpecialError> {
    let names: Vec<&String> = names.collect();
    if names.is_empty() {
        return Ok(None);
    }
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(names)
        .map(Some)
        .map_err(|_| SpecialError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> SpecialTokens {
        let t = |name: &str, id, special| Special { name: name.into(), id, special };
        SpecialTokens::new(vec![t("<a>", 10, true), t("<a><b>", 11, true), t("<tool>", 12, false)]).unwrap()
    }

    #[track_caller]
    fn check(policy: SpecialPolicy<'_>, text: &str, expect: &[Found]) {
        let tokens = tokens();
        let matcher = tokens.matcher(&policy).unwrap();
        let (mut from, mut found) = (0, vec![]);
        while let Some(f) = matcher.next(text, from) {
            from = match &f {
                Found::Token(r, _) | Found::Denied(r) => r.end,
            };
            found.push(f);
        }
        assert_eq!(found, expect);
    }

    #[test]
    fn names_are_text_by_default_but_added_tokens_are_always_found() {
        check(SpecialPolicy::default(), "x<a><tool>", &[Found::Token(4..10, 12)]);
    }

    #[test]
    fn parse_takes_the_longest_name() {
        let policy = SpecialPolicy { others: OnSpecial::Parse, ..Default::default() };
        check(policy, "<a><b><a>", &[Found::Token(0..6, 11), Found::Token(6..9, 10)]);
    }

    #[test]
    fn allowed_names_are_parsed_whatever_the_others_are() {
        let allowed = ["<a>".to_string()];
        let policy = |others| SpecialPolicy { allowed: &allowed, others };
        check(policy(OnSpecial::Text), "<a><b>", &[Found::Token(0..3, 10)]);
        check(policy(OnSpecial::Error), "<a> <a><b>", &[Found::Token(0..3, 10), Found::Denied(4..10)]);
    }

    #[test]
    fn names_that_touch_a_spared_stretch_are_text_and_others_are_found() {
        let tokens = tokens();
        let policy = SpecialPolicy { others: OnSpecial::Parse, ..Default::default() };
        #[track_caller]
        fn check(
            tokens: &SpecialTokens,
            policy: &SpecialPolicy<'_>,
            ranges: &[Range<usize>],
            expect: &[u32],
        ) {
            let matcher = tokens.matcher(policy).unwrap().sparing(ranges);
            let (mut from, mut ids) = (0, vec![]);
            while let Some(Found::Token(range, id)) = matcher.next("<a><b><a><tool>", from) {
                from = range.end;
                ids.push(id);
            }
            assert_eq!(ids, expect, "{ranges:?}");
        }
        check(&tokens, &policy, &[], &[11, 10, 12]);
        check(&tokens, &policy, &[3..4, 6..6], &[10, 12]);
        check(&tokens, &policy, &[0..3, 7..7], &[12]);
        check(&tokens, &policy, &[0..0, 6..6, 9..15], &[11, 10, 12]);
    }

    #[test]
    fn unknown_and_repeated_names_are_refused() {
        let allowed = ["<a>".to_string(), "<zzz>".to_string()];
        let policy = SpecialPolicy { allowed: &allowed, ..Default::default() };
        assert_eq!(tokens().matcher(&policy).unwrap_err(), SpecialError::UnknownName { index: 1 });
        let twice = Special { name: "x".into(), id: 1, special: true };
        let list = vec![twice.clone(), Special { id: 2, ..twice }];
        assert_eq!(SpecialTokens::new(list).unwrap_err(), SpecialError::DuplicateName { id: 2 });
    }
}
