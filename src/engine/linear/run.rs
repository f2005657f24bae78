//! A character repeated, as a wide indentation or a rule of dashes is: merged by the definition, with all that is equal at once.
//!
//! [`Linear::encode`] tries most ways into such a piece before it finds the one that goes on, and a text has them in every width. It took
//! English with cl100k, where they are one byte of a hundred, 15 of 54 instructions a byte.

use super::{Linear, NONE, PairCache, Symbol};
use crate::engine::TokenId;

/// Symbols beside each other that are the same, and how many they are.
type Group = (Symbol, usize);

/// Most groups: the merges of a run leave one more each time that a number of them is odd.
const MOST_GROUPS: usize = 64;

impl Linear {
    /// Appends what merging leaves of a byte and, behind it, another one any number of times. For what is none of those, or has
    /// too many different symbols on the way, nothing is done, and the answer is no.
    pub(in crate::engine) fn encode_run(
        &self,
        piece: &[u8],
        cache: &mut PairCache,
        out: &mut Vec<TokenId>,
    ) -> bool {
        let [first, rest @ ..] = piece else { return false };
        let [byte, others @ ..] = rest else { return false };
        if *others != rest[..others.len()] {
            return false;
        }
        let mut groups = Vec::with_capacity(8);
        push(&mut groups, (Symbol::from(*first), 1));
        push(&mut groups, (Symbol::from(*byte), rest.len()));
        // A merge comes after those of its parts, so nothing that it makes merges before all of its equals have: of one group two by
        // two, from the left; between two groups there is only one place.
        while let Some((at, within, made)) = self.lowest(&groups, cache) {
            let rest = groups.split_off(at);
            let (group, behind) = (rest[0], &rest[1..]);
            if within {
                push(&mut groups, (made, group.1 / 2));
                push(&mut groups, (group.0, group.1 % 2));
            } else {
                push(&mut groups, (group.0, group.1 - 1));
                push(&mut groups, (made, 1));
                push(&mut groups, (behind[0].0, behind[0].1 - 1));
            }
            for &group in &behind[usize::from(!within)..] {
                push(&mut groups, group);
            }
            if groups.len() > MOST_GROUPS {
                return false;
            }
        }
        for (symbol, count) in groups {
            out.extend(std::iter::repeat_n(self.tokens[symbol as usize].id(), count));
        }
        true
    }

    /// The merge that comes first, leftmost: the group, whether it is within it and not with the next one, and what it makes.
    fn lowest(&self, groups: &[Group], cache: &mut PairCache) -> Option<(usize, bool, Symbol)> {
        let mut lowest = (0, false, NONE);
        for (at, &(symbol, count)) in groups.iter().enumerate() {
            let within = (count > 1).then(|| (at, true, cache.get(self, symbol, symbol)));
            let next = groups.get(at + 1).map(|next| (at, false, cache.get(self, symbol, next.0)));
            for found in within.into_iter().chain(next) {
                if found.2 < lowest.2 {
                    lowest = found;
                }
            }
        }
        (lowest.2 != NONE).then_some(lowest)
    }
}

/// Appends a group; to the last one if the symbol is the same.
fn push(groups: &mut Vec<Group>, (symbol, count): Group) {
    match groups.last_mut() {
        Some(last) if last.0 == symbol => last.1 += count,
        _ if count == 0 => {}
        _ => groups.push((symbol, count)),
    }
}
