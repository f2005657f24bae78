//! A vocabulary in every form that engines read.

use crate::Failure;
use std::path::{Path, PathBuf};
use vocabd::formats::{self, Format, ImportOptions};

/// A vocabulary: the file that was given, and what vocabd makes of it for engines that cannot read that.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    /// The file's name without its extensions.
    pub name: String,
    /// The file that was given.
    pub given: PathBuf,
    pub format: Format,
    /// As a `tokenizer.json`: the given file or vocabd's export; or why there is none.
    pub hf: Result<PathBuf, String>,
    /// As ranks of tiktoken.
    pub tiktoken: Result<PathBuf, String>,
    /// As vocabd writes it for itself.
    pub native: PathBuf,
    /// The regex that cuts text, where one does.
    pub pattern: Option<String>,
    /// Names of its special tokens.
    pub specials: Vec<String>,
}

impl Vocabulary {
    /// Reads a vocabulary, a file or the name of one in `dir`, and writes its other forms to `folder`.
    pub fn prepare(name_or_file: &str, dir: Option<&Path>, folder: &Path) -> Result<Self, Failure> {
        let given = find(name_or_file, dir)?;
        let bytes = std::fs::read(&given)?;
        let unknown = || format!("{}: no format that vocabd knows", given.display());
        let format = Format::detect(&bytes).ok_or_else(unknown)?;
        let tokenizer = formats::import(&bytes, Some(format), &ImportOptions::default())?;
        let file_name = given.file_name().unwrap_or_default().to_string_lossy();
        let stem = file_name.rsplit_once('.').map_or(&*file_name, |(stem, _)| stem);
        let name = stem.strip_suffix(".tokenizer").unwrap_or(stem).to_owned();

        let write = |wanted: Format| -> Result<PathBuf, String> {
            if wanted == format {
                return Ok(given.clone());
            }
            let bytes = formats::export(&tokenizer, wanted).map_err(|e| e.to_string())?;
            let bytes = if wanted == Format::Hf { as_known(bytes) } else { bytes };
            let file = folder.join(format!("{name}.{}", wanted.extension()));
            std::fs::write(&file, bytes).map_err(|e| format!("{}: {e}", file.display()))?;
            Ok(file)
        };
        let pattern = tokenizer.pretokenizer().pattern().and_then(|pattern| match pattern.regexes() {
            [regex] => Some(regex.clone()),
            _ => None,
        });
        let specials = tokenizer.specials().list().iter().filter(|token| token.special);
        Ok(Self {
            specials: specials.map(|token| token.name.clone()).collect(),
            hf: write(Format::Hf),
            tiktoken: write(Format::Tiktoken),
            native: write(Format::Native)?,
            pattern,
            name,
            given,
            format,
        })
    }
}

/// cl100k's pattern as vocabd writes it, and as peers look for it by its letters. They cut alike but
/// where a text ends in a line end and spaces. Without a pattern that they know, some peers refuse the file and others are
/// slow.
const SPELLINGS: [(&str, &str); 1] = [(
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z|\s*[\r\n]|\s+(?!\S)|\s",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)];

/// A `tokenizer.json` with patterns spelt as peers know them.
fn as_known(json: Vec<u8>) -> Vec<u8> {
    let Ok(mut json) = String::from_utf8(json) else { return Vec::new() };
    for (own, known) in SPELLINGS {
        json = json.replacen(&quoted(own), &quoted(known), 1);
    }
    json.into_bytes()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn find(name_or_file: &str, dir: Option<&Path>) -> Result<PathBuf, Failure> {
    let given = Path::new(name_or_file);
    if given.is_file() {
        return Ok(given.to_owned());
    }
    let dir = dir.ok_or_else(|| format!("{name_or_file} is no file, and there is no --vocab-dir"))?;
    let extensions = [".tiktoken", ".vocabd", ".tokenizer.json", ".tokenizer.model", ""];
    let mut candidates = extensions.iter().map(|extension| dir.join(format!("{name_or_file}{extension}")));
    let found = candidates.find(|file| file.is_file());
    Ok(found.ok_or_else(|| format!("{name_or_file}: no such file in {}", dir.display()))?)
}
