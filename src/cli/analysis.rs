//! Commands that tell what vocabularies make of texts: chunk, compare, explain.

use super::local::{read_stdin, resolve};
use super::{Failure, Outcome, open, print, print_line};
use crate::analysis::chunk::{Boundary, ChunkOptions, chunks};
use crate::analysis::compare::{Measure, Texts, ratio};
use crate::analysis::explain::{Part, Pretoken, Way, explain as explained};
use crate::config::Config;
use crate::engine::{Scratch, Script, SpecialPolicy, TokenId, Tokenizer};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::path::{Path, PathBuf};

/// Reads the name of a boundary.
fn boundary_parser() -> impl TypedValueParser<Value = Boundary> {
    PossibleValuesParser::new(["token", "word", "sentence", "line"]).map(|name| match name.as_str() {
        "word" => Boundary::Word,
        "sentence" => Boundary::Sentence,
        "line" => Boundary::Line,
        _ => Boundary::Token,
    })
}

#[derive(Debug, Args)]
pub(super) struct ChunkArgs {
    /// A file [default: standard input].
    file: Option<PathBuf>,
    /// The most tokens of a chunk.
    #[arg(long, value_name = "N")]
    size: usize,
    /// The most tokens that a chunk repeats of the one before.
    #[arg(long, default_value_t = 0, value_name = "N")]
    overlap: usize,
    /// Where chunks end; one that is over the size ends at the next smaller boundary.
    #[arg(long, default_value = "token", value_parser = boundary_parser())]
    boundary: Boundary,
    /// `name`, `name@3` or `name@alias` [default: setting `default_vocab`].
    #[arg(long, value_name = "REF")]
    vocab: Option<String>,
}

/// One JSON object a line: the place of the chunk, its count and its text.
pub(super) async fn chunk(config: &Config, args: ChunkArgs) -> Outcome {
    let text = read(args.file.as_deref())?;
    let loaded = resolve(&open::registry_to_read(config).await?, args.vocab.as_deref()).await?;
    let matcher = loaded.tokenizer.matcher(&SpecialPolicy::default())?;
    let options = ChunkOptions {
        size: args.size,
        overlap: args.overlap,
        boundary: args.boundary,
        add_special: false,
        matcher: &matcher,
        max_chunks: config.max_chunks,
    };
    let made = chunks(&loaded.tokenizer, &text, &options, &mut Scratch::default());
    let mut lines = String::new();
    for chunk in made.map_err(Failure::of("--size, --overlap"))? {
        let line = serde_json::json!({
            "start": chunk.start, "end": chunk.end, "char_start": chunk.char_start, "char_end": chunk.char_end,
            "count": chunk.count, "text": &text[chunk.start..chunk.end],
        });
        lines.push_str(&format!("{line}\n"));
    }
    print(lines.as_bytes())
}

#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// Files, each of which is a document [default: standard input].
    files: Vec<PathBuf>,
    /// A vocabulary, `name`, `name@3` or `name@alias`; may be repeated.
    #[arg(long = "vocab", value_name = "REF", required = true)]
    vocabs: Vec<String>,
}

/// A table: a line for each vocabulary, the fewest tokens first.
pub(super) async fn compare(config: &Config, args: CompareArgs) -> Outcome {
    let registry = open::registry_to_read(config).await?;
    let mut loaded = Vec::with_capacity(args.vocabs.len());
    for vocab in &args.vocabs {
        loaded.push(resolve(&registry, Some(vocab)).await?);
    }
    let mut measures: Vec<Measure<'_>> =
        loaded.iter().map(|loaded| Measure::new(&loaded.tokenizer)).collect();
    let (mut all, mut scratch) = (Texts::default(), Scratch::default());
    let files: Vec<Option<&Path>> = match args.files.is_empty() {
        true => vec![None],
        false => args.files.iter().map(|file| Some(file.as_path())).collect(),
    };
    for file in files {
        let text = read(file)?;
        all.add(&text);
        for measure in &mut measures {
            let named = file.map_or_else(|| "standard input".into(), |file| file.display().to_string());
            measure.add(&text, &mut scratch).map_err(Failure::of(named))?;
            scratch.trim();
        }
    }
    let mut lines: Vec<(u64, String)> = loaded
        .iter()
        .zip(&measures)
        .map(|(loaded, measure)| {
            let shown = format!("{}@{}", loaded.facts.name, loaded.facts.version);
            (measure.tokens, line(&shown, measure, &all))
        })
        .collect();
    lines.sort();
    print_line(&format!(
        "{:<24} {:>12} {:>11} {:>11} {:>11} {:>13} {:>10}",
        "vocabulary", "tokens", "bytes/token", "chars/token", "tokens/word", "1-token words", "Han whole"
    ))?;
    lines.iter().try_for_each(|(_, line)| print_line(line))
}

fn line(shown: &str, measure: &Measure<'_>, all: &Texts) -> String {
    let number = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |number| format!("{number:.3}"));
    let share =
        |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
    let han = measure.fragmentation().find(|(script, _)| *script == Script::Han);
    format!(
        "{shown:<24} {:>12} {:>11} {:>11} {:>11} {:>13} {:>10}",
        measure.tokens,
        number(ratio(all.bytes, measure.tokens)),
        number(ratio(all.characters, measure.tokens)),
        number(measure.tokens_per_word()),
        share(measure.one_token_words()),
        share(han.and_then(|(_, han)| ratio(han.whole, han.characters))),
    )
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The text [default: standard input].
    text: Option<String>,
    /// `name`, `name@3` or `name@alias` [default: setting `default_vocab`].
    #[arg(long, value_name = "REF")]
    vocab: Option<String>,
}

/// A paragraph for each pretoken: what it begins as, and after each merge what it is then, with the rank.
pub(super) async fn explain(config: &Config, args: ExplainArgs) -> Outcome {
    let text = match args.text {
        Some(text) => text,
        None => read_stdin()?,
    };
    let loaded = resolve(&open::registry_to_read(config).await?, args.vocab.as_deref()).await?;
    let tokenizer = &loaded.tokenizer;
    let matcher = tokenizer.matcher(&SpecialPolicy::default())?;
    let made = explained(tokenizer, &text, config.max_explain_bytes, &matcher, &mut Scratch::default());
    let made = made.map_err(Failure::of("the text"))?;
    let mut out = String::new();
    for part in &made.parts {
        match part {
            Part::Token { id, .. } => out.push_str(&format!("{}\n", shown(tokenizer, *id))),
            Part::Stretch { pretokens, .. } => {
                pretokens.iter().for_each(|pretoken| write_pretoken(tokenizer, pretoken, &mut out));
            }
        }
    }
    print(out.as_bytes())
}

fn write_pretoken(tokenizer: &Tokenizer, pretoken: &Pretoken, out: &mut String) {
    let tokens: Vec<String> = pretoken.tokens.iter().map(|(id, _)| shown(tokenizer, *id)).collect();
    out.push_str(&format!("{:?}\n", pretoken.text));
    match &pretoken.way {
        Way::Whole { .. } => {}
        Way::Merges { steps, .. } => {
            for step in steps {
                let part = |id: Option<TokenId>| id.map_or_else(|| "?".to_owned(), |id| shown(tokenizer, id));
                let (left, right) = (part(step.left), part(step.right));
                out.push_str(&format!("  rank {:>7}  {left} + {right}\n", step.rank));
            }
        }
        Way::Best { pieces, score } => {
            for piece in pieces {
                let ids: Vec<String> = piece.ids.iter().map(|id| shown(tokenizer, *id)).collect();
                out.push_str(&format!("  score {:>10.4}  {}\n", piece.score, ids.join(" ")));
            }
            out.push_str(&format!("  score {score:>10.4}  in all\n"));
        }
    }
    out.push_str(&format!("  = {}\n", tokens.join(" ")));
}

/// A token as text with its id; bytes that are not UTF-8 are replaced.
fn shown(tokenizer: &Tokenizer, id: TokenId) -> String {
    let bytes = tokenizer.vocab().bytes(id).unwrap_or_default();
    format!("{:?}({id})", String::from_utf8_lossy(bytes))
}

fn read(file: Option<&Path>) -> Result<String, Failure> {
    match file {
        None => read_stdin(),
        Some(path) => std::fs::read_to_string(path).map_err(Failure::of(path.display())),
    }
}
