//! Encoders against their slow twins on random texts, for every vocabulary of the test data.
//!
//! The twin is the definition: special tokens are none, the text normalized, cut by the published regexes on a
//! backtracking engine, and each piece merged by looking for the leftmost pair of lowest rank again and again.
//! `VOCABD_TWIN_CASES` says how many texts in all (the long gate has ten million), `VOCABD_TWIN_SEED` where they begin.

use crate::parity::vocabularies;
use std::collections::HashMap;
use vocabd::engine::{EncodeOptions, Model, Rules, Scratch, Tokenizer};

/// A generator that gives the same texts for the same seed (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A character of a class that splitters and normalizers find hard, or any at all.
    fn hard_char(&mut self) -> char {
        let range = |this: &mut Self, low: u32, high: u32| {
            char::from_u32(low + this.below((high - low + 1) as usize) as u32).unwrap_or('\u{fffd}')
        };
        match self.below(22) {
            0..=3 => range(self, u32::from('a'), u32::from('z')),
            4 => range(self, u32::from('A'), u32::from('Z')),
            5 => range(self, u32::from('0'), u32::from('9')),
            6 => ' ',
            7 => self.pick(&[
                '\n', '\r', '\t', '\u{b}', '\u{c}', '\u{85}', '\u{a0}', '\u{2028}', '\u{3000}', '\u{1680}',
            ]),
            8 => self.pick(&[
                '\'', '\u{2019}', '"', '.', ',', '!', '/', '\\', '<', '>', '|', '_', '-', '~', '▁', 'Ġ',
            ]),
            9 => range(self, 0x4e00, 0x9fa5),
            10 => range(self, 0x3040, 0x30ff),
            11 => range(self, 0xac00, 0xd7a3),
            12 => range(self, 0x300, 0x36f),
            13 => self.pick(&[
                'ſ',
                'ʼ',
                'İ',
                'ı',
                'ß',
                'ﬁ',
                'Ǆ',
                'ǅ',
                '½',
                'Ⅷ',
                '²',
                '٣',
                '߀',
                '௧',
                '㊿',
                '\u{1d7d8}',
            ]),
            14 => range(self, 0x1f300, 0x1faff),
            15 => self.pick(&[
                '\u{200d}',
                '\u{200b}',
                '\u{fe0f}',
                '\u{feff}',
                '\u{1f3fd}',
                '\u{e0067}',
                '\u{ad}',
                '\u{0}',
            ]),
            16 => range(self, 0x400, 0x4ff),
            17 => range(self, 0x600, 0x6ff),
            18 => range(self, 0x900, 0x97f),
            19 => range(self, 0xe00, 0xe7f),
            20 => range(self, 0x1100, 0x11ff),
            _ => range(self, 0, 0x10_ffff),
        }
    }

    fn text(&mut self) -> String {
        const STRETCHES: [&str; 12] = [
            "'s", "'LL", "don't", "   ", "\n\n", " \n ", "\r\n", "<0x41>", "ab", "123456", "e\u{301}", "```",
        ];
        let mut text = String::new();
        for _ in 0..1 + self.below(24) {
            match self.below(8) {
                0 => text.push_str(self.pick(&STRETCHES)),
                1 => {
                    let c = self.hard_char();
                    text.extend(std::iter::repeat_n(c, 1 + self.below(6)));
                }
                _ => text.push(self.hard_char()),
            }
        }
        text
    }
}

/// A tokenizer taken apart for the twin.
struct Twin {
    regexes: Vec<fancy_regex::Regex>,
    joining: HashMap<char, u32>,
}

const NO_SYMBOL: u32 = u32::MAX - 2;

impl Twin {
    /// `None` for a tokenizer that the twin does not know how to take apart.
    fn new(t: &Tokenizer) -> Option<Self> {
        let regexes = match (t.pretokenizer().pattern(), t.model()) {
            (Some(pattern), Model::Bytes { missing: None }) => pattern.regexes().to_vec(),
            (None, Model::Chars(_)) if t.pretokenizer().describe().is_empty() => Vec::new(),
            _ => return None,
        };
        let joining = match t.model() {
            Model::Chars(chars) => match &chars.rules {
                Rules::SentencePiece { joining } => {
                    joining.iter().copied().zip(t.vocab_size() as u32..).collect()
                }
                Rules::HuggingFace => HashMap::new(),
            },
            _ => HashMap::new(),
        };
        let regexes = regexes.iter().map(|regex| fancy_regex::Regex::new(regex).unwrap()).collect();
        Some(Self { regexes, joining })
    }

    fn encode(&self, t: &Tokenizer, text: &str) -> Vec<u32> {
        let normalized = t.normalizer().apply(text).unwrap();
        let mut pieces = vec![&*normalized];
        for regex in &self.regexes {
            let mut parts = Vec::new();
            for piece in pieces {
                let mut last = 0;
                for found in regex.find_iter(piece) {
                    let found = found.unwrap();
                    parts.extend([&piece[last..found.start()], found.as_str()]);
                    last = found.end();
                }
                parts.push(&piece[last..]);
            }
            pieces = parts;
        }
        pieces.into_iter().filter(|piece| !piece.is_empty()).flat_map(|piece| self.piece(t, piece)).collect()
    }

    fn piece(&self, t: &Tokenizer, piece: &str) -> Vec<u32> {
        if t.whole_pretokens()
            && let Some(id) = t.vocab().id(piece.as_bytes())
        {
            return vec![id];
        }
        let Model::Chars(chars) = t.model() else {
            let start = piece.bytes().map(|b| (t.vocab().id(&[b]).unwrap(), 1)).collect();
            return naive(t, start).into_iter().map(|(id, _)| id).collect();
        };
        let bytes = chars.bytes.as_ref().unwrap();
        let byte = |b: u8| bytes[usize::from(b)].unwrap();
        let known = |c: char| t.vocab().id(c.to_string().as_bytes());
        if chars.rules == Rules::HuggingFace {
            let mut start = Vec::new();
            for c in piece.chars() {
                match known(c) {
                    Some(id) => start.push((id, 1)),
                    None => start.extend(c.to_string().bytes().map(|b| (byte(b), 1))),
                }
            }
            return naive(t, start).into_iter().map(|(id, _)| id).collect();
        }
        let symbol = |c| known(c).or_else(|| self.joining.get(&c).copied()).unwrap_or(NO_SYMBOL);
        let merged = naive(t, piece.chars().map(|c| (symbol(c), c.len_utf8())).collect());
        let (mut at, mut ids) = (0, Vec::new());
        for (id, len) in merged {
            if (id as usize) < t.vocab_size() {
                ids.push(id);
            } else {
                ids.extend(piece.as_bytes()[at..at + len].iter().map(|&b| byte(b)));
            }
            at += len;
        }
        ids
    }
}

/// The definition: find the leftmost pair of lowest rank, replace it, begin again.
fn naive(t: &Tokenizer, mut symbols: Vec<(u32, usize)>) -> Vec<(u32, usize)> {
    loop {
        let pairs = symbols.windows(2).enumerate();
        let found = pairs
            .filter_map(|(at, pair)| t.table().get(pair[0].0, pair[1].0).map(|(rank, id)| (rank, at, id)));
        let Some((_, at, id)) = found.min() else { return symbols };
        let len = symbols[at].1 + symbols[at + 1].1;
        symbols.splice(at..at + 2, [(id, len)]);
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.replace('_', "").parse().unwrap())
}

#[test]
fn encoders_equal_their_slow_twins_on_random_texts() {
    let cases = setting("VOCABD_TWIN_CASES", 6_000);
    let seed = setting("VOCABD_TWIN_SEED", 0x766f_6361_6264);
    let known: Vec<(&str, Tokenizer, Twin)> =
        vocabularies().filter_map(|(name, t)| Twin::new(&t).map(|twin| (name, t, twin))).collect();
    assert!(!known.is_empty());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(known.len());
    let each = cases.div_ceil(known.len() as u64);
    std::thread::scope(|scope| {
        for part in 0..threads {
            let known = &known;
            scope.spawn(move || {
                for (index, (name, t, twin)) in known.iter().enumerate().skip(part).step_by(threads) {
                    let mut random = Random(seed ^ (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    let mut scratch = Scratch::default();
                    for case in 0..each {
                        let text = random.text();
                        let ids = t.encode(&text, &EncodeOptions::default(), &mut scratch).unwrap().ids;
                        assert_eq!(ids, twin.encode(t, &text), "{name}, seed {seed}, case {case}: {text:?}");
                    }
                }
            });
        }
    });
    println!("{} vocabularies, {} texts, seed {seed}: no difference", known.len(), each * known.len() as u64);
}
