//! Base models: cards of what is known of each, what follows from that, and the choice among them.
//!
//! Nothing here knows a tokenizer: figures of texts come from outside. Only `folder.rs` touches the disk.

pub mod card;
pub mod derive;
mod embedded;
pub mod filter;
mod folder;
pub mod import;
pub mod rank;

use card::{Card, CardError};
use derive::Derived;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A card with what follows from it.
#[derive(Debug, Clone)]
pub struct Model {
    /// What is known.
    pub card: Card,
    /// What follows.
    pub derived: Derived,
    /// Whether the card is from the user's folder.
    pub own: bool,
}

/// A card of the user's folder that is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The name of its file.
    pub file: String,
    /// Why.
    pub problem: String,
}

/// The models of a server, by name.
#[derive(Debug, Clone, Default)]
pub struct Models {
    models: BTreeMap<String, Arc<Model>>,
    /// Cards that are not taken, by file.
    pub failed: Vec<Refused>,
}

impl Models {
    /// The cards that come with the program.
    pub fn embedded() -> Self {
        let mut models = Self::default();
        for text in embedded::CARDS {
            match Card::parse(text) {
                Ok(card) => models.put(card, false),
                Err(error) => models.refuse("embedded", &error),
            }
        }
        models
    }

    /// Those, and over them the cards of a folder, `*.toml`. A card that cannot be taken changes nothing but [`Models::failed`]; a
    /// folder that is not there has none.
    pub fn with_folder(folder: &Path) -> Self {
        let mut models = Self::embedded();
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        for (file, read) in folder::read(folder) {
            let card = read.and_then(|text| Card::parse(&text).map_err(|e: CardError| e.to_string()));
            match card {
                Ok(card) => match files.get(&card.name) {
                    Some(other) => {
                        let problem = format!("the card {} is in {other} already", card.name);
                        models.failed.push(Refused { file, problem });
                    }
                    None => {
                        files.insert(card.name.clone(), file);
                        models.put(card, true);
                    }
                },
                Err(problem) => models.failed.push(Refused { file, problem }),
            }
        }
        models
    }

    fn put(&mut self, card: Card, own: bool) {
        let derived = Derived::of(&card);
        self.models.insert(card.name.clone(), Arc::new(Model { card, derived, own }));
    }

    fn refuse(&mut self, file: &str, error: &CardError) {
        self.failed.push(Refused { file: file.to_owned(), problem: error.to_string() });
    }

    /// The model of a name.
    pub fn get(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.get(name)
    }

    /// All models by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Model>> {
        self.models.values()
    }

    /// Names that look like one that there is not: at most five, the nearest first.
    pub fn near(&self, name: &str) -> Vec<&str> {
        // What nobody means by a name is not compared with all.
        if name.len() > 128 {
            return Vec::new();
        }
        let wanted = name.to_ascii_lowercase();
        let mut near: Vec<(usize, &str)> = (self.models.keys())
            .map(|known| (strsim::damerau_levenshtein(known, &wanted), known.as_str()))
            .filter(|(distance, known)| *distance <= known.len() / 3)
            .collect();
        near.sort_unstable();
        near.into_iter().take(5).map(|(_, known)| known).collect()
    }
}

#[cfg(test)]
mod tests;
