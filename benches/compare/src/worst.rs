//! Texts on which encoders are at their worst: runs without end, and nothing that repeats.

/// A case: its name, and the text of so many bytes.
pub type Case = (&'static str, fn(usize) -> String);

/// Every case.
pub const CASES: [Case; 8] = [
    ("a", |bytes| "a".repeat(bytes)),
    ("space", |bytes| " ".repeat(bytes)),
    ("newline", |bytes| "\n".repeat(bytes)),
    ("han", |bytes| "啊".repeat(bytes / 3)),
    ("random", random_bytes),
    ("zwj", |bytes| FAMILY.repeat(bytes / 5 / FAMILY.chars().count())),
    ("random-a-z", random_letters),
    ("combining", |bytes| format!("a{}", "\u{301}".repeat(bytes / 2))),
];

/// Bytes of a case at its full length; as characters: 200,000 of the emoji, 500,000 combining marks.
pub const FULL: usize = 1_000_000;

/// Four people joined to one emoji.
const FAMILY: &str = "👨\u{200d}👩\u{200d}👧\u{200d}👦";

/// Text that warms before them: a little of everything, and nothing of theirs.
pub fn warmup() -> String {
    let mut text = String::new();
    for number in 0..2_000 {
        text.push_str(&format!(
            "Line {number} of the text that warms: quick brown foxes don't care.\n\
             fn main() {{ let x_{number} = [0x{number:x}, {}]; }}\n\
             第{number}行：我们的词汇表把文本切成小块。 Straße, naïve, Ωμέγα, мир.\n\n",
            number * 7919
        ));
    }
    text
}

/// Random bytes; what of them is no UTF-8 is replaced.
fn random_bytes(bytes: usize) -> String {
    let mut random = Random::default();
    let bytes: Vec<u8> = (0..bytes).map(|_| random.next() as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn random_letters(bytes: usize) -> String {
    let mut random = Random::default();
    (0..bytes).map(|_| char::from(b'a' + (random.next() % 26) as u8)).collect()
}

/// The same numbers every time.
struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }
}
