//! What a file is to a vocabulary, told by its name, and which files belong together. The one place for this: the
//! command line, the import folder and the hub ask here.
//!
//! A name is `STEM.WELL-KNOWN-NAME` (`qwen2.5.tokenizer.json`), the well-known name alone (`tokenizer.json`, whose
//! vocabulary is named by its folder), or `STEM.EXTENSION` (`gpt4.tiktoken`). Files belong together that have one stem;
//! in a folder of one vocabulary, those without a stem as well. Nothing here looks at a file.

use super::{Files, Format};
use std::collections::BTreeMap;

/// What a file is to its vocabulary. The order of the vocabulary files is that of preference where a folder has
/// several: what says most of a tokenizer comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `.vocabd`, `.native`: the store's own format, complete in itself.
    Native,
    /// `tokenizer.json` of Hugging Face.
    TokenizerJson,
    /// `tekken.json`, `tekken_240718.json` of Mistral.
    Tekken,
    /// `tokenizer.model`, `.model`: `SentencePiece`, or tiktoken under that name.
    Model,
    /// `merges.txt`, `vocab.bpe`: merges of GPT-2's kind; the ids are in a second file.
    Merges,
    /// `.tiktoken`.
    Tiktoken,
    /// `.gguf`.
    Gguf,
    /// A name that says nothing: only the content can.
    Unknown,
    /// `vocab.json`, `encoder.json`: the ids to merges of GPT-2's kind.
    Ids,
    /// `tokenizer_config.json` of transformers.
    TokenizerConfig,
    /// `chat_template.jinja` of transformers.
    ChatTemplate,
    /// `special_tokens_map.json` of transformers, which older models have.
    SpecialTokensMap,
    /// `.toml`: what a file does not say of itself; see the import folder.
    Sidecar,
}

impl Role {
    /// Whether the file is a vocabulary, be it with the help of others, rather than what is said about one.
    pub fn is_vocabulary(self) -> bool {
        self <= Self::Unknown
    }

    /// The format that the name alone settles.
    pub fn format(self) -> Option<Format> {
        match self {
            Self::Native => Some(Format::Native),
            Self::Tiktoken => Some(Format::Tiktoken),
            _ => None,
        }
    }

    /// Name of the format that such a file usually has.
    fn format_name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::TokenizerJson => "hf",
            Self::Tekken => "tekken",
            Self::Model => "sentencepiece",
            Self::Merges | Self::Ids => "gpt2",
            Self::Tiktoken => "tiktoken",
            Self::Gguf => "gguf",
            Self::TokenizerConfig
            | Self::ChatTemplate
            | Self::SpecialTokensMap
            | Self::Sidecar
            | Self::Unknown => "unknown",
        }
    }

    /// Whether a file in this role is read with a vocabulary file in the role `main`.
    fn goes_with(self, main: Self) -> bool {
        match self {
            Self::Ids => main == Self::Merges,
            // A native file has all that it needs; a name that says nothing has no companions either.
            Self::TokenizerConfig | Self::ChatTemplate | Self::SpecialTokensMap => {
                main.is_vocabulary() && !matches!(main, Self::Native | Self::Unknown)
            }
            _ => false,
        }
    }
}

/// Names that stand alone or after a stem and a dot.
const WELL_KNOWN: [(&str, Role); 10] = [
    ("tokenizer.json", Role::TokenizerJson),
    ("tekken.json", Role::Tekken),
    ("tokenizer.model", Role::Model),
    ("merges.txt", Role::Merges),
    ("vocab.bpe", Role::Merges),
    ("vocab.json", Role::Ids),
    ("encoder.json", Role::Ids),
    ("tokenizer_config.json", Role::TokenizerConfig),
    ("chat_template.jinja", Role::ChatTemplate),
    ("special_tokens_map.json", Role::SpecialTokensMap),
];

/// Which ids go with which merges, where a stem has several of either.
const PAIRS: [(&str, &str); 2] = [("merges.txt", "vocab.json"), ("vocab.bpe", "encoder.json")];

/// Extensions that end a stem wherever they first stand.
const EXTENSIONS: [(&str, Role); 4] =
    [("vocabd", Role::Native), ("native", Role::Native), ("tiktoken", Role::Tiktoken), ("gguf", Role::Gguf)];

/// A file's name, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'n> {
    /// What it names its vocabulary; empty for a well-known name that stands alone.
    pub stem: &'n str,
    /// What the file is.
    pub role: Role,
}

impl<'n> Name<'n> {
    /// Takes apart the last part of a path.
    pub fn of(file: &'n str) -> Self {
        for (known, role) in WELL_KNOWN {
            if let Some(stem) = file.strip_suffix(known).filter(|stem| stem.is_empty() || stem.ends_with('.'))
            {
                return Self { stem: stem.strip_suffix('.').unwrap_or_default(), role };
            }
        }
        for (at, _) in file.match_indices('.').filter(|(at, _)| *at > 0) {
            let extension = file[at + 1..].split('.').next().unwrap_or_default();
            if let Some((_, role)) = EXTENSIONS.iter().find(|(known, _)| *known == extension) {
                return Self { stem: &file[..at], role: *role };
            }
        }
        let (stem, extension) = file.rsplit_once('.').unwrap_or((file, ""));
        let role = match extension {
            "model" => Role::Model,
            "toml" => Role::Sidecar,
            "json" if stem.starts_with("tekken_") => Role::Tekken,
            _ => Role::Unknown,
        };
        Self { stem, role }
    }
}

/// Why no vocabulary can be chosen from a list of names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// None of the names is that of a vocabulary file.
    #[error(
        "there is no vocabulary file (tokenizer.json, tekken.json, tokenizer.model, merges.txt with vocab.json, \
         .tiktoken, .gguf, .vocabd)"
    )]
    None,
    /// Two that exclude each other.
    #[error("there are several vocabularies, {0} and {1} among them")]
    Several(String, String),
}

/// The files of the vocabulary in a folder that holds one, the vocabulary file first: of several kinds the one that
/// says most, with what belongs to it.
///
/// # Errors
/// See [`ChoiceError`].
pub fn choose<'n>(names: &[&'n str]) -> Result<Vec<&'n str>, ChoiceError> {
    let has_ids = |stem: &str| names.iter().any(|n| Name::of(n) == Name { stem, role: Role::Ids });
    let mut mains: Vec<(Name<'n>, &'n str)> = names.iter().map(|n| (Name::of(n), *n)).collect();
    mains.retain(|(name, _)| name.role < Role::Unknown && (name.role != Role::Merges || has_ids(name.stem)));
    // A well-known name that stands alone is the folder's own; others may be somebody's copies.
    mains.sort_by_key(|(name, file)| (name.role, !name.stem.is_empty(), *file));
    let (main, file) = mains.first().copied().ok_or(ChoiceError::None)?;
    if let Some((other, second)) = mains.get(1)
        && other.role == main.role
        && other.stem.is_empty() == main.stem.is_empty()
    {
        return Err(ChoiceError::Several(file.to_owned(), (*second).to_owned()));
    }
    Ok(with_companions(file, names, |stem| stem == main.stem || stem.is_empty()))
}

/// A file and those of the others in its folder that belong to it by their stem, the vocabulary file first.
pub fn beside<'n>(file: &'n str, names: &[&'n str]) -> Vec<&'n str> {
    let name = Name::of(file);
    let merges = Name { role: Role::Merges, ..name };
    let main = match name.role {
        Role::Ids => partner(file, names.iter().filter(|n| Name::of(n) == merges).copied()).unwrap_or(file),
        _ => file,
    };
    let mut set = with_companions(main, names, |stem| stem == name.stem);
    // The file that was named is read, whichever of two would be preferred.
    if main != file && !set.contains(&file) {
        set.retain(|other| Name::of(other).role != Role::Ids);
        set.push(file);
    }
    set
}

fn with_companions<'n>(main: &'n str, names: &[&'n str], belongs: impl Fn(&str) -> bool) -> Vec<&'n str> {
    let own = Name::of(main);
    let mut found: BTreeMap<Role, Vec<&'n str>> = BTreeMap::new();
    for file in names.iter().filter(|file| **file != main) {
        let name = Name::of(file);
        if name.role.goes_with(own.role) && belongs(name.stem) {
            found.entry(name.role).or_default().push(file);
        }
    }
    let mut set = vec![main];
    for (role, mut files) in found {
        // One of each role: that of the vocabulary's own stem, if there are two.
        files.sort_by_key(|file| (Name::of(file).stem != own.stem, *file));
        match role {
            Role::Ids => set.extend(partner(main, files.into_iter())),
            _ => set.extend(files.first()),
        }
    }
    set
}

/// Of several merges for ids, or ids for merges, the one that is published with `file`; else the first.
fn partner<'n>(file: &str, others: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let paired = |other: &str| {
        PAIRS.iter().any(|(merges, ids)| {
            (file.ends_with(merges) && other.ends_with(ids))
                || (file.ends_with(ids) && other.ends_with(merges))
        })
    };
    let others: Vec<&str> = others.collect();
    others.iter().copied().find(|other| paired(other)).or(others.first().copied())
}

/// The files of one of many vocabularies in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set<'n> {
    /// What it names its vocabulary.
    pub stem: &'n str,
    /// The vocabulary file, or a folder of its own.
    pub main: &'n str,
    /// What belongs to it.
    pub companions: Vec<&'n str>,
    /// `STEM.toml`.
    pub sidecar: Option<&'n str>,
}

/// The vocabularies in a folder that holds many, and the files that cannot be part of any, with the reason.
///
/// Each in the order of their names. A folder in it holds the files of the vocabulary that has its name.
pub fn sort<'n>(files: &[&'n str], folders: &[&'n str]) -> (Vec<Set<'n>>, Vec<(&'n str, String)>) {
    let mut stems: BTreeMap<&'n str, Vec<(Option<Role>, &'n str)>> = BTreeMap::new();
    for folder in folders {
        stems.entry(folder).or_default().push((None, folder));
    }
    for file in files {
        let Name { stem, role } = Name::of(file);
        stems.entry(stem).or_default().push((Some(role), file));
    }
    let (mut sets, mut faults) = (Vec::new(), Vec::new());
    for (stem, mut members) in stems {
        // `None`, a folder, is first: it is a vocabulary with everything that it needs.
        members.sort_unstable();
        let is_vocabulary = |role: Option<Role>| role.is_none_or(Role::is_vocabulary);
        let Some(&(role, main)) = members.first().filter(|(role, _)| is_vocabulary(*role)) else {
            let alone = |(_, file)| (file, "there is no vocabulary file beside it".to_owned());
            faults.extend(members.into_iter().map(alone));
            continue;
        };
        if stem.is_empty() {
            let problem = format!(
                "its name does not say which vocabulary it is; name it NAME.{main}, or put it into a folder NAME"
            );
            faults.push((main, problem));
            continue;
        }
        let names: Vec<&str> = members.iter().map(|(_, file)| *file).collect();
        let set = if role.is_some() { beside(main, &names) } else { vec![main] };
        let mut sidecar = None;
        for (role, file) in members.into_iter().skip(1) {
            if is_vocabulary(role) {
                faults.push((file, format!("{main} has the same name")));
            } else if role == Some(Role::Sidecar) {
                sidecar = Some(file);
            } else if !set.contains(&file) && role != Some(Role::Ids) {
                faults.push((file, format!("{main} is read without such a file")));
            }
        }
        sets.push(Set { stem, main, companions: set[1..].to_vec(), sidecar });
    }
    sets.sort_by_key(|set| set.main);
    faults.sort();
    (sets, faults)
}

/// Name of the format that the files of a vocabulary are in, for its record: as it was given, by the content of the
/// vocabulary file (the first one), or else by its name.
pub fn format_name(files: &Files, format: Option<Format>) -> &'static str {
    let Some((name, bytes)) = files.iter().next() else { return Role::Unknown.format_name() };
    let format = format.or_else(|| Format::detect(bytes));
    format.map_or_else(|| Name::of(name).role.format_name(), Format::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        #[track_caller]
        fn check(file: &str, stem: &str, role: Role) {
            assert_eq!(Name::of(file), Name { stem, role }, "{file}");
        }
        check("qwen2.5.tokenizer.json", "qwen2.5", Role::TokenizerJson);
        check("tokenizer.json", "", Role::TokenizerJson);
        check("qwen2.5.tokenizer_config.json", "qwen2.5", Role::TokenizerConfig);
        check("x.chat_template.jinja", "x", Role::ChatTemplate);
        check("special_tokens_map.json", "", Role::SpecialTokensMap);
        check("gpt2.vocab.bpe", "gpt2", Role::Merges);
        check("gpt2.encoder.json", "gpt2", Role::Ids);
        check("merges.txt", "", Role::Merges);
        check("mistral-v1.tokenizer.model", "mistral-v1", Role::Model);
        check("mistral-v1.model", "mistral-v1", Role::Model);
        check("tokenizer.model", "", Role::Model);
        check("tekken_240718.json", "tekken_240718", Role::Tekken);
        check("nemo.tekken.json", "nemo", Role::Tekken);
        check("tekken.json", "", Role::Tekken);
        check("x.gguf", "x", Role::Gguf);
        check("zh-32k.tiktoken", "zh-32k", Role::Tiktoken);
        check("zh.32k.tiktoken", "zh.32k", Role::Tiktoken);
        check("zh.tiktoken.native", "zh", Role::Tiktoken);
        check("zh.native", "zh", Role::Native);
        check("zh.vocabd", "zh", Role::Native);
        check("zh.v2.toml", "zh.v2", Role::Sidecar);
        check("zh.bin", "zh", Role::Unknown);
        check("zh", "zh", Role::Unknown);
        check("mytokenizer.json", "mytokenizer", Role::Unknown);
        check("", "", Role::Unknown);
    }

    #[test]
    fn a_folder_gives_the_file_that_says_most_with_what_belongs_to_it() {
        #[track_caller]
        fn check(names: &[&str], chosen: &[&str]) {
            assert_eq!(choose(names).as_deref(), Ok(chosen), "{names:?}");
        }
        let hub = [
            "README.md",
            "config.json",
            "merges.txt",
            "model.safetensors",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer.model",
            "tokenizer_config.json",
            "vocab.json",
        ];
        check(&hub, &["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]);
        check(
            &["merges.txt", "vocab.json", "tokenizer.model", "tekken.json", "chat_template.jinja"],
            &["tekken.json", "chat_template.jinja"],
        );
        check(&["merges.txt", "vocab.json", "tokenizer.model"], &["tokenizer.model"]);
        check(&["merges.txt", "vocab.json", "qwen.tiktoken"], &["merges.txt", "vocab.json"]);
        check(&["merges.txt", "qwen.tiktoken"], &["qwen.tiktoken"]);
        check(&["vocab.json", "qwen.tiktoken"], &["qwen.tiktoken"]);
        check(&["qwen.tiktoken", "tokenizer_config.json"], &["qwen.tiktoken", "tokenizer_config.json"]);
        check(&["old.tokenizer.json", "tokenizer.json"], &["tokenizer.json"]);
        check(
            &["a.tokenizer.json", "a.chat_template.jinja", "chat_template.jinja", "b.chat_template.jinja"],
            &["a.tokenizer.json", "a.chat_template.jinja"],
        );
        check(&["encoder.json", "vocab.bpe", "vocab.json"], &["vocab.bpe", "encoder.json"]);
        check(&["x.vocabd", "x.chat_template.jinja"], &["x.vocabd"]);

        for names in
            [&[][..], &["config.json", "vocab.json", "merges.bpe"], &["notes", "tokenizer.json.part"]]
        {
            assert_eq!(choose(names), Err(ChoiceError::None), "{names:?}");
        }
        let several = Err(ChoiceError::Several("a.gguf".into(), "b.gguf".into()));
        assert_eq!(choose(&["b.gguf", "a.gguf"]), several);
    }

    #[test]
    fn beside_a_file_lies_what_has_its_stem() {
        #[track_caller]
        fn check(file: &str, set: &[&str]) {
            let names = [
                "a.tokenizer.json",
                "a.tokenizer_config.json",
                "b.tokenizer_config.json",
                "chat_template.jinja",
                "g.encoder.json",
                "g.merges.txt",
                "g.vocab.bpe",
                "g.vocab.json",
                "h.merges.txt",
                "h.encoder.json",
                "t.chat_template.jinja",
                "t.model",
                "tokenizer.json",
            ];
            assert_eq!(beside(file, &names), set, "{file}");
        }
        check("a.tokenizer.json", &["a.tokenizer.json", "a.tokenizer_config.json"]);
        check("tokenizer.json", &["tokenizer.json", "chat_template.jinja"]);
        check("g.vocab.bpe", &["g.vocab.bpe", "g.encoder.json"]);
        check("g.encoder.json", &["g.vocab.bpe", "g.encoder.json"]);
        check("g.vocab.json", &["g.merges.txt", "g.vocab.json"]);
        check("h.merges.txt", &["h.merges.txt", "h.encoder.json"]);
        check("t.model", &["t.model", "t.chat_template.jinja"]);
        check("elsewhere.tiktoken", &["elsewhere.tiktoken"]);
        check("a.tokenizer_config.json", &["a.tokenizer_config.json"]);
    }

    #[test]
    fn a_folder_of_many_is_sorted_into_vocabularies_and_faults() {
        let files = [
            "a.tokenizer.json",
            "a.tokenizer_config.json",
            "a.toml",
            "g.encoder.json",
            "g.vocab.bpe",
            "lone.chat_template.jinja",
            "lone.vocab.json",
            "n.chat_template.jinja",
            "n.vocabd",
            "nothing.toml",
            "tokenizer.json",
            "tokenizer_config.json",
            "two.native",
            "two.tiktoken",
            "folder.toml",
            "folder.tiktoken",
        ];
        let (sets, faults) = sort(&files, &["folder"]);
        let found: Vec<_> = sets.iter().map(|s| (s.stem, s.main, &s.companions[..], s.sidecar)).collect();
        assert_eq!(
            found,
            [
                ("a", "a.tokenizer.json", &["a.tokenizer_config.json"][..], Some("a.toml")),
                ("folder", "folder", &[], Some("folder.toml")),
                ("g", "g.vocab.bpe", &["g.encoder.json"], None),
                ("n", "n.vocabd", &[], None),
                ("two", "two.native", &[], None),
            ]
        );
        let faults: Vec<&str> = faults.iter().map(|(file, _)| *file).collect();
        assert_eq!(
            faults,
            [
                "folder.tiktoken",
                "lone.chat_template.jinja",
                "lone.vocab.json",
                "n.chat_template.jinja",
                "nothing.toml",
                "tokenizer.json",
                "two.tiktoken",
            ]
        );
    }

    #[test]
    fn the_format_is_told_by_content_before_the_name() {
        let name = |file: &str, content: &'static str| format_name(&Files::single(file, content), None);
        assert_eq!(name("tokenizer.model", "IQ== 0\n"), "tiktoken");
        assert_eq!(name("x.gguf", ""), "gguf");
        assert_eq!(format_name(&Files::single("x", "?"), Some(Format::Native)), "native");
        assert_eq!(name("x", "?"), "unknown");
    }
}
