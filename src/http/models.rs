//! `/models`: cards of base models and what follows from them.

pub(super) mod compare;
mod reply;

use super::extract::Path;
use super::problem::{Problem, ProblemBody};
use super::reply::Json;
use super::state::{App, AppState};
use super::vocabs::FailureReply;
use crate::models::Model;
use crate::models::card::Card;
use crate::models::derive::Derived;
use crate::models::rank::FACTORS;
use crate::registry::VocabRef;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

/// A base model.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelReply {
    /// Its name.
    #[schema(example = "qwen2.5-7b")]
    name: String,
    /// The vocabulary that its card names.
    #[schema(example = "qwen2.5")]
    vocab: String,
    /// Whether the card is from the server's own folder, not one that comes with the program.
    own: bool,
    /// The vocabulary, where it is not in the store: what to import.
    missing_vocab: Option<MissingVocab>,
    /// What is known of it; what is not is null.
    card: Card,
    /// What follows from that; null where a fact for it is not known.
    derived: Derived,
}

/// A vocabulary that is not in the store.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct MissingVocab {
    /// The ref that the card has.
    #[serde(rename = "ref")]
    reference: String,
    /// The command that imports it; null where the card does not say where it is from.
    import_command: Option<String>,
    /// What `POST /vocabs` takes as `source`.
    source: Option<String>,
}

/// A factor that models can be ranked by.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FactorReply {
    /// Its name among `weights`.
    name: &'static str,
    /// What it is.
    meaning: &'static str,
    /// The unit of its values.
    unit: &'static str,
    /// `more` or `less`.
    better: &'static str,
    /// The field of the request without which nothing is known of it.
    needs: Option<&'static str>,
}

/// All models.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelsReply {
    /// By name.
    models: Vec<ModelReply>,
    /// What they can be ranked by, beside `benchmark:NAME` and `speed:NAME` of the cards.
    factors: Vec<FactorReply>,
    /// Cards of the server's folder that are not taken.
    failed: Vec<FailureReply>,
}

fn model_reply(app: &App, model: &Model) -> ModelReply {
    let (card, derived) = (model.card.clone(), model.derived.clone());
    ModelReply {
        name: card.name.clone(),
        vocab: card.vocab.reference.clone(),
        own: model.own,
        missing_vocab: (!has_vocab(app, &card)).then(|| missing(&card)),
        card,
        derived,
    }
}

fn has_vocab(app: &App, card: &Card) -> bool {
    let wanted: Option<VocabRef> = card.vocab.reference.parse().ok();
    wanted.is_some_and(|wanted| app.registry.facts(Some(&wanted)).is_ok())
}

fn missing(card: &Card) -> MissingVocab {
    MissingVocab {
        reference: card.vocab.reference.clone(),
        import_command: card.import_command(),
        source: card.vocab.source.clone(),
    }
}

/// List all base models that there are cards of.
#[utoipa::path(get, path = "/models", operation_id = "list_models", tag = "models", responses(
    (status = 200, description = "All models, by name", body = ModelsReply)))]
pub(super) async fn list(State(app): State<AppState>) -> Json<ModelsReply> {
    let models = app.models.load();
    let factors = FACTORS.iter().map(|factor| FactorReply {
        name: factor.name,
        meaning: factor.meaning,
        unit: factor.unit,
        better: factor.better(),
        needs: factor.needs(),
    });
    let reply = ModelsReply {
        models: models.iter().map(|model| model_reply(&app, model)).collect(),
        factors: factors.collect(),
        failed: models.failed.iter().map(FailureReply::from).collect(),
    };
    Json(StatusCode::OK, reply)
}

/// One base model.
#[utoipa::path(get, path = "/models/{name}", operation_id = "get_model", tag = "models",
    params(("name" = String, Path, description = "Its name, as in the list")),
    responses(
        (status = 200, description = "Its card, and what follows", body = ModelReply),
        (status = 404, description = "There is none", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn get(
    State(app): State<AppState>,
    Path(name): Path<String>,
) -> Result<Json<ModelReply>, Problem> {
    let models = app.models.load();
    let model = models.get(&name).ok_or_else(|| Problem::unknown_card("/path/name", &models.near(&name)))?;
    Ok(Json(StatusCode::OK, model_reply(&app, model)))
}
