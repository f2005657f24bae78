//! `/explain`: how a text becomes its tokens, step by step.

use super::encode::{SpecialName, policy, with_scratch};
use super::extract::list::{List, NAMES};
use super::extract::{Sent, Text};
use super::media::OBJECTS;
use super::problem::{Problem, ProblemBody};
use super::reply::{Answer, Ask, Made};
use super::state::AppState;
use super::wanted::wanted;
use crate::analysis::explain::{Explanation, Part, Pretoken, Step, Symbol, Way, explain as explained};
use crate::engine::{TokenId, Tokenizer};
use crate::jobs::VocabTriple;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Range;
use utoipa::ToSchema;

/// A text to explain.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainRequest {
    /// The text, of at most `max_explain_bytes` (4,096).
    #[schema(example = "Hello, 世界!")]
    text: String,
    /// The vocabulary: `name`, `name@3` or `name@alias`. Without it the default one.
    vocab: Option<String>,
    /// The same as `vocab`; only one of the two may be given.
    model: Option<String>,
    /// What the names of special tokens inside the text mean: plain text, the tokens, or an error.
    #[serde(default)]
    #[schema(default = json!("text"))]
    special: SpecialName,
    /// Names that are parsed whatever `special` is.
    #[serde(default)]
    #[schema(default = json!([]), value_type = Vec<String>)]
    allowed_special: List<String, NAMES>,
}

/// How a text becomes its tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExplainReply {
    /// The version that made this.
    vocab: VocabTriple,
    /// Number of tokens.
    count: usize,
    /// Their ids, as `/encode` gives them.
    #[schema(value_type = Vec<u32>)]
    ids: Vec<TokenId>,
    /// Stretches of the text that the normalizer changed.
    normalized: Vec<NormalizedBody>,
    /// Special tokens and pretokens, in the order of the text.
    pieces: Vec<PieceBody>,
    /// Every token that is named above, by id.
    tokens: Vec<NamedToken>,
}

impl Answer for ExplainReply {}

/// A stretch of the text that the normalizer changed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NormalizedStretch)]
pub(super) struct NormalizedBody {
    /// Its first byte in the text.
    start: usize,
    /// The byte behind its last.
    end: usize,
    /// What it became.
    text: String,
}

/// How a pretoken became tokens.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum WayName {
    /// It is a special or added token, found by its name.
    Special,
    /// It is a token as a whole; where merges lead to it too, `symbols` and `merges` tell them.
    Whole,
    /// By merges: `symbols` and `merges` tell them.
    Merges,
    /// By the highest sum of scores: `best` and `score` tell it.
    Best,
}

/// A special token or a pretoken.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ExplainedPiece)]
pub(super) struct PieceBody {
    /// How it became tokens.
    way: WayName,
    /// Its first byte in the text.
    start: usize,
    /// The byte behind its last.
    end: usize,
    /// What the model sees: normalized text.
    text: String,
    /// Its tokens, each with the bytes of `text` that it stands for.
    tokens: Vec<PlacedToken>,
    /// What it begins as.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    symbols: Vec<SymbolBody>,
    /// The merges, in the order in which they are made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    merges: Vec<MergeBody>,
    /// The pieces of the best way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    best: Vec<BestBody>,
    /// The sum of their scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    score: Option<f64>,
}

/// A token in a piece.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PlacedToken {
    /// Its id.
    id: TokenId,
    /// Its first byte in the text of the piece.
    start: usize,
    /// The byte behind its last.
    end: usize,
}

/// What merges begin with.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Symbol)]
pub(super) struct SymbolBody {
    /// Its token; null for a character that is no token.
    id: Option<TokenId>,
    /// Its first byte in the text of the piece.
    start: usize,
    /// The byte behind its last.
    end: usize,
}

/// A merge: the symbols that stand at `start..end` become one.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MergeStep)]
pub(super) struct MergeBody {
    /// Its rank: of all merges that are possible the lowest goes first, and of that the leftmost.
    rank: u32,
    /// The left symbol; null for a character that is no token.
    left: Option<TokenId>,
    /// The right symbol; null for a character that is no token.
    right: Option<TokenId>,
    /// What they become.
    id: TokenId,
    /// Its first byte in the text of the piece.
    start: usize,
    /// The byte behind its last.
    end: usize,
}

/// A piece of the best way.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BestPiece)]
pub(super) struct BestBody {
    /// Its tokens: one, or those of the bytes of what is unknown.
    #[schema(value_type = Vec<u32>)]
    ids: Vec<TokenId>,
    /// Its first byte in the text of the piece.
    start: usize,
    /// The byte behind its last.
    end: usize,
    /// What it adds to the sum.
    score: f64,
    /// Whether no token spells it.
    unknown: bool,
}

/// A token by id.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NamedToken {
    /// Its id.
    id: TokenId,
    /// As text; bytes that are not UTF-8 are replaced.
    text: String,
    /// Its bytes in base64.
    bytes_b64: String,
}

/// Explain how a text becomes its tokens.
#[utoipa::path(post, path = "/explain", tag = "analysis", 
    request_body(description = "The text with options; as text/plain the text alone, with the options as query fields",
        content((ExplainRequest = "application/json"), (ExplainRequest = "application/msgpack"), (String = "text/plain"))),
    params(("If-Match" = Option<String>, Header,
        description = "Digests, in quotes: refused with 412 unless the vocabulary is at one of them")),
    responses(
    (status = 200, description = "The steps",
        content((ExplainReply = "application/json"), (ExplainReply = "application/msgpack")),
        headers(("Vocab" = String, description = "`name@version` of what made this"),
            ("ETag" = String, description = "Its digest, in quotes"))),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", description = "Overloaded", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn explain(
    State(app): State<AppState>,
    ask: Ask,
    sent: Sent<ExplainRequest, Text>,
) -> Result<Made, Problem> {
    answered(&app, &ask, sent.request).await.map_err(|problem| sent.place.of(problem, "text"))
}

async fn answered(app: &AppState, ask: &Ask, request: ExplainRequest) -> Result<Made, Problem> {
    let vocab = wanted(request.vocab.as_deref(), request.model.as_deref())?;
    let most = app.config.max_explain_bytes;
    if request.text.len() > most {
        return Err(Problem::text_too_long("/text", most));
    }
    let loaded = app.registry.resolve(vocab.as_ref()).await?;
    let settled = ask.settle(&loaded, OBJECTS)?;
    app.cpu
        .run_elsewhere(request.text.len(), move || {
            let tokenizer = &loaded.tokenizer;
            let matcher = tokenizer.matcher(&policy(request.special, &request.allowed_special));
            let matcher = matcher.map_err(|e| Problem::encode("/allowed_special", &e.into()))?;
            let made = with_scratch(|scratch| explained(tokenizer, &request.text, most, &matcher, scratch));
            let made = made.map_err(|e| Problem::explain(&e))?;
            let reply = reply(tokenizer, VocabTriple::from(&*loaded.facts), &request.text, made);
            Ok(settled.made(&loaded, &reply))
        })
        .await?
}

fn reply(tokenizer: &Tokenizer, vocab: VocabTriple, text: &str, made: Explanation) -> ExplainReply {
    let mut named: BTreeSet<TokenId> = made.ids.iter().copied().collect();
    let (mut normalized, mut pieces) = (Vec::new(), Vec::new());
    for part in made.parts {
        match part {
            Part::Token { id, span } => {
                let own = text.get(span.start..span.end).unwrap_or_default().to_owned();
                let token = PlacedToken { id, start: 0, end: own.len() };
                pieces.push(PieceBody {
                    tokens: vec![token],
                    ..piece(WayName::Special, span.start..span.end, own)
                });
            }
            Part::Stretch { span, text: changed, pretokens } => {
                if text.get(span.start..span.end) != Some(&changed) {
                    normalized.push(NormalizedBody { start: span.start, end: span.end, text: changed });
                }
                pieces.extend(pretokens.into_iter().map(|pretoken| pretoken_body(pretoken, &mut named)));
            }
        }
    }
    let tokens = named.into_iter().map(|id| {
        let bytes = tokenizer.vocab().bytes(id).unwrap_or_default();
        NamedToken {
            id,
            text: String::from_utf8_lossy(bytes).into_owned(),
            bytes_b64: STANDARD.encode(bytes),
        }
    });
    ExplainReply { vocab, count: made.ids.len(), ids: made.ids, normalized, pieces, tokens: tokens.collect() }
}

fn piece(way: WayName, range: Range<usize>, text: String) -> PieceBody {
    PieceBody {
        way,
        start: range.start,
        end: range.end,
        text,
        tokens: Vec::new(),
        symbols: Vec::new(),
        merges: Vec::new(),
        best: Vec::new(),
        score: None,
    }
}

fn pretoken_body(pretoken: Pretoken, named: &mut BTreeSet<TokenId>) -> PieceBody {
    let Pretoken { text, span, tokens, way, .. } = pretoken;
    let mut body = piece(WayName::Whole, span.start..span.end, text);
    let placed = tokens.into_iter().map(|(id, range)| PlacedToken { id, start: range.start, end: range.end });
    body.tokens = placed.collect();
    match way {
        Way::Whole { start, steps } => set_merges(&mut body, start, steps, named),
        Way::Merges { start, steps } => {
            body.way = WayName::Merges;
            set_merges(&mut body, start, steps, named);
        }
        Way::Best { pieces, score } => {
            body.way = WayName::Best;
            body.score = Some(score);
            let pieces = pieces.into_iter().map(|piece| BestBody {
                ids: piece.ids,
                start: piece.range.start,
                end: piece.range.end,
                score: piece.score,
                unknown: piece.unknown,
            });
            body.best = pieces.collect();
        }
    }
    body
}

fn set_merges(body: &mut PieceBody, start: Vec<Symbol>, steps: Vec<Step>, named: &mut BTreeSet<TokenId>) {
    named.extend(start.iter().filter_map(|symbol| symbol.id));
    named.extend(steps.iter().map(|step| step.id));
    let symbols = start.into_iter();
    body.symbols = symbols.map(|s| SymbolBody { id: s.id, start: s.range.start, end: s.range.end }).collect();
    let merges = steps.into_iter().map(|step| MergeBody {
        rank: step.rank,
        left: step.left,
        right: step.right,
        id: step.id,
        start: step.range.start,
        end: step.range.end,
    });
    body.merges = merges.collect();
}
