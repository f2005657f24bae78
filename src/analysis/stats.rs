//! What a vocabulary is made of: its tokens by script and length, the longest, and those that no text leads to.

use super::tokens::{Kinds, TokenKind};
use crate::engine::{Model, Scratch, TokenId, TokenScript, Tokenizer, merge_by};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// How many tokens lists hold at most.
pub const MAX_LISTED: usize = 100;

/// How many of the longest tokens are told.
const LONGEST: usize = 20;

/// Of the occurrences of a residue less than this share is left.
const LEFT_OF_RESIDUE: f64 = 0.05;

/// Figures of one vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// Tokens, special ones included and gaps between ids not.
    pub tokens: u64,
    /// Tokens flagged special.
    pub special: u64,
    /// Other added tokens.
    pub added: u64,
    /// Tokens that stand for text by script, those of which there are some.
    pub by_script: Vec<(TokenScript, ScriptStats)>,
    /// Tokens that stand for text by their length in bytes, ascending.
    pub by_bytes: BTreeMap<usize, u64>,
    /// The same by characters; those that are not UTF-8 are left out.
    pub by_characters: BTreeMap<usize, u64>,
    /// The longest tokens that stand for text, longest first.
    pub longest: Vec<TokenId>,
    /// How many tokens that stand for text no text leads to.
    pub unreachable: u64,
    /// The first [`MAX_LISTED`] of them by id.
    pub unreachable_tokens: Vec<(TokenId, Why)>,
    /// How many tokens are residues: hardly more than steps to longer ones. Estimated by ranks alone: merges are made by
    /// falling frequency, so a merge of twice the rank was about half as frequent (Zipf's law), and what merges take of a
    /// token is taken for good. A residue keeps less than 5 % of its occurrences by that.
    pub residues: u64,
    /// The first [`MAX_LISTED`] of them by id.
    pub residue_tokens: Vec<TokenId>,
}

/// Figures of the tokens of one script.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScriptStats {
    /// How many there are.
    pub tokens: u64,
    /// Their bytes in all.
    pub bytes: u64,
    /// Bytes of the longest.
    pub longest: usize,
}

/// Why no text leads to a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its bytes are in no text: they are no part of valid UTF-8.
    Utf8,
    /// The split pattern parts it, looked at by itself.
    Split,
    /// The merges do not lead to it, or other pieces have a higher score.
    Merges,
}

impl Why {
    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "utf8",
            Self::Split => "split",
            Self::Merges => "merges",
        }
    }
}

/// The figures of a vocabulary. Takes `n log n` time in the bytes of its tokens.
pub fn stats(tokenizer: &Tokenizer, scratch: &mut Scratch) -> Stats {
    let kinds = Kinds::of(tokenizer);
    let residues = Residues::of(tokenizer);
    let mut made = Stats {
        tokens: tokenizer.vocab().len() as u64,
        special: 0,
        added: 0,
        by_script: Vec::new(),
        by_bytes: BTreeMap::new(),
        by_characters: BTreeMap::new(),
        longest: Vec::new(),
        unreachable: 0,
        unreachable_tokens: Vec::new(),
        residues: 0,
        residue_tokens: Vec::new(),
    };
    let mut by_script: BTreeMap<TokenScript, ScriptStats> = BTreeMap::new();
    let mut lengths: Vec<(usize, TokenId)> = Vec::new();
    for (id, bytes) in tokenizer.vocab().iter() {
        match kinds.get(id) {
            TokenKind::Special => made.special += 1,
            TokenKind::Added => made.added += 1,
            TokenKind::Unreached => {}
            TokenKind::Text => {
                let script = by_script.entry(TokenScript::of(bytes)).or_default();
                script.tokens += 1;
                script.bytes += bytes.len() as u64;
                script.longest = script.longest.max(bytes.len());
                *made.by_bytes.entry(bytes.len()).or_default() += 1;
                if let Ok(text) = std::str::from_utf8(bytes) {
                    *made.by_characters.entry(text.chars().count()).or_default() += 1;
                }
                lengths.push((bytes.len(), id));
                if let Some(why) = unreachable(tokenizer, id, bytes, scratch) {
                    made.unreachable += 1;
                    if made.unreachable_tokens.len() < MAX_LISTED {
                        made.unreachable_tokens.push((id, why));
                    }
                }
                if residues.has(id) {
                    made.residues += 1;
                    if made.residue_tokens.len() < MAX_LISTED {
                        made.residue_tokens.push(id);
                    }
                }
            }
        }
    }
    lengths.sort_unstable_by_key(|&(len, id)| (std::cmp::Reverse(len), id));
    made.longest = lengths.into_iter().take(LONGEST).map(|(_, id)| id).collect();
    made.by_script =
        TokenScript::all().filter_map(|script| Some((script, by_script.remove(&script)?))).collect();
    made
}

fn unreachable(tokenizer: &Tokenizer, id: TokenId, bytes: &[u8], scratch: &mut Scratch) -> Option<Why> {
    let text = std::str::from_utf8(bytes);
    let is_bytes = tokenizer.model().is_byte_level();
    if text.is_err() && !is_part_of_text(bytes) {
        return Some(Why::Utf8);
    }
    if let (Ok(text), Some(pattern)) = (text, tokenizer.pretokenizer().pattern()) {
        let mut pieces = 0;
        let look = |_: &str| {
            pieces += 1;
            if pieces > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        // A pattern that gives up here gives up on texts as well.
        if pattern.for_each(text, look).is_err() || pieces > 1 {
            return Some(Why::Split);
        }
    }
    let mut ids = Vec::new();
    match (tokenizer.model(), text) {
        (Model::Bytes { .. }, Ok(_)) if tokenizer.whole_pretokens() => return None,
        (Model::Bytes { .. }, _) => {
            let start = bytes.iter().filter_map(|byte| tokenizer.vocab().id(&[*byte]));
            merge_by(&|left, right| tokenizer.table().get(left, right), start, scratch, &mut ids);
        }
        (_, Ok(text)) => tokenizer.model_tokens(text, scratch, &mut |id, _| ids.push(id)),
        (_, Err(_)) => {}
    }
    debug_assert!(is_bytes || text.is_ok() || ids.is_empty());
    (ids != [id]).then_some(Why::Merges)
}

/// Whether bytes can stand in valid UTF-8, as far as characters that they cut in the middle let one tell.
fn is_part_of_text(bytes: &[u8]) -> bool {
    let tail = bytes.iter().take_while(|&&byte| byte & 0xc0 == 0x80).count();
    tail < 4 && std::str::from_utf8(&bytes[tail..]).map_or_else(|error| error.error_len().is_none(), |_| true)
}

/// By id the share of its occurrences that merges take of a token, by their ranks. In cl100k a tenth of the tokens are residues by
/// it; the first hundred of them are emitted 26 times less often (median, 12 MB of English, code and Chinese) than the tokens
/// beside them.
struct Residues {
    taken: Vec<f64>,
}

impl Residues {
    fn of(tokenizer: &Tokenizer) -> Self {
        let bound = tokenizer.vocab_size();
        let mut made_at: Vec<Option<f64>> = vec![None; bound];
        let mut taken = vec![0.0; bound];
        for (position, merge) in tokenizer.merges().iter().enumerate() {
            let rank = position as f64 + 1.0;
            for part in [merge.left, merge.right] {
                if let Some(Some(made)) = made_at.get(part as usize) {
                    taken[part as usize] += made / rank;
                }
            }
            if let Some(made) = made_at.get_mut(merge.id as usize) {
                made.get_or_insert(rank);
            }
        }
        Self { taken }
    }

    fn has(&self, id: TokenId) -> bool {
        self.taken.get(id as usize).is_some_and(|taken| *taken > 1.0 - LEFT_OF_RESIDUE)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tests::tokenizer;
    use super::*;
    use crate::engine::Script;

    #[test]
    fn tokens_are_counted_by_script_and_length() {
        let world = "世界".as_bytes();
        let t = tokenizer(
            &[(b"a", b"b"), (b"ab", b"c"), (&world[..1], &world[1..2]), (&world[..2], &world[2..3])],
            &[("<end>", 300, true), ("<x>", 301, false)],
        );
        let made = stats(&t, &mut Scratch::default());
        assert_eq!((made.tokens, made.special, made.added), (262, 1, 1));
        assert_eq!(made.by_bytes, BTreeMap::from([(1, 256), (2, 2), (3, 2)]));
        assert_eq!(made.by_characters, BTreeMap::from([(1, 129), (2, 1), (3, 1)]));
        let of = |script| made.by_script.iter().find(|(s, _)| *s == script).unwrap().1;
        assert_eq!(of(TokenScript::One(Script::Latin)), ScriptStats { tokens: 54, bytes: 57, longest: 3 });
        assert_eq!(of(TokenScript::One(Script::Han)), ScriptStats { tokens: 1, bytes: 3, longest: 3 });
        assert_eq!(of(TokenScript::Bytes), ScriptStats { tokens: 129, bytes: 130, longest: 2 });
        assert_eq!(made.longest[..3], [257, 259, 256]);
        assert_eq!(made.by_script.iter().map(|(_, s)| s.tokens).sum::<u64>(), 260);
    }

    #[test]
    fn tokens_that_no_text_leads_to_are_told_with_the_reason() {
        let why = |merged: &[(&[u8], &[u8])], id: TokenId| {
            let made = stats(&tokenizer(merged, &[]), &mut Scratch::default());
            made.unreachable_tokens.iter().find(|(other, _)| *other == id).map(|(_, why)| *why)
        };
        // `bc` goes first, and so `ab` + `c` is never reached; `a b` is two words.
        assert_eq!(why(&[(b"b", b"c"), (b"a", b"b"), (b"ab", b"c")], 258), Some(Why::Merges));
        assert_eq!(why(&[(b"a", b" "), (b"a ", b"b")], 257), Some(Why::Split));
        assert_eq!(why(&[(b"\xe4", b"\xb8")], 256), None, "part of a character");
        assert_eq!(why(&[(b"\xe4", b"a")], 256), Some(Why::Utf8));
        for byte in 0..=255 {
            let expect = matches!(byte, 0xc0 | 0xc1 | 0xf5..).then_some(Why::Utf8);
            assert_eq!(why(&[], byte), expect, "{byte:#x}");
        }
    }

    #[test]
    fn residues_are_what_merges_leave_next_to_nothing_of() {
        let t = tokenizer(&[(b"x", b"y"), (b"q", b"u"), (b"qu", b"e")], &[]);
        // `qu` was made as the second merge and taken as the third, which leaves a third of it.
        assert_eq!(stats(&t, &mut Scratch::default()).residues, 0);
        let mut merged: Vec<(Vec<u8>, Vec<u8>)> = (b'A'..=b'Z').map(|c| (vec![c], vec![c])).collect();
        merged.extend([(b"q".to_vec(), b"u".to_vec()), (b"qu".to_vec(), b"e".to_vec())]);
        let merged: Vec<(&[u8], &[u8])> = merged.iter().map(|(l, r)| (&l[..], &r[..])).collect();
        let made = stats(&tokenizer(&merged, &[]), &mut Scratch::default());
        assert_eq!((made.residues, made.residue_tokens), (1, vec![282]));
    }
}
