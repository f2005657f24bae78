//! `/vocabs/{ref}/tokens` and `/vocabs/{ref}/stats`: what is in a vocabulary.

use super::super::encode::with_scratch;
use super::super::extract::{Path, Query};
use super::super::media::OBJECTS;
use super::super::problem::{Problem, ProblemBody};
use super::super::reply::{Answer, Ask, Made};
use super::super::state::AppState;
use super::segment;
use crate::analysis::stats::{ScriptStats, Stats, stats as figures};
use crate::analysis::tokens::{Filter, Token, page};
use crate::engine::{TokenId, TokenScript, Tokenizer};
use crate::jobs::VocabTriple;
use crate::registry::VocabRef;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// Which tokens.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct TokensQuery {
    /// A part of the token; a space also finds SentencePiece's mark for one.
    search: Option<String>,
    /// Its script: han, kana, hangul, latin, cyrillic, arabic, devanagari, thai, digit, punctuation, emoji, space, other,
    /// mixed (letters of several), bytes (parts of characters).
    script: Option<String>,
    /// Its least length in bytes.
    min_bytes: Option<usize>,
    /// Its greatest length in bytes.
    max_bytes: Option<usize>,
    /// `true`: only special and added tokens; `false`: only others.
    special: Option<bool>,
    /// Only tokens with an id over this: the `next` of the page before.
    after: Option<u32>,
    /// The most tokens of the page, from 1 to the setting `max_page` (1000); 100 when left out.
    #[param(minimum = 1)]
    limit: Option<usize>,
}

/// A page of tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct TokensReply {
    /// The version that has them. Pages of `name@3` are of one version; `name` may mean another one meanwhile.
    vocab: VocabTriple,
    /// By ascending id.
    tokens: Vec<TokenBody>,
    /// The `after` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<TokenId>,
}

impl Answer for TokensReply {}

/// A token.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Token)]
pub(in crate::http) struct TokenBody {
    /// Its id.
    id: TokenId,
    /// As text; null where its bytes are not UTF-8.
    text: Option<String>,
    /// Its bytes in base64.
    bytes_b64: String,
    /// How many there are.
    bytes: usize,
    /// What it is made of, as in the query.
    script: &'static str,
    /// `text`, `special`, `added` (found by its name always), or `unreached` (bytes of unknown characters and what is not used).
    kind: &'static str,
    /// The first merge that makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    merge: Option<MadeBy>,
}

/// The merge that makes a token.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct MadeBy {
    /// Its rank.
    rank: u32,
    /// Its left part.
    left: TokenId,
    /// Its right part.
    right: TokenId,
}

/// Figures of a vocabulary.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct StatsReply {
    /// The version.
    vocab: VocabTriple,
    /// Tokens, special ones included.
    tokens: u64,
    /// Tokens flagged special.
    special: u64,
    /// Other added tokens.
    added: u64,
    /// Tokens that stand for text by script, as in the query of `/vocabs/{ref}/tokens`.
    by_script: BTreeMap<&'static str, ScriptBody>,
    /// Tokens that stand for text by their length in bytes, ascending.
    by_bytes: Vec<LengthBody>,
    /// The same by their length in characters; those that are not UTF-8 are left out.
    by_characters: Vec<LengthBody>,
    /// The 20 longest tokens that stand for text, longest first.
    longest: Vec<ListedToken>,
    /// Tokens that no text leads to.
    unreachable: UnreachableBody,
    /// Tokens that are hardly more than steps to longer ones.
    residues: ResiduesBody,
}

impl Answer for StatsReply {}

/// Tokens of a script.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ScriptBody {
    /// How many there are.
    tokens: u64,
    /// Their share of all tokens that stand for text.
    share: f64,
    /// Bytes that one has, on average.
    mean_bytes: f64,
    /// Bytes of the longest.
    longest_bytes: usize,
}

/// Tokens of a length.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct LengthBody {
    /// The length.
    length: usize,
    /// How many there are.
    tokens: u64,
}

/// A token in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ListedToken {
    /// Its id.
    id: TokenId,
    /// As text; null where its bytes are not UTF-8.
    text: Option<String>,
    /// Its bytes in base64.
    bytes_b64: String,
    /// Why no text leads to it: `utf8` (its bytes are in no text), `split` (the split pattern parts it, looked at by itself),
    /// `merges` (merges do not lead to it, or other pieces have a higher score).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    why: Option<&'static str>,
}

/// Tokens that no text leads to.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct UnreachableBody {
    /// How many there are.
    count: u64,
    /// The first 100 by id.
    tokens: Vec<ListedToken>,
}

/// Tokens that are hardly more than steps to longer ones, an estimate by the ranks of merges alone: merges are made by
/// falling frequency, so that one of twice the rank was about half as frequent, and what merges take of a token is taken for
/// good. A residue keeps less than 5 % of its occurrences by that.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ResiduesBody {
    /// How many there are.
    count: u64,
    /// The first 100 by id.
    tokens: Vec<ListedToken>,
}

/// The tokens of a page unless asked.
const USUAL_PAGE: usize = 100;

/// The size of a page.
pub(super) fn page_size(app: &AppState, limit: Option<usize>) -> Result<usize, Problem> {
    let most = app.config.max_page;
    match limit {
        None => Ok(USUAL_PAGE.min(most)),
        Some(limit) if (1..=most).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::invalid("/query/limit", format!("must be from 1 to {most}"))),
    }
}

/// Browse the tokens of a version.
#[utoipa::path(get, path = "/vocabs/{ref}/tokens", operation_id = "list_tokens", tag = "vocabs",
    params(("ref" = String, Path, description = "`name`, `name@3` or `name@alias`"), TokensQuery,
        ("If-Match" = Option<String>, Header,
            description = "Digests, in quotes: refused with 412 unless the vocabulary is at one of them")),
    responses(
        (status = 200, description = "A page of tokens",
            content((TokensReply = "application/json"), (TokensReply = "application/msgpack")),
            headers(("Vocab" = String, description = "`name@version` of what made this"),
                ("ETag" = String, description = "Its digest, in quotes"))),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Overloaded", body = ProblemBody, content_type = "application/problem+json")))]
pub(in crate::http) async fn tokens(
    State(app): State<AppState>,
    ask: Ask,
    Path(text): Path<String>,
    Query(query): Query<TokensQuery>,
) -> Result<Made, Problem> {
    let wanted: VocabRef = segment("ref", &text)?;
    let limit = page_size(&app, query.limit)?;
    let script = match query.script.as_deref() {
        None => None,
        Some(name) => Some(TokenScript::from_name(name).ok_or_else(unknown_script)?),
    };
    let filter = Filter {
        search: query.search,
        script,
        min_bytes: query.min_bytes,
        max_bytes: query.max_bytes,
        special: query.special,
    };
    let loaded = app.registry.resolve(Some(&wanted)).await?;
    let settled = ask.settle(&loaded, OBJECTS)?;
    let size = loaded.facts.native_bytes as usize;
    app.cpu
        .run_elsewhere(size, move || {
            let page = page(&loaded.tokenizer, &filter, query.after, limit);
            let reply = TokensReply {
                vocab: VocabTriple::from(&*loaded.facts),
                next: page.tokens.last().filter(|_| page.more).map(|token| token.id),
                tokens: page.tokens.iter().map(TokenBody::from).collect(),
            };
            settled.made(&loaded, &reply)
        })
        .await
}

fn unknown_script() -> Problem {
    let names: Vec<&str> = TokenScript::all().map(TokenScript::name).collect();
    Problem::invalid("/query/script", format!("must be one of {}", names.join(", ")))
}

impl From<&Token<'_>> for TokenBody {
    fn from(token: &Token<'_>) -> Self {
        Self {
            id: token.id,
            text: std::str::from_utf8(token.bytes).ok().map(str::to_owned),
            bytes_b64: STANDARD.encode(token.bytes),
            bytes: token.bytes.len(),
            script: token.script.name(),
            kind: token.kind.name(),
            merge: token.merge.map(|(rank, left, right)| MadeBy { rank, left, right }),
        }
    }
}

/// Tell what a version is made of.
#[utoipa::path(get, path = "/vocabs/{ref}/stats", operation_id = "get_stats", tag = "vocabs",
    params(("ref" = String, Path, description = "`name`, `name@3` or `name@alias`"),
        ("If-Match" = Option<String>, Header,
            description = "Digests, in quotes: refused with 412 unless the vocabulary is at one of them")),
    responses(
        (status = 200, description = "The figures",
            content((StatsReply = "application/json"), (StatsReply = "application/msgpack")),
            headers(("Vocab" = String, description = "`name@version` of what made this"),
                ("ETag" = String, description = "Its digest, in quotes"))),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Overloaded", body = ProblemBody, content_type = "application/problem+json")))]
pub(in crate::http) async fn stats(
    State(app): State<AppState>,
    ask: Ask,
    Path(text): Path<String>,
) -> Result<Made, Problem> {
    let wanted: VocabRef = segment("ref", &text)?;
    let loaded = app.registry.resolve(Some(&wanted)).await?;
    let settled = ask.settle(&loaded, OBJECTS)?;
    let size = loaded.facts.native_bytes as usize;
    app.cpu
        .run_elsewhere(size, move || {
            let made = with_scratch(|scratch| figures(&loaded.tokenizer, scratch));
            let reply = stats_reply(&loaded.tokenizer, VocabTriple::from(&*loaded.facts), made);
            settled.made(&loaded, &reply)
        })
        .await
}

fn stats_reply(tokenizer: &Tokenizer, vocab: VocabTriple, made: Stats) -> StatsReply {
    let texts: u64 = made.by_bytes.values().sum();
    let listed = |id: TokenId, why: Option<&'static str>| {
        let bytes = tokenizer.vocab().bytes(id).unwrap_or_default();
        let text = std::str::from_utf8(bytes).ok().map(str::to_owned);
        ListedToken { id, text, bytes_b64: STANDARD.encode(bytes), why }
    };
    let script = |of: ScriptStats| ScriptBody {
        tokens: of.tokens,
        share: round(of.tokens as f64 / texts.max(1) as f64),
        mean_bytes: round(of.bytes as f64 / of.tokens.max(1) as f64),
        longest_bytes: of.longest,
    };
    let lengths = |of: BTreeMap<usize, u64>| {
        of.into_iter().map(|(length, tokens)| LengthBody { length, tokens }).collect()
    };
    StatsReply {
        vocab,
        tokens: made.tokens,
        special: made.special,
        added: made.added,
        by_script: made.by_script.into_iter().map(|(name, of)| (name.name(), script(of))).collect(),
        by_bytes: lengths(made.by_bytes),
        by_characters: lengths(made.by_characters),
        longest: made.longest.into_iter().map(|id| listed(id, None)).collect(),
        unreachable: UnreachableBody {
            count: made.unreachable,
            tokens: made
                .unreachable_tokens
                .into_iter()
                .map(|(id, why)| listed(id, Some(why.name())))
                .collect(),
        },
        residues: ResiduesBody {
            count: made.residues,
            tokens: made.residue_tokens.into_iter().map(|id| listed(id, None)).collect(),
        },
    }
}

/// Four digits behind the point.
fn round(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}
