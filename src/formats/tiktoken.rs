//! tiktoken files: a line a token, `base64(bytes) rank`.
//!
//! The rank is the id and the merge priority at once, and any two neighbours merge whose bytes joined are a token.
//! The engine wants merges by pair, so they are derived here (`derive_merges`). Split pattern, special tokens and
//! normalizer are not in the file: published files are known by their digest, for others the caller says them.

use super::{FormatError, ImportOptions, native};
use crate::engine::{
    Merge, Normalizer, Pattern, Scratch, Special, TokenId, Tokenizer, TokenizerError, TokenizerParts, Vocab,
    VocabError, merge_by,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::collections::HashMap;

/// Longest token taken, in bytes. The longest of the published files has 128.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A published file and what it does not say itself.
struct Published {
    sha256: &'static str,
    split: &'static str,
    normalizer: Normalizer,
    specials: fn() -> Vec<(String, TokenId)>,
}

/// Facts as in the tiktoken package (and, for Qwen and Llama 3, the models' own code).
const PUBLISHED: [Published; 6] = [
    Published {
        sha256: "sha256:223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        split: "cl100k",
        normalizer: Normalizer::None,
        specials: || {
            let fim = ["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"];
            let fim = fim.into_iter().map(str::to_owned).zip(100_257..);
            fim.chain([("<|endofprompt|>".to_owned(), 100_276)]).collect()
        },
    },
    Published {
        sha256: "sha256:446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        split: "o200k",
        normalizer: Normalizer::None,
        specials: || vec![("<|endoftext|>".to_owned(), 199_999), ("<|endofprompt|>".to_owned(), 200_018)],
    },
    Published {
        sha256: "sha256:306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
        split: "gpt2",
        normalizer: Normalizer::None,
        specials: || vec![("<|endoftext|>".to_owned(), 50_256)],
    },
    Published {
        sha256: "sha256:94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
        split: "gpt2",
        normalizer: Normalizer::None,
        specials: || vec![("<|endoftext|>".to_owned(), 50_256)],
    },
    Published {
        sha256: "sha256:b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186",
        split: "qwen2",
        normalizer: Normalizer::NFC,
        specials: || {
            let chat = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].into_iter().map(str::to_owned);
            chat.chain((0..205).map(|n| format!("<|extra_{n}|>"))).zip(151_643..).collect()
        },
    },
    Published {
        sha256: "sha256:82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55",
        split: "llama3",
        normalizer: Normalizer::None,
        specials: || {
            let named = [
                "<|begin_of_text|>",
                "<|end_of_text|>",
                "<|reserved_special_token_0|>",
                "<|reserved_special_token_1|>",
                "<|finetune_right_pad_id|>",
                "<|step_id|>",
                "<|start_header_id|>",
                "<|end_header_id|>",
                "<|eom_id|>",
                "<|eot_id|>",
                "<|python_tag|>",
                "<|image|>",
            ];
            let reserved = (2..246).map(|n| format!("<|reserved_special_token_{n}|>"));
            named.into_iter().map(str::to_owned).chain(reserved).zip(128_000..).collect()
        },
    },
];

/// Whether one of the first lines is of this format, or looks as if it was meant to be: what is wrong with it is then
/// told by its line.
pub fn looks_like(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(4 * MAX_TOKEN_BYTES)];
    let meant = |line: &[u8]| {
        let mut words = line.trim_ascii_end().split(|&b| b == b' ');
        let (token, rank, rest) = (words.next(), words.next(), words.next());
        let is_token = token.is_some_and(|t| t.iter().all(u8::is_ascii_graphic));
        is_token && rest.is_none() && rank.is_some_and(|r| !r.is_empty() && r.iter().all(u8::is_ascii_digit))
    };
    head.split(|&b| b == b'\n').take(4).any(meant)
}

/// Reads a file. Options override what is known of a published file.
///
/// # Errors
/// [`FormatError::Line`] for what is wrong in the file, [`FormatError::Option`] for options missing or unusable.
pub fn read(bytes: &[u8], options: &ImportOptions) -> Result<Tokenizer, FormatError> {
    let digest = native::digest(bytes);
    let published = PUBLISHED.iter().find(|p| p.sha256 == digest);
    let known = published
        .map(|p| Pattern::parse(p.split))
        .transpose()
        .map_err(|e| FormatError::Option { option: "split", reason: e.to_string() })?;
    let pattern = options.pattern(known)?.ok_or_else(|| FormatError::Option {
        option: "split",
        reason:
            "must be given: a tiktoken file does not hold its split pattern, and this one is none of those \
                 known by their digest"
                .to_owned(),
    })?;
    let mut specials = options.specials();
    if let (true, Some(published)) = (specials.is_empty(), published) {
        let special = |(name, id)| Special::new(name, id, true);
        specials = (published.specials)().into_iter().map(special).collect();
    }
    let (tokens, lines) = parse(bytes)?;
    let merges = derive_merges(&tokens).map_err(|e| at_line(e.into(), &lines))?;
    let parts = TokenizerParts {
        specials,
        normalizer: options.normalizer(published.map_or(Normalizer::None, |p| p.normalizer.clone()))?,
        whole_pretokens: true,
        ..TokenizerParts::byte_level(tokens, merges, pattern)
    };
    Tokenizer::new(parts).map_err(|e| at_line(e, &lines))
}

/// Writes the ordinary tokens of a vocabulary as a tiktoken file.
///
/// # Errors
/// [`FormatError::Inexpressible`] where its merges are not those that ranks would give.
pub fn write(tokenizer: &Tokenizer) -> Result<Vec<u8>, FormatError> {
    let inexpressible =
        |reason: &str| FormatError::Inexpressible { format: "tiktoken", reason: reason.to_owned() };
    if !tokenizer.model().is_all_bytes() {
        return Err(inexpressible("it is not byte-level"));
    }
    if tokenizer.pretokenizer().pattern().is_none() {
        return Err(inexpressible("its pre-tokenizer is more than a split pattern"));
    }
    let tokens: Vec<(TokenId, Vec<u8>)> =
        tokenizer.vocab().ordinary().map(|(id, bytes)| (id, bytes.to_vec())).collect();
    if tokens.iter().any(|(_, bytes)| bytes.len() > MAX_TOKEN_BYTES) {
        return Err(inexpressible("it has a token of over 16384 bytes"));
    }
    let derived = derive_merges(&tokens).map_err(|e| inexpressible(&e.to_string()))?;
    if derived != tokenizer.merges() {
        return Err(inexpressible("its merges do not follow the order of its ids"));
    }
    if !tokenizer.whole_pretokens() && !super::merges_reach_all(tokenizer) {
        return Err(inexpressible(
            "it has tokens that no merge reaches and that must not be taken as whole pretokens",
        ));
    }
    let mut out = Vec::with_capacity(tokens.len() * 20);
    for (id, bytes) in &tokens {
        out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
        out.extend_from_slice(format!(" {id}\n").as_bytes());
    }
    Ok(out)
}

/// A Python module that loads the file of that name, which [`write()`] made, from beside it, for tiktoken.
///
/// The file says neither split nor special tokens, so the module does. It has the vocabulary as `encoding`, and where a
/// normalizer goes before the split also `encode`, as tiktoken has none.
///
/// # Errors
/// [`FormatError::Inexpressible`] where tiktoken has no counterpart: several patterns in sequence, added tokens.
pub fn python(tokenizer: &Tokenizer, file_name: &str) -> Result<String, FormatError> {
    let options = super::sidecar(tokenizer)?;
    let pattern = tokenizer.pretokenizer().pattern().cloned().unwrap_or_default();
    let split = match pattern.regexes() {
        [] => "(?s:.+)".to_owned(),
        [regex] if pattern.is_scanned() => regex.clone(),
        // What stands between two matches is a piece here, and nothing there.
        [regex] => format!("(?:{regex})|(?s:.)+?(?=(?:{regex})|\\z)"),
        _ => {
            let reason = "its split is a sequence of patterns, and tiktoken has one".to_owned();
            return Err(FormatError::Inexpressible { format: "tiktoken", reason });
        }
    };
    let stem = file_name.rsplit_once('.').map_or(file_name, |(stem, _)| stem);
    let specials = |(name, id): (&String, &TokenId)| format!("        {}: {id},\n", python_string(name));
    let specials: String = options.special.iter().map(specials).collect();
    let form = tokenizer.normalizer().name();
    let (import, encode) = match tokenizer.normalizer() {
        Normalizer::None => ("", String::new()),
        _ => (
            "import unicodedata\n",
            format!(
                "\n\ndef encode(text, **options):\n    \"\"\"Encodes a text in the form that the vocabulary is made for.\"\"\"\n    \
                 return encoding.encode(unicodedata.normalize({}, text), **options)\n",
                python_string(&form.to_uppercase())
            ),
        ),
    };
    // Not tiktoken's own loader: it goes on giving what it has once read under a path.
    Ok(format!(
        r#"import base64
import pathlib
{import}
import tiktoken

with open(pathlib.Path(__file__).with_name({file}), "rb") as file:
    ranks = {{base64.b64decode(token): int(rank) for token, rank in map(bytes.split, file)}}

encoding = tiktoken.Encoding(
    name={name},
    pat_str={split},
    mergeable_ranks=ranks,
    special_tokens={{
{specials}    }},
)
{encode}"#,
        file = python_string(file_name),
        name = python_string(stem),
        split = python_string(&split),
    ))
}

/// A string as Python reads it, which is how JSON has it; without escapes where it is plain but for backslashes.
fn python_string(text: &str) -> String {
    let raw = text.contains('\\')
        && !text.ends_with(['\\', '"'])
        && !text.contains("\"\"\"")
        && !text.contains(char::is_control);
    if raw { format!("r\"\"\"{text}\"\"\"") } else { Value::from(text).to_string() }
}

/// The merges that ranks imply: for each token the one pair of tokens, if any, that byte pair encoding of the token's
/// own bytes joins last.
///
/// One pair is enough. Where two neighbours inside a text spell a token, the bytes between the token's borders have
/// so far been merged as they would be alone (the borders were never crossed, and the choice of the lowest rank among
/// independent stretches does not depend on the others); so the two are the pair that the token's bytes alone lead to.
/// A token that its bytes do not lead to is reached only as a whole pretoken.
pub(super) fn derive_merges(tokens: &[(TokenId, Vec<u8>)]) -> Result<Vec<Merge>, VocabError> {
    let vocab = Vocab::new(tokens.iter().map(|(id, bytes)| (*id, bytes.as_slice())), [])?;
    let mut sorted: Vec<&(TokenId, Vec<u8>)> = tokens.iter().filter(|(_, bytes)| bytes.len() > 1).collect();
    sorted.sort_unstable_by_key(|(id, _)| *id);
    let mut merges = Vec::with_capacity(sorted.len());
    let mut by_pair: HashMap<(TokenId, TokenId), TokenId, foldhash::fast::FixedState> = HashMap::default();
    let (mut scratch, mut parts, mut start) = (Scratch::default(), Vec::new(), Vec::new());
    let mut joined = std::cell::RefCell::new(Vec::new());
    for (id, bytes) in sorted {
        // Without all single bytes there is no vocabulary; who builds the tokenizer tells which is missing.
        start.clear();
        start.extend(bytes.iter().filter_map(|b| vocab.id(&[*b])));
        parts.clear();
        let lower_ranks = |left, right| by_pair.get(&(left, right)).map(|&id| (id, id));
        merge_by(&lower_ranks, start.iter().copied(), &mut scratch, &mut parts);
        if parts.len() > 2 {
            // Rare: a token whose parts rank behind it. Ask the bytes, as the reference does.
            let joined = &mut joined;
            let any_rank = |left, right| {
                let mut joined = joined.borrow_mut();
                joined.clear();
                joined.extend_from_slice(vocab.bytes(left)?);
                joined.extend_from_slice(vocab.bytes(right)?);
                vocab.id(&joined).filter(|merged| merged != id).map(|merged| (merged, merged))
            };
            parts.clear();
            merge_by(&any_rank, start.iter().copied(), &mut scratch, &mut parts);
        }
        if let [left, right] = parts[..] {
            merges.push(Merge { left, right, id: *id });
            by_pair.insert((left, right), *id);
        }
    }
    Ok(merges)
}

/// Tokens, and the line of each id.
type Parsed = (Vec<(TokenId, Vec<u8>)>, HashMap<TokenId, u64>);

fn parse(bytes: &[u8]) -> Result<Parsed, FormatError> {
    let mut tokens = Vec::new();
    let mut lines = HashMap::new();
    for (line, content) in (1u64..).zip(bytes.split(|&b| b == b'\n')) {
        let token =
            parse_line(content).map_err(|reason| FormatError::Line { line, reason: reason.to_owned() })?;
        if let Some((token, id)) = token {
            if lines.contains_key(&id) {
                return Err(FormatError::Line { line, reason: format!("rank {id} is given twice") });
            }
            lines.insert(id, line);
            tokens.push((id, token));
        }
    }
    Ok((tokens, lines))
}

/// `None` for an empty line.
fn parse_line(line: &[u8]) -> Result<Option<(Vec<u8>, TokenId)>, &'static str> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Ok(None);
    }
    let space = line.iter().position(|&b| b == b' ').ok_or("is not `base64 rank`")?;
    let (token, rank) = (&line[..space], &line[space + 1..]);
    let token = STANDARD.decode(token).map_err(|_| "the token is not valid base64")?;
    if token.len() > MAX_TOKEN_BYTES {
        return Err("the token has over 16384 bytes");
    }
    if token.is_empty() {
        return Err("the token is empty");
    }
    let digits =
        std::str::from_utf8(rank).ok().filter(|r| !r.is_empty() && r.bytes().all(|b| b.is_ascii_digit()));
    let rank = digits.ok_or("the rank is not a whole number")?;
    let rank = rank.parse().map_err(|_| "the rank is over 4294967295")?;
    Ok(Some((token, rank)))
}

/// Tells an error by the line of the id at fault, where one is.
fn at_line(error: TokenizerError, lines: &HashMap<TokenId, u64>) -> FormatError {
    let id = match &error {
        TokenizerError::Vocab(
            VocabError::IdTooLarge { id, .. } | VocabError::DuplicateId { id } | VocabError::Empty { id },
        ) => Some(*id),
        // Ids come in any order in a file: the line to name is the later one of the two.
        TokenizerError::Vocab(VocabError::DuplicateBytes { id, other }) => {
            [id, other].into_iter().max_by_key(|id| lines.get(id)).copied()
        }
        _ => None,
    };
    match id.and_then(|id| lines.get(&id)) {
        Some(&line) => FormatError::Line { line, reason: error.to_string() },
        None => FormatError::Tokenizer(error),
    }
}

#[cfg(test)]
pub(crate) mod tests;
