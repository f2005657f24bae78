//! What is told of a vocabulary: its tokens page by page, its figures, and how it differs from another; every number counted
//! again.

use crate::http_analysis::server;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

#[tokio::test]
async fn tokens_are_browsed_page_by_page() {
    let server = server().await;
    for vocab in ["cl100k", "mistral", "nfkc"] {
        let facts = server.get(&format!("/vocabs/{vocab}")).await.ok(200);
        let (mut seen, mut after, mut last) = (0, String::new(), -1);
        loop {
            let path = format!("/vocabs/{vocab}@1/tokens?limit=1000{after}");
            let reply = server.get(&path).await.ok(200);
            for token in reply["tokens"].as_array().unwrap() {
                let id = token["id"].as_i64().unwrap();
                assert!(id > last);
                last = id;
                seen += 1;
                let bytes = STANDARD.decode(token["bytes_b64"].as_str().unwrap()).unwrap();
                assert_eq!(token["text"].as_str(), std::str::from_utf8(&bytes).ok());
                assert_eq!(token["bytes"], bytes.len());
            }
            match reply.get("next") {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(seen, facts["tokens"].as_u64().unwrap(), "{vocab}");
    }
    let get = async |query: &str| server.get(&format!("/vocabs/cl100k/tokens?{query}")).await;
    let reply = get("search=%E4%BD%A0&script=han").await.ok(200);
    let texts: Vec<&str> =
        reply["tokens"].as_array().unwrap().iter().map(|t| t["text"].as_str().unwrap()).collect();
    assert!(!texts.is_empty() && texts.iter().all(|text| text.contains('你')), "{texts:?}");
    let reply = get("special=true").await.ok(200);
    let kinds: Vec<&str> =
        reply["tokens"].as_array().unwrap().iter().map(|t| t["kind"].as_str().unwrap()).collect();
    assert!(!kinds.is_empty() && kinds.iter().all(|kind| *kind == "special"));
    let reply = get("min_bytes=60&max_bytes=70").await.ok(200);
    assert!(
        reply["tokens"].as_array().unwrap().iter().all(|t| (60..=70).contains(&t["bytes"].as_u64().unwrap()))
    );
    let merged = get("search=%20hello&max_bytes=6").await.ok(200)["tokens"][0]["merge"].clone();
    assert!(merged["rank"].as_u64().unwrap() > 0, "{merged}");
    let mark = server.get("/vocabs/mistral/tokens?search=%20the&max_bytes=6").await.ok(200);
    assert_eq!(mark["tokens"][0]["text"], "▁the");

    for (query, option) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("script=klingon", "script"),
        ("after=-1", "after"),
        ("special=maybe", "special"),
        ("serach=a", "serach"),
        ("min_bytes=x", "min_bytes"),
    ] {
        get(query).await.problem(422, "invalid_field", Some(&format!("/query/{option}")));
    }
    server.get("/vocabs/none/tokens").await.problem(404, "unknown_vocab", None);
    assert_eq!(get("after=4294967295").await.ok(200)["tokens"], json!([]));
}

#[tokio::test]
async fn stats_are_those_of_all_tokens() {
    let server = server().await;
    for vocab in ["default", "cl100k", "mistral", "nfkc", "suffix"] {
        let stats = server.get(&format!("/vocabs/{vocab}/stats")).await.ok(200);
        let mut tokens: Vec<Value> = Vec::new();
        let mut after = String::new();
        loop {
            let reply = server.get(&format!("/vocabs/{vocab}/tokens?limit=1000{after}")).await.ok(200);
            tokens.extend(reply["tokens"].as_array().unwrap().iter().cloned());
            match reply.get("next") {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(stats["tokens"], tokens.len());
        let kind = |kind: &str| tokens.iter().filter(|t| t["kind"] == kind).count();
        assert_eq!((&stats["special"], &stats["added"]), (&json!(kind("special")), &json!(kind("added"))));
        let texts: Vec<&Value> = tokens.iter().filter(|t| t["kind"] == "text").collect();
        for (script, figures) in stats["by_script"].as_object().unwrap() {
            let own = texts.iter().filter(|t| t["script"] == script.as_str());
            let lengths: Vec<u64> = own.map(|t| t["bytes"].as_u64().unwrap()).collect();
            assert_eq!(figures["tokens"], lengths.len(), "{vocab} {script}");
            assert_eq!(figures["longest_bytes"], *lengths.iter().max().unwrap());
        }
        for line in stats["by_bytes"].as_array().unwrap() {
            let own = texts.iter().filter(|t| t["bytes"] == line["length"]).count();
            assert_eq!(line["tokens"], own);
        }
        let longest = texts.iter().map(|t| t["bytes"].as_u64().unwrap()).max().unwrap();
        let first = STANDARD.decode(stats["longest"][0]["bytes_b64"].as_str().unwrap()).unwrap();
        assert_eq!(first.len() as u64, longest, "{vocab}");
        assert!(
            stats["unreachable"]["count"].as_u64().unwrap() < tokens.len() as u64 / 20,
            "{}",
            stats["unreachable"]
        );
    }
    server.get("/vocabs/none/stats").await.problem(404, "unknown_vocab", None);
}

#[tokio::test]
async fn tokens_told_unreachable_are_no_answer_to_their_own_text() {
    let server = server().await;
    for vocab in ["default", "cl100k"] {
        let stats = server.get(&format!("/vocabs/{vocab}/stats")).await.ok(200);
        for token in stats["unreachable"]["tokens"].as_array().unwrap() {
            match token["text"].as_str() {
                Some(text) => {
                    assert_ne!(server.ids(vocab, text).await, [token["id"].as_u64().unwrap() as u32])
                }
                None => assert!(["utf8", "merges"].contains(&token["why"].as_str().unwrap()), "{token}"),
            }
        }
    }
}

#[tokio::test]
async fn differences_are_told_and_paged() {
    let server = server().await;
    let same = server.get("/vocabs/cl100k/diff/cl100k@1").await.ok(200);
    assert_eq!((&same["only_a"]["total"], &same["settings"]), (&json!(0), &json!([])));
    assert_eq!(same["same"], 100_256);

    let diff = server.get("/vocabs/default/diff/cl100k?limit=7").await.ok(200);
    let total = |name: &str| diff[name]["total"].as_u64().unwrap();
    let tokens = async |vocab: &str| {
        let stats = server.get(&format!("/vocabs/{vocab}/stats")).await.ok(200);
        let lines = stats["by_bytes"].as_array().unwrap().iter().map(|line| line["tokens"].as_u64().unwrap());
        lines.sum::<u64>()
    };
    let same = diff["same"].as_u64().unwrap();
    assert_eq!(same + total("moved") + total("only_a"), tokens("default").await);
    assert_eq!(same + total("moved") + total("only_b"), tokens("cl100k").await);
    for (section, absent) in [("only_a", "b"), ("only_b", "a")] {
        assert_eq!(diff[section]["entries"].as_array().unwrap().len(), 7);
        assert!(diff[section]["entries"].as_array().unwrap().iter().all(|entry| entry[absent].is_null()));
        assert_eq!(diff[section]["next"], 7);
    }
    // Pages of a section are all of it, and an entry stands in one only.
    let (mut ids, mut after) = (Vec::new(), 0);
    loop {
        let path = format!("/vocabs/default/diff/cl100k?section=moved&limit=1000&after={after}");
        let page = server.get(&path).await.ok(200);
        assert_eq!(page["only_a"]["entries"], json!([]));
        assert_eq!(page["only_a"].get("next"), None);
        ids.extend(
            page["moved"]["entries"].as_array().unwrap().iter().map(|entry| entry["a"].as_u64().unwrap()),
        );
        match page["moved"].get("next") {
            Some(next) => after = next.as_u64().unwrap(),
            None => break,
        }
    }
    assert!(ids.is_sorted() && ids.len() as u64 == total("moved"));
    let settings = server.get("/vocabs/nfkc/diff/suffix").await.ok(200)["settings"].clone();
    assert!(settings.as_array().unwrap().iter().any(|setting| setting["name"] == "vocab_size"), "{settings}");

    for (query, option) in [
        ("section=x", "section"),
        ("after=1", "after"),
        ("limit=0", "limit"),
        ("section=moved&after=-1", "after"),
    ] {
        let answer = server.get(&format!("/vocabs/default/diff/cl100k?{query}")).await;
        answer.problem(422, "invalid_field", Some(&format!("/query/{option}")));
    }
    server.get("/vocabs/none/diff/cl100k").await.problem(404, "unknown_vocab", Some("/path/a"));
    server.get("/vocabs/cl100k/diff/cl100k@9").await.problem(404, "unknown_version", Some("/path/b"));
}
