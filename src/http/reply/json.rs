//! JSON written by hand where it is most of an answer: ids. Gives what `serde_json` gives, in less than half the time.

use crate::engine::TokenId;
use serde::Serialize;

/// An object under way.
#[derive(Debug)]
pub(in crate::http) struct Object<'o>(&'o mut Vec<u8>);

impl<'o> Object<'o> {
    pub(in crate::http) fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self(out)
    }

    /// A member whose value is written to what this gives. Names are ours and need no escapes.
    pub(in crate::http) fn member(&mut self, name: &str) -> &mut Vec<u8> {
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
        self.0
    }

    pub(in crate::http) fn raw(&mut self, name: &str, json: &str) {
        self.member(name).extend_from_slice(json.as_bytes());
    }

    pub(in crate::http) fn value(&mut self, name: &str, value: &impl Serialize) {
        serde_json::to_writer(self.member(name), value).expect("answers have string keys and finite numbers");
    }

    pub(in crate::http) fn ids(&mut self, name: &str, ids: &[TokenId]) {
        write_ids(ids, self.member(name));
    }

    pub(in crate::http) fn end(self) {
        self.0.push(b'}');
    }
}

/// Three digits and how many of them are not leading zeros, for each number below 1000.
const DIGITS: [[u8; 4]; 1000] = {
    let mut table = [[0; 4]; 1000];
    let mut n = 0;
    while n < 1000 {
        let length = if n < 10 {
            1
        } else if n < 100 {
            2
        } else {
            3
        };
        table[n] = [b'0' + (n / 100) as u8, b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8, length];
        n += 1;
    }
    table
};

/// Bytes of the longest number with a comma.
const LONGEST: usize = 11;
/// Numbers that are gathered before they go to the body.
const BLOCK: usize = 32;

/// Appends `[1,2,3]`. A number costs a look-up or two in a table of 4 KiB; ids of a million and more three and up.
pub(in crate::http) fn write_ids(ids: &[TokenId], out: &mut Vec<u8>) {
    out.reserve(2 + ids.len() * 6);
    out.push(b'[');
    for (n, block) in ids.chunks(BLOCK).enumerate() {
        // A place for the bytes that are written beyond a short number.
        let mut digits = [0u8; BLOCK * LONGEST + 4];
        let mut at = 0;
        for &id in block {
            digits[at] = b',';
            at += 1;
            let (high, low) = (id / 1000, (id % 1000) as usize);
            if high == 0 {
                at = leading(low, &mut digits, at);
                continue;
            }
            if high < 1000 {
                at = leading(high as usize, &mut digits, at);
            } else {
                let (top, middle) = (high / 1000, (high % 1000) as usize);
                at = if top < 1000 {
                    leading(top as usize, &mut digits, at)
                } else {
                    billions(top, &mut digits, at)
                };
                digits[at..at + 3].copy_from_slice(&DIGITS[middle][..3]);
                at += 3;
            }
            digits[at..at + 4].copy_from_slice(&DIGITS[low]);
            at += 3;
        }
        out.extend_from_slice(&digits[usize::from(n == 0)..at]);
    }
    out.push(b']');
}

/// Writes a number below 1000 without leading zeros; gives the place behind it.
fn leading(number: usize, digits: &mut [u8], at: usize) -> usize {
    let [a, b, c, length] = DIGITS[number];
    let written = match length {
        3 => [a, b, c, 0],
        2 => [b, c, 0, 0],
        _ => [c, 0, 0, 0],
    };
    digits[at..at + 4].copy_from_slice(&written);
    at + usize::from(length)
}

/// The first four digits of the greatest numbers.
fn billions(number: u32, digits: &mut [u8], at: usize) -> usize {
    let at = leading((number / 1000) as usize, digits, at);
    digits[at..at + 3].copy_from_slice(&DIGITS[(number % 1000) as usize][..3]);
    at + 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ids: &[TokenId]) {
        let mut out = b"x".to_vec();
        write_ids(ids, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("x{}", serde_json::to_string(ids).unwrap()));
    }

    #[test]
    fn ids_are_written_as_serde_json_writes_them() {
        check(&[]);
        let edges = (0..10).flat_map(|n| {
            let power = 10u32.pow(n);
            [power - 1, power, power + 1, power.saturating_mul(3), power.saturating_mul(9)]
        });
        let edges: Vec<u32> = edges.chain([u32::MAX, u32::MAX - 1, 4_000_000_000, 1_001_001]).collect();
        check(&edges);
        edges.iter().for_each(|id| check(&[*id]));
        for length in [1, 31, 32, 33, 64, 1000] {
            check(&vec![u32::MAX; length]);
            check(&(0..length as u32).map(|n| n.wrapping_mul(2_654_435_761) >> (n % 32)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn objects_have_commas_between_their_members() {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        object.raw("a", "{}");
        object.value("b", &[1]);
        object.ids("c", &[7]);
        object.end();
        assert_eq!(out, br#"{"a":{},"b":[1],"c":[7]}"#);
    }
}
