//! Packed ids: little-endian numbers of 16 or 32 bits, one after the other. A batch of them is a u32 n, n u32 counts, then
//! the ids of all.

use super::super::media::{Form, Width};
use super::super::problem::Problem;
use super::list::{TEXTS, most};
use crate::engine::TokenId;

/// The width of a packed form.
pub(in crate::http) fn width(form: Form) -> Width {
    match form {
        Form::Packed(width) => width,
        Form::Json | Form::MessagePack | Form::Text | Form::Lines => Width::Bits32,
    }
}

/// One sequence.
///
/// # Errors
/// 400 for a length that is no multiple of the width.
pub(super) fn ids(body: &[u8], width: Width) -> Result<Vec<TokenId>, Problem> {
    if !body.len().is_multiple_of(width.bytes()) {
        return Err(Problem::bad_packed("the length of the body is no multiple of an id's"));
    }
    Ok(match width {
        Width::Bits16 => body.as_chunks().0.iter().map(|id| u16::from_le_bytes(*id).into()).collect(),
        Width::Bits32 => body.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).collect(),
    })
}

/// Several sequences.
///
/// # Errors
/// 400 where counts and ids are not as many as the body says, 422 for more sequences than a batch may have.
pub(super) fn batch(body: &[u8], width: Width) -> Result<Vec<Vec<TokenId>>, Problem> {
    let wrong = || Problem::bad_packed("the body is not n, n counts, and as many ids as the counts say");
    let (n, rest) = body.split_first_chunk().ok_or_else(wrong)?;
    let n = u32::from_le_bytes(*n) as usize;
    let counts = n.checked_mul(4).filter(|counts| *counts <= rest.len()).ok_or_else(wrong)?;
    if n > most(TEXTS) {
        return Err(Problem::too_many("/ids", most(TEXTS)));
    }
    let (counts, mut rest) = rest.split_at(counts);
    let mut all = Vec::with_capacity(n);
    for count in counts.as_chunks().0 {
        let bytes = (u32::from_le_bytes(*count) as usize).checked_mul(width.bytes()).ok_or_else(wrong)?;
        let (own, others) = rest.split_at_checked(bytes).ok_or_else(wrong)?;
        all.push(ids(own, width)?);
        rest = others;
    }
    if rest.is_empty() { Ok(all) } else { Err(wrong()) }
}

/// Appends ids. With 16 bits all of them must fit, which is seen to when the form of an answer is chosen.
pub(in crate::http) fn write(ids: &[TokenId], width: Width, out: &mut Vec<u8>) {
    out.reserve(ids.len() * width.bytes());
    match width {
        Width::Bits16 => out.extend(ids.iter().flat_map(|&id| (id as u16).to_le_bytes())),
        Width::Bits32 => out.extend(ids.iter().flat_map(|&id| id.to_le_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::within;
    use super::*;

    #[test]
    fn ids_come_back_as_they_were() {
        for width in [Width::Bits16, Width::Bits32] {
            let mut out = Vec::new();
            write(&[0, 1, 65535], width, &mut out);
            assert_eq!(out.len(), 3 * width.bytes());
            assert_eq!(ids(&out, width).unwrap(), [0, 1, 65535]);
            assert!(ids(&out[1..], width).is_err());
        }
    }

    #[test]
    fn a_batch_that_does_not_add_up_is_refused() {
        let pack = |numbers: &[u32]| -> Vec<u8> { numbers.iter().flat_map(|n| n.to_le_bytes()).collect() };
        let check = |numbers: &[u32], expect: Option<Vec<Vec<u32>>>| {
            assert_eq!(batch(&pack(numbers), Width::Bits32).ok(), expect, "{numbers:?}");
        };
        check(&[0], Some(vec![]));
        check(&[3, 2, 0, 1, 7, 8, 9], Some(vec![vec![7, 8], vec![], vec![9]]));
        check(&[], None);
        check(&[1], None);
        check(&[u32::MAX], None);
        let over = within([1; 4], || batch(&pack(&[2, 1, 1, 7, 8]), Width::Bits32)).unwrap_err();
        assert_eq!((over.status().as_u16(), over.pointer()), (422, Some("/ids")));
        within([usize::MAX; 4], || ());
        check(&[1, u32::MAX], None);
        check(&[1, 2, 7], None);
        check(&[1, 0, 7], None);
        assert!(batch(&[pack(&[1, 1]), vec![7]].concat(), Width::Bits16).is_err());
        assert_eq!(batch(&[pack(&[1, 1]), vec![7, 1]].concat(), Width::Bits16).unwrap(), [[263]]);
    }
}
