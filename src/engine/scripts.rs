//! Which script a character is of, and a token.
//!
//! Read from the regex library's Unicode tables, as the split patterns are. Every character has exactly one [`Script`].

use super::scalars::{SCALARS, ScalarTable, ranges};
use std::sync::LazyLock;

/// What a character is, for the figures by script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Script {
    /// Chinese characters, wherever they are used.
    Han,
    /// Hiragana and Katakana.
    Kana,
    /// Korean syllables and their parts.
    Hangul,
    /// Latin letters.
    Latin,
    /// Cyrillic letters.
    Cyrillic,
    /// Arabic letters and their signs.
    Arabic,
    /// Devanagari letters and their signs.
    Devanagari,
    /// Thai letters and their signs.
    Thai,
    /// Numbers of any script (`\p{N}`), but for those written as Chinese characters.
    Digit,
    /// Punctuation and symbols (`\p{P}`, `\p{S}`) that are no emoji.
    Punctuation,
    /// Pictographs, flags, skin tones, and the signs that ask for a picture.
    Emoji,
    /// White space.
    Space,
    /// All the rest: other letters, marks of no one script, controls.
    Other,
}

impl Script {
    /// All of them, in the order in which figures are told.
    pub const ALL: [Self; 13] = [
        Self::Han,
        Self::Kana,
        Self::Hangul,
        Self::Latin,
        Self::Cyrillic,
        Self::Arabic,
        Self::Devanagari,
        Self::Thai,
        Self::Digit,
        Self::Punctuation,
        Self::Emoji,
        Self::Space,
        Self::Other,
    ];

    /// Its name in options and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Han => "han",
            Self::Kana => "kana",
            Self::Hangul => "hangul",
            Self::Latin => "latin",
            Self::Cyrillic => "cyrillic",
            Self::Arabic => "arabic",
            Self::Devanagari => "devanagari",
            Self::Thai => "thai",
            Self::Digit => "digit",
            Self::Punctuation => "punctuation",
            Self::Emoji => "emoji",
            Self::Space => "space",
            Self::Other => "other",
        }
    }

    /// The script of a character.
    #[inline]
    pub fn of(c: char) -> Self {
        Self::ALL[usize::from(table().of(c as u32))]
    }

    /// Whether it is one of letters.
    fn is_of_letters(self) -> bool {
        !matches!(self, Self::Digit | Self::Punctuation | Self::Emoji | Self::Space)
    }
}

/// What a token is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenScript {
    /// Of one script, white space and punctuation around it aside.
    One(Script),
    /// Letters of several scripts.
    Mixed,
    /// Parts of characters, and no whole one but white space.
    Bytes,
}

impl TokenScript {
    /// All of them, in the order in which figures are told.
    pub fn all() -> impl Iterator<Item = Self> {
        Script::ALL.into_iter().map(Self::One).chain([Self::Mixed, Self::Bytes])
    }

    /// Its name in options and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::One(script) => script.name(),
            Self::Mixed => "mixed",
            Self::Bytes => "bytes",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|script| script.name() == name)
    }

    /// That of a token: of its letters, where it has some; else of its digits, emoji, punctuation, white space, in this
    /// order. SentencePiece's mark for a space is one.
    pub fn of(token: &[u8]) -> Self {
        let (mut letters, mut others, mut broken): (Option<Script>, Option<Script>, bool) =
            (None, None, false);
        for chunk in token.utf8_chunks() {
            broken |= !chunk.invalid().is_empty();
            for c in chunk.valid().chars() {
                let script = if c == SPACE_MARK { Script::Space } else { Script::of(c) };
                if !script.is_of_letters() {
                    others = Some(others.map_or(script, |other| stronger(other, script)));
                } else if letters.is_some_and(|letters| letters != script) {
                    return Self::Mixed;
                } else {
                    letters = Some(script);
                }
            }
        }
        match (letters, others) {
            (Some(letters), _) => Self::One(letters),
            (None, Some(Script::Space) | None) if broken => Self::Bytes,
            (None, Some(other)) => Self::One(other),
            (None, None) => Self::Bytes,
        }
    }
}

/// What stands for a space in SentencePiece's pieces.
pub const SPACE_MARK: char = '\u{2581}';

/// Of two that are no letters the one that a token is named by.
fn stronger(a: Script, b: Script) -> Script {
    let order = [Script::Digit, Script::Emoji, Script::Punctuation, Script::Space];
    order.into_iter().find(|script| *script == a || *script == b).unwrap_or(a)
}

/// What makes a character of a script; of several that hold it is the last. Characters that several scripts share by
/// `Script_Extensions` (the long vowel mark, signs for vowels) go to a script that uses them, but punctuation, digits
/// and white space stay what they are.
const RULES: [(&str, Script); 15] = [
    (r"\p{scx=Thai}", Script::Thai),
    (r"\p{scx=Devanagari}", Script::Devanagari),
    (r"\p{scx=Arabic}", Script::Arabic),
    (r"\p{scx=Cyrillic}", Script::Cyrillic),
    (r"\p{scx=Latin}", Script::Latin),
    (r"\p{scx=Hangul}", Script::Hangul),
    (r"\p{scx=Han}", Script::Han),
    (r"[\p{scx=Hiragana}\p{scx=Katakana}]", Script::Kana),
    (r"[\p{P}\p{S}]", Script::Punctuation),
    // What is drawn as a picture by itself or with a sign behind it; below U+2300 are ©, ™ and arrows, which texts use as symbols.
    (r"[\p{Extended_Pictographic}&&[\u{2300}-\u{10ffff}]]", Script::Emoji),
    (r"[\p{Regional_Indicator}\p{Emoji_Modifier}\u{fe0f}\u{20e3}\u{e0020}-\u{e007f}]", Script::Emoji),
    (r"\p{N}", Script::Digit),
    (r"\p{sc=Han}", Script::Han),
    (r"[\p{sc=Hangul}&&\p{L}]", Script::Hangul),
    (r"\s", Script::Space),
];

/// The script of every scalar value by its place in [`Script::ALL`].
fn table() -> &'static ScalarTable {
    static TABLE: LazyLock<ScalarTable> = LazyLock::new(|| {
        let place =
            |script| Script::ALL.iter().position(|s| *s == script).unwrap_or(Script::ALL.len() - 1) as u8;
        let mut flat = vec![place(Script::Other); SCALARS];
        for (class, script) in RULES {
            for (first, last) in ranges(class) {
                flat[first..=last].fill(place(script));
            }
        }
        ScalarTable::new(&flat)
    });
    &TABLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(script: Script, chars: &str) {
        for c in chars.chars() {
            assert_eq!(Script::of(c), script, "U+{:04X}", c as u32);
        }
    }

    #[test]
    fn characters_are_of_the_script_that_a_reader_would_say() {
        check(Script::Han, "中文字々〇〡㐀𠀀豈");
        check(Script::Kana, "ひらがなカタカナーｱヽ");
        check(Script::Hangul, "한국어ㄱᄀ");
        check(Script::Latin, "azAZéßğ\u{1e00}ａ");
        check(Script::Cyrillic, "абвЯї");
        check(Script::Arabic, "العربية\u{64b}");
        check(Script::Devanagari, "हिन्दी");
        check(Script::Thai, "ภาษาไทย");
        check(Script::Digit, "0９٣४½Ⅷ①");
        check(Script::Punctuation, ".,!「」、。€+<©™→।");
        check(Script::Emoji, "😀🎉❤🇩🏽\u{fe0f}");
        check(Script::Space, " \t\n\u{3000}\u{a0}");
        check(Script::Other, "αΩשלום\u{200d}\0\u{378}");
    }

    #[test]
    fn tokens_are_named_by_their_letters() {
        let check = |token: &[u8], script| assert_eq!(TokenScript::of(token), script, "{token:?}");
        check(b" hello", TokenScript::One(Script::Latin));
        check("\u{2581}你好，".as_bytes(), TokenScript::One(Script::Han));
        check("a中".as_bytes(), TokenScript::Mixed);
        check(b" 12.5", TokenScript::One(Script::Digit));
        check(b"  (", TokenScript::One(Script::Punctuation));
        check(b"   ", TokenScript::One(Script::Space));
        check(b" \xe4\xb8", TokenScript::Bytes);
        check(b"\xff", TokenScript::Bytes);
        check("你\u{4f60}".as_bytes().get(..4).unwrap(), TokenScript::One(Script::Han));
    }

    #[test]
    fn names_lead_back() {
        for script in TokenScript::all() {
            assert_eq!(TokenScript::from_name(script.name()), Some(script));
        }
        assert_eq!(TokenScript::from_name("klingon"), None);
    }
}
