//! `/chunk`, `/compare`, `/explain` over the router, with real vocabularies, and every number counted again.

use crate::data;
use crate::support::{CANARY, TestServer, and, ids, json_body, parquet};
use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Several scripts and lengths; from the goldens' corpora.
fn corpus() -> String {
    String::from_utf8(data::local("corpora/train-dev-tiny.txt")).unwrap()
}

/// Vocabularies of each kind: bytes by tiktoken, bytes by merges, characters with byte fallback, unigram.
pub(crate) async fn server() -> TestServer {
    let server = TestServer::new().await;
    for (name, file) in [
        ("cl100k", "cl100k_base.tiktoken"),
        ("mistral", "mistral-v1-hf.tokenizer.json"),
        ("nfkc", "spm-nfkc-bytes.model"),
        ("suffix", "spm-rules-suffix.model"),
    ] {
        let split = if name == "cl100k" { "&split=cl100k" } else { "" };
        let path = format!("/vocabs?name={name}{split}");
        server.post(&path, data::local(&format!("vocabs/{file}"))).await.ok(201);
    }
    server
}

async fn count(server: &TestServer, vocab: &str, texts: &[&str]) -> Vec<u64> {
    let mut counts = Vec::new();
    for some in texts.chunks(5000) {
        let body = json!({"vocab": vocab, "texts": some});
        let reply = server.post_json("/count", body).await.ok(200);
        counts.extend(reply["counts"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()));
    }
    counts
}

fn range(chunk: &Value, from: &str, to: &str) -> std::ops::Range<usize> {
    let number = |name: &str| chunk[name].as_u64().unwrap() as usize;
    number(from)..number(to)
}

#[tokio::test]
async fn chunks_hold_what_they_promise_with_every_vocabulary() {
    let server = server().await;
    let corpus = corpus();
    // Some of each of its seven parts.
    let text: String = (0..7)
        .map(|part| {
            let from = corpus.ceil_char_boundary(corpus.len() / 7 * part);
            &corpus[from..corpus.ceil_char_boundary(from + 500)]
        })
        .collect();
    for vocab in ["default", "cl100k", "mistral", "nfkc", "suffix"] {
        for boundary in ["token", "word", "sentence", "line"] {
            for (size, overlap) in [(16, 0), (64, 8), (200, 199), (1_000_000, 5)] {
                let body = json!({"vocab": vocab, "text": text, "size": size, "overlap": overlap, "boundary": boundary});
                let answer = server.post_json("/chunk", body).await;
                let reply = answer.ok(200);
                assert_eq!(answer.header("vocab"), format!("{vocab}@1"));
                let chunks = reply["chunks"].as_array().unwrap();
                let own: Vec<&str> = chunks.iter().map(|chunk| &text[range(chunk, "start", "end")]).collect();
                let told: Vec<u64> = chunks.iter().map(|chunk| chunk["count"].as_u64().unwrap()).collect();
                assert_eq!(told, count(&server, vocab, &own).await, "{vocab} {boundary} {size} {overlap}");
                assert!(told.iter().all(|count| *count <= size));
                let chars: Vec<char> = text.chars().collect();
                for (chunk, own) in chunks.iter().zip(&own) {
                    let in_chars: String = chars[range(chunk, "char_start", "char_end")].iter().collect();
                    assert_eq!(&in_chars, own);
                }
                let repeated: Vec<&str> = chunks
                    .windows(2)
                    .map(|pair| {
                        &text[range(&pair[1], "start", "end").start..range(&pair[0], "start", "end").end]
                    })
                    .collect();
                assert!(count(&server, vocab, &repeated).await.iter().all(|count| *count <= overlap));
                if overlap == 0 {
                    assert_eq!(own.concat(), text);
                    // Chunks of a token at least: with the next one to the end of its first word they were too long.
                    assert!(chunks.len() <= text.len() / 8, "{vocab} {boundary}: {}", chunks.len());
                } else if size > 100_000 {
                    assert_eq!(own, [&text[..]]);
                } else {
                    assert!(repeated.iter().filter(|text| !text.is_empty()).count() * 2 > repeated.len());
                }
            }
        }
    }
}

#[tokio::test]
async fn chunks_count_what_the_vocabulary_adds_and_guard_versions() {
    let server = server().await;
    let body = |more: Value| {
        let mut body = json!({"vocab": "mistral", "text": "one two three four five six", "size": 3});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let plain = server.post_json("/chunk", body(json!({}))).await.ok(200)["chunks"].clone();
    let added =
        server.post_json("/chunk", body(json!({"add_special_tokens": true}))).await.ok(200)["chunks"].clone();
    let (plain, added) = (plain.as_array().unwrap(), added.as_array().unwrap());
    assert!(added.len() > plain.len() && added.iter().all(|chunk| chunk["count"].as_u64().unwrap() <= 3));
    let text = "one two three four five six";
    for chunk in added {
        let own = json!({"vocab": "mistral", "text": text[range(chunk, "start", "end")], "add_special_tokens": true});
        assert_eq!(chunk["count"], server.post_json("/count", own).await.ok(200)["count"]);
    }
    // A name inside the text is one token where it is allowed, and so a chunk of its own.
    let named = json!({"vocab": "mistral", "text": "a</s>b", "size": 1, "allowed_special": ["</s>"]});
    let chunks = server.post_json("/chunk", named).await.ok(200)["chunks"].clone();
    let own = chunks.as_array().unwrap().iter().map(|chunk| &"a</s>b"[range(chunk, "start", "end")]);
    assert_eq!(own.collect::<Vec<_>>(), ["a", "</s>", "b"]);
    let explained =
        json!({"vocab": "mistral", "text": "a</s>", "special": "error", "allowed_special": ["</s>"]});
    let explained = server.post_json("/explain", explained).await.ok(200);
    assert_eq!(explained["pieces"][1]["way"], "special");
    for path in ["/chunk", "/explain"] {
        let mut unknown = json!({"vocab": "mistral", "text": "a", "allowed_special": ["</s>", CANARY]});
        if path == "/chunk" {
            unknown["size"] = 1.into();
        }
        let answer = server.post_json(path, unknown).await;
        answer.problem(422, "unknown_special", Some("/allowed_special/1"));
    }
    let empty = server.post_json("/chunk", json!({"text": "", "size": 1})).await.ok(200);
    assert_eq!(empty["chunks"], json!([]));
    let request = and(json_body(Method::POST, "/chunk", &body(json!({}))), "if-match", "\"sha256:00\"");
    server.send(request).await.problem(412, "vocab_changed", None);
}

#[tokio::test]
async fn chunks_that_cannot_be_are_refused_by_field_and_limit() {
    let server = TestServer::with(|config| config.max_chunks = 10).await;
    let check = async |body: Value, code: &str, pointer: &str| {
        server.post_json("/chunk", body).await.problem(422, code, Some(pointer))
    };
    let text = format!("a 𒀀 {CANARY}");
    check(json!({"text": text, "size": 0}), "invalid_field", "/size").await;
    check(json!({"text": text, "size": -1}), "invalid_field", "/size").await;
    check(json!({"text": text}), "invalid_field", "/size").await;
    check(json!({"text": text, "size": 5, "overlap": 5}), "invalid_field", "/overlap").await;
    check(json!({"text": text, "size": 5, "overlap": 6}), "invalid_field", "/overlap").await;
    check(json!({"text": text, "size": 5, "overlap": -1}), "invalid_field", "/overlap").await;
    check(json!({"text": text, "size": 5, "boundary": "page"}), "invalid_field", "/boundary").await;
    check(json!({"text": text, "size": 5, "boundry": "word"}), "invalid_field", "/boundry").await;
    check(json!({"text": text, "size": 5, "vocab": "a", "model": "b"}), "invalid_field", "/model").await;
    let problem = check(json!({"text": text, "size": 1}), "size_too_small", "/size").await;
    assert_eq!(problem["offset"], 2);
    let problem =
        check(json!({"text": "a b c d e f g h i j k", "size": 1}), "too_many_chunks", "/size").await;
    assert_eq!(problem["limit"], 10);
    server.goes_on().await;
}

#[tokio::test]
async fn an_overlap_that_repeats_the_text_a_thousand_times_is_refused_with_the_limit() {
    let server = TestServer::with(|config| config.max_chunks = 10_000).await;
    let body = json!({"text": "word ".repeat(50_000), "size": 4000, "overlap": 3999});
    let problem = server.post_json("/chunk", body).await.problem(422, "overlap_too_costly", Some("/overlap"));
    assert!(problem["limit"].as_u64().unwrap() > 64 << 20);
}

#[tokio::test]
async fn figures_of_vocabularies_are_those_of_their_tokens() {
    let server = server().await;
    let corpus = corpus();
    let vocabs = ["cl100k", "default", "mistral@1", "nfkc", "suffix", "cl100k"];
    let texts: Vec<&str> = corpus.lines().filter(|line| !line.is_empty()).collect();
    let reply = server.post_json("/compare", json!({"vocabs": vocabs, "texts": texts})).await.ok(200);
    let (bytes, chars): (usize, usize) =
        (texts.iter().map(|t| t.len()).sum(), texts.iter().map(|t| t.chars().count()).sum());
    let told = (&reply["documents"], &reply["bytes"], &reply["characters"]);
    assert_eq!(told, (&json!(texts.len()), &json!(bytes), &json!(chars)));
    let results = reply["results"].as_array().unwrap();
    assert_eq!(results.len(), vocabs.len());
    for (result, vocab) in results.iter().zip(vocabs) {
        assert_eq!(result["vocab"]["name"], vocab.split('@').next().unwrap());
        let mut counts = count(&server, vocab, &texts).await;
        let total: u64 = counts.iter().sum();
        assert_eq!(result["count"], total);
        let near = |name: &str, expect: f64| {
            assert!((result[name].as_f64().unwrap() - expect).abs() < 1e-6, "{vocab} {name}: {result}");
        };
        near("bytes_per_token", bytes as f64 / total as f64);
        near("characters_per_token", chars as f64 / total as f64);
        counts.sort_unstable();
        let rank = |percent: usize| counts[(counts.len() * percent).div_ceil(100) - 1];
        let expect = json!({"p50": rank(50), "p95": rank(95), "max": counts[counts.len() - 1]});
        assert_eq!(result["per_document"], expect);
        let fragments = result["fragmentation"].as_object().unwrap();
        let sum = |name: &str| fragments.values().map(|f| f[name].as_u64().unwrap()).sum::<u64>();
        assert_eq!((sum("characters"), sum("tokens")), (chars as u64, total), "{vocab}");
        assert!(fragments["han"]["characters"].as_u64().unwrap() > 1000, "{fragments:?}");
        assert_eq!((result.get("ids"), result.get("spans")), (None, None));
    }
    assert_eq!(results[0], results[5], "the same vocabulary twice");
    // A vocabulary of bytes parts every character that it has no token for, and drops none.
    for f in results[0]["fragmentation"].as_object().unwrap().values() {
        assert_eq!(
            f["whole"].as_u64().unwrap() + f["split"].as_u64().unwrap(),
            f["characters"].as_u64().unwrap()
        );
    }
}

/// Fragmentation, words and spans of a vocabulary of bytes, counted again from its tokens' bytes.
#[tokio::test]
async fn fragmentation_matches_the_bytes_of_the_tokens() {
    let server = server().await;
    let text =
        "今天天气很好，我们去𠮷野家。 Hello tokenization, мир! ひらがな 한국어 हिन्दी ไทย عربي 123 😀👍🏽";
    let reply = server.post_json("/compare", json!({"vocabs": ["cl100k"], "text": text})).await.ok(200);
    let result = &reply["results"][0];
    let body = json!({"vocab": "cl100k", "text": text, "return": ["ids", "bytes", "offsets"]});
    let encoded = server.post_json("/encode", body).await.ok(200);
    assert_eq!((&result["ids"], &result["spans"]), (&encoded["ids"], &encoded["offsets"]));
    let mut owner = Vec::new();
    for (index, bytes) in encoded["bytes_b64"].as_array().unwrap().iter().enumerate() {
        owner.extend(vec![index; STANDARD.decode(bytes.as_str().unwrap()).unwrap().len()]);
    }
    let naive = |of: &str| {
        let mut found = [0_u64; 3];
        for (at, _) in text.char_indices().filter(|(_, c)| of.contains(*c)) {
            let len = text[at..].chars().next().unwrap().len_utf8();
            let whole = owner[at] == owner[at + len - 1];
            found[0] += 1;
            found[1] += u64::from(whole);
            found[2] += u64::from(!whole);
        }
        found
    };
    for (script, characters) in [
        ("han", "今天气很好我们去𠮷野家"),
        ("latin", "Hellotokenization"),
        ("cyrillic", "мир"),
        ("kana", "ひらがな"),
        ("hangul", "한국어"),
        ("devanagari", "हिन्दी"),
        ("thai", "ไทย"),
        ("arabic", "عربي"),
        ("digit", "123"),
        ("punctuation", "，。,!"),
        ("emoji", "😀👍🏽"),
        ("space", " "),
    ] {
        let f = &result["fragmentation"][script];
        let told = [&f["characters"], &f["whole"], &f["split"]].map(|n| n.as_u64().unwrap());
        assert_eq!(told, naive(characters), "{script}");
    }
    let han = &result["fragmentation"]["han"];
    assert!(han["split"].as_u64().unwrap() >= 1 && han["whole"].as_u64().unwrap() >= 1, "{han}");
}

#[tokio::test]
async fn an_upload_is_compared_document_by_document() {
    let server = server().await;
    let corpus = corpus();
    let packed = zstd::encode_all(corpus.as_bytes(), 3).unwrap();
    server.put("/uploads/c", packed).await.ok(201);
    let vocabs = ["cl100k", "nfkc"];
    let uploaded = server.post_json("/compare", json!({"vocabs": vocabs, "upload": "c"})).await.ok(200);
    let lines: Vec<&str> = corpus.split_inclusive('\n').collect();
    let texts = server.post_json("/compare", json!({"vocabs": vocabs, "texts": lines})).await.ok(200);
    assert_eq!((&uploaded["results"], &uploaded["documents"]), (&texts["results"], &texts["documents"]));
    assert_eq!((&uploaded["replaced"], texts.get("replaced")), (&json!(0), None));

    let jsonl: String = lines.iter().map(|line| format!("{}\n", json!({"body": line, "x": 1}))).collect();
    server.put("/uploads/j", jsonl).await.ok(201);
    let body = json!({"vocabs": vocabs, "upload": "j", "format": "jsonl", "field": "body"});
    let from_jsonl = server.post_json("/compare", body).await.ok(200);
    assert_eq!(from_jsonl["results"], texts["results"]);

    let body = json!({"vocabs": vocabs, "upload": "c", "records": "paragraphs"});
    let paragraphs = server.post_json("/compare", body).await.ok(200);
    assert!(paragraphs["documents"].as_u64().unwrap() < uploaded["documents"].as_u64().unwrap());
}

#[tokio::test]
async fn what_cannot_be_compared_is_refused_by_field_and_limit() {
    let server = TestServer::with(|config| {
        config.max_batch_texts = 3;
        config.max_compare_bytes = 100;
        config.max_body_bytes = 4096;
    })
    .await;
    let check = async |body: Value, status: u16, code: &str, pointer: &str| {
        server.post_json("/compare", body).await.problem(status, code, Some(pointer))
    };
    check(json!({"vocabs": [], "text": "a"}), 422, "invalid_field", "/vocabs").await;
    check(json!({"text": "a"}), 422, "invalid_field", "/vocabs").await;
    let problem =
        check(json!({"vocabs": vec!["default"; 17], "text": "a"}), 422, "invalid_field", "/vocabs").await;
    assert_eq!(problem["limit"], 16);
    check(json!({"vocabs": ["default", "no name"], "text": "a"}), 422, "invalid_field", "/vocabs/1").await;
    check(json!({"vocabs": ["default", "none"], "text": CANARY}), 404, "unknown_vocab", "/vocabs/1").await;
    check(json!({"vocabs": ["default@7"], "text": "a"}), 404, "unknown_version", "/vocabs/0").await;
    check(json!({"vocabs": ["default"]}), 422, "invalid_field", "").await;
    check(json!({"vocabs": ["default"], "text": "a", "texts": []}), 422, "invalid_field", "").await;
    check(json!({"vocabs": ["default"], "text": "a", "upload": "c"}), 422, "invalid_field", "").await;
    let many = json!({"vocabs": ["default"], "texts": ["a", "b", "c", "d"]});
    assert_eq!(check(many, 422, "invalid_field", "/texts").await["limit"], 3);
    check(json!({"vocabs": ["default"], "text": "a", "records": "lines"}), 422, "invalid_field", "/records")
        .await;
    let upload = |more: Value| {
        let mut body = json!({"vocabs": ["default"], "upload": "c"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    check(upload(json!({})), 404, "not_found", "/upload").await;
    check(upload(json!({"upload": "../c"})), 422, "invalid_field", "/upload").await;
    check(upload(json!({"records": "whole"})), 422, "invalid_field", "/records").await;
    check(upload(json!({"field": "x"})), 422, "invalid_field", "/field").await;
    check(upload(json!({"records": "lines", "format": "jsonl"})), 422, "invalid_field", "/records").await;

    server.put("/uploads/c", format!("{CANARY} a\n").repeat(20)).await.ok(201);
    assert_eq!(check(upload(json!({})), 422, "corpus_too_long", "/upload").await["limit"], 100);
    let columns = parquet(&[Some(b"good"), None, Some(b"\xff")], Default::default());
    server.put("/uploads/c", columns).await.ok(201);
    let body = upload(json!({"format": "parquet", "field": "body"}));
    check(body, 422, "corpus_bad_parquet", "/upload").await;
    server.put("/uploads/c", [&b"good\n"[..], CANARY.as_bytes(), b"\xff\n"].concat()).await.ok(201);
    let problem = check(upload(json!({})), 422, "corpus_not_utf8", "/upload").await;
    assert_eq!(problem["offset"], 5 + CANARY.len());
    let replaced = server.post_json("/compare", upload(json!({"invalid_utf8": "replace"}))).await.ok(200);
    assert_eq!(replaced["replaced"], 1);
    server.put("/uploads/c", format!("{{\"text\":\"a\"}}\n[\"{CANARY}\"]\n")).await.ok(201);
    let problem = check(upload(json!({"format": "jsonl"})), 422, "corpus_bad_jsonl", "/upload").await;
    assert_eq!(problem["line"], 2);
    server.put("/uploads/c", &b"\x1f\x8bnot gzip"[..]).await.ok(201);
    check(upload(json!({})), 422, "corpus_bad_compression", "/upload").await;
    let empty = server.post_json("/compare", json!({"vocabs": ["default"], "texts": []})).await.ok(200);
    let result = &empty["results"][0];
    assert_eq!((&result["count"], &result["bytes_per_token"]), (&json!(0), &Value::Null));
    assert_eq!(result["per_document"], json!({"p50": null, "p95": null, "max": null}));
    server.goes_on().await;
}

/// Carries out the merges that are told; they lead to the tokens that are told.
fn replay(piece: &Value) -> Vec<(u64, u64, u64)> {
    let number = |value: &Value| value.as_u64().unwrap();
    let mut symbols: Vec<(Value, u64, u64)> = piece["symbols"]
        .as_array()
        .map(|symbols| {
            symbols.iter().map(|s| (s["id"].clone(), number(&s["start"]), number(&s["end"]))).collect()
        })
        .unwrap_or_default();
    for step in piece["merges"].as_array().into_iter().flatten() {
        let at = symbols.iter().position(|symbol| symbol.1 == number(&step["start"])).unwrap();
        let right = symbols.remove(at + 1);
        assert_eq!(
            (&symbols[at].0, &right.0, right.2),
            (&step["left"], &step["right"], number(&step["end"]))
        );
        symbols[at] = (step["id"].clone(), number(&step["start"]), number(&step["end"]));
    }
    symbols.iter().map(|(id, start, end)| (id.as_u64().unwrap_or(u64::MAX), *start, *end)).collect()
}

#[tokio::test]
async fn explanations_lead_to_the_ids_of_encode() {
    let server = server().await;
    let gpt2 = crate::support::with_body(
        Method::POST,
        "/vocabs?name=bytes&split=gpt2",
        crate::support::tiktoken(&["hello"]),
    );
    server.send(gpt2).await.ok(201);
    let corpus = corpus();
    let (mut merges, mut told_wholes) = (0, 0);
    for vocab in ["default", "cl100k", "mistral", "nfkc", "suffix", "bytes"] {
        for at in (0..corpus.len()).step_by(9000) {
            let from = corpus.ceil_char_boundary(at);
            let text = &corpus[from..corpus.ceil_char_boundary(from + 900)];
            let body = json!({"vocab": vocab, "text": text});
            let made = server.post_json("/explain", body.clone()).await.ok(200);
            let encoded = server.post_json("/encode", body).await.ok(200);
            assert_eq!((&made["ids"], &made["count"]), (&encoded["ids"], &encoded["count"]), "{vocab}");
            let named: Vec<u32> =
                made["tokens"].as_array().unwrap().iter().map(|t| t["id"].as_u64().unwrap() as u32).collect();
            assert!(ids(&made["ids"]).iter().all(|id| named.contains(id)));
            for piece in made["pieces"].as_array().unwrap() {
                let tokens: Vec<(u64, u64, u64)> = piece["tokens"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|t| [&t["id"], &t["start"], &t["end"]].map(|n| n.as_u64().unwrap()).into())
                    .collect();
                match piece["way"].as_str().unwrap() {
                    "merges" => {
                        let left = replay(piece);
                        merges += piece["merges"].as_array().map_or(0, Vec::len);
                        let known = left.iter().all(|symbol| symbol.0 != u64::MAX);
                        assert!(
                            !known || left == tokens || vocab == "mistral",
                            "{vocab}: {left:?} for {tokens:?}"
                        );
                    }
                    "whole" => {
                        assert_eq!(tokens.len(), 1);
                        told_wholes += u32::from(piece["merges"].is_array());
                        assert!(piece["symbols"].is_null() || replay(piece) == tokens, "{vocab}: {piece}");
                    }
                    "best" => {
                        let best = piece["best"].as_array().unwrap();
                        let told: Vec<u64> = best
                            .iter()
                            .flat_map(|b| b["ids"].as_array().unwrap())
                            .map(|id| id.as_u64().unwrap())
                            .collect();
                        assert_eq!(told, tokens.iter().map(|t| t.0).collect::<Vec<_>>());
                        let sum: f64 = best.iter().map(|b| b["score"].as_f64().unwrap()).sum();
                        assert!((sum - piece["score"].as_f64().unwrap()).abs() < 1e-6);
                    }
                    other => panic!("{other}"),
                }
            }
        }
    }
    assert!(merges > 1000 && told_wholes > 1000, "{merges} {told_wholes}");
}

#[tokio::test]
async fn explanations_show_special_tokens_and_what_was_normalized() {
    let server = server().await;
    let body = json!({"vocab": "mistral", "text": "a</s>b", "special": "parse"});
    let made = server.post_json("/explain", body.clone()).await.ok(200);
    let special =
        made["pieces"].as_array().unwrap().iter().find(|piece| piece["way"] == "special").unwrap().clone();
    assert_eq!(
        (&special["start"], &special["end"], &special["text"]),
        (&json!(1), &json!(5), &json!("</s>"))
    );
    assert_eq!(made["ids"], server.post_json("/encode", body).await.ok(200)["ids"]);
    let made = server.post_json("/explain", json!({"vocab": "nfkc", "text": "ﬁne"})).await.ok(200);
    assert_eq!(made["normalized"], json!([{"start": 0, "end": 5, "text": "▁fine"}]));
    let plain = server.post_json("/explain", json!({"vocab": "cl100k", "text": "plain"})).await.ok(200);
    assert_eq!(plain["normalized"], json!([]));
    let empty = server.post_json("/explain", json!({"text": ""})).await.ok(200);
    assert_eq!((&empty["count"], &empty["pieces"]), (&json!(0), &json!([])));

    let long = "x".repeat(4097);
    let problem = server.post_json("/explain", json!({"text": long})).await.problem(
        422,
        "text_too_long",
        Some("/text"),
    );
    assert_eq!(problem["limit"], 4096);
    server.post_json("/explain", json!({"text": "x".repeat(4096)})).await.ok(200);
    let refused = json!({"vocab": "mistral", "text": "a</s>", "special": "error"});
    server.post_json("/explain", refused).await.problem(422, "special_not_allowed", Some("/text"));
    server.post_json("/explain", json!({"vocab": "none", "text": "a"})).await.problem(
        404,
        "unknown_vocab",
        None,
    );
}

#[tokio::test]
async fn info_tells_every_limit() {
    let server = TestServer::with(|config| config.max_chunks = 77).await;
    let info = server.get("/info").await.ok(200);
    let limits = info["limits"].as_object().unwrap();
    for (key, value) in vocabd::config::DEFAULT_TOML.lines().filter_map(|line| line.split_once(" = ")) {
        if !key.starts_with('#') && value.parse::<u64>().is_ok() {
            assert!(limits.contains_key(key), "{key} is not told");
        }
    }
    let told = |name: &str| limits[name].as_u64().unwrap();
    assert_eq!((told("max_chunks"), told("max_explain_bytes"), told("max_compare_vocabs")), (77, 4096, 16));
    assert!(told("encode_threads") >= 1 && told("train_threads") >= 1);
}

#[tokio::test]
async fn limits_are_what_the_settings_say() {
    let server = TestServer::with(|config| {
        config.max_allowed_special = 1;
        config.max_compare_vocabs = 1;
        config.max_compare_span_bytes = 1;
        config.max_explain_bytes = 1;
        config.max_page = 1;
        config.max_decoded_bytes = 1;
    })
    .await;
    let two = |field: &str, more: Value| {
        let mut body = json!({"text": "ab"});
        body[field] = json!(["default", "default"]);
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (path, body, code, pointer) in [
        ("/encode", two("allowed_special", json!({})), "invalid_field", "/allowed_special"),
        ("/explain", two("allowed_special", json!({})), "invalid_field", "/allowed_special"),
        ("/compare", two("vocabs", json!({})), "invalid_field", "/vocabs"),
        ("/explain", json!({"text": "ab"}), "text_too_long", "/text"),
        ("/decode", json!({"ids": [13923]}), "invalid_field", "/ids"),
    ] {
        let problem = server.post_json(path, body).await.problem(422, code, Some(pointer));
        assert_eq!(problem["limit"], 1, "{path}");
    }
    let reply = server.post_json("/compare", json!({"vocabs": ["default"], "text": "ab"})).await.ok(200);
    assert_eq!(reply["results"][0].get("spans"), None);
    assert_eq!(server.get("/vocabs/default/tokens").await.ok(200)["tokens"].as_array().unwrap().len(), 1);
    for path in ["/vocabs/default/tokens?limit=2", "/vocabs/default/diff/default?limit=2"] {
        server.get(path).await.problem(422, "invalid_field", Some("/query/limit"));
    }
}

#[tokio::test]
async fn one_corpus_is_read_at_a_time_and_not_for_a_client_that_is_gone() {
    let server = TestServer::new().await;
    server.put("/uploads/c", "some words of a line\n".repeat(1_000_000)).await.ok(201);
    let body = json!({"vocabs": ["default"], "upload": "c"});
    let (other, long) = (server.clone(), body.clone());
    let reading = tokio::spawn(async move { other.post_json("/compare", long).await });
    let turns = || server.app.corpora.available_permits();
    let end = std::time::Instant::now() + crate::support::PATIENCE;
    while turns() > 0 {
        assert!(std::time::Instant::now() < end);
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    server.post_json("/compare", body).await.problem(503, "overloaded", None);
    let texts = json!({"vocabs": ["default"], "text": "others are not in its way"});
    server.post_json("/compare", texts).await.ok(200);
    assert_eq!(turns(), 0, "it is read still");
    reading.abort();
    let gone = std::time::Instant::now();
    while turns() == 0 {
        assert!(gone.elapsed().as_secs() < 10, "it is read on");
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}
