//! `OpenVINO` model server: `/v3/tokenize`, also at `/v1/tokenize`. A list of texts is answered with lists.

use super::{Call, How, OneOrMany, message, status};
use crate::engine::{Encoding, TokenId};
use crate::http::encode::at_least_one;
use crate::http::problem::Problem;
use crate::http::reply::Made;
use crate::registry::Loaded;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Deserialize)]
struct Tokenize {
    text: OneOrMany<String>,
    model: Option<String>,
    add_special_tokens: Option<bool>,
    max_length: Option<u64>,
    pad_to_max_length: Option<bool>,
}

pub(super) async fn tokenize(call: Call) -> Result<Made, Problem> {
    let request: Tokenize = call.read().await?;
    let most = at_least_one("/max_length", request.max_length)?.unwrap_or(usize::MAX);
    if request.pad_to_max_length.unwrap_or(false) {
        return Err(Problem::invalid("/pad_to_max_length", "is not known here: a vocabulary has no padding"));
    }
    let loaded = call.vocabulary(request.model.as_deref()).await?;
    let how = How {
        add_special: request.add_special_tokens.unwrap_or(true),
        parse_special: true,
        offsets: None,
        pointer: "/text",
    };
    let (texts, many) = request.text.into_all();
    let reply = move |_: &Loaded, _: &[String], all: &[Encoding]| {
        let cut = |encoding: &Encoding| -> Vec<TokenId> { encoding.ids.iter().take(most).copied().collect() };
        if many {
            json!({"tokens": all.iter().map(cut).collect::<Vec<_>>()})
        } else {
            json!({"tokens": cut(&all[0])})
        }
    };
    call.encoded(loaded, texts, how, reply).await
}

pub(super) fn error(problem: &Problem) -> (u16, Value) {
    (status(problem), json!({"error": message(problem)}))
}
