//! Chat templates of published vocabularies: the texts that transformers makes of the same messages.

use crate::data;
use serde_json::Value;
use std::collections::BTreeMap;
use vocabd::chat::{Chat, ChatError, ChatParts, Json, Wanted, render};
use vocabd::engine::ChatTemplates;

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

/// Templates and tokens as a `tokenizer_config.json` has them.
fn templates_of(config: &[u8]) -> ChatTemplates {
    let config: Value = serde_json::from_slice(config).unwrap();
    let mut templates = ChatTemplates::default();
    for (name, value) in config.as_object().unwrap() {
        let token = value.as_str().or_else(|| value["content"].as_str());
        if let (true, Some(token)) = (name.ends_with("_token"), token) {
            templates.tokens.insert(name.clone(), token.to_owned());
        }
    }
    let source = config["chat_template"].as_str().unwrap();
    templates.sources.insert("default".into(), source.into());
    templates
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
fn texts_of_published_templates_equal_the_references() {
    let Some(goldens) = data::shared("golden/chat.jsonl") else { return };
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for line in std::str::from_utf8(&goldens).unwrap().lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let vocab = case["vocab"].as_str().unwrap();
        let Some(vocab) = WITH_TEMPLATES.into_iter().find(|known| *known == vocab) else {
            assert!(ELSEWHERE.contains(&vocab), "{vocab} has goldens and no template");
            continue;
        };
        // A set that is there and lacks this file is an error in itself.
        let config = data::shared(&format!("vocabs/{vocab}.tokenizer_config.json")).unwrap();
        let text = rendered(&templates_of(&config), &ordered(line)).unwrap();
        assert_eq!(text, case["rendered"].as_str().unwrap(), "{vocab}: {}", case["messages"]);
        *seen.entry(vocab).or_default() += 1;
    }
    assert_eq!(seen.keys().count(), WITH_TEMPLATES.len(), "{seen:?}");
    assert!(seen.values().all(|cases| *cases >= 10), "{seen:?}");
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
