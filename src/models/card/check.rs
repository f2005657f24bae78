//! The checks of a card: ranges, kinds that fit the numbers, a source for every fact.

use super::{AttentionKind, Card, CardError};
use crate::models::derive::Derived;

/// More than any model has; with it no product of a card's numbers leaves 128 bits.
const MAX_SIZE: u64 = 10_000_000;
/// Tokens, parameters: below what JSON numbers hold exactly.
const MAX_COUNT: u64 = 1 << 53;
/// Of names and texts.
const MAX_TEXT: usize = 2_000;

impl Card {
    pub(super) fn check(&self) -> Result<(), CardError> {
        self.check_names()?;
        self.check_numbers()?;
        self.check_attention()?;
        self.check_parts()?;
        self.check_sources()?;
        let derived = Derived::of(self);
        let most = |count: Option<u64>| count.is_none_or(|count| count <= MAX_COUNT);
        if !most(derived.parameters) || !most(derived.kv_bytes_per_token) {
            return invalid(
                "layers",
                "and the sizes make a model of over 2^53 parameters, or so many bytes of cache a token",
            );
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), CardError> {
        if !is_name(&self.name) || self.name.chars().any(|c| c.is_ascii_uppercase()) {
            let rule = "must be 1 to 64 lower-case letters, digits, dots, hyphens and underscores, beginning with a \
                        letter or digit";
            return invalid("name", rule);
        }
        if self.name == "compare" {
            return invalid("name", "must not be `compare`, which is a route");
        }
        if !self.vocab.reference.splitn(2, '@').all(is_name) {
            return invalid("vocab.ref", "must be NAME, NAME@VERSION or NAME@ALIAS");
        }
        // It becomes a command that people paste.
        let is_source = |source: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@%~".contains(c);
            ["hf://", "https://", "http://"].iter().any(|scheme| source.starts_with(scheme))
                && source.chars().all(plain)
        };
        if !self.vocab.source.as_deref().is_none_or(is_source) {
            return invalid(
                "vocab.source",
                "must be hf://ORG/MODEL or an http(s) URL of letters, digits and ._-/:@%~",
            );
        }
        if !self.released.as_deref().is_none_or(is_date) {
            return invalid("released", "must be YYYY, YYYY-MM or YYYY-MM-DD");
        }
        if let Some(bad) =
            self.modalities.iter().find(|m| !["text", "image", "audio", "video"].contains(&m.as_str()))
        {
            return invalid(
                "modalities",
                &format!("has `{bad}`, which is none of text, image, audio, video"),
            );
        }
        let is_language = |tag: &String| {
            let part =
                |part: &str| (1..=8).contains(&part.len()) && part.chars().all(|c| c.is_ascii_alphanumeric());
            (2..=35).contains(&tag.len()) && tag.split('-').all(part)
        };
        if !self.languages.iter().all(is_language) {
            return invalid("languages", "must be BCP 47 tags, as `en` or `zh-Hant`");
        }
        let texts = [&self.vendor].into_iter().flatten().map(|text| ("vendor", text));
        let licences = self.licence.iter().map(|licence| ("licence.name", &licence.name));
        let variants = self.variants.iter().map(|variant| ("variants", &variant.name));
        let ecosystem = self.ecosystem.iter().map(|name| ("ecosystem", name));
        let mut texts = texts.chain(licences).chain(variants).chain(ecosystem);
        match texts.find(|(_, text)| text.trim().is_empty() || text.len() > MAX_TEXT) {
            Some((field, _)) => invalid(field, "has a text that is empty or over 2,000 bytes"),
            None => Ok(()),
        }
    }

    fn check_numbers(&self) -> Result<(), CardError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("layers", self.layers),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_dim", self.head_dim),
        ];
        let counts = [
            ("published_parameters", self.published_parameters),
            ("published_active_parameters", self.published_active_parameters),
            ("context_length", self.context_length),
            ("training_data.tokens", self.training_data.as_ref().and_then(|data| data.tokens)),
        ];
        let known = |all: Vec<(&'static str, Option<u64>)>| {
            all.into_iter().filter_map(|(name, value)| Some((name, value?)))
        };
        for (name, value) in known(sizes.to_vec()) {
            in_range(name, value, MAX_SIZE)?;
        }
        for (name, value) in known(counts.to_vec()) {
            in_range(name, value, MAX_COUNT)?;
        }
        for tower in &self.towers {
            in_range("towers.parameters", tower.parameters, MAX_COUNT >> 8)?;
        }
        let scores = self.benchmarks.iter().map(|b| ("benchmarks.score", b.score));
        let speeds = self.speed.iter().map(|s| ("speed.tokens_per_second", s.tokens_per_second));
        match scores.chain(speeds).find(|(_, number)| !number.is_finite() || *number < 0.0) {
            Some((field, _)) => invalid(field, "must be a number that is not below 0"),
            None => Ok(()),
        }
    }

    fn check_attention(&self) -> Result<(), CardError> {
        let Some(attention) = &self.attention else { return Ok(()) };
        if let (Some(heads), Some(kv)) = (self.heads, self.kv_heads) {
            if heads % kv != 0 {
                return invalid("kv_heads", &format!("must divide heads, {heads}"));
            }
            let fits = match attention.kind {
                AttentionKind::Mha => kv == heads,
                AttentionKind::Mqa => kv == 1,
                AttentionKind::Gqa => kv > 1 && kv < heads,
                AttentionKind::Mla => true,
            };
            if !fits {
                return invalid(
                    "attention.kind",
                    &format!("does not fit {heads} heads with {kv} of keys and values"),
                );
            }
        }
        let ranks = [
            ("attention.q_lora_rank", attention.q_lora_rank),
            ("attention.kv_lora_rank", attention.kv_lora_rank),
            ("attention.qk_nope_head_dim", attention.qk_nope_head_dim),
            ("attention.qk_rope_head_dim", attention.qk_rope_head_dim),
            ("attention.v_head_dim", attention.v_head_dim),
        ];
        for (name, rank) in ranks.into_iter().filter_map(|(name, rank)| Some((name, rank?))) {
            if attention.kind != AttentionKind::Mla {
                return invalid(name, "is for attention of kind mla");
            }
            in_range(name, rank, MAX_SIZE)?;
        }
        Ok(())
    }

    fn check_parts(&self) -> Result<(), CardError> {
        if let Some(window) = &self.sliding_window {
            in_range("sliding_window.tokens", window.tokens, MAX_COUNT)?;
            in_range("sliding_window.layers", window.layers, self.layers.unwrap_or(MAX_SIZE))?;
        }
        if let Some(position) = &self.position {
            let positive =
                |number: Option<f64>| number.is_none_or(|number| number.is_finite() && number > 0.0);
            let factor = position.scaling.as_ref().and_then(|scaling| scaling.factor);
            if !positive(position.rope_base) || !positive(factor) {
                return invalid("position", "has a base or factor that is not above 0");
            }
            if !position.rotary_share.is_none_or(|share| share > 0.0 && share <= 1.0) {
                return invalid("position.rotary_share", "must be above 0 and at most 1");
            }
        }
        let Some(moe) = &self.moe else { return Ok(()) };
        in_range("moe.experts", moe.experts, MAX_SIZE)?;
        in_range("moe.active_experts", moe.active_experts, moe.experts)?;
        in_range("moe.expert_intermediate_size", moe.expert_intermediate_size, MAX_SIZE)?;
        if moe.shared_experts.is_some_and(|shared| shared > MAX_SIZE)
            || moe.shared_intermediate_size.is_some_and(|size| size > MAX_SIZE)
        {
            return invalid("moe.shared_experts", "is too large");
        }
        match self.layers {
            Some(layers) if moe.dense_layers > layers => invalid("moe.dense_layers", "is more than layers"),
            _ => Ok(()),
        }
    }

    fn check_sources(&self) -> Result<(), CardError> {
        let known = self.known_facts();
        if let Some(fact) = known.iter().find(|fact| !self.sources.contains_key(*fact)) {
            return invalid("sources", &format!("must say where `{fact}` is from"));
        }
        if let Some(fact) = self.sources.keys().find(|fact| !known.contains(*fact)) {
            return invalid("sources", &format!("names `{fact}`, which the card does not have"));
        }
        let own = self.benchmarks.iter().map(|b| &b.source).chain(self.speed.iter().map(|s| &s.source));
        match self.sources.values().chain(own).find(|source| source.trim().is_empty()) {
            Some(_) => invalid("sources", "has an empty source"),
            None => Ok(()),
        }
    }
}

fn invalid<T>(field: &str, rule: &str) -> Result<T, CardError> {
    Err(CardError::Invalid { field: field.to_owned(), rule: rule.to_owned() })
}

fn in_range(field: &str, value: u64, most: u64) -> Result<(), CardError> {
    if (1..=most).contains(&value) {
        Ok(())
    } else {
        invalid(field, &format!("must be 1 to {most}, not {value}"))
    }
}

/// What names of vocabularies, versions and aliases are made of.
pub(in crate::models) fn is_name(name: &str) -> bool {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    first && name.len() <= 64 && name.chars().all(plain)
}

pub(super) fn is_date(text: &str) -> bool {
    let digits = |part: &str, length: usize| {
        (part.len() == length && part.bytes().all(|b| b.is_ascii_digit()))
            .then(|| part.parse::<u32>().ok())
            .flatten()
    };
    let mut parts = text.split('-');
    let year = parts.next().and_then(|year| digits(year, 4));
    let month = parts.next().map(|month| digits(month, 2).is_some_and(|month| (1..=12).contains(&month)));
    let day = parts.next().map(|day| digits(day, 2).is_some_and(|day| (1..=31).contains(&day)));
    year.is_some() && month != Some(false) && day != Some(false) && parts.next().is_none()
}
