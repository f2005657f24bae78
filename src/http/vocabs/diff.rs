//! `/vocabs/{a}/diff/{b}`: how two versions differ.

use super::super::extract::{Path, Query};
use super::super::problem::{Problem, ProblemBody};
use super::super::reply::{Answer, Ask, Made};
use super::super::state::AppState;
use super::browse::page_size;
use super::segment;
use crate::analysis::diff::{
    Listed, MergeChange, Section, SpecialChange, TokenChange, Window, diff as compared,
};
use crate::engine::TokenId;
use crate::jobs::VocabTriple;
use crate::registry::VocabRef;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct DiffQuery {
    /// List this section only: `only_a`, `only_b`, `moved`, `merges_only_a`, `merges_only_b`, `merges_moved` or `specials`; the others are
    /// counted.
    section: Option<String>,
    /// Entries of the section to pass over: the `next` of the page before.
    after: Option<usize>,
    /// The most entries of a section, from 1 to the setting `max_page` (1000); 100 when left out.
    #[param(minimum = 1)]
    limit: Option<usize>,
}

/// How two versions differ.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct DiffReply {
    /// The first.
    a: VocabTriple,
    /// The second.
    b: VocabTriple,
    /// How many ordinary tokens have one id in both.
    same: usize,
    /// Ordinary tokens that only the first has, by id.
    only_a: TokenChanges,
    /// Ordinary tokens that only the second has, by id.
    only_b: TokenChanges,
    /// Ordinary tokens with two ids, by id in the first.
    moved: TokenChanges,
    /// How many merges have one rank in both.
    merges_same: usize,
    /// Merges that only the first has, by rank.
    merges_only_a: MergeChanges,
    /// Merges that only the second has, by rank.
    merges_only_b: MergeChanges,
    /// Merges with two ranks, by rank in the first.
    merges_moved: MergeChanges,
    /// Special and added tokens that one of them has not, or that have two ids or are flagged special in one only.
    specials: SpecialChanges,
    /// What is set up in two ways.
    settings: Vec<SettingChange>,
}

impl Answer for DiffReply {}

/// Tokens that differ.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct TokenChanges {
    /// How many there are.
    total: usize,
    /// Some of them.
    entries: Vec<TokenChangeBody>,
    /// The `after` of the next page of this section; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<usize>,
}

/// A token that differs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TokenChange)]
pub(in crate::http) struct TokenChangeBody {
    /// As text; null where its bytes are not UTF-8.
    text: Option<String>,
    /// Its bytes in base64.
    bytes_b64: String,
    /// Its id in the first; null where it is not there.
    a: Option<TokenId>,
    /// Its id in the second; null where it is not there.
    b: Option<TokenId>,
}

/// Merges that differ.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct MergeChanges {
    /// How many there are.
    total: usize,
    /// Some of them.
    entries: Vec<MergeChangeBody>,
    /// The `after` of the next page of this section; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<usize>,
}

/// A merge that differs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MergeChange)]
pub(in crate::http) struct MergeChangeBody {
    /// The left part as text; bytes that are not UTF-8 are replaced.
    left: String,
    /// The right part as text; bytes that are not UTF-8 are replaced.
    right: String,
    /// The bytes of the left part in base64.
    left_b64: String,
    /// The bytes of the right part in base64.
    right_b64: String,
    /// Its rank in the first; null where it is not there.
    a: Option<u32>,
    /// Its rank in the second; null where it is not there.
    b: Option<u32>,
}

/// Special and added tokens that differ.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct SpecialChanges {
    /// How many there are.
    total: usize,
    /// Some of them.
    entries: Vec<SpecialChangeBody>,
    /// The `after` of the next page of this section; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<usize>,
}

/// A special or added token that differs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SpecialChange)]
pub(in crate::http) struct SpecialChangeBody {
    /// Its name.
    name: String,
    /// What it is in the first; null where it is not there.
    a: Option<SpecialIn>,
    /// What it is in the second; null where it is not there.
    b: Option<SpecialIn>,
}

/// A special or added token of one version.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct SpecialIn {
    /// Its id.
    id: TokenId,
    /// Whether it is flagged special.
    special: bool,
}

/// Something that is set up in two ways.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct SettingChange {
    /// What: `model`, `normalizer`, `split`, `whole_pretokens`, `tokens_before`, `tokens_after` or `vocab_size`.
    name: &'static str,
    /// How it is in the first.
    a: String,
    /// How it is in the second.
    b: String,
}

/// Tell how two versions differ.
#[utoipa::path(get, path = "/vocabs/{a}/diff/{b}", operation_id = "diff_vocabs", tag = "vocabs",
    params(("a" = String, Path, description = "The first: `name`, `name@3` or `name@alias`"),
        ("b" = String, Path, description = "The second: `name`, `name@3` or `name@alias`"), DiffQuery),
    responses(
        (status = 200, description = "What differs",
            content((DiffReply = "application/json"), (DiffReply = "application/msgpack"))),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Overloaded", body = ProblemBody, content_type = "application/problem+json")))]
pub(in crate::http) async fn diff(
    State(app): State<AppState>,
    ask: Ask,
    Path((a, b)): Path<(String, String)>,
    Query(query): Query<DiffQuery>,
) -> Result<Made, Problem> {
    let settled = ask.settle_alone()?;
    let (a, b): (VocabRef, VocabRef) = (segment("a", &a)?, segment("b", &b)?);
    let limit = page_size(&app, query.limit)?;
    let section = query.section.as_deref().map(|name| Section::from_name(name).ok_or_else(unknown_section));
    let section = section.transpose()?;
    if query.after.is_some() && section.is_none() {
        return Err(Problem::invalid("/query/after", "needs a section"));
    }
    let window = move |of: Section| match section {
        None => Window { skip: 0, limit },
        Some(section) if section == of => Window { skip: query.after.unwrap_or(0), limit },
        Some(_) => Window { skip: 0, limit: 0 },
    };
    let a = app.registry.resolve(Some(&a)).await.map_err(|e| Problem::from(e).at("/path/a"))?;
    let b = app.registry.resolve(Some(&b)).await.map_err(|e| Problem::from(e).at("/path/b"))?;
    let size = (a.facts.native_bytes + b.facts.native_bytes) as usize;
    app.cpu
        .run_elsewhere(size, move || {
            let made = compared(&a.tokenizer, &b.tokenizer, window);
            // A section that was not asked for has no page to go on from.
            let paged = |of: Section| section.is_none_or(|section| section == of);
            let settings = made.settings.into_iter().map(|(name, a, b)| SettingChange { name, a, b });
            let reply = DiffReply {
                a: VocabTriple::from(&*a.facts),
                b: VocabTriple::from(&*b.facts),
                same: made.same,
                only_a: tokens(&made.only_a, paged(Section::OnlyA)),
                only_b: tokens(&made.only_b, paged(Section::OnlyB)),
                moved: tokens(&made.moved, paged(Section::Moved)),
                merges_same: made.merges_same,
                merges_only_a: merges(&made.merges_only_a, paged(Section::MergesOnlyA)),
                merges_only_b: merges(&made.merges_only_b, paged(Section::MergesOnlyB)),
                merges_moved: merges(&made.merges_moved, paged(Section::MergesMoved)),
                specials: specials(&made.specials, paged(Section::Specials)),
                settings: settings.collect(),
            };
            settled.alone(&reply)
        })
        .await
}

fn unknown_section() -> Problem {
    let names = Section::ALL.map(Section::name);
    Problem::invalid("/query/section", format!("must be one of {}", names.join(", ")))
}

fn tokens(listed: &Listed<TokenChange<'_>>, paged: bool) -> TokenChanges {
    let body = |change: &TokenChange<'_>| TokenChangeBody {
        text: std::str::from_utf8(change.bytes).ok().map(str::to_owned),
        bytes_b64: STANDARD.encode(change.bytes),
        a: change.a,
        b: change.b,
    };
    TokenChanges {
        total: listed.total,
        entries: listed.entries.iter().map(body).collect(),
        next: listed.next().filter(|_| paged),
    }
}

fn merges(listed: &Listed<MergeChange<'_>>, paged: bool) -> MergeChanges {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let body = |change: &MergeChange<'_>| MergeChangeBody {
        left: text(change.left),
        right: text(change.right),
        left_b64: STANDARD.encode(change.left),
        right_b64: STANDARD.encode(change.right),
        a: change.a,
        b: change.b,
    };
    MergeChanges {
        total: listed.total,
        entries: listed.entries.iter().map(body).collect(),
        next: listed.next().filter(|_| paged),
    }
}

fn specials(listed: &Listed<SpecialChange<'_>>, paged: bool) -> SpecialChanges {
    let of = |found: Option<(TokenId, bool)>| found.map(|(id, special)| SpecialIn { id, special });
    let body = |change: &SpecialChange<'_>| SpecialChangeBody {
        name: change.name.to_owned(),
        a: of(change.a),
        b: of(change.b),
    };
    SpecialChanges {
        total: listed.total,
        entries: listed.entries.iter().map(body).collect(),
        next: listed.next().filter(|_| paged),
    }
}
