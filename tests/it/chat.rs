//! Chat templates of published vocabularies: the texts that transformers makes of the same messages.

use crate::data;
use crate::parity::vocabularies;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use vocabd::chat::{Chat, ChatError, ChatParts, Json, Wanted, render};
use vocabd::engine::{ChatTemplates, EncodeOptions, OnSpecial, Scratch, SpecialPolicy, Tokenizer};

/// Vocabularies whose configuration with the template may be passed on, and is in the full set.
const WITH_TEMPLATES: [&str; 4] = ["qwen2.5", "qwen3", "deepseek-v3", "mistral-nemo"];
/// Those of the goldens whose configuration may not be passed on.
const ELSEWHERE: [&str; 2] = ["llama3", "gemma3"];

/// JSON with its keys in order, which `serde_json`'s own values do not keep.
fn ordered(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

fn field(object: &Json, name: &str) -> Json {
    object.get_attr(name).unwrap()
}

fn list(value: &Json) -> Option<Vec<Json>> {
    value.as_object().map(|_| value.try_iter().unwrap().collect())
}

fn rendered(templates: &ChatTemplates, request: &Json) -> Result<String, ChatError> {
    let chat = Chat::new(ChatParts {
        messages: list(&field(request, "messages")).unwrap_or_default(),
        tools: list(&field(request, "tools")),
        documents: list(&field(request, "documents")),
        add_generation_prompt: field(request, "add_generation_prompt").is_true(),
        continue_final_message: field(request, "continue_final_message").is_true(),
        variables: field(request, "chat_template_kwargs"),
    })?;
    render(templates, Wanted::Usual, &chat, None).map(|rendered| rendered.text)
}

#[test]
fn texts_and_ids_of_published_templates_equal_the_references() {
    let Some(goldens) = data::shared("golden/chat.jsonl") else { return };
    let known: BTreeMap<&str, Tokenizer> =
        vocabularies().filter(|(_, t)| !t.chat().sources.is_empty()).collect();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut scratch = Scratch::default();
    for line in std::str::from_utf8(&goldens).unwrap().lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let vocab = case["vocab"].as_str().unwrap();
        let Some((vocab, tokenizer)) = known.get_key_value(vocab) else {
            assert!(ELSEWHERE.contains(&vocab), "{vocab} has goldens and no template");
            continue;
        };
        let text = rendered(tokenizer.chat(), &ordered(line)).unwrap();
        assert_eq!(text, case["rendered"].as_str().unwrap(), "{vocab}: {}", case["messages"]);
        let special = SpecialPolicy { others: OnSpecial::Parse, ..Default::default() };
        let options = EncodeOptions { special, ..Default::default() };
        let ids = tokenizer.encode(&text, &options, &mut scratch).unwrap().ids;
        assert_eq!(json!(ids), case["ids"], "{vocab}: {}", case["messages"]);
        *seen.entry(vocab).or_default() += 1;
    }
    println!("cases by vocabulary, all equal: {seen:?}");
    assert!(WITH_TEMPLATES.iter().all(|vocab| seen.get(vocab).is_some_and(|cases| *cases >= 10)), "{seen:?}");
}

/// What `tests/cross/chat.py` wrote, where it is run.
#[test]
fn cases_of_the_reference() {
    let Some(file) = std::env::var_os("CHAT_CASES") else { return };
    let text = std::fs::read_to_string(file).unwrap();
    let (mut same, mut refused, mut differ) = (0, 0, Vec::new());
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let strings = |field: &str| serde_json::from_value(case[field].clone()).unwrap();
        let templates = ChatTemplates { sources: strings("sources"), tokens: strings("tokens") };
        let ours = rendered(&templates, &field(&ordered(line), "request"));
        let (name, request) = (&case["name"], &case["request"]);
        match (ours, case["rendered"].as_str(), case["refused"].as_str()) {
            (Ok(text), Some(expect), _) if text == expect => same += 1,
            (Err(_), None, Some(_)) => refused += 1,
            (ours, expect, error) => {
                let (ours, theirs) = (format!("{ours:?}"), format!("{expect:?} {error:?}"));
                // Behind `Ok("` and `Some("`.
                let (mine, other) = (ours.get(4..).unwrap_or(&ours), theirs.get(6..).unwrap_or(&theirs));
                let at = mine.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
                let near =
                    |text: &str| text.chars().skip(at.saturating_sub(30)).take(100).collect::<String>();
                let (ours, theirs) = (near(mine), near(other));
                differ.push(format!("{name}\n  request {request}\n  ours   {ours}\n  theirs {theirs}"));
            }
        }
    }
    println!("{same} equal, {refused} refused by both, {} different", differ.len());
    assert!(same > 0 && differ.is_empty(), "{}", differ[..differ.len().min(100)].join("\n"));
}
