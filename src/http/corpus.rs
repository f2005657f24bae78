//! The texts that vocabularies are measured on, of a request or an upload: what `/compare` and `/models/compare` share.

use super::encode::with_scratch;
use super::extract::list::List;
use super::problem::Problem;
use super::state::AppState;
use crate::analysis::compare::{Measure, Texts};
use crate::engine::{EncodeError, Encoding};
use crate::jobs::{CorpusFormat, Documents, DocumentsError, DocumentsFormat, InvalidUtf8, Records, UploadId};
use crate::registry::Loaded;
use std::sync::Arc;

/// The fields of a request that say what is measured: exactly one of `text`, `texts` and `upload`, the others for uploads.
#[derive(Debug)]
pub(super) struct CorpusFields {
    pub(super) text: Option<String>,
    pub(super) texts: Option<List<String>>,
    pub(super) upload: Option<String>,
    pub(super) format: Option<CorpusFormat>,
    pub(super) field: Option<String>,
    pub(super) records: Option<Records>,
    pub(super) invalid_utf8: Option<InvalidUtf8>,
}

/// Texts to measure.
#[derive(Debug)]
pub(super) enum Corpus {
    Text(String),
    Texts(Vec<String>),
    Upload(Documents),
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Figures<'l> {
    /// Of the texts.
    pub(super) all: Texts,
    /// Parts of an upload that were not UTF-8 and became U+FFFD.
    pub(super) replaced: Option<u64>,
    /// Of each version, in their order.
    pub(super) of_each: Vec<(&'l Arc<Loaded>, Measure<'l>)>,
    /// How each cut the text, where it is one and that was asked for.
    pub(super) cut: Vec<Encoding>,
}

impl CorpusFields {
    /// Opens the texts.
    ///
    /// # Errors
    /// 422 for fields that do not fit, 404 for an upload that is not there.
    pub(super) fn open(self, app: &AppState) -> Result<Corpus, Problem> {
        let given = [
            ("/format", self.format.is_some()),
            ("/field", self.field.is_some()),
            ("/records", self.records.is_some()),
            ("/invalid_utf8", self.invalid_utf8.is_some()),
        ];
        let corpus = match (&self.text, &self.texts, &self.upload) {
            (Some(_), None, None) => self.text.map(Corpus::Text),
            (None, Some(_), None) => self.texts.map(|texts| Corpus::Texts(texts.0)),
            (None, None, Some(_)) => return self.upload(app),
            _ => None,
        };
        let corpus =
            corpus.ok_or_else(|| Problem::invalid("", "needs exactly one of text, texts and upload"))?;
        match given.into_iter().find(|(_, given)| *given) {
            Some((pointer, _)) => Err(Problem::invalid(pointer, "is for uploads")),
            None => Ok(corpus),
        }
    }

    fn upload(self, app: &AppState) -> Result<Corpus, Problem> {
        let rule = "must be 1 to 64 letters, digits, dots, hyphens and underscores, beginning with a letter or digit";
        let id = self.upload.as_deref().and_then(UploadId::parse);
        let id = id.ok_or_else(|| Problem::invalid("/upload", rule))?;
        let format = self.format.unwrap_or_default();
        match (format, self.records) {
            (_, Some(Records::Whole)) => {
                return Err(Problem::invalid("/records", "must be `lines` or `paragraphs`"));
            }
            (CorpusFormat::Jsonl | CorpusFormat::Parquet, Some(_)) => {
                let rule = "is for text; each line of JSONL, or row of Parquet, is one document";
                return Err(Problem::invalid("/records", rule));
            }
            _ => {}
        }
        if self.field.is_some() && format == CorpusFormat::Text {
            return Err(Problem::invalid("/field", "needs format jsonl or parquet"));
        }
        let how = DocumentsFormat {
            format,
            field: self.field.unwrap_or_else(|| "text".to_owned()),
            records: match format {
                CorpusFormat::Text => self.records.unwrap_or(Records::Lines),
                CorpusFormat::Jsonl | CorpusFormat::Parquet => Records::Whole,
            },
            invalid_utf8: self.invalid_utf8.unwrap_or_default(),
            max_bytes: app.config.max_compare_bytes,
            max_document_bytes: app.config.max_body_bytes as u64,
        };
        let opened = Documents::open(app.jobs.uploads(), &id, how);
        opened.map(Corpus::Upload).map_err(|e| Problem::documents(e.into()))
    }
}

impl Corpus {
    /// Measures all versions on it, off the async threads, and makes the answer there. `with_cut` keeps how they cut a single
    /// text, which takes twenty times the memory of a text of one-byte tokens, for each.
    ///
    /// # Errors
    /// 422 for texts that a vocabulary does not take or an upload that cannot be read, 503 where too much waits.
    pub(super) async fn measure<T: Send + 'static>(
        self,
        app: &AppState,
        loaded: Vec<Arc<Loaded>>,
        with_cut: bool,
        told: impl FnOnce(Figures<'_>) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let metered = Arc::clone(app);
        let told = move |figures: Figures<'_>| {
            for (version, measure) in &figures.of_each {
                metered.metrics.vocab(version.facts.name.as_str()).encoded(figures.all.bytes, measure.tokens);
            }
            told(figures)
        };
        match self {
            Self::Text(text) => {
                let bytes = text.len();
                let work = move || on_texts(&loaded, std::slice::from_ref(&text), true, with_cut).map(told);
                app.cpu.run_elsewhere(bytes, work).await?
            }
            Self::Texts(texts) => {
                let bytes = texts.iter().map(String::len).sum();
                app.cpu
                    .run_elsewhere(bytes, move || on_texts(&loaded, &texts, false, false).map(told))
                    .await?
            }
            Self::Upload(documents) => {
                // Not among the encode threads: others would wait for minutes.
                let turn = Arc::clone(&app.corpora).try_acquire_owned().map_err(|_| Problem::overloaded())?;
                // Ends the work when the client goes away and this is dropped.
                let _stop = documents.stop_on_drop();
                let work = move || {
                    let _turn = turn;
                    on_documents(&loaded, documents).map(told)
                };
                tokio::task::spawn_blocking(work).await.map_err(|error| {
                    tracing::error!(panicked = error.is_panic(), "reading an upload failed");
                    Problem::internal()
                })?
            }
        }
    }
}

fn on_texts<'l>(
    loaded: &'l [Arc<Loaded>],
    texts: &[String],
    alone: bool,
    with_cut: bool,
) -> Result<Figures<'l>, Problem> {
    let mut figures = Figures {
        all: Texts::default(),
        replaced: None,
        of_each: Vec::with_capacity(loaded.len()),
        cut: Vec::new(),
    };
    texts.iter().for_each(|text| figures.all.add(text));
    for version in loaded {
        let mut measure = Measure::new(&version.tokenizer);
        for (index, text) in texts.iter().enumerate() {
            let failed = |e: EncodeError| {
                let pointer = if alone { "/text".to_owned() } else { format!("/texts/{index}") };
                Problem::encode(&pointer, &e)
            };
            let encoding = with_scratch(|scratch| measure.add(text, scratch)).map_err(failed)?;
            if with_cut {
                figures.cut.push(encoding);
            }
        }
        figures.of_each.push((version, measure));
    }
    Ok(figures)
}

fn on_documents(loaded: &[Arc<Loaded>], documents: Documents) -> Result<Figures<'_>, Problem> {
    enum Failed {
        Documents(DocumentsError),
        Encode(EncodeError),
    }
    impl From<DocumentsError> for Failed {
        fn from(error: DocumentsError) -> Self {
            Self::Documents(error)
        }
    }
    let mut all = Texts::default();
    let mut of_each: Vec<_> =
        loaded.iter().map(|version| (version, Measure::new(&version.tokenizer))).collect();
    let replaced = documents.read(|document| {
        all.add(document);
        for (_, measure) in &mut of_each {
            with_scratch(|scratch| measure.add(document, scratch)).map_err(Failed::Encode)?;
        }
        Ok(())
    });
    let replaced = replaced.map_err(|failed| match failed {
        Failed::Documents(error) => Problem::documents(error),
        Failed::Encode(error) => Problem::encode("/upload", &error),
    })?;
    Ok(Figures { all, replaced: Some(replaced), of_each, cut: Vec::new() })
}
