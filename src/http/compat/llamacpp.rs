//! llama.cpp: `/tokenize`, `/detokenize`, `/apply-template`, `/v1/chat/completions/input_tokens` (`tools/server`). Content may be an array of strings and ids,
//! which becomes one list; a piece that is no text is an array of its bytes.

use super::counting::{By, Conversation, count};
use super::vllm::{TokenizeChat, rendered};
use super::{Call, How, encode, message, status};
use crate::engine::{TokenId, Tokenizer};
use crate::http::extract::list;
use crate::http::problem::Problem;
use crate::http::reply::Made;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};
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
#[derive(Debug, Default)]
struct Content(Vec<Stretch>);

/// A string of the content, or ids that stand side by side.
#[derive(Debug)]
enum Stretch {
    Text(String),
    Ids(Vec<TokenId>),
}

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
                Ok(Content(vec![Stretch::Text(text.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
                let mut all = Vec::new();
                while let Some(piece) = seq.next_element()? {
                    let next = match (piece, all.last_mut()) {
                        (Piece::Id(id), Some(Stretch::Ids(ids))) => {
                            ids.push(id);
                            continue;
                        }
                        (Piece::Id(id), _) => Stretch::Ids(vec![id]),
                        (Piece::Text(text), _) => Stretch::Text(text),
                    };
                    if all.len() == list::most(list::TEXTS) {
                        return Err(list::over(list::most(list::TEXTS)));
                    }
                    all.push(next);
                }
                Ok(Content(all))
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
    let Content(content) = request.content.unwrap_or_default();
    let vocab = call.app.metrics.vocab(loaded.facts.name.as_str());
    let work = move || {
        let (mut ids, mut bytes) = (Vec::new(), 0);
        for stretch in content {
            match stretch {
                Stretch::Ids(mut all) => ids.append(&mut all),
                Stretch::Text(text) => {
                    bytes += text.len();
                    let how = How { add_special, parse_special, offsets: None, pointer: "/content" };
                    ids.append(&mut encode(&loaded.tokenizer, &[text], how)?.pop().unwrap_or_default().ids);
                }
            }
            // Only the first of them begins a text.
            add_special = false;
        }
        vocab.encoded(bytes as u64, ids.len() as u64);
        let tokens = if pieces { Tokens::Pieces(&loaded.tokenizer, &ids) } else { Tokens::Ids(&ids) };
        Ok::<_, Problem>(Made::by(&loaded.facts, &Tokenized { tokens }))
    };
    call.app.cpu.run(call.body.len(), work).await?
}

#[derive(Debug, Serialize)]
struct Tokenized<'t> {
    tokens: Tokens<'t>,
}

/// Ids, or each with its piece. Nothing is made of them but the body: there may be millions.
enum Tokens<'t> {
    Ids(&'t [TokenId]),
    Pieces(&'t Tokenizer, &'t [TokenId]),
}

impl Serialize for Tokens<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Spelt<'p> {
            Text(&'p str),
            Bytes(&'p [u8]),
        }
        #[derive(Serialize)]
        struct Token<'p> {
            id: TokenId,
            piece: Spelt<'p>,
        }
        match *self {
            Self::Ids(ids) => ids.serialize(serializer),
            Self::Pieces(tokenizer, ids) => {
                let mut all = serializer.serialize_seq(Some(ids.len()))?;
                for &id in ids {
                    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
                    let piece = std::str::from_utf8(&bytes).map_or(Spelt::Bytes(&bytes), Spelt::Text);
                    all.serialize_element(&Token { id, piece })?;
                }
                all.end()
            }
        }
    }
}

impl fmt::Debug for Tokens<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Ids(ids) | Self::Pieces(_, ids)) = self;
        write!(f, "{} tokens", ids.len())
    }
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

#[derive(Debug, Deserialize)]
struct InputTokens {
    model: Option<String>,
    messages: Vec<Value>,
    tools: Option<Vec<Value>>,
}

/// The tokens of a request for a chat completion.
pub(super) async fn input_tokens(call: Call) -> Result<Made, Problem> {
    let request: InputTokens = call.read().await?;
    let loaded = call.vocabulary(request.model.as_deref()).await?;
    let conversation = Conversation { messages: request.messages, tools: request.tools.unwrap_or_default() };
    let reply = |_: &_, tokens| json!({"object": "response.input_tokens", "input_tokens": tokens});
    count(&call, loaded, conversation, By::Template, reply).await
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
