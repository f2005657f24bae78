//! Lists of a request that may have so many entries. One more ends the reading: a body of a few MiB of empty texts would
//! else take many times that before anybody counts them.

use crate::config::Config;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

/// Which setting limits a [`List`]: `max_batch_texts`.
pub(in crate::http) const TEXTS: usize = 0;
/// Or `max_allowed_special`.
pub(in crate::http) const NAMES: usize = 1;
/// Or `max_compare_vocabs`.
pub(in crate::http) const VOCABS: usize = 2;
/// Or `max_compare_models`.
pub(in crate::http) const MODELS: usize = 3;

/// A list whose limit is the setting `OF`.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::http) struct List<T, const OF: usize = TEXTS>(pub(in crate::http) Vec<T>);

impl<T, const OF: usize> Default for List<T, OF> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const OF: usize> Deref for List<T, OF> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

/// What those settings are.
pub(in crate::http) type Limits = [usize; 4];

/// The limits that a server has.
pub(in crate::http) fn limits(config: &Config) -> Limits {
    [config.max_batch_texts, config.max_allowed_special, config.max_compare_vocabs, config.max_compare_models]
}

thread_local! {
    /// The limits of the server whose request this thread is reading: what derives read has no other way to know them.
    static LIMITS: Cell<Limits> = const { Cell::new([usize::MAX; 4]) };
}

/// Reads a request within the limits.
pub(in crate::http) fn within<T>(limits: Limits, read: impl FnOnce() -> T) -> T {
    LIMITS.set(limits);
    read()
}

/// The limit of a list, inside [`within`].
pub(in crate::http) fn most(of: usize) -> usize {
    LIMITS.get()[of]
}

/// The error of a list that is over its limit.
pub(in crate::http) fn over<E: de::Error>(limit: usize) -> E {
    E::custom(format_args!("over {limit} entries"))
}

/// The limit that such an error names.
pub(super) fn limit_of(message: &str) -> Option<usize> {
    message.strip_prefix("over ")?.split_once(" entries")?.0.parse().ok()
}

/// The rest of a list that has its first entries already; [`over`] where they become more than `limit`.
pub(in crate::http) fn rest<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(
    mut list: Vec<T>,
    mut seq: A,
    limit: usize,
) -> Result<Vec<T>, A::Error> {
    while list.len() < limit {
        match seq.next_element()? {
            Some(entry) => list.push(entry),
            None => return Ok(list),
        }
    }
    match seq.next_element::<IgnoredAny>()? {
        Some(_) => Err(over(limit)),
        None => Ok(list),
    }
}

impl<'de, T: Deserialize<'de>, const OF: usize> Deserialize<'de> for List<T, OF> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T, const OF: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const OF: usize> Visitor<'de> for Entries<T, OF> {
            type Value = List<T, OF>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                rest(Vec::new(), seq, most(OF)).map(List)
            }
        }
        deserializer.deserialize_seq(Entries(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::value::{Error, SeqDeserializer};

    #[test]
    fn reading_ends_with_the_first_entry_over_the_limit() {
        // Entries without end: only what stops by itself comes to one.
        let endless = || SeqDeserializer::<_, Error>::new(std::iter::repeat(""));
        let error = within([3, 2, 1, 1], || List::<String>::deserialize(endless())).unwrap_err();
        assert_eq!(limit_of(&error.to_string()), Some(3));
        let error = within([3, 2, 1, 1], || List::<String, NAMES>::deserialize(endless())).unwrap_err();
        assert_eq!(limit_of(&error.to_string()), Some(2));
        let full = SeqDeserializer::<_, Error>::new(["a", "b"].into_iter());
        let full = within([2, 1, 1, 1], || List::<String>::deserialize(full)).unwrap();
        assert_eq!(*full, ["a", "b"]);
        assert_eq!(limit_of("over there"), None);
    }
}
