//! llama.cpp: `/tokenize`, `/detokenize`, `/apply-template` (`tools/server`). Content may be an array of strings and ids,
//! which becomes one list; a piece that is no text is an array of its bytes.

use super::vllm::{TokenizeChat, rendered};
use super::{Call, How, encode, message, status};
use crate::engine::TokenId;
use crate::http::problem::Problem;
use crate::http::reply::Made;
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde_json::{Value, json};
use std::fmt;

#[derive(Debug, Deserialize)]
struct Tokenize {
    content: Option<Content>,
    add_special: Option<bool>,
    parse_special: Option<bool>,
    with_pieces: Option<bool>,
    model: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Detokenize {
    tokens: Option<Vec<TokenId>>,
    model: Option<String>,
}

/// A string, or strings and ids.
#[derive(Debug)]
struct Content(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Text(String),
    Id(TokenId),
}

struct PieceVisitor;

impl<'de> Visitor<'de> for PieceVisitor {
    type Value = Piece;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a whole number from 0 to 4294967295")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Piece, E> {
        Ok(Piece::Text(text.to_owned()))
    }

    fn visit_u64<E: de::Error>(self, id: u64) -> Result<Piece, E> {
        let id = u32::try_from(id).map(Piece::Id);
        id.map_err(|_| E::invalid_value(de::Unexpected::Other("number"), &self))
    }
}

impl<'de> Deserialize<'de> for Piece {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PieceVisitor)
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pieces;
        impl<'de> Visitor<'de> for Pieces {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings and ids")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Content, E> {
                Ok(Content(vec![Piece::Text(text.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Content, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(Content)
            }
        }
        deserializer.deserialize_any(Pieces)
    }
}

pub(super) async fn tokenize(call: Call) -> Result<Made, Problem> {
    let request: Tokenize = call.read().await?;
    let loaded = call.vocabulary(request.model.as_deref()).await?;
    let parse_special = request.parse_special.unwrap_or(true);
    let mut add_special = request.add_special.unwrap_or(false);
    let pieces = request.with_pieces.unwrap_or(false);
    let content = request.content.map_or_else(Vec::new, |content| content.0);
    let vocab = call.app.metrics.vocab(loaded.facts.name.as_str());
    let work = move || {
        let (mut ids, mut bytes) = (Vec::new(), 0);
        for piece in content {
            match piece {
                Piece::Id(id) => ids.push(id),
                Piece::Text(text) => {
                    bytes += text.len();
                    let how = How { add_special, parse_special, offsets: false, pointer: "/content" };
                    ids.append(&mut encode(&loaded.tokenizer, &[text], how)?.pop().unwrap_or_default().ids);
                }
            }
            // Only the first of them begins a text.
            add_special = false;
        }
        vocab.encoded(bytes as u64, ids.len() as u64);
        let body = if pieces {
            let piece = |&id: &TokenId| {
                let bytes = loaded.tokenizer.token_bytes(id).unwrap_or_default();
                match std::str::from_utf8(&bytes) {
                    Ok(text) => json!({"id": id, "piece": text}),
                    Err(_) => json!({"id": id, "piece": &bytes[..]}),
                }
            };
            json!({"tokens": ids.iter().map(piece).collect::<Vec<_>>()})
        } else {
            json!({ "tokens": ids })
        };
        Ok::<_, Problem>(Made::by(&loaded.facts, &body))
    };
    call.app.cpu.run(call.body.len(), work).await?
}

pub(super) async fn detokenize(call: Call) -> Result<Made, Problem> {
    let request: Detokenize = call.read().await?;
    let loaded = call.vocabulary(request.model.as_deref()).await?;
    let tokens = request.tokens.unwrap_or_default();
    call.decoded(loaded, vec![tokens], false, |mut texts| json!({"content": texts.pop()})).await
}

pub(super) async fn apply_template(call: Call) -> Result<Made, Problem> {
    let request: TokenizeChat = call.read().await?;
    let (loaded, text) = rendered(&call, request).await?;
    Ok(Made::by(&loaded.facts, &json!({ "prompt": text })))
}

pub(super) fn error(problem: &Problem) -> (u16, Value) {
    let status = match problem.code() {
        "not_countable" => 501,
        _ => status(problem),
    };
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        501 => "not_supported_error",
        429 | 503 => "unavailable_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    (status, json!({"error": {"code": status, "message": message(problem), "type": kind}}))
}
