//! Ranking models by weighted factors.
//!
//! Every score says what it was made from. What is unknown has none: the mean is over what is known, with the range that it would
//! have if the rest were worst or best.

use super::card::{Card, Commercial};
use super::derive::Derived;
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Something to rank by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Factor {
    /// One of the fixed ones, at this place of [`FACTORS`].
    Fixed(usize),
    /// The score of a benchmark.
    Benchmark(String),
    /// A published speed.
    Speed(String),
}

/// How a value becomes a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// The value against the most of all.
    More,
    /// The least of all against the value.
    Less,
    /// The value is the score.
    Itself,
    /// Its place between the oldest and the newest.
    Date,
}

/// A fixed factor.
#[derive(Debug)]
pub struct Fixed {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub meaning: &'static str,
    /// The unit of its values.
    pub unit: &'static str,
    rule: Rule,
    value: fn(&Candidate<'_>) -> Option<Value>,
}

impl Fixed {
    /// Whether more of it is better: `more` or `less`.
    pub fn better(&self) -> &'static str {
        if self.rule == Rule::Less { "less" } else { "more" }
    }

    /// The field of the request that it needs, if any.
    pub fn needs(&self) -> Option<&'static str> {
        (self.name == "languages").then_some("languages")
    }
}

/// What a model is ranked by.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'c> {
    /// Its name.
    pub name: &'c str,
    /// What is known of it.
    pub card: &'c Card,
    /// What follows from that.
    pub derived: &'c Derived,
    /// What its vocabulary makes of the texts.
    pub on_texts: Option<OnTexts>,
    /// Bytes of weights in the wanted precision.
    pub weight_bytes: Option<u64>,
    /// Bytes of weights and caches.
    pub memory: Option<u64>,
    /// The languages that the user wants.
    pub languages: &'c [String],
}

/// What a vocabulary makes of texts.
#[derive(Debug, Clone, Copy)]
pub struct OnTexts {
    /// Tokens.
    pub tokens: u64,
    /// Characters.
    pub characters: u64,
    /// Characters that lie in one token as a whole.
    pub whole: u64,
}

impl Candidate<'_> {
    /// Tokens a million characters of texts such as these.
    pub fn tokens_per_million_characters(&self) -> Option<f64> {
        let texts = self.on_texts.filter(|texts| texts.characters > 0)?;
        Some(texts.tokens as f64 / texts.characters as f64 * 1e6)
    }

    /// Floating-point operations to read so many characters.
    pub fn flops_per_million_characters(&self) -> Option<f64> {
        Some(self.tokens_per_million_characters()? * self.derived.forward_flops_per_token? as f64)
    }
}

/// The value of a factor.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = FactorValue)]
pub enum Value {
    /// A number.
    Number(f64),
    /// Yes or no.
    Flag(bool),
    /// A date or a word.
    Text(String),
}

fn number(value: Option<u64>) -> Option<Value> {
    value.map(|value| Value::Number(value as f64))
}

fn how_many(length: usize) -> Option<Value> {
    (length > 0).then_some(Value::Number(length as f64))
}

fn flag(value: Option<bool>) -> Option<Value> {
    value.map(Value::Flag)
}

macro_rules! factor {
    ($name:literal, $meaning:literal, $unit:literal, $rule:ident, $value:expr) => {
        Fixed { name: $name, meaning: $meaning, unit: $unit, rule: Rule::$rule, value: $value }
    };
}

/// The fixed factors.
pub const FACTORS: &[Fixed] = &[
    factor!("context", "most tokens of a context", "tokens", More, |c| number(c.card.context_length)),
    factor!("tools", "trained to call tools", "", Itself, |c| flag(c.card.tool_calling)),
    factor!("licence", "commercial use: allowed 1, under conditions 0.5, forbidden 0", "", Itself, |c| {
        let word = match c.card.licence.as_ref()?.commercial? {
            Commercial::Allowed => "allowed",
            Commercial::Conditions => "conditions",
            Commercial::Forbidden => "forbidden",
        };
        Some(Value::Text(word.to_owned()))
    }),
    factor!("languages", "share of the wanted languages that its makers name", "share", Itself, |c| {
        let spoken = c.languages.iter().filter(|language| c.card.speaks(language)).count();
        let known = !c.card.languages.is_empty() && !c.languages.is_empty();
        known.then(|| Value::Number(spoken as f64 / c.languages.len() as f64))
    }),
    factor!("kept_whole", "share of the characters that lie in one token as a whole", "share", Itself, |c| {
        let texts = c.on_texts.filter(|texts| texts.characters > 0)?;
        Some(Value::Number(texts.whole as f64 / texts.characters as f64))
    }),
    factor!("cost", "operations to read a million characters", "FLOPs", Less, |c| {
        c.flops_per_million_characters().map(Value::Number)
    }),
    factor!("size", "weights in the wanted precision", "bytes", Less, |c| number(c.weight_bytes)),
    factor!("memory", "weights and caches", "bytes", Less, |c| number(c.memory)),
    factor!("tokenizer", "characters that a token stands for", "characters a token", More, |c| {
        let texts = c.on_texts.filter(|texts| texts.tokens > 0)?;
        Some(Value::Number(texts.characters as f64 / texts.tokens as f64))
    }),
    factor!("training_tokens", "tokens that it was trained on", "tokens", More, |c| {
        number(c.card.training_data.as_ref()?.tokens)
    }),
    factor!(
        "tokens_per_parameter",
        "tokens that it was trained on, for each parameter",
        "tokens",
        More,
        |c| { c.derived.tokens_per_parameter.map(Value::Number) }
    ),
    factor!("knowledge", "facts that it can hold, at 2 bits a parameter", "bits", More, |c| {
        number(c.derived.knowledge_bits)
    }),
    factor!("released", "when it was published", "", Date, |c| c.card.released.clone().map(Value::Text)),
    factor!("modalities", "how many kinds of input it takes", "", More, |c| how_many(
        c.card.modalities.len()
    )),
    factor!("variants", "in how many forms it was published", "", More, |c| how_many(c.card.variants.len())),
    factor!("ecosystem", "how many programs that run it the card names", "", More, |c| {
        how_many(c.card.ecosystem.len())
    }),
    factor!("qkv_bias", "queries, keys and values have a bias", "", Itself, |c| flag(c.card.qkv_bias)),
    factor!("attention_window", "attention in windows beyond the trained length", "", Itself, |c| {
        flag(c.card.attention_window)
    }),
    factor!("log_n_scaling", "attention scaled by the logarithm of the length", "", Itself, |c| {
        flag(c.card.log_n_scaling)
    }),
];

const BENCHMARK: &str = "benchmark:";
const SPEED: &str = "speed:";

impl Factor {
    /// The factor of a name.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(benchmark) = name.strip_prefix(BENCHMARK) {
            return Some(Self::Benchmark(benchmark.to_owned()));
        }
        if let Some(speed) = name.strip_prefix(SPEED) {
            return Some(Self::Speed(speed.to_owned()));
        }
        FACTORS.iter().position(|factor| factor.name == name).map(Self::Fixed)
    }

    fn name(&self) -> String {
        match self {
            Self::Fixed(at) => FACTORS[*at].name.to_owned(),
            Self::Benchmark(name) => format!("{BENCHMARK}{name}"),
            Self::Speed(name) => format!("{SPEED}{name}"),
        }
    }

    fn unit(&self) -> &'static str {
        match self {
            Self::Fixed(at) => FACTORS[*at].unit,
            Self::Benchmark(_) => "points",
            Self::Speed(_) => "tokens a second",
        }
    }

    fn rule(&self) -> Rule {
        match self {
            Self::Fixed(at) => FACTORS[*at].rule,
            Self::Benchmark(_) | Self::Speed(_) => Rule::More,
        }
    }

    fn value(&self, candidate: &Candidate<'_>) -> Option<Value> {
        match self {
            Self::Fixed(at) => (FACTORS[*at].value)(candidate),
            Self::Benchmark(name) => {
                let all = &candidate.card.benchmarks;
                all.iter().find(|b| b.name.eq_ignore_ascii_case(name)).map(|b| Value::Number(b.score))
            }
            Self::Speed(name) => {
                let all = &candidate.card.speed;
                all.iter()
                    .find(|s| s.name.eq_ignore_ascii_case(name))
                    .map(|s| Value::Number(s.tokens_per_second))
            }
        }
    }

    /// What the value was measured with, where that matters.
    fn setting<'c>(&self, card: &'c Card) -> Option<&'c str> {
        let setting = match self {
            Self::Fixed(_) => None,
            Self::Benchmark(name) => {
                let found = card.benchmarks.iter().find(|b| b.name.eq_ignore_ascii_case(name));
                found.and_then(|b| b.setting.as_deref())
            }
            Self::Speed(name) => {
                let found = card.speed.iter().find(|s| s.name.eq_ignore_ascii_case(name));
                found.and_then(|s| s.setting.as_deref())
            }
        };
        setting.filter(|setting| !setting.is_empty())
    }
}

/// Weights of factors that add up: none is negative or not a number, and one at least is above zero.
#[derive(Debug, Clone)]
pub struct Weights(Vec<(Factor, f64)>);

/// Why weights are not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// A factor that there is not.
    #[error("is no factor; there are {known}, and benchmark:NAME and speed:NAME of the cards")]
    Unknown {
        /// The name.
        factor: String,
        /// Those that there are.
        known: String,
    },
    /// Below zero, infinite or not a number.
    #[error("must be a number from 0 to {MAX_WEIGHT}")]
    Range {
        /// The factor.
        factor: String,
    },
    /// Nothing to rank by.
    #[error("must have a weight above 0")]
    Zero,
}

/// A limit, so that sums of weights stay finite.
const MAX_WEIGHT: f64 = 1e9;

impl Weights {
    /// Checks weights.
    ///
    /// # Errors
    /// See [`WeightsError`].
    pub fn new(weights: &BTreeMap<String, f64>) -> Result<Self, WeightsError> {
        let mut checked = Vec::with_capacity(weights.len());
        for (name, &weight) in weights {
            let Some(factor) = Factor::parse(name) else {
                let known: Vec<&str> = FACTORS.iter().map(|factor| factor.name).collect();
                return Err(WeightsError::Unknown { factor: name.clone(), known: known.join(", ") });
            };
            if !(0.0..=MAX_WEIGHT).contains(&weight) {
                return Err(WeightsError::Range { factor: name.clone() });
            }
            checked.push((factor, weight));
        }
        if checked.iter().any(|(_, weight)| *weight > 0.0) {
            Ok(Self(checked))
        } else {
            Err(WeightsError::Zero)
        }
    }
}

/// A factor of a model, with what its score was made from.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = FactorScore)]
pub struct Scored {
    /// Its name.
    pub factor: String,
    /// Its weight, as the request has it.
    pub weight: f64,
    /// 0 to 1; null where the value is unknown.
    pub score: Option<f64>,
    /// What the model has; null where that is unknown.
    pub value: Option<Value>,
    /// The best value of all models that are ranked.
    pub best: Option<Value>,
    /// The unit of both.
    pub unit: &'static str,
    /// The same for people.
    pub explanation: String,
}

/// Where a model came in.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// From 1, by score, those of whose weights less than half is known after the others; none where nothing of them is.
    pub rank: Option<u64>,
    /// The mean of the known scores by weight.
    pub score: Option<f64>,
    /// The mean of all, if what is unknown were worst, and best.
    pub range: [f64; 2],
    /// The share of the weights whose factor is known.
    pub known_weight: f64,
    /// In the order of the weights.
    pub factors: Vec<Scored>,
}

/// A model of which less of the weights is known comes after those of which more is: one good fact does not make it the best.
const KNOWN_ENOUGH: f64 = 0.5;

/// Ranks models against each other.
pub fn rank(candidates: &[Candidate<'_>], weights: &Weights) -> Vec<Ranking> {
    let mut rankings: Vec<Ranking> = candidates.iter().map(|_| Ranking::empty()).collect();
    for (factor, weight) in &weights.0 {
        let values: Vec<Option<Value>> = candidates.iter().map(|candidate| factor.value(candidate)).collect();
        let scale = Scale::of(factor.rule(), &values);
        for ((ranking, value), candidate) in rankings.iter_mut().zip(values).zip(candidates) {
            let setting = factor.setting(candidate.card);
            ranking.factors.push(scale.scored(factor, *weight, value, setting));
        }
    }
    rankings.iter_mut().for_each(Ranking::sum_up);
    let mut order: Vec<usize> = (0..candidates.len()).filter(|&at| rankings[at].score.is_some()).collect();
    order.sort_by(|&a, &b| {
        let by = |x: f64, y: f64| y.partial_cmp(&x).unwrap_or(Ordering::Equal);
        let score = |at: usize| rankings[at].score.unwrap_or_default();
        let is_vague = |at: usize| rankings[at].known_weight < KNOWN_ENOUGH;
        (is_vague(a).cmp(&is_vague(b)))
            .then_with(|| by(score(a), score(b)))
            .then_with(|| by(rankings[a].known_weight, rankings[b].known_weight))
            .then_with(|| candidates[a].name.cmp(candidates[b].name))
    });
    for (rank, at) in (1..).zip(order) {
        rankings[at].rank = Some(rank);
    }
    rankings
}

impl Ranking {
    fn empty() -> Self {
        Self { rank: None, score: None, range: [0.0, 1.0], known_weight: 0.0, factors: Vec::new() }
    }

    fn sum_up(&mut self) {
        let (mut all, mut known, mut sum) = (0.0, 0.0, 0.0);
        for scored in &self.factors {
            all += scored.weight;
            if let Some(score) = scored.score {
                known += scored.weight;
                sum += scored.weight * score;
            }
        }
        self.score = (known > 0.0).then(|| sum / known);
        self.range = [sum / all, (sum + all - known) / all];
        self.known_weight = known / all;
    }
}

/// What the values of all models are measured against.
struct Scale {
    rule: Rule,
    least: Option<(f64, Value)>,
    most: Option<(f64, Value)>,
}

impl Scale {
    fn of(rule: Rule, values: &[Option<Value>]) -> Self {
        let known =
            || values.iter().flatten().filter_map(|value| Some((measure(rule, value)?, value.clone())));
        let order = |a: &(f64, Value), b: &(f64, Value)| a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal);
        Self { rule, least: known().min_by(order), most: known().max_by(order) }
    }

    fn scored(&self, factor: &Factor, weight: f64, value: Option<Value>, setting: Option<&str>) -> Scored {
        let best = if self.rule == Rule::Less { &self.least } else { &self.most };
        let best = best.as_ref().map(|(_, best)| best.clone());
        let score = value.as_ref().and_then(|value| self.score(measure(self.rule, value)?));
        let unit = factor.unit();
        let explanation = match (&value, &best, score) {
            (Some(value), Some(best), Some(score)) => self.explain(value, best, unit, score, setting),
            _ => "unknown: it counts neither for nor against".to_owned(),
        };
        Scored { factor: factor.name(), weight, score, value, best, unit, explanation }
    }

    fn score(&self, value: f64) -> Option<f64> {
        let (least, most) = (self.least.as_ref()?.0, self.most.as_ref()?.0);
        Some(match self.rule {
            Rule::Itself => value,
            // Nobody has any of it, or nothing at all of what should be little.
            Rule::More if most <= 0.0 => 1.0,
            Rule::Less if value <= 0.0 => 1.0,
            Rule::More => value / most,
            Rule::Less => least / value,
            Rule::Date if most <= least => 1.0,
            Rule::Date => (value - least) / (most - least),
        })
    }

    fn explain(&self, value: &Value, best: &Value, unit: &str, score: f64, setting: Option<&str>) -> String {
        let with_unit =
            |value: &Value| if unit.is_empty() { shown(value) } else { format!("{} {unit}", shown(value)) };
        let mut told = with_unit(value);
        if let Some(setting) = setting {
            told = format!("{told} ({setting})");
        }
        match self.rule {
            Rule::Itself => format!("{told}: {score:.3}"),
            Rule::More => format!("{told}, the most is {}: value / most = {score:.3}", with_unit(best)),
            Rule::Less => format!("{told}, the least is {}: least / value = {score:.3}", with_unit(best)),
            Rule::Date => {
                let oldest = self.least.as_ref().map_or_else(String::new, |(_, oldest)| shown(oldest));
                format!("{told}, between {oldest} (0) and {} (1): {score:.3}", shown(best))
            }
        }
    }
}

/// The number that a value is scored by.
fn measure(rule: Rule, value: &Value) -> Option<f64> {
    match (rule, value) {
        (_, Value::Number(number)) => Some(*number),
        (_, Value::Flag(flag)) => Some(f64::from(u8::from(*flag))),
        (Rule::Date, Value::Text(date)) => days(date),
        (_, Value::Text(word)) => match word.as_str() {
            "allowed" => Some(1.0),
            "conditions" => Some(0.5),
            "forbidden" => Some(0.0),
            _ => None,
        },
    }
}

/// Days since year 0, by months of 30.4 days; the middle of what a shorter date leaves open.
fn days(date: &str) -> Option<f64> {
    let mut parts = date.split('-').map(|part| part.parse::<f64>().ok());
    let year = parts.next()??;
    let month = parts.next().flatten();
    let day = parts.next().flatten();
    let in_year = match (month, day) {
        (Some(month), Some(day)) => (month - 1.0) * 30.4 + day,
        (Some(month), None) => (month - 0.5) * 30.4,
        (None, _) => 182.5,
    };
    Some(year * 365.25 + in_year)
}

/// A value as people read it.
fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) if number.abs() >= 1e15 => format!("{number:.3e}"),
        Value::Number(number) if number.fract() == 0.0 => grouped(&format!("{number:.0}")),
        Value::Number(number) if number.abs() >= 1e6 => format!("{number:.3e}"),
        Value::Number(number) => format!("{number:.3}").trim_end_matches('0').to_owned(),
        Value::Flag(true) => "yes".to_owned(),
        Value::Flag(false) => "no".to_owned(),
        Value::Text(text) => text.clone(),
    }
}

fn grouped(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests;
