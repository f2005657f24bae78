//! `/train`: jobs, their progress, their end.

use super::access::Caller;
use super::extract::{Path, Payload};
use super::problem::{Problem, ProblemBody};
use super::reply::Json;
use super::state::AppState;
use crate::jobs::{JobId, JobQueue, JobView, Merging, TrainRequest};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use serde::Serialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;
use utoipa::ToSchema;

/// All jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobsReply {
    /// Newest first.
    jobs: Vec<JobView>,
}

/// How often the progress of a job is looked at for its events.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The longest idempotency key.
const MAX_KEY_BYTES: usize = 200;

/// Start a training job.
#[utoipa::path(post, path = "/train", operation_id = "train", tag = "train", request_body = TrainRequest,
    params(("Idempotency-Key" = Option<String>, Header,
        description = "A repeated request with the same key and body answers the same job")),
    responses(
        (status = 202, description = "Accepted", body = JobView,
            headers(("Location" = String, description = "Path of the job"))),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Not stored", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn create(
    State(app): State<AppState>,
    headers: HeaderMap,
    caller: Caller,
    Payload(request): Payload<TrainRequest>,
) -> Result<Response, Problem> {
    if app.shutdown.is_cancelled() {
        return Err(Problem::not_ready("the server is going down"));
    }
    if !request.aliases.is_empty() {
        // Moving an alias is publishing, whenever it happens.
        caller.may_publish().map_err(|problem| problem.at("/aliases"))?;
    }
    let key = match headers.get("idempotency-key").map(HeaderValue::to_str) {
        None => None,
        Some(Ok(key)) if (1..=MAX_KEY_BYTES).contains(&key.len()) => Some(key),
        Some(_) => {
            let detail = format!("must be 1 to {MAX_KEY_BYTES} visible ASCII characters");
            return Err(Problem::invalid("/header/idempotency-key", detail));
        }
    };
    let submitted = app.jobs.submit(request, key, caller.owner()).await?;
    let location = format!("/train/{}", submitted.job.id.as_str());
    let mut response = Json(StatusCode::ACCEPTED, submitted.job).into_response();
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    Ok(response)
}

/// List jobs.
#[utoipa::path(get, path = "/train", operation_id = "list_jobs", tag = "train", responses(
    (status = 200, description = "All jobs, newest first", body = JobsReply)))]
pub(super) async fn list(State(app): State<AppState>) -> Json<JobsReply> {
    Json(StatusCode::OK, JobsReply { jobs: app.jobs.list() })
}

async fn job(jobs: &JobQueue, id: &str) -> Result<JobView, Problem> {
    let unknown = || Problem::not_found("job");
    jobs.find(&JobId::parse(id).ok_or_else(unknown)?).await?.ok_or_else(unknown)
}

/// One job.
#[utoipa::path(get, path = "/train/{id}", operation_id = "get_job", tag = "train", params(("id" = String, Path, description = "The id that the answer to POST /train names")), responses(
    (status = 200, description = "The job", body = JobView),
    (status = 404, description = "There is none", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn get(
    State(app): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<JobView>, Problem> {
    job(&app.jobs, &id).await.map(|job| Json(StatusCode::OK, job))
}

/// Cancel a job. One that runs ends within a second.
#[utoipa::path(post, path = "/train/{id}/cancel", operation_id = "cancel_job", tag = "train", params(("id" = String, Path, description = "The id that the answer to POST /train names")), responses(
    (status = 202, description = "It will end, or has", body = JobView),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn cancel(
    State(app): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<JobView>, Problem> {
    let id = JobId::parse(&id).ok_or_else(|| Problem::not_found("job"))?;
    Ok(Json(StatusCode::ACCEPTED, app.jobs.cancel(&id).await?))
}

/// Follow a job: server-sent events. `progress` carries the job whenever it moved, `merging` (type `Merging`) what was merged
/// since the event before it, `end` the job at its end.
#[utoipa::path(get, path = "/train/{id}/events", operation_id = "follow_job", tag = "train", params(("id" = String, Path, description = "The id that the answer to POST /train names")), responses(
    (status = 200, description = "Events until the job has ended", content_type = "text/event-stream", body = String),
    (status = 404, description = "There is none", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn events(State(app): State<AppState>, Path(id): Path<String>) -> Result<Response, Problem> {
    let first = job(&app.jobs, &id).await?;
    let mut response = Sse::new(follow(app, first)).keep_alive(KeepAlive::default()).into_response();
    // Proxies that buffer would turn the stream into one late answer.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// What a stream of events knows: the job as it was last told, how much of its merging, and whether it has ended.
struct Following {
    app: AppState,
    told: Option<JobView>,
    current: JobView,
    merges_told: u32,
    points_told: usize,
    /// Events that wait for their turn.
    next: VecDeque<Event>,
    ended: bool,
    sequence: u64,
}

impl Following {
    fn push(&mut self, name: &str, data: &impl Serialize) {
        self.sequence += 1;
        let event = Event::default().event(name).id(self.sequence.to_string());
        self.next.push_back(event.json_data(data).unwrap_or_default());
    }

    /// Tells of the current state. Who comes when all is over gets the end alone.
    fn tell(&mut self) {
        self.ended = self.current.state.ended();
        let late = self.ended && self.told.is_none();
        let merging = self.app.jobs.merging(&self.current.id, self.merges_told, self.points_told);
        if let Some((merging, merges, points)) = merging.filter(|_| !late) {
            (self.merges_told, self.points_told) = (merges, points);
            if merging != Merging::default() {
                self.push("merging", &merging);
            }
        }
        let current = self.current.clone();
        self.push(if self.ended { "end" } else { "progress" }, &current);
        self.told = Some(current);
    }
}

fn follow(app: AppState, first: JobView) -> impl Stream<Item = Result<Event, Infallible>> {
    let state = Following {
        app,
        told: None,
        current: first,
        merges_told: 0,
        points_told: 0,
        next: VecDeque::new(),
        ended: false,
        sequence: 0,
    };
    futures_util::stream::unfold(state, |mut state| async move {
        if let Some(event) = state.next.pop_front() {
            return Some((Ok(event), state));
        }
        if state.ended {
            return None;
        }
        while state.told.as_ref() == Some(&state.current) {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                // A server that goes down ends its streams; the client follows again later.
                () = state.app.shutdown.cancelled() => return None,
            }
            state.current = state.app.jobs.get(&state.current.id)?;
            // The remaining time runs on even where nothing else moves; that alone is no event.
            if let Some(told) = &state.told {
                let mut same_time = state.current.clone();
                same_time.progress.eta_seconds = told.progress.eta_seconds;
                if same_time == *told {
                    state.current = same_time;
                }
            }
        }
        state.tell();
        let event = state.next.pop_front()?;
        Some((Ok(event), state))
    })
}
