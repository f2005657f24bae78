//! What a model must have. Of what a card does not know a filter cannot tell: that is said, and the user says what it means.

use super::card::{Card, Commercial};
use super::derive::Derived;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

/// What every model must have that is kept; all that is given must hold.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ModelFilter)]
pub struct Filter {
    /// Least tokens of a context.
    pub min_context: Option<u64>,
    /// Whether the longest document fits the context.
    pub fits: Option<bool>,
    /// Whether it was trained to call tools.
    pub tool_calling: Option<bool>,
    /// Whether commercial use is allowed, under conditions or not.
    pub commercial: Option<bool>,
    /// Names of licences, one of which it has.
    pub licences: Option<Vec<String>>,
    /// Languages (BCP 47), all of which its makers name.
    pub languages: Option<Vec<String>>,
    /// What goes in: all of these.
    pub modalities: Option<Vec<String>>,
    /// What it was published as: all of these.
    pub variants: Option<Vec<String>>,
    /// Most parameters.
    pub max_parameters: Option<u64>,
    /// Most bytes of weights and cache, as `serving` says.
    pub max_memory_bytes: Option<u64>,
    /// Most GPUs, as `serving` says.
    pub max_gpus: Option<u64>,
    /// What becomes of a model of which a filter cannot tell.
    #[serde(default)]
    pub unknown: Unknown,
}

/// What becomes of a model of which a filter cannot tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = UnknownModels)]
pub enum Unknown {
    /// It is kept.
    #[default]
    Keep,
    /// It is not.
    Drop,
}

/// A filter that a model does not pass.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = FilterFailed)]
pub struct Failed {
    /// Its name.
    pub filter: &'static str,
    /// What it asks for.
    pub wanted: Value,
    /// What the model has.
    pub value: Value,
}

/// A filter that cannot tell.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = FilterUntold)]
pub struct Untold {
    /// Its name.
    pub filter: &'static str,
    /// What it asks for.
    pub wanted: Value,
}

/// What a filter looks at, beside the card.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measured {
    /// Tokens of the longest document.
    pub longest: Option<u64>,
    /// Bytes of weights and cache.
    pub memory: Option<u64>,
    /// GPUs for them.
    pub gpus: Option<u64>,
}

/// Which filters a model does not pass, and which cannot tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// Not passed.
    pub fails: Vec<Failed>,
    /// Not known.
    pub unknown: Vec<Untold>,
}

impl Verdict {
    fn look<W: Serialize, V: Serialize>(
        &mut self,
        filter: &'static str,
        wanted: &Option<W>,
        value: Option<V>,
        holds: impl FnOnce(&W, &V) -> bool,
    ) {
        let Some(wanted) = wanted else { return };
        match value {
            None => self.unknown.push(Untold { filter, wanted: json!(wanted) }),
            Some(value) if holds(wanted, &value) => {}
            Some(value) => self.fails.push(Failed { filter, wanted: json!(wanted), value: json!(value) }),
        }
    }
}

impl Filter {
    /// Looks at a model.
    pub fn verdict(&self, card: &Card, derived: &Derived, measured: Measured) -> Verdict {
        let mut verdict = Verdict::default();
        let fits = measured.longest.zip(card.context_length).map(|(longest, context)| longest <= context);
        let commercial = card.licence.as_ref().and_then(|licence| licence.commercial);
        let commercial = commercial.map(|commercial| commercial != Commercial::Forbidden);
        let licence = card.licence.as_ref().map(|licence| &licence.name);
        let variants: Vec<String> = card.variants.iter().map(|variant| variant.name.clone()).collect();
        // An empty list of a card is one that is not known.
        let known = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
        let among = |list: &[String], one: &str| list.iter().any(|other| other.eq_ignore_ascii_case(one));
        let all_among = |wanted: &Vec<String>, has: &Vec<String>| wanted.iter().all(|one| among(has, one));

        verdict.look("min_context", &self.min_context, card.context_length, |least, has| has >= least);
        verdict.look("fits", &self.fits, fits, |wanted, is| is == wanted);
        verdict.look("tool_calling", &self.tool_calling, card.tool_calling, |wanted, is| is == wanted);
        verdict.look("commercial", &self.commercial, commercial, |wanted, is| is == wanted);
        verdict.look("licences", &self.licences, licence, |wanted, has| among(wanted, has));
        verdict.look("languages", &self.languages, known(&card.languages), |wanted, _| {
            wanted.iter().all(|language| card.speaks(language))
        });
        verdict.look("modalities", &self.modalities, known(&card.modalities), all_among);
        verdict.look("variants", &self.variants, known(&variants), all_among);
        verdict.look("max_parameters", &self.max_parameters, derived.parameters, |most, has| has <= most);
        verdict.look("max_memory_bytes", &self.max_memory_bytes, measured.memory, |most, has| has <= most);
        verdict.look("max_gpus", &self.max_gpus, measured.gpus, |most, has| has <= most);
        verdict
    }

    /// Whether a model with that verdict is kept.
    pub fn keeps(&self, verdict: &Verdict) -> bool {
        verdict.fails.is_empty() && (self.unknown == Unknown::Keep || verdict.unknown.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::card::Licence;

    fn card() -> Card {
        Card {
            context_length: Some(8192),
            languages: vec!["en".to_owned(), "zh".to_owned()],
            licence: Some(Licence { name: "Apache-2.0".to_owned(), commercial: Some(Commercial::Allowed) }),
            ..Card::default()
        }
    }

    #[track_caller]
    fn check(filter: Value, fails: &[&str], unknown: &[&str]) {
        let filter: Filter = serde_json::from_value(filter).unwrap();
        let measured = Measured { longest: Some(9000), memory: Some(10), gpus: None };
        let verdict = filter.verdict(&card(), &Derived::default(), measured);
        assert_eq!(verdict.fails.iter().map(|failed| failed.filter).collect::<Vec<_>>(), fails);
        assert_eq!(verdict.unknown.iter().map(|untold| untold.filter).collect::<Vec<_>>(), unknown);
    }

    #[test]
    fn a_filter_holds_or_does_not_or_cannot_tell() {
        check(json!({}), &[], &[]);
        check(json!({"min_context": 8192, "licences": ["apache-2.0"], "languages": ["zh-Hant"]}), &[], &[]);
        check(
            json!({"min_context": 8193, "licences": ["MIT"], "languages": ["en", "de"]}),
            &["min_context", "licences", "languages"],
            &[],
        );
        check(
            json!({"fits": true, "commercial": true, "max_memory_bytes": 9}),
            &["fits", "max_memory_bytes"],
            &[],
        );
        check(
            json!({"tool_calling": true, "modalities": ["text"], "variants": ["chat"], "max_parameters": 1, "max_gpus": 1}),
            &[],
            &["tool_calling", "modalities", "variants", "max_parameters", "max_gpus"],
        );
    }

    #[test]
    fn the_unknown_is_kept_unless_the_user_drops_it() {
        let verdict =
            Verdict { fails: Vec::new(), unknown: vec![Untold { filter: "fits", wanted: json!(true) }] };
        assert!(Filter::default().keeps(&verdict));
        assert!(!Filter { unknown: Unknown::Drop, ..Filter::default() }.keeps(&verdict));
    }
}
