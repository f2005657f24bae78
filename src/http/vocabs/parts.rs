//! The files of one vocabulary as the parts of a `multipart/form-data` body.
//!
//! Every part is a file and is read or refused by name; nothing is passed over. The whole is bounded, and so is the
//! number of parts.

use super::super::admission::Room;
use super::super::extract::{announced_length, body_error, check_encoding, discard};
use super::super::problem::Problem;
use crate::formats::Files;
use crate::formats::naming::{self, Name, Role};
use axum::body::{Body, HttpBody};
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request};
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

/// Files of one vocabulary at most.
const MAX_PARTS: usize = 16;

/// What boundaries and heads of the parts may take beside the files.
const FRAME_BYTES: u64 = 64 << 10;

/// Reads the form: the vocabulary file is first in the outcome, whatever the order of the parts; `limit` bytes at most.
///
/// # Errors
/// 400 for what is no form, 413, 422 that names the part by its number, and those of reading a body.
pub(super) async fn read(request: Request, limit: usize) -> Result<Files, Problem> {
    check_encoding(request.headers())?;
    let most = (limit as u64).saturating_add(FRAME_BYTES);
    let announced = announced_length(request.headers());
    // What is not announced takes its room as it comes.
    let room = request.extensions().get::<Arc<Room>>().filter(|_| announced.is_none()).cloned();
    let (head, body) = request.into_parts();
    if announced.is_some_and(|n| n > most) {
        discard(body).await;
        return Err(Problem::body_too_large(limit as u64));
    }
    // The form's reader keeps the body for itself, but what it leaves has to be read as well.
    let shared = Shared(Arc::new(Mutex::new(Counted { body, limit, left: most, room, refused: None })));
    let lent = shared.clone();
    let frames = Body::from_stream(stream::poll_fn(move |context| lent.lock().poll(context)));
    let mut request = Request::from_parts(head, frames);
    // Its own limit would be another one than is promised.
    DefaultBodyLimit::disable().apply(&mut request);
    let files = match Multipart::from_request(request, &()).await {
        Ok(form) => files(form, &shared, limit).await,
        Err(_) => Err(Problem::bad_multipart()),
    };
    if files.is_err() {
        let body = std::mem::take(&mut shared.lock().body);
        discard(body).await;
    }
    sort(files?)
}

async fn files(mut form: Multipart, shared: &Shared, limit: usize) -> Result<Vec<(String, Bytes)>, Problem> {
    let failed = |error: MultipartError| {
        if let Some(problem) = shared.lock().refused.take() {
            problem
        } else if error.status() == StatusCode::BAD_REQUEST {
            Problem::bad_multipart()
        } else {
            body_error(&error, limit as u64)
        }
    };
    let (mut files, mut left): (Vec<(String, Bytes)>, usize) = (Vec::new(), limit);
    while let Some(mut part) = form.next_field().await.map_err(failed)? {
        if files.len() == MAX_PARTS {
            return Err(Problem::too_many("/parts", MAX_PARTS));
        }
        let at = |detail| Problem::invalid(format!("/parts/{}", files.len()), detail);
        let name = name(&part).map_err(at)?;
        if files.iter().any(|(other, _)| *other == name) {
            return Err(at("has the name of another part"));
        }
        let mut content = BytesMut::new();
        while let Some(chunk) = part.chunk().await.map_err(failed)? {
            left = left.checked_sub(chunk.len()).ok_or_else(|| Problem::body_too_large(limit as u64))?;
            content.extend_from_slice(&chunk);
        }
        files.push((name, content.freeze()));
    }
    Ok(files)
}

/// The name of the file in a part: without the folders that some clients put before it.
fn name(part: &Field<'_>) -> Result<String, &'static str> {
    let told = part.file_name().or(part.name()).unwrap_or_default();
    let name = told.rsplit(['/', '\\']).next().unwrap_or_default();
    let role = Name::of(name).role;
    // What has no file name is a file only if it is called as one.
    if role == Role::Sidecar || (part.file_name().is_none() && role == Role::Unknown) {
        return Err("is no file of a vocabulary; a file needs a file name, and options go into the query");
    }
    if name.is_empty() || name.len() > 255 || name.contains(char::is_control) {
        return Err("needs a file name of 1 to 255 bytes");
    }
    Ok(name.to_owned())
}

/// The vocabulary file first. One file may have any name.
fn sort(mut files: Vec<(String, Bytes)>) -> Result<Files, Problem> {
    let mut sorted = Files::default();
    let names: Vec<String> = files.iter().map(|(name, _)| name.clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let chosen = match names[..] {
        [] => return Err(Problem::invalid("/parts", "must have a file")),
        [_] => names.clone(),
        _ => naming::choose(&names).map_err(|_| {
            let detail = "must be the files of one vocabulary, by names such as tokenizer.json and tokenizer_config.json, \
                          or vocab.json and merges.txt";
            Problem::invalid("/parts", detail)
        })?,
    };
    if let Some(at) = names.iter().position(|name| !chosen.contains(name)) {
        return Err(Problem::invalid(
            format!("/parts/{at}"),
            "does not belong to the vocabulary of the others",
        ));
    }
    for name in chosen {
        if let Some(at) = files.iter().position(|(other, _)| other == name) {
            let (name, content) = files.swap_remove(at);
            sorted.push(name, content);
        }
    }
    Ok(sorted)
}

/// A body that is given up at a number of bytes, or where there is no room for more.
struct Counted {
    body: Body,
    /// What a refusal names as the most.
    limit: usize,
    left: u64,
    room: Option<Arc<Room>>,
    /// Why it was given up.
    refused: Option<Problem>,
}

impl Counted {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, axum::BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        frame.map(|frame| {
            let bytes = match frame? {
                Ok(frame) => frame.into_data().unwrap_or_default(),
                Err(error) => return Some(Err(error.into())),
            };
            if let Err(problem) = self.take(bytes.len() as u64) {
                self.refused = Some(problem);
                return Some(Err("the body is given up".into()));
            }
            Some(Ok(bytes))
        })
    }

    fn take(&mut self, bytes: u64) -> Result<(), Problem> {
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or_else(|| Problem::body_too_large(self.limit as u64))?;
        self.room.as_ref().map_or(Ok(()), |room| room.grow(bytes))
    }
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Counted>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
