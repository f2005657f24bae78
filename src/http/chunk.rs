//! `/chunk`: a text in stretches of at most so many tokens.

use super::encode::{SpecialName, at_least_one, policy, with_scratch};
use super::extract::list::{List, NAMES};
use super::extract::{Sent, Text};
use super::media::OBJECTS;
use super::problem::{Problem, ProblemBody};
use super::reply::{Answer, Ask, Made};
use super::state::AppState;
use super::wanted::wanted;
use crate::analysis::chunk::{Boundary, Chunk, ChunkOptions, chunks};
use crate::jobs::VocabTriple;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A text to cut.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChunkRequest {
    /// The text.
    #[schema(example = "One sentence. Another one! 还有一句。")]
    text: String,
    /// The most tokens of a chunk, at least 1.
    #[schema(minimum = 1, example = 8)]
    size: u64,
    /// The most tokens that a chunk repeats of the one before; less than `size`. Encoded by itself what is repeated has no more.
    #[serde(default)]
    #[schema(default = 0)]
    overlap: u64,
    /// Where chunks end. One that is over the size ends at the next smaller boundary: lines are parted into sentences,
    /// sentences into words, words into tokens, tokens into characters. What is repeated begins at one of these, too.
    #[serde(default)]
    #[schema(default = json!("token"))]
    boundary: BoundaryName,
    /// The vocabulary: `name`, `name@3` or `name@alias`. Without it the default one.
    vocab: Option<String>,
    /// The same as `vocab`; only one of the two may be given.
    model: Option<String>,
    /// Count the tokens that the vocabulary puts around a text (such as BOS), in each chunk.
    #[serde(default)]
    #[schema(default = false)]
    add_special_tokens: bool,
    /// What the names of special tokens inside the text mean: plain text, the tokens, or an error.
    #[serde(default)]
    #[schema(default = json!("text"))]
    special: SpecialName,
    /// Names that are parsed whatever `special` is.
    #[serde(default)]
    #[schema(default = json!([]), value_type = Vec<String>)]
    allowed_special: List<String, NAMES>,
}

/// Where chunks end.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum BoundaryName {
    /// Between tokens.
    #[default]
    Token,
    /// Between words (Unicode Standard Annex 29).
    Word,
    /// Behind line ends.
    Line,
    /// Between sentences (Unicode Standard Annex 29).
    Sentence,
}

/// The chunks of a text.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChunkReply {
    /// The version that made this.
    vocab: VocabTriple,
    /// In the order of the text; without overlap they are the text when joined.
    chunks: Vec<ChunkBody>,
}

impl Answer for ChunkReply {}

/// A chunk.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Chunk)]
pub(super) struct ChunkBody {
    /// Its first byte in the text.
    start: usize,
    /// The byte behind its last.
    end: usize,
    /// Characters (Unicode scalar values) before it.
    char_start: usize,
    /// The same with its own.
    char_end: usize,
    /// Tokens of its own text, encoded by itself.
    count: usize,
}

impl From<&Chunk> for ChunkBody {
    fn from(chunk: &Chunk) -> Self {
        let Chunk { start, end, char_start, char_end, count } = *chunk;
        Self { start, end, char_start, char_end, count }
    }
}

/// What cutting costs for each byte beside encoding it once.
const WORK_PER_BYTE: usize = 4;

/// Cut a text into chunks of at most `size` tokens.
#[utoipa::path(post, path = "/chunk", tag = "analysis", 
    request_body(description = "The text with options; as text/plain the text alone, with the options as query fields",
        content((ChunkRequest = "application/json"), (ChunkRequest = "application/msgpack"), (String = "text/plain"))),
    params(("If-Match" = Option<String>, Header,
        description = "Digests, in quotes: refused with 412 unless the vocabulary is at one of them")),
    responses(
    (status = 200, description = "The chunks",
        content((ChunkReply = "application/json"), (ChunkReply = "application/msgpack")),
        headers(("Vocab" = String, description = "`name@version` of what made this"),
            ("ETag" = String, description = "Its digest, in quotes"))),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", description = "Overloaded", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn chunk(
    State(app): State<AppState>,
    ask: Ask,
    sent: Sent<ChunkRequest, Text>,
) -> Result<Made, Problem> {
    chunked(&app, &ask, sent.request).await.map_err(|problem| sent.place.of(problem, "text"))
}

async fn chunked(app: &AppState, ask: &Ask, request: ChunkRequest) -> Result<Made, Problem> {
    let vocab = wanted(request.vocab.as_deref(), request.model.as_deref())?;
    let size = at_least_one("/size", Some(request.size))?.unwrap_or(usize::MAX);
    let overlap = usize::try_from(request.overlap).unwrap_or(usize::MAX);
    if overlap >= size {
        return Err(Problem::chunk(&crate::analysis::chunk::ChunkError::Overlap));
    }
    let loaded = app.registry.resolve(vocab.as_ref()).await?;
    let settled = ask.settle(&loaded, OBJECTS)?;
    let (bytes, version) = (request.text.len(), loaded.facts.clone());
    let max_chunks = app.config.max_chunks;
    // With overlap a byte is encoded once for each chunk that it is in.
    let repeats = size / (size - overlap);
    let work = bytes.saturating_mul(WORK_PER_BYTE).saturating_mul(repeats);
    let (made, tokens) = app
        .cpu
        .run(work, move || {
            let matcher = loaded.tokenizer.matcher(&policy(request.special, &request.allowed_special));
            let matcher = matcher.map_err(|e| Problem::encode("/allowed_special", &e.into()))?;
            let options = ChunkOptions {
                size,
                overlap,
                boundary: match request.boundary {
                    BoundaryName::Token => Boundary::Token,
                    BoundaryName::Word => Boundary::Word,
                    BoundaryName::Line => Boundary::Line,
                    BoundaryName::Sentence => Boundary::Sentence,
                },
                add_special: request.add_special_tokens,
                matcher: &matcher,
                max_chunks,
            };
            let made = with_scratch(|scratch| chunks(&loaded.tokenizer, &request.text, &options, scratch));
            let made = made.map_err(|e| Problem::chunk(&e))?;
            let tokens: usize = made.iter().map(|chunk| chunk.count).sum();
            let reply = ChunkReply {
                vocab: VocabTriple::from(&*loaded.facts),
                chunks: made.iter().map(ChunkBody::from).collect(),
            };
            Ok::<_, Problem>((settled.made(&loaded, &reply), tokens))
        })
        .await??;
    app.metrics.vocab(version.name.as_str()).encoded(bytes as u64, tokens as u64);
    Ok(made)
}
