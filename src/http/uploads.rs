//! `/uploads`: corpora sent ahead of the job that reads them.

use super::extract::{Path, announced_length, body_error, check_encoding, discard};
use super::problem::{Problem, ProblemBody};
use super::reply::Json;
use super::state::AppState;
use crate::jobs::{UploadFacts, UploadId};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use http_body_util::BodyExt;

fn upload_id(text: &str) -> Result<UploadId, Problem> {
    let rule =
        "must be 1 to 64 letters, digits, dots, hyphens and underscores, beginning with a letter or digit";
    UploadId::parse(text).ok_or_else(|| Problem::invalid("/path/id", rule))
}

/// Upload a corpus: raw bytes, plain or compressed (.gz, .zst), to disk as they come.
#[utoipa::path(put, path = "/uploads/{id}", operation_id = "put_upload", tag = "train", params(("id" = String, Path,
        description = "Chosen by the client: 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit")),
    request_body(content_type = "application/octet-stream", description = "The corpus"),
    responses(
        (status = 201, description = "Stored", body = UploadFacts),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Not stored", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn put(
    State(app): State<AppState>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<UploadFacts>, Problem> {
    let id = upload_id(&id)?;
    check_encoding(request.headers())?;
    let announced = announced_length(request.headers());
    let mut body = request.into_body();
    match receive(&app, id, announced, &mut body).await {
        Ok(facts) => Ok(Json(StatusCode::CREATED, facts)),
        Err(problem) => {
            discard(body).await;
            Err(problem)
        }
    }
}

async fn receive(
    app: &AppState,
    id: UploadId,
    announced: Option<u64>,
    body: &mut Body,
) -> Result<UploadFacts, Problem> {
    let mut writer = app.jobs.uploads().begin(id, announced).await?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| body_error(&error, app.config.max_upload_bytes))?;
        if let Ok(bytes) = frame.into_data() {
            writer.write(&bytes).await?;
        }
    }
    Ok(writer.finish().await?)
}

/// Facts of an upload.
#[utoipa::path(get, path = "/uploads/{id}", operation_id = "get_upload", tag = "train", params(("id" = String, Path,
        description = "Chosen by the client: 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit")), responses(
    (status = 200, description = "Its facts", body = UploadFacts),
    (status = 404, description = "There is none", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn get(
    State(app): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<UploadFacts>, Problem> {
    Ok(Json(StatusCode::OK, app.jobs.uploads().facts(&upload_id(&id)?)?))
}

/// Remove an upload.
#[utoipa::path(delete, path = "/uploads/{id}", operation_id = "delete_upload", tag = "train", params(("id" = String, Path,
        description = "Chosen by the client: 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit")), responses(
    (status = 204, description = "Removed"),
    (status = 404, description = "There is none", body = ProblemBody, content_type = "application/problem+json"),
    (status = 409, description = "A job needs it", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn remove(
    State(app): State<AppState>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    app.jobs.uploads().remove(&upload_id(&id)?)?;
    Ok(StatusCode::NO_CONTENT)
}
