//! The fields of a request as query fields, for bodies that are no objects. A list is its field given several times, or
//! its entries with commas between.

use super::super::problem::Problem;
use super::faults::{fault, tellable};
use crate::engine::TokenId;
use serde::de::value::{Error, SeqDeserializer, StringDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor,
};
use std::collections::BTreeMap;
use std::vec;

/// The value of a field that comes from a body.
#[derive(Debug)]
pub(in crate::http) enum Field {
    /// A text.
    Text(String),
    /// Ids.
    Ids(Vec<TokenId>),
    /// Sequences of ids.
    Batch(Vec<Vec<TokenId>>),
    /// What the query says, each time that it does.
    Query(Vec<String>),
}

/// The request whose fields are in `query`, but for the one in `body`.
///
/// # Errors
/// 422 that names the field at fault.
pub(super) fn fields<T: DeserializeOwned>(
    query: &str,
    body: Option<(&'static str, Field)>,
) -> Result<T, Problem> {
    let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in super::query::<Vec<(String, String)>>(query)? {
        given.entry(name).or_default().push(value);
    }
    let mut all: Vec<(String, Field)> =
        body.map(|(name, field)| (name.to_owned(), field)).into_iter().collect();
    all.extend(given.into_iter().map(|(name, values)| (name, Field::Query(values))));
    let fields = Fields { left: all.into_iter(), value: None };
    serde_path_to_error::deserialize(fields)
        .map_err(|located| fault(located.path(), &located.inner().to_string(), "/query"))
}

/// The first field of a query, if its name may be told.
pub(super) fn first_name(query: &str) -> &str {
    query.split(['=', '&']).next().and_then(tellable).unwrap_or_default()
}

struct Fields {
    left: vec::IntoIter<(String, Field)>,
    value: Option<Field>,
}

impl<'de> Deserializer<'de> for Fields {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((name, value)) = self.left.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(StringDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.value.take().unwrap_or(Field::Query(Vec::new())))
    }
}

impl Field {
    /// The one value of a field that is no list.
    fn single(self) -> Result<String, Error> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Query(mut values) if values.len() == 1 => Ok(values.pop().unwrap_or_default()),
            Self::Query(_) => Err(de::Error::custom("duplicate field of the query")),
            Self::Ids(_) | Self::Batch(_) => Err(de::Error::custom("a list")),
        }
    }

    fn parsed<T: std::str::FromStr>(self, expected: &dyn de::Expected) -> Result<T, Error> {
        let text = self.single()?;
        text.parse().map_err(|_| de::Error::invalid_type(de::Unexpected::Other("text"), expected))
    }
}

impl<'de> Deserializer<'de> for Field {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.single()?)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.single()?.as_str() {
            "true" | "1" => visitor.visit_bool(true),
            "false" | "0" => visitor.visit_bool(false),
            _ => Err(de::Error::invalid_type(de::Unexpected::Other("text"), &"true or false")),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let number = self.parsed(&visitor)?;
        visitor.visit_u32(number)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let number = self.parsed(&visitor)?;
        visitor.visit_u64(number)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        StringDeserializer::<Error>::new(self.single()?).deserialize_enum(name, variants, visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Ids(ids) => visitor.visit_seq(SeqDeserializer::new(ids.into_iter())),
            Self::Batch(batch) => visitor.visit_seq(SeqDeserializer::new(batch.into_iter())),
            Self::Text(_) => Err(de::Error::custom("a text")),
            Self::Query(values) => {
                let entries = values.iter().flat_map(|value| value.split(','));
                let entries: Vec<String> =
                    entries.filter(|entry| !entry.is_empty()).map(str::to_owned).collect();
                visitor.visit_seq(SeqDeserializer::new(entries.into_iter()))
            }
        }
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct map struct identifier ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Field {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Thing {
        text: String,
        max: Option<u64>,
        #[serde(default)]
        flag: bool,
        #[serde(default, rename = "return")]
        list: Vec<Kind>,
        #[serde(default)]
        kind: Kind,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        #[default]
        One,
        Two,
    }

    fn read(query: &str) -> Result<Thing, Problem> {
        fields(query, Some(("text", Field::Text("a".to_owned()))))
    }

    #[test]
    fn a_query_is_read_like_an_object() {
        let plain = Thing { text: "a".into(), max: None, flag: false, list: vec![], kind: Kind::One };
        assert_eq!(read("").unwrap(), plain);
        let all = read("max=5&flag=true&kind=two&return=one&return=two,one").unwrap();
        assert_eq!((all.max, all.flag, all.kind), (Some(5), true, Kind::Two));
        assert_eq!(all.list, [Kind::One, Kind::Two, Kind::One]);
        assert_eq!(read("return=").unwrap().list, []);
    }

    #[test]
    fn what_is_wrong_in_a_query_is_told_by_its_field() {
        let check = |query: &str, expect: &str| {
            let text = format!("{:?}", read(query).unwrap_err());
            assert!(text.contains(expect) && !text.contains("SECRET"), "{text}");
        };
        check(
            "max=-1",
            r#"detail: "must be a whole number from 0 to 18446744073709551615", pointer: Some("/query/max")"#,
        );
        check("max=SECRET", "pointer: Some(\"/query/max\")");
        check("max=1&max=2", "detail: \"is given twice\", pointer: Some(\"/query/max\")");
        check("flag=SECRET", "must be true or false");
        check("kind=SECRET", "must be `one` or `two`");
        check("return=one,SECRET", "pointer: Some(\"/query/return/1\")");
        check("nope=SECRET", "pointer: Some(\"/query/nope\")");
        check("text=SECRET", "detail: \"is given twice\", pointer: Some(\"/query/text\")");
    }

    #[test]
    fn ids_are_taken_from_the_body() {
        #[derive(Deserialize)]
        struct Ids {
            ids: Vec<Vec<u32>>,
        }
        let read: Ids = fields("", Some(("ids", Field::Batch(vec![vec![1, 2], vec![]])))).unwrap();
        assert_eq!(read.ids, [vec![1, 2], vec![]]);
    }
}
