//! JSON bodies.

use super::super::problem::Problem;
use super::faults::fault;
use serde::de::DeserializeOwned;

/// An object.
///
/// # Errors
/// 400 for what is no JSON, 422 that names the field at fault.
pub(in crate::http) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let text = simdutf8::compat::from_utf8(body).map_err(|e| Problem::invalid_utf8(e.valid_up_to()))?;
    // serde reads an array as the fields in their order: that order is no part of the contract.
    if text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('[') {
        return Err(Problem::invalid("", "must be an object"));
    }
    serde_json::from_str(text).map_err(|error| explain::<T>(text, &error))
}

/// Parses again, slower, to learn where the fault lies.
fn explain<T: DeserializeOwned>(text: &str, error: &serde_json::Error) -> Problem {
    use serde_json::error::Category;
    // A number where one of several words belongs is reported in the same way as what is no value at all.
    let is_json = || {
        error.to_string().starts_with("expected value")
            && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    };
    match error.classify() {
        Category::Syntax | Category::Eof | Category::Io if !is_json() => {
            Problem::bad_json(error.line(), error.column())
        }
        _ => {
            let mut parser = serde_json::Deserializer::from_str(text);
            let Err(located) = serde_path_to_error::deserialize::<_, T>(&mut parser) else {
                return Problem::internal();
            };
            fault(located.path(), &located.inner().to_string(), "")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Thing {
        text: String,
        #[serde(default)]
        ids: Vec<u32>,
        #[serde(default)]
        kind: Kind,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        #[default]
        One,
        Two,
    }

    #[track_caller]
    fn check(body: &str, status: u16, expect: &str) {
        let problem = parse::<Thing>(body.as_bytes()).unwrap_err();
        let text = format!("{problem:?}");
        assert!(!text.contains("SECRET"), "{text}");
        assert_eq!(problem.status().as_u16(), status, "{text}");
        assert!(text.contains(expect), "{text}");
    }

    #[test]
    fn faults_are_told_by_field_and_never_by_value() {
        check(r#"{"text":5}"#, 422, r#"detail: "must be a string", pointer: Some("/text")"#);
        check(
            r#"{"text":"a","ids":[1,"SECRET"]}"#,
            422,
            r#"detail: "must be a whole number from 0 to 4294967295", pointer: Some("/ids/1")"#,
        );
        check(r#"{"text":"a","ids":[1,-1]}"#, 422, r#"pointer: Some("/ids/1")"#);
        check(r#"{"text":"a","ids":[5000000000]}"#, 422, r#"pointer: Some("/ids/0")"#);
        check(r#"{"ids":[]}"#, 422, r#"detail: "is required", pointer: Some("/text")"#);
        check(r#"{"text":"a","txet":"SECRET"}"#, 422, r#"pointer: Some("/txet")"#);
        check(r#"{"text":"a","SECRET, expected x":1}"#, 422, "is not a field here");
        check(r#"{"text":"a","text":"b"}"#, 422, r#"detail: "is given twice", pointer: Some("/text")"#);
        check(r#"{"text":"a","kind":"SECRET"}"#, 422, "must be `one` or `two`");
        check(r#"{"text":"SECRET","kind":1}"#, 422, r#"pointer: Some("/kind")"#);
        check(r#""SECRET, expected y""#, 422, "must be an object");
        check(r#" ["SECRET",[1],"one"]"#, 422, "must be an object");
    }

    #[test]
    fn what_is_not_json_is_told_by_its_place() {
        check(r#"{"text":"SECRET"#, 400, "bad_json");
        check(r#"{"text":"\ud800"}"#, 400, "bad_json");
        check(r#"{"text":"a"} SECRET"#, 400, "bad_json");
        check("", 400, "bad_json");
        let problem = parse::<Thing>(b"{\"text\":\"a\xff\"}").unwrap_err();
        assert_eq!((problem.status().as_u16(), problem.code()), (400, "invalid_utf8"));
    }

    #[test]
    fn nesting_without_end_is_refused_and_harmless() {
        for body in ["[".repeat(100_000), r#"{"text":"#.to_owned() + &"[".repeat(100_000)] {
            let status = parse::<Thing>(body.as_bytes()).unwrap_err().status().as_u16();
            assert!(status == 400 || status == 422);
        }
    }
}
