//! Special and added tokens: where their names stand in a text, and which of them count.
//!
//! Names are matched leftmost, and of several at one place the longest.

use super::{Normalizer, TokenId};
use aho_corasick::{AhoCorasick, MatchKind};
use std::borrow::Cow;
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
    /// Where its name counts.
    pub place: Place,
}

/// Where the name of a special or added token counts, and what belongs to it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The name is looked for in the normalized text, itself normalized.
    pub normalized: bool,
    /// Only where no word character stands beside it.
    pub single_word: bool,
    /// White space before it is part of the token.
    pub lstrip: bool,
    /// White space behind it is part of the token.
    pub rstrip: bool,
}

impl Special {
    /// A token that is recognised wherever its name stands in the text as it came.
    pub fn new(name: impl Into<String>, id: TokenId, special: bool) -> Self {
        Self { name: name.into(), id, special, place: Place::default() }
    }
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
    /// A token that is looked for in the normalized text, where nothing is left of its name.
    #[error("nothing is left of the name of token {id} when it is normalized")]
    NothingLeft {
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
    /// What stands in the text for each of `list`: the name, or the normalized name.
    patterns: Vec<String>,
    all: Names,
    added: Names,
}

/// Names to look for: those in the text as it came, and those in the normalized text.
#[derive(Debug, Clone, Default)]
struct Names {
    raw: Option<Automaton>,
    normalized: Option<Automaton>,
}

#[derive(Debug, Clone)]
struct Automaton {
    automaton: AhoCorasick,
    /// Position in the list of tokens of each pattern.
    index: Vec<usize>,
}

/// What a found name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Take,
    /// It is text, and so is what stands inside it.
    Pass,
    Deny,
}

/// A policy made ready for one call.
#[derive(Debug)]
pub struct Matcher<'t> {
    tokens: &'t SpecialTokens,
    names: Cow<'t, Names>,
    /// By position in the list; all are taken where there is none.
    roles: Option<Vec<Role>>,
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
    /// Takes a list of tokens; `normalizer` says how names stand in the normalized text.
    ///
    /// # Errors
    /// Empty or repeated names.
    pub fn new(list: Vec<Special>, normalizer: &Normalizer) -> Result<Self, SpecialError> {
        let mut by_name = HashMap::with_capacity(list.len());
        let mut patterns = Vec::with_capacity(list.len());
        for (position, token) in list.iter().enumerate() {
            if token.name.is_empty() {
                return Err(SpecialError::EmptyName { id: token.id });
            }
            if by_name.insert(token.name.clone(), position).is_some() {
                return Err(SpecialError::DuplicateName { id: token.id });
            }
            let pattern = match token.place.normalized {
                true => normalizer.name_in_text(&token.name)?,
                false => token.name.clone(),
            };
            if pattern.is_empty() {
                // The reference then cuts texts between all characters, where it does not hang.
                return Err(SpecialError::NothingLeft { id: token.id });
            }
            patterns.push(pattern);
        }
        let all = Names::new(&list, &patterns, |_| true)?;
        let added = Names::new(&list, &patterns, |token| !token.special)?;
        Ok(Self { list, by_name, patterns, all, added })
    }

    /// The tokens, in the order given.
    pub fn list(&self) -> &[Special] {
        &self.list
    }

    /// The tokens with what stands in a text for each: its name, or its normalized name.
    pub(super) fn patterns(&self) -> impl Iterator<Item = (&Special, &str)> {
        self.list.iter().zip(self.patterns.iter().map(String::as_str))
    }

    /// The token of that name.
    pub fn by_name(&self, name: &str) -> Option<&Special> {
        self.by_name.get(name).map(|&position| &self.list[position])
    }

    /// Bytes of heap that names and matchers hold.
    pub fn memory_bytes(&self) -> usize {
        let names: usize = self.list.iter().map(|t| 3 * t.name.len() + size_of::<Special>()).sum();
        names + self.all.memory_bytes() + self.added.memory_bytes()
    }

    /// Makes a policy ready to run over a text.
    ///
    /// # Errors
    /// [`SpecialError::UnknownName`] where `allowed` names a token that is not here.
    pub fn matcher(&self, policy: &SpecialPolicy<'_>) -> Result<Matcher<'_>, SpecialError> {
        let position = |(index, name): (usize, &String)| {
            self.by_name.get(name).copied().ok_or(SpecialError::UnknownName { index })
        };
        let allowed = policy.allowed.iter().enumerate().map(position).collect::<Result<Vec<_>, _>>()?;
        let others = |role| {
            let mut roles: Vec<Role> =
                self.list.iter().map(|token| if token.special { role } else { Role::Take }).collect();
            allowed.iter().for_each(|&position| roles[position] = Role::Take);
            Some(roles)
        };
        let matcher = |names, roles| Matcher { tokens: self, names, roles, plain: &[] };
        Ok(match policy.others {
            OnSpecial::Parse => matcher(Cow::Borrowed(&self.all), None),
            OnSpecial::Error => matcher(Cow::Borrowed(&self.all), others(Role::Deny)),
            OnSpecial::Text if !allowed.is_empty() => {
                let wanted = |token: &Special| !token.special || policy.allowed.contains(&token.name);
                matcher(Cow::Owned(Names::new(&self.list, &self.patterns, wanted)?), None)
            }
            // With nothing to find there is nothing to look for. Otherwise the name of a special token hides what
            // stands inside it, as it does in the reference.
            OnSpecial::Text if self.added.is_empty() => matcher(Cow::Borrowed(&self.added), None),
            OnSpecial::Text => matcher(Cow::Borrowed(&self.all), others(Role::Pass)),
        })
    }
}

impl Names {
    fn new(
        list: &[Special],
        patterns: &[String],
        wanted: impl Fn(&Special) -> bool,
    ) -> Result<Self, SpecialError> {
        let automaton = |normalized: bool| {
            let of_kind = |&i: &usize| wanted(&list[i]) && list[i].place.normalized == normalized;
            let index: Vec<usize> = (0..list.len()).filter(of_kind).collect();
            if index.is_empty() {
                return Ok(None);
            }
            let automaton = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(index.iter().map(|&i| &patterns[i]))
                .map_err(|_| SpecialError::TooLarge)?;
            Ok(Some(Automaton { automaton, index }))
        };
        Ok(Self { raw: automaton(false)?, normalized: automaton(true)? })
    }

    fn is_empty(&self) -> bool {
        self.raw.is_none() && self.normalized.is_none()
    }

    fn memory_bytes(&self) -> usize {
        let automata = self.raw.iter().chain(&self.normalized);
        automata.map(|a| a.automaton.memory_usage() + a.index.capacity() * size_of::<usize>()).sum()
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
    pub fn denies(&self) -> bool {
        self.roles.as_ref().is_some_and(|roles| roles.contains(&Role::Deny))
    }

    /// Whether names are looked for in the normalized text.
    pub(super) fn looks_at_normalized(&self) -> bool {
        self.names.normalized.is_some()
    }

    /// Whether it depends on the place in the original text what a name is.
    pub(super) fn spares(&self) -> bool {
        !self.plain.is_empty()
    }

    /// The special tokens in a text as it came, in order.
    pub fn find<'m>(&'m self, text: &'m str) -> impl Iterator<Item = Found> + use<'m, 't> {
        self.find_in(self.names.raw.as_ref(), text, |range| range)
    }

    /// The special tokens that are looked for in normalized text; `original` tells where a stretch of it came from.
    pub(super) fn find_normalized<'m>(
        &'m self,
        text: &'m str,
        original: impl Fn(Range<usize>) -> Range<usize> + 'm,
    ) -> impl Iterator<Item = Found> + 'm {
        self.find_in(self.names.normalized.as_ref(), text, original)
    }

    /// As in the reference a token that takes the white space behind it may reach over the next one's beginning.
    fn find_in<'m, F: Fn(Range<usize>) -> Range<usize> + 'm>(
        &'m self,
        names: Option<&'m Automaton>,
        text: &'m str,
        original: F,
    ) -> impl Iterator<Item = Found> + use<'m, 't, F> {
        let (mut from, mut taken) = (0, 0);
        std::iter::from_fn(move || {
            let names = names?;
            loop {
                let found = names.automaton.find(aho_corasick::Input::new(text).range(from..))?;
                let Range { mut start, mut end } = found.range();
                let position = names.index[found.pattern().as_usize()];
                let token = &self.tokens.list[position];
                if token.special && self.spares() && self.is_plain(&original(start..end)) {
                    // Another name may start inside of this one. Names are whole characters: none matches within one.
                    from = start + 1;
                    continue;
                }
                from = end;
                let role = self.roles.as_ref().map_or(Role::Take, |roles| roles[position]);
                let alone = || !ends_in_word(&text[..start]) && !begins_with_word(&text[end..]);
                if role == Role::Pass || token.place.single_word && !alone() {
                    continue;
                }
                if token.place.lstrip {
                    start = text[..start].trim_end().len().max(taken);
                }
                if token.place.rstrip {
                    end = text.len() - text[end..].trim_start().len();
                }
                taken = end;
                // What the token before has taken whole is none. (The reference panics where it has taken more.)
                if start >= end {
                    continue;
                }
                return Some(match role {
                    Role::Deny => Found::Denied(start..end),
                    _ => Found::Token(start..end, token.id),
                });
            }
        })
    }

    fn is_plain(&self, found: &Range<usize>) -> bool {
        let next = self.plain.partition_point(|range| range.end <= found.start);
        self.plain.get(next).is_some_and(|range| range.start < found.end)
    }
}

/// Whether a text ends in a word character, as `\w` has it.
fn ends_in_word(text: &str) -> bool {
    text.chars().next_back().is_some_and(is_word)
}

fn begins_with_word(text: &str) -> bool {
    text.chars().next().is_some_and(is_word)
}

fn is_word(c: char) -> bool {
    regex_syntax::try_is_word_character(c).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> SpecialTokens {
        let t = Special::new;
        let list = vec![t("<a>", 10, true), t("<a><b>", 11, true), t("<tool>", 12, false)];
        SpecialTokens::new(list, &Normalizer::None).unwrap()
    }

    #[track_caller]
    fn check(policy: SpecialPolicy<'_>, text: &str, expect: &[Found]) {
        let tokens = tokens();
        let matcher = tokens.matcher(&policy).unwrap();
        assert_eq!(matcher.find(text).collect::<Vec<_>>(), expect);
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
    fn names_that_touch_spared_ranges_are_text() {
        let tokens = tokens();
        let check = |ranges: &[Range<usize>], expect: &[u32]| {
            let policy = SpecialPolicy { others: OnSpecial::Parse, ..Default::default() };
            let matcher = tokens.matcher(&policy).unwrap().sparing(ranges);
            let id = |found| match found {
                Found::Token(_, id) => id,
                Found::Denied(_) => panic!("nothing is denied"),
            };
            assert_eq!(matcher.find("<a><b><a><tool>").map(id).collect::<Vec<_>>(), expect, "{ranges:?}");
        };
        check(&[], &[11, 10, 12]);
        check(&[3..4, 6..6], &[10, 12]);
        check(&[0..3, 7..7], &[12]);
        check(&[0..0, 6..6, 9..15], &[11, 10, 12]);
    }

    #[test]
    fn unknown_and_repeated_names_are_refused() {
        let allowed = ["<a>".to_string(), "<zzz>".to_string()];
        let policy = SpecialPolicy { allowed: &allowed, ..Default::default() };
        assert_eq!(tokens().matcher(&policy).unwrap_err(), SpecialError::UnknownName { index: 1 });
        let list = vec![Special::new("x", 1, true), Special::new("x", 2, true)];
        let refused = SpecialTokens::new(list, &Normalizer::None).unwrap_err();
        assert_eq!(refused, SpecialError::DuplicateName { id: 2 });
    }

    #[track_caller]
    fn check_place(place: Place, text: &str, expect: &[(usize, usize)]) {
        let list = vec![Special { place, ..Special::new("tok", 1, false) }];
        let tokens = SpecialTokens::new(list, &Normalizer::None).unwrap();
        let matcher = tokens.matcher(&SpecialPolicy::default()).unwrap();
        let found: Vec<_> = match place.normalized {
            true => matcher.find_normalized(text, |range| range).collect(),
            false => matcher.find(text).collect(),
        };
        assert_eq!(found, expect.iter().map(|&(start, end)| Found::Token(start..end, 1)).collect::<Vec<_>>());
    }

    #[test]
    fn places_say_what_belongs_to_a_token() {
        let none = Place::default();
        check_place(none, "a tok  tokb", &[(2, 5), (7, 10)]);
        check_place(Place { single_word: true, ..none }, "a tok  tokb", &[(2, 5)]);
        check_place(Place { lstrip: true, ..none }, "a \n tok tok", &[(1, 7), (7, 11)]);
        check_place(Place { rstrip: true, ..none }, "tok \u{a0} a", &[(0, 7)]);
        check_place(Place { normalized: true, ..none }, "xtok", &[(1, 4)]);
    }

    #[test]
    fn what_the_token_before_took_is_no_token() {
        let place = Place { lstrip: true, rstrip: true, ..Place::default() };
        let list = vec![Special { place, ..Special::new("\n", 1, false) }];
        let tokens = SpecialTokens::new(list, &Normalizer::None).unwrap();
        let matcher = tokens.matcher(&SpecialPolicy::default()).unwrap();
        assert_eq!(matcher.find("a \n\n\n b").collect::<Vec<_>>(), [Found::Token(1..6, 1)]);
    }

    #[test]
    fn a_special_name_that_is_text_hides_what_is_in_it() {
        let list = vec![Special::new("<a|tool|b>", 1, true), Special::new("|tool|", 2, false)];
        let tokens = SpecialTokens::new(list, &Normalizer::None).unwrap();
        let matcher = tokens.matcher(&SpecialPolicy::default()).unwrap();
        let found: Vec<_> = matcher.find("<a|tool|b>|tool|").collect();
        assert_eq!(found, [Found::Token(10..16, 2)]);
    }
}
