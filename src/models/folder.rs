//! The user's own cards: the files of a folder, within bounds.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Most cards of a folder.
const MAX_FILES: usize = 1_000;
/// Largest card.
const MAX_BYTES: u64 = 256 << 10;

/// The names and contents of its `*.toml`, by name; errors in words without the path of the folder.
pub(super) fn read(folder: &Path) -> Vec<(String, Result<String, String>)> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let listed = match fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(e) => return vec![(name, Err(format!("cannot be listed: {}", e.kind())))],
    };
    let mut files: Vec<String> = listed
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|file| file.ends_with(".toml") && !file.starts_with('.'))
        .collect();
    files.sort_unstable();
    let over = files.split_off(files.len().min(MAX_FILES));
    let mut cards: Vec<_> = (files.into_iter())
        .map(|file| {
            let text = content(&folder.join(&file));
            (format!("{name}/{file}"), text)
        })
        .collect();
    if let Some(first) = over.first() {
        let problem = format!("is one of {} cards over the {MAX_FILES} that are taken", over.len());
        cards.push((format!("{name}/{first}"), Err(problem)));
    }
    cards
}

fn content(path: &Path) -> Result<String, String> {
    let failed = |e: std::io::Error| format!("cannot be read: {}", e.kind());
    // Opening a pipe would wait for somebody who writes.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err("is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("has over {MAX_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|e| format!("is not UTF-8 at byte {}", e.utf8_error().valid_up_to()))
}
