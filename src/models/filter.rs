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
    fn look<T: PartialEq + Serialize>(
        &mut self,
        filter: &'static str,
        wanted: Option<&T>,
        value: Option<impl Serialize>,
        holds: impl FnOnce() -> bool,
    ) {
        let Some(wanted) = wanted else { return };
        let wanted = json!(wanted);
        match value {
            None => self.unknown.push(Untold { filter, wanted }),
            Some(value) if !holds() => self.fails.push(Failed { filter, wanted, value: json!(value) }),
            Some(_) => {}
        }
    }
}

impl Filter {
    /// Looks at a model.
    pub fn verdict(&self, card: &Card, derived: &Derived, measured: Measured) -> Verdict {
        let mut verdict = Verdict::default();
        let known = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
        let has_all = |wanted: &Option<Vec<String>>, has: &dyn Fn(&str) -> bool| {
            wanted.iter().flatten().all(|wanted| has(wanted))
        };
        let among = |list: &[String], wanted: &str| list.iter().any(|one| one.eq_ignore_ascii_case(wanted));
        let at_least = |least: Option<u64>, value: Option<u64>| least.zip(value).is_some_and(|(l, v)| v >= l);
        let at_most = |most: Option<u64>, value: Option<u64>| most.zip(value).is_some_and(|(m, v)| v <= m);

        let context = card.context_length;
        verdict
            .look("min_context", self.min_context.as_ref(), context, || at_least(self.min_context, context));
        let fits = measured.longest.zip(context).map(|(longest, context)| longest <= context);
        verdict.look("fits", self.fits.as_ref(), fits, || fits == self.fits);
        let tools = card.tool_calling;
        verdict.look("tool_calling", self.tool_calling.as_ref(), tools, || tools == self.tool_calling);
        let commercial = card.licence.as_ref().and_then(|licence| licence.commercial);
        let allowed = commercial.map(|commercial| commercial != Commercial::Forbidden);
        verdict.look("commercial", self.commercial.as_ref(), allowed, || allowed == self.commercial);
        let licence = card.licence.as_ref().map(|licence| &licence.name);
        verdict.look("licences", self.licences.as_ref(), licence, || {
            self.licences
                .iter()
                .flatten()
                .any(|wanted| licence.is_some_and(|has| has.eq_ignore_ascii_case(wanted)))
        });
        verdict.look("languages", self.languages.as_ref(), known(&card.languages), || {
            has_all(&self.languages, &|wanted| card.speaks(wanted))
        });
        verdict.look("modalities", self.modalities.as_ref(), known(&card.modalities), || {
            has_all(&self.modalities, &|wanted| among(&card.modalities, wanted))
        });
        let variants: Vec<String> = card.variants.iter().map(|variant| variant.name.clone()).collect();
        verdict.look("variants", self.variants.as_ref(), known(&variants), || {
            has_all(&self.variants, &|wanted| among(&variants, wanted))
        });
        let (all, memory, gpus) = (derived.parameters, measured.memory, measured.gpus);
        verdict
            .look("max_parameters", self.max_parameters.as_ref(), all, || at_most(self.max_parameters, all));
        verdict.look("max_memory_bytes", self.max_memory_bytes.as_ref(), memory, || {
            at_most(self.max_memory_bytes, memory)
        });
        verdict.look("max_gpus", self.max_gpus.as_ref(), gpus, || at_most(self.max_gpus, gpus));
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
