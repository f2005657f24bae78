//! The components of a `tokenizer.json`: normalizers, pre-tokenizers, post-processors and decoders, both ways.
//!
//! The native format writes them in the same shapes, but regexes in the dialect in which they run.

use super::json::At;
use super::regex::{from_onig, to_onig};
use crate::engine::{
    Behavior, Charsmap, DecodeStep, Decoder, Find, Form, Normalizer, PieceKind, PreStep, Prepend,
    Pretokenizer, SentencePieceDecoder, SentencePieceNormalizer, Tables, Template, Trim, UserDefined,
};
use crate::formats::FormatError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::sync::Arc;

/// Most steps in a sequence, and the depth of sequences in sequences.
const MAX_STEPS: usize = 64;
const MAX_DEPTH: usize = 8;

/// In which dialect regexes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::formats) enum Dialect {
    /// Oniguruma's, as in a `tokenizer.json`.
    Onig,
    /// That in which they run.
    Own,
}

impl Dialect {
    fn read(self, regex: &str) -> Result<String, String> {
        match self {
            Self::Onig => from_onig(regex),
            Self::Own => Ok(regex.to_owned()),
        }
    }

    fn write(self, regex: &str) -> Result<String, String> {
        match self {
            Self::Onig => to_onig(regex),
            Self::Own => Ok(regex.to_owned()),
        }
    }
}

/// Sequences taken apart: the steps in order. `members` is the name under which a sequence has them.
fn flatten<'v>(at: &At<'v>, members: &str, depth: usize, out: &mut Vec<At<'v>>) -> Result<(), FormatError> {
    if at.kind()? != "Sequence" {
        if out.len() >= MAX_STEPS {
            return at.fail(format!("there are over {MAX_STEPS} steps"));
        }
        out.push(at.clone());
        return Ok(());
    }
    if depth >= MAX_DEPTH {
        return at.fail(format!("sequences are nested over {MAX_DEPTH} deep"));
    }
    for member in at.want(members)?.list()? {
        flatten(&member, members, depth + 1, out)?;
    }
    Ok(())
}

fn unsupported<T>(at: &At<'_>, what: &str) -> Result<T, FormatError> {
    at.fail(format!("{what} {:?} is not supported", at.kind()?))
}

/// What is looked for: `{"String": ...}` or `{"Regex": ...}`.
fn find(at: &At<'_>, dialect: Dialect) -> Result<Find, FormatError> {
    if let Some(literal) = at.get("String") {
        return Find::literal(literal.str()?).or_else(|e| literal.fail(e.to_string()));
    }
    let regex = at.want("Regex")?;
    let ours = dialect.read(regex.str()?).or_else(|reason| regex.fail(reason))?;
    Find::regex(&ours).or_else(|e| regex.fail(e.to_string()))
}

fn find_json(find: &Find, dialect: Dialect) -> Result<Value, String> {
    Ok(match find {
        Find::Literal(text) => json!({"String": text}),
        Find::Regex(regex) => json!({"Regex": dialect.write(regex.text())?}),
    })
}

/// Reads a normalizer.
///
/// # Errors
/// The place, and what is not supported there.
pub(in crate::formats) fn normalizer(at: &At<'_>, dialect: Dialect) -> Result<Normalizer, FormatError> {
    let mut steps = Vec::new();
    flatten(at, "normalizers", 0, &mut steps)?;
    let mut steps = steps.iter().map(|step| normalizer_step(step, dialect)).collect::<Result<Vec<_>, _>>()?;
    Ok(match steps.len() {
        0 => Normalizer::None,
        1 => steps.remove(0),
        _ => Normalizer::Sequence(steps),
    })
}

fn normalizer_step(at: &At<'_>, dialect: Dialect) -> Result<Normalizer, FormatError> {
    let form = |form| Ok(Normalizer::Unicode(form, Tables::Reference));
    match at.kind()? {
        "NFC" => form(Form::Nfc),
        "NFD" => form(Form::Nfd),
        "NFKC" => form(Form::Nfkc),
        "NFKD" => form(Form::Nfkd),
        "Lowercase" => Ok(Normalizer::Lowercase),
        "Strip" => Ok(Normalizer::Strip {
            left: at.want("strip_left")?.bool()?,
            right: at.want("strip_right")?.bool()?,
        }),
        "Prepend" => Ok(Normalizer::Prepend(at.want("prepend")?.str()?.to_owned())),
        "Replace" => Ok(Normalizer::Replace(
            find(&at.want("pattern")?, dialect)?,
            at.want("content")?.str()?.to_owned(),
        )),
        "Precompiled" => Ok(Normalizer::Precompiled(Arc::new(charsmap(&at.want("precompiled_charsmap")?)?))),
        "SentencePiece" if dialect == Dialect::Own => sentencepiece_normalizer(at),
        _ => unsupported(at, "the normalizer"),
    }
}

fn charsmap(at: &At<'_>) -> Result<Charsmap, FormatError> {
    let Ok(bytes) = STANDARD.decode(at.str()?) else { return at.fail("is not valid base64") };
    Charsmap::new(bytes).or_else(|e| at.fail(e.to_string()))
}

/// SentencePiece's normalizer as the native format has it.
fn sentencepiece_normalizer(at: &At<'_>) -> Result<Normalizer, FormatError> {
    let flag = |name| at.want(name)?.bool();
    let pieces = at.want("user_defined")?.list()?.map(|at| at.str()).collect::<Result<Vec<_>, _>>()?;
    Ok(Normalizer::SentencePiece(Arc::new(SentencePieceNormalizer {
        charsmap: at.get("charsmap").map(|at| charsmap(&at)).transpose()?,
        add_dummy_prefix: flag("add_dummy_prefix")?,
        remove_extra_whitespaces: flag("remove_extra_whitespaces")?,
        escape_whitespaces: flag("escape_whitespaces")?,
        treat_whitespace_as_suffix: flag("treat_whitespace_as_suffix")?,
        user_defined: UserDefined::new(pieces).or_else(|e| at.fail(e.to_string()))?,
    })))
}

/// Writes a normalizer; null for none.
///
/// # Errors
/// What has no counterpart.
pub(in crate::formats) fn normalizer_json(
    normalizer: &Normalizer,
    dialect: Dialect,
) -> Result<Value, String> {
    Ok(match normalizer {
        Normalizer::None => Value::Null,
        // The tables of another Unicode version cannot be asked for; they differ in characters that came after it.
        Normalizer::Unicode(form, _) => json!({"type": form.name().to_uppercase()}),
        Normalizer::Lowercase => json!({"type": "Lowercase"}),
        Normalizer::Strip { left, right } => {
            json!({"type": "Strip", "strip_left": left, "strip_right": right})
        }
        Normalizer::Prepend(prefix) => json!({"type": "Prepend", "prepend": prefix}),
        Normalizer::Replace(find, content) => {
            json!({"type": "Replace", "pattern": find_json(find, dialect)?, "content": content})
        }
        Normalizer::Precompiled(charsmap) => {
            json!({"type": "Precompiled", "precompiled_charsmap": STANDARD.encode(charsmap.bytes())})
        }
        Normalizer::SentencePiece(_) if dialect == Dialect::Onig => {
            return Err("SentencePiece's normalizer has no counterpart".to_owned());
        }
        Normalizer::SentencePiece(normalizer) => json!({
            "type": "SentencePiece",
            "charsmap": normalizer.charsmap.as_ref().map(|charsmap| STANDARD.encode(charsmap.bytes())),
            "add_dummy_prefix": normalizer.add_dummy_prefix,
            "remove_extra_whitespaces": normalizer.remove_extra_whitespaces,
            "escape_whitespaces": normalizer.escape_whitespaces,
            "treat_whitespace_as_suffix": normalizer.treat_whitespace_as_suffix,
            "user_defined": normalizer.user_defined.pieces(),
        }),
        Normalizer::Sequence(steps) => {
            let steps =
                steps.iter().map(|step| normalizer_json(step, dialect)).collect::<Result<Vec<_>, _>>()?;
            json!({"type": "Sequence", "normalizers": steps})
        }
    })
}

/// Reads a pre-tokenizer.
///
/// # Errors
/// The place, and what is not supported there.
pub(in crate::formats) fn pretokenizer(at: &At<'_>, dialect: Dialect) -> Result<Pretokenizer, FormatError> {
    let mut steps = Vec::new();
    flatten(at, "pretokenizers", 0, &mut steps)?;
    let steps = steps.iter().map(|step| pre_step(step, dialect)).collect::<Result<Vec<_>, _>>()?;
    Pretokenizer::new(steps).or_else(|e| at.fail(e.to_string()))
}

fn pre_step(at: &At<'_>, dialect: Dialect) -> Result<PreStep, FormatError> {
    Ok(match at.kind()? {
        "Split" => PreStep::Split {
            find: find(&at.want("pattern")?, dialect)?,
            behavior: behavior(&at.want("behavior")?)?,
            invert: at.want("invert")?.bool()?,
        },
        "ByteLevel" => PreStep::ByteLevel {
            prefix_space: at.want("add_prefix_space")?.bool()?,
            split: at.flag("use_regex", true)?,
        },
        "Digits" => PreStep::Digits { single: at.want("individual_digits")?.bool()? },
        "Punctuation" => {
            PreStep::Punctuation(at.get("behavior").map_or(Ok(Behavior::Isolated), |at| behavior(&at))?)
        }
        "Whitespace" => PreStep::Words,
        "WhitespaceSplit" => PreStep::Spaces,
        "Metaspace" => {
            let mark = at.want("replacement")?.char()?;
            let (prepend, split) = (prepend(at)?, at.flag("split", true)?);
            PreStep::Metaspace { mark, prepend, split }
        }
        _ => unsupported(at, "the pre-tokenizer")?,
    })
}

/// Where Metaspace puts a mark before, in its newer and its older words.
fn prepend(at: &At<'_>) -> Result<Prepend, FormatError> {
    let scheme = match at.get("prepend_scheme") {
        None => Prepend::Always,
        Some(at) => match at.str()? {
            "first" => Prepend::First,
            "never" => Prepend::Never,
            "always" => Prepend::Always,
            _ => return at.fail("must be first, never or always"),
        },
    };
    match at.get("add_prefix_space").map(|at| at.bool()).transpose()? {
        Some(false) if at.get("prepend_scheme").is_some() && scheme != Prepend::Never => {
            at.fail("add_prefix_space and prepend_scheme contradict each other")
        }
        // Without a scheme of its own the older flag decides; the reference refuses that, older versions wrote it.
        Some(false) => Ok(Prepend::Never),
        _ => Ok(scheme),
    }
}

const BEHAVIORS: [(&str, Behavior); 5] = [
    ("Removed", Behavior::Removed),
    ("Isolated", Behavior::Isolated),
    ("MergedWithPrevious", Behavior::MergedWithPrevious),
    ("MergedWithNext", Behavior::MergedWithNext),
    ("Contiguous", Behavior::Contiguous),
];

fn behavior(at: &At<'_>) -> Result<Behavior, FormatError> {
    let name = at.str()?;
    match BEHAVIORS.into_iter().find(|(known, _)| *known == name) {
        Some((_, behavior)) => Ok(behavior),
        None => at.fail("is no behavior of a split"),
    }
}

fn behavior_name(behavior: Behavior) -> &'static str {
    BEHAVIORS.into_iter().find(|(_, known)| *known == behavior).map_or("Isolated", |(name, _)| name)
}

/// Writes a pre-tokenizer; null for no steps.
///
/// # Errors
/// What has no counterpart.
pub(in crate::formats) fn pretokenizer_json(pre: &Pretokenizer, dialect: Dialect) -> Result<Value, String> {
    let mut steps = match pre {
        Pretokenizer::Steps(steps) => {
            steps.iter().map(|step| pre_step_json(step, dialect)).collect::<Result<Vec<_>, _>>()?
        }
        Pretokenizer::Pattern(pattern) => {
            let plain = if dialect == Dialect::Onig { pattern.plain() } else { pattern.clone() };
            let split = |regex: &String| {
                let pattern = json!({"Regex": dialect.write(regex)?});
                Ok(json!({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false}))
            };
            let mut steps = plain.regexes().iter().map(split).collect::<Result<Vec<_>, String>>()?;
            steps.push(byte_level_json(false, false));
            steps
        }
    };
    Ok(match steps.len() {
        0 => Value::Null,
        1 => steps.remove(0),
        _ => json!({"type": "Sequence", "pretokenizers": steps}),
    })
}

fn byte_level_json(prefix_space: bool, split: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": prefix_space, "trim_offsets": true, "use_regex": split})
}

fn pre_step_json(step: &PreStep, dialect: Dialect) -> Result<Value, String> {
    Ok(match step {
        PreStep::Split { find, behavior, invert } => json!({
            "type": "Split",
            "pattern": find_json(find, dialect)?,
            "behavior": behavior_name(*behavior),
            "invert": invert,
        }),
        PreStep::ByteLevel { prefix_space, split } => byte_level_json(*prefix_space, *split),
        PreStep::Digits { single } => json!({"type": "Digits", "individual_digits": single}),
        PreStep::Punctuation(behavior) => {
            json!({"type": "Punctuation", "behavior": behavior_name(*behavior)})
        }
        PreStep::Words => json!({"type": "Whitespace"}),
        PreStep::Spaces => json!({"type": "WhitespaceSplit"}),
        PreStep::Metaspace { mark, prepend, split } => {
            let scheme = match prepend {
                Prepend::First => "first",
                Prepend::Never => "never",
                Prepend::Always => "always",
            };
            json!({"type": "Metaspace", "replacement": mark, "prepend_scheme": scheme, "split": split})
        }
    })
}

/// Reads a post-processor.
///
/// # Errors
/// The place, and what is not supported there.
pub(in crate::formats) fn template(at: &At<'_>) -> Result<Template, FormatError> {
    let mut steps = Vec::new();
    flatten(at, "processors", 0, &mut steps)?;
    let mut template = Template::default();
    // What the reference keeps apart until the end: the text (nothing, among ids) with what is around it already, and the
    // tokens of a template, one part each. Later steps go around every part.
    let mut parts: Vec<Vec<Option<u32>>> = vec![vec![None]];
    for step in &steps {
        match step.kind()? {
            "ByteLevel" => {
                if step.want("trim_offsets")?.bool()? {
                    template.trims.push(trim(step, step.want("add_prefix_space")?.bool()?, &parts)?);
                }
            }
            "TemplateProcessing" => {
                let Ok([text]) = <[_; 1]>::try_from(std::mem::take(&mut parts)) else {
                    return step.fail("stands behind another one that adds tokens");
                };
                let (before, after) = around(step)?;
                let apart =
                    |ids: Vec<Vec<u32>>| ids.into_iter().map(|ids| ids.into_iter().map(Some).collect());
                parts = apart(before).chain([text]).chain(apart(after)).collect();
            }
            kind @ ("RobertaProcessing" | "BertProcessing") => {
                if kind == "RobertaProcessing" && step.flag("trim_offsets", true)? {
                    template.trims.push(trim(step, step.flag("add_prefix_space", true)?, &parts)?);
                }
                let id = |name: &str| match step.want(name)?.list()?.nth(1) {
                    Some(id) => id.u32(),
                    None => step.fail(format!("{name} must be a token and its id")),
                };
                let (cls, sep) = (id("cls")?, id("sep")?);
                for (i, part) in parts.iter_mut().enumerate() {
                    if i == 0 || kind == "RobertaProcessing" {
                        part.insert(0, Some(if i == 0 { cls } else { sep }));
                    }
                    part.push(Some(sep));
                }
            }
            _ => unsupported(step, "the post-processor")?,
        }
    }
    let mut around = parts.concat().into_iter();
    template.before = around.by_ref().map_while(|id| id).collect();
    template.after = around.flatten().collect();
    Ok(template)
}

/// A trimming of offsets. Where it spares the first token's space, that has to be the text's own first token.
fn trim(step: &At<'_>, prefix_space: bool, parts: &[Vec<Option<u32>>]) -> Result<Trim, FormatError> {
    let is_behind = parts.iter().any(|part| part.contains(&None) && part[0].is_some());
    if prefix_space && is_behind {
        return step.fail("trims offsets behind one that adds tokens");
    }
    Ok(Trim { prefix_space })
}

/// The ids of each token of a template.
type Ids = Vec<Vec<u32>>;

/// The ids that a template for a single text has before and after it, token by token.
fn around(at: &At<'_>) -> Result<(Ids, Ids), FormatError> {
    let (mut before, mut after, mut seen) = (Vec::new(), Vec::new(), false);
    let tokens = at.want("special_tokens")?;
    for piece in at.want("single")?.list()? {
        if let Some(sequence) = piece.get("Sequence") {
            if seen || sequence.want("id")?.str()? != "A" {
                return piece.fail("a template for one text must have that text once");
            }
            seen = true;
            continue;
        }
        let name = piece.want("SpecialToken")?.want("id")?;
        let Some(token) = tokens.get(name.str()?) else {
            return name.fail("is none of the template's special_tokens");
        };
        let ids = token.want("ids")?.list()?.map(|id| id.u32()).collect::<Result<Vec<_>, _>>()?;
        if seen { &mut after } else { &mut before }.push(ids);
    }
    if !seen {
        return at.fail("a template for one text must have that text");
    }
    Ok((before, after))
}

/// Writes what is put around a text; `name` gives the string of a token. Null for nothing.
pub(in crate::formats) fn template_json(template: &Template, name: impl Fn(u32) -> String) -> Value {
    let mut steps: Vec<Value> = template
        .trims
        .iter()
        .map(|trim| {
            json!({"type": "ByteLevel", "add_prefix_space": trim.prefix_space, "trim_offsets": true, "use_regex": true})
        })
        .collect();
    if !(template.before.is_empty() && template.after.is_empty()) {
        let token = |id: &u32, kind: u8| json!({"SpecialToken": {"id": name(*id), "type_id": kind}});
        let text = |text: &str, kind: u8| {
            let before = template.before.iter().map(|id| token(id, kind));
            let after = template.after.iter().map(|id| token(id, kind));
            let middle = json!({"Sequence": {"id": text, "type_id": kind}});
            before.chain([middle]).chain(after).collect::<Vec<_>>()
        };
        let ids = template.before.iter().chain(&template.after);
        let tokens: serde_json::Map<String, Value> =
            ids.map(|id| (name(*id), json!({"id": name(*id), "ids": [id], "tokens": [name(*id)]}))).collect();
        let pair = [text("A", 0), text("B", 1)].concat();
        steps.push(json!({
            "type": "TemplateProcessing",
            "single": text("A", 0),
            "pair": pair,
            "special_tokens": tokens,
        }));
    }
    match steps.len() {
        0 => Value::Null,
        1 => steps.remove(0),
        _ => json!({"type": "Sequence", "processors": steps}),
    }
}

/// Reads a decoder; `bytes` says whether the model sees bytes.
///
/// # Errors
/// The place, and what is not supported there.
pub(in crate::formats) fn decoder(
    at: Option<&At<'_>>,
    bytes: bool,
    dialect: Dialect,
) -> Result<Decoder, FormatError> {
    let Some(at) = at else { return Ok(Decoder::Spaced) };
    if dialect == Dialect::Own && at.kind()? == "SentencePiece" {
        return sentencepiece_decoder(at);
    }
    let mut steps = Vec::new();
    flatten(at, "decoders", 0, &mut steps)?;
    let steps = steps.iter().map(|step| decode_step(step, dialect)).collect::<Result<Vec<_>, _>>()?;
    // Behind bytes that were joined there is one string, whatever else is asked for.
    let all_joined = steps.split_first().is_some_and(|(first, rest)| {
        *first == DecodeStep::ByteLevel && rest.iter().all(|step| *step == DecodeStep::Fuse)
    });
    Ok(if bytes && all_joined { Decoder::ByteLevel } else { Decoder::Steps(steps) })
}

/// What a piece is for, as the native format writes it: a letter each, in order of the ids.
const KINDS: [(char, PieceKind); 6] = [
    ('n', PieceKind::Normal),
    ('?', PieceKind::Unknown),
    ('c', PieceKind::Control),
    ('u', PieceKind::UserDefined),
    ('b', PieceKind::Byte),
    ('-', PieceKind::Unused),
];

/// SentencePiece's decoder as the native format has it.
fn sentencepiece_decoder(at: &At<'_>) -> Result<Decoder, FormatError> {
    let kinds = at.want("kinds")?;
    let kind = |letter| KINDS.into_iter().find(|(known, _)| *known == letter).map(|(_, kind)| kind);
    let Some(all) = kinds.str()?.chars().map(kind).collect::<Option<Vec<_>>>() else {
        return kinds.fail("has a letter that is no kind of piece");
    };
    let decoder = SentencePieceDecoder {
        add_dummy_prefix: at.want("add_dummy_prefix")?.bool()?,
        remove_extra_whitespaces: at.want("remove_extra_whitespaces")?.bool()?,
        unk_surface: at.want("unk_surface")?.str()?.to_owned(),
    };
    Ok(Decoder::SentencePiece(decoder, all.into()))
}

fn sentencepiece_decoder_json(decoder: &SentencePieceDecoder, kinds: &[PieceKind]) -> Value {
    let letter =
        |kind: &PieceKind| KINDS.into_iter().find(|(_, known)| known == kind).map(|(letter, _)| letter);
    json!({
        "type": "SentencePiece",
        "add_dummy_prefix": decoder.add_dummy_prefix,
        "remove_extra_whitespaces": decoder.remove_extra_whitespaces,
        "unk_surface": decoder.unk_surface,
        "kinds": kinds.iter().filter_map(letter).collect::<String>(),
    })
}

fn decode_step(at: &At<'_>, dialect: Dialect) -> Result<DecodeStep, FormatError> {
    Ok(match at.kind()? {
        "ByteLevel" => DecodeStep::ByteLevel,
        "ByteFallback" => DecodeStep::ByteFallback,
        "Fuse" => DecodeStep::Fuse,
        "Strip" => DecodeStep::Strip {
            content: at.want("content")?.char()?,
            start: at.want("start")?.u32()? as usize,
            stop: at.want("stop")?.u32()? as usize,
        },
        "Replace" => {
            DecodeStep::Replace(find(&at.want("pattern")?, dialect)?, at.want("content")?.str()?.to_owned())
        }
        "Metaspace" => DecodeStep::Metaspace {
            mark: at.want("replacement")?.char()?,
            prepended: prepend(at)? != Prepend::Never,
        },
        _ => unsupported(at, "the decoder")?,
    })
}

/// Writes a decoder; null for none.
///
/// # Errors
/// What has no counterpart.
pub(in crate::formats) fn decoder_json(decoder: &Decoder, dialect: Dialect) -> Result<Value, String> {
    let step = |step: &DecodeStep| {
        Ok(match step {
            DecodeStep::ByteLevel => byte_level_json(true, true),
            DecodeStep::ByteFallback => json!({"type": "ByteFallback"}),
            DecodeStep::Fuse => json!({"type": "Fuse"}),
            DecodeStep::Strip { content, start, stop } => {
                json!({"type": "Strip", "content": content, "start": start, "stop": stop})
            }
            DecodeStep::Replace(find, content) => {
                json!({"type": "Replace", "pattern": find_json(find, dialect)?, "content": content})
            }
            DecodeStep::Metaspace { mark, prepended } => {
                let scheme = if *prepended { "always" } else { "never" };
                json!({"type": "Metaspace", "replacement": mark, "prepend_scheme": scheme, "split": true})
            }
        })
    };
    let steps = match decoder {
        Decoder::Spaced => return Ok(Value::Null),
        Decoder::SentencePiece(decoder, kinds) if dialect == Dialect::Own => {
            return Ok(sentencepiece_decoder_json(decoder, kinds));
        }
        Decoder::SentencePiece(..) => return Err("SentencePiece's decoder has no counterpart".to_owned()),
        Decoder::Bytes | Decoder::ByteLevel => return Ok(byte_level_json(true, true)),
        Decoder::Steps(steps) => steps.iter().map(step).collect::<Result<Vec<_>, String>>()?,
    };
    Ok(match <[Value; 1]>::try_from(steps) {
        Ok([step]) => step,
        Err(steps) => json!({"type": "Sequence", "decoders": steps}),
    })
}
