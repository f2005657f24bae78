//! `MessagePack` bodies: the same objects as in JSON, with the same names.

use super::super::problem::Problem;
use super::faults::fault;
use rmp_serde::decode::Error;
use serde::de::DeserializeOwned;

/// The nesting that JSON bodies may have as well.
const DEPTH: usize = 128;

/// An object.
///
/// # Errors
/// 400 for what is no `MessagePack`, 422 that names the field at fault.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // The parser would read an array as the fields in their order: that order is no part of the contract.
    if !matches!(body.first(), Some(0x80..=0x8f | 0xde | 0xdf)) {
        return Err(match body.first() {
            None | Some(0xc1) => Problem::bad_msgpack(),
            Some(_) => Problem::invalid("", "must be an object"),
        });
    }
    let mut rest = body;
    let mut parser = rmp_serde::Deserializer::new(&mut rest);
    parser.set_max_depth(DEPTH);
    let value = serde_path_to_error::deserialize(&mut parser);
    let value = value.map_err(|located| match located.inner() {
        Error::InvalidMarkerRead(_) | Error::InvalidDataRead(_) | Error::DepthLimitExceeded => {
            Problem::bad_msgpack()
        }
        Error::TypeMismatch(_)
        | Error::OutOfRange
        | Error::LengthMismatch(_)
        | Error::Uncategorized(_)
        | Error::Syntax(_)
        | Error::Utf8Error(_) => fault(located.path(), &located.inner().to_string(), ""),
    })?;
    if rest.is_empty() { Ok(value) } else { Err(Problem::bad_msgpack()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Thing {
        text: String,
        #[serde(default)]
        ids: Vec<u32>,
    }

    fn packed(value: &serde_json::Value) -> Vec<u8> {
        rmp_serde::to_vec_named(value).unwrap()
    }

    #[test]
    fn objects_are_read_as_in_json() {
        let body = packed(&serde_json::json!({"text": "SECRET", "ids": [1, 70000]}));
        assert_eq!(parse::<Thing>(&body).unwrap(), Thing { text: "SECRET".into(), ids: vec![1, 70000] });
        let check = |body: &[u8], status: u16, expect: &str| {
            let text = format!("{:?}", parse::<Thing>(body).unwrap_err());
            assert!(text.contains(expect) && text.contains(&format!("status: {status}")), "{text}");
            assert!(!text.contains("SECRET"), "{text}");
        };
        check(&[], 400, "bad_msgpack");
        check(&body[..body.len() - 1], 400, "bad_msgpack");
        check(&[&body[..], b"x"].concat(), 400, "bad_msgpack");
        check(&[0xc1], 400, "bad_msgpack");
        check(&packed(&serde_json::json!(["SECRET"])), 422, "must be an object");
        check(&packed(&serde_json::json!({"text": 5})), 422, "pointer: Some(\"/text\")");
        check(
            &packed(&serde_json::json!({"text": "a", "ids": [1, "SECRET"]})),
            422,
            "pointer: Some(\"/ids/1\")",
        );
        check(&packed(&serde_json::json!({"text": "a", "ids": [1, -1]})), 422, "a whole number from 0");
        check(&packed(&serde_json::json!({"txet": "SECRET"})), 422, "pointer: Some(\"/txet\")");
        check(&packed(&serde_json::json!({"ids": []})), 422, "pointer: Some(\"/text\")");
        // A string and an array that say they are longer than all there is.
        check(&[&[0x81, 0xa4][..], b"text", &[0xdb, 0xff, 0xff, 0xff, 0xff]].concat(), 400, "bad_msgpack");
        check(&[&[0x81, 0xa3][..], b"ids", &[0xdd, 0xff, 0xff, 0xff, 0xff]].concat(), 400, "bad_msgpack");
        let deep = [&[0x81, 0xa3][..], b"ids", &[0x91; 100_000]].concat();
        assert!(parse::<Thing>(&deep).is_err());
    }
}
