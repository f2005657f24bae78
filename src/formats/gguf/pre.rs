//! What `tokenizer.ggml.pre` stands for: a name of llama.cpp for how a byte-level vocabulary cuts text, and for what
//! else differs between the models that have it.
//!
//! The names and what they mean are those of llama.cpp (`llama-vocab.cpp`). It runs some patterns in a way of its own,
//! which is close to what the models' own `tokenizer.json` says; here they run as the models have them: contractions
//! in any case, categories of letters as such, and texts of models that normalize in form C are normalized.

use crate::engine::{Family, Pattern, SplitError};

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pre {
    split: Split,
    /// Whether a pretoken that is a token is taken as it is (`ignore_merges`).
    pub(super) whole: bool,
    /// Whether the token for the beginning goes before a text unless the file says otherwise.
    pub(super) bos: bool,
    /// Whether the models with this name normalize in form C.
    pub(super) nfc: bool,
    /// A special token that takes the white space before it.
    pub(super) lstrip: Option<&'static str>,
}

#[derive(Debug, Clone, Copy)]
enum Split {
    Family(Family),
    Regexes(&'static [&'static str]),
}

impl Pre {
    /// The pattern.
    ///
    /// # Errors
    /// None that a name known here could cause.
    pub(super) fn pattern(&self) -> Result<Pattern, SplitError> {
        match self.split {
            Split::Family(family) => Ok(Pattern::of(family)),
            Split::Regexes(regexes) => Pattern::from_regexes(regexes),
        }
    }

    const fn of(family: Family) -> Self {
        Self { split: Split::Family(family), whole: false, bos: false, nfc: false, lstrip: None }
    }

    const fn regexes(regexes: &'static [&'static str]) -> Self {
        Self { split: Split::Regexes(regexes), ..Self::of(Family::Gpt2) }
    }

    const fn whole(self) -> Self {
        Self { whole: true, ..self }
    }

    const fn bos(self) -> Self {
        Self { bos: true, ..self }
    }

    const fn nfc(self) -> Self {
        Self { nfc: true, ..self }
    }

    const fn lstrip(self, name: &'static str) -> Self {
        Self { lstrip: Some(name), ..self }
    }
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const DIGITS_GPT2: Pre = Pre::regexes(&[r"\p{N}", GPT2]);
const BLOOM: Pre = Pre::regexes(&[r" ?[^(\s|.,!?…。，、।۔،)]+"]);
const DEEPSEEK_LLM: Pre = Pre::regexes(&[
    "[\r\n]",
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u{1f7d}ᾀ-ᾴᾶ-ᾼ\u{1fbe}ῂ-ῄῆ-ῌῐ-\u{1fd3}ῖ-\u{1fdb}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u{2126}ℨ\u{212a}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
    "\\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+",
    "\\s+$",
    "[一-龥\u{800}-一가-\u{d7ff}]+",
    "\\p{N}+",
]);
const DEEPSEEK_CODER: Pre =
    Pre::regexes(&["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥\u{800}-一가-\u{d7ff}]+", r"\p{N}"]);

/// What a name stands for; `None` for one that is not known or cannot run here.
#[rustfmt::skip]
pub(super) fn find(name: &str) -> Option<Pre> {
    Some(match name {
        "gpt-2" | "phi-2" | "jina-es" | "jina-de" | "gigachat" | "a.x-4.0" | "mellum" | "exaone4" | "jina-v1-en"
        | "roberta-bpe" | "jais" | "trillion" | "granite-docling" => Pre::of(Family::Gpt2),
        "jina-v2-es" | "jina-v2-de" | "jina-v2-code" => Pre::of(Family::Gpt2).lstrip("<mask>"),
        "mpt" | "olmo" => Pre::of(Family::Gpt2).nfc(),
        "modern-bert" => Pre::of(Family::Gpt2).nfc().lstrip("[MASK]"),
        "starcoder" | "refact" | "smollm" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => DIGITS_GPT2,
        "command-r" => DIGITS_GPT2.nfc(),
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2"
        | "jina-v5-nano" => Pre::of(Family::Llama3).whole().bos(),
        "glm4" | "glm5" => Pre::of(Family::Llama3).whole(),
        "dbrx" | "smaug-bpe" | "chatglm-bpe" => Pre::of(Family::Llama3),
        "qwen2" | "deepseek-r1-qwen" => Pre::of(Family::Qwen2).nfc(),
        "kormo" | "f2llmv2" | "megrez" | "stablelm2" | "hunyuan" | "solar-open" | "grok-2" => Pre::of(Family::Qwen2),
        "qwen35" => Pre::regexes(&[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]).nfc(),
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" | "hy_v4" => Pre::of(Family::DeepSeek),
        "deepseek-llm" => DEEPSEEK_LLM,
        "deepseek-coder" => DEEPSEEK_CODER,
        "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" => Pre::of(Family::O200k),
        "granite-embed-multi-97m" => Pre::of(Family::O200k).whole(),
        "tiny_aya" | "cohere2moe" => Pre::regexes(&[r"\d{1,3}(?=(?:\d{3})*\b)", O200K]),
        "tekken" => Pre::regexes(&[r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"]).whole().bos(),
        "kimi-k2" => Pre::regexes(&[r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]).whole(),
        "youtu" => Pre::regexes(&[
            "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥\u{3040}-ゟ゠-ヿ]+",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ]).whole(),
        "spark2_5" => Pre::regexes(&[
            r"\p{N}{1,3}",
            "[一-龥\u{3040}-ゟ゠-ヿ]+",
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"##,
            r"\p{N}",
        ]),
        "minicpm5" => Pre::regexes(&[
            r"\p{N}{1,3}",
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ]).whole(),
        "bailingmoe" | "bailingmoe2" | "llada-moe" => Pre::regexes(&[r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"]),
        "seed-coder" => Pre::regexes(&[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"]),
        "ufakzeka" => Pre::regexes(&[r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]),
        "exaone-moe" => Pre::regexes(&[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"]),
        "laguna" => Pre::regexes(&[r"[^\n]+|[\n]+", QWEN2]),
        "jais-2" => Pre::regexes(&[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}"]),
        "falcon" => Pre::regexes(&[r"[\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"]),
        "bloom" | "poro-chat" | "gpt3-finnish" => BLOOM,
        "viking" => Pre::regexes(&[r" ?[^(\s|.,!?…。，、।۔،)]+", r"\p{N}"]),
        "chameleon" => Pre::regexes(&[
            "<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", r"([\t\n]|    |  )", r"\p{N}",
            r"[\p{P}!-/:-@\[-`{-~]", GPT2,
        ]).bos(),
        "default" => Pre::regexes(&[r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_can_be_made() {
        let source = include_str!("pre.rs");
        let table =
            source.split("Some(match name {").nth(1).unwrap().split("_ => return None").next().unwrap();
        let before_arrows = table.split(" => ").flat_map(|arm| arm.rsplit('\n').next());
        let names = before_arrows.flat_map(|names| names.split('"').skip(1).step_by(2));
        let mut found = 0;
        for name in names {
            let Some(pre) = find(name) else { continue };
            pre.pattern().unwrap_or_else(|e| panic!("{name}: {e}"));
            found += 1;
        }
        assert!(found > 50, "{found}");
    }
}
