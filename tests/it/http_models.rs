//! `/models` over the router: cards, what follows, and the choice among them, with real vocabularies.

use crate::data;
use crate::support::{CANARY, TestServer, request, with_body};
use axum::http::{Method, header};
use serde_json::{Value, json};

/// Two cards of the program have their vocabulary, and so has one of the folder.
async fn server() -> TestServer {
    let server = TestServer::new().await;
    let mistral = data::local("vocabs/mistral-v1-hf.tokenizer.json");
    server.post("/vocabs?name=mistral-v1", mistral).await.ok(201);
    own(&server, "mine", "vocab = { ref = \"default\" }\ncontext_length = 100", "\"context_length\"");
    server.post("/reload", "").await.ok(200);
    server
}

/// Puts a card into the folder.
fn own(server: &TestServer, name: &str, facts: &str, sourced: &str) {
    let folder = server.data().join("models");
    std::fs::create_dir_all(&folder).unwrap();
    let sources = format!("[[sources]]\nfrom = \"a test\"\nfacts = [{sourced}]");
    std::fs::write(folder.join(format!("{name}.toml")), format!("name = \"{name}\"\n{facts}\n{sources}\n"))
        .unwrap();
}

fn result<'r>(reply: &'r Value, name: &str) -> &'r Value {
    reply["results"].as_array().unwrap().iter().find(|result| result["name"] == name).unwrap()
}

#[tokio::test]
async fn cards_tell_what_is_published_and_what_follows() {
    let server = server().await;
    let models = server.get("/models").await.ok(200);
    let names: Vec<&str> =
        models["models"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap()).collect();
    assert!(names.is_sorted() && names.len() > 30 && names.contains(&"mine"), "{names:?}");
    assert_eq!(models["failed"], json!([]));

    let model = server.get("/models/mistral-7b").await.ok(200);
    assert_eq!(
        (&model["vocab"], &model["missing_vocab"], &model["own"]),
        (&json!("mistral-v1"), &json!(null), &json!(false))
    );
    let card = &model["card"];
    assert_eq!(
        (&card["attention"]["kind"], &card["kv_heads"], &card["moe"]),
        (&json!("gqa"), &json!(8), &json!(null))
    );
    assert_eq!(card["sliding_window"], json!({"tokens": 4096, "layers": 32}));
    assert!(card["sources"]["kv_heads"].as_str().unwrap().contains("config.json"));
    let derived = &model["derived"];
    assert_eq!(
        (&derived["parameters"], &derived["kv_bytes_per_token"]),
        (&json!(7_241_732_096_u64), &json!(131_072))
    );
    assert_eq!(
        derived["weight_bytes"],
        json!({"bf16": 14_483_464_192_u64, "int8": 7_241_732_096_u64, "int4": 3_620_866_048_u64})
    );
    assert_eq!(derived["knowledge_bits"], json!(14_483_464_192_u64));
    // Its makers do not tell how many tokens it was trained on.
    assert!(
        derived["tokens_per_parameter"].is_null()
            && derived.as_object().unwrap().contains_key("over_training")
    );

    let missing = &server.get("/models/deepseek-v3").await.ok(200)["missing_vocab"];
    let command = "vocabd import deepseek-v3 hf://deepseek-ai/DeepSeek-V3";
    let source = "hf://deepseek-ai/DeepSeek-V3";
    assert_eq!(*missing, json!({"ref": "deepseek-v3", "import_command": command, "source": source}));
    let problem = server.get("/models/mixtral-8x7").await.problem(404, "unknown_model", Some("/path/name"));
    assert_eq!(problem["near"][0], "mixtral-8x7b");
    server.get("/models/compare").await.problem(405, "method_not_allowed", None);
}

#[tokio::test]
async fn figures_over_a_text_are_those_of_count_and_compare() {
    let server = server().await;
    let text = "Hello, 世界! 自然语言处理 😀 ".repeat(40);
    let models = json!(["mistral-7b", "mixtral-8x7b", "mine", "yi-6b"]);
    let prices = json!({"mistral-7b": 2.0, "yi-6b": 1.0});
    let body = json!({"models": models, "text": text, "prices": prices});
    let reply = server.post_json("/models/compare", body).await.ok(200);
    let compared = json!({"vocabs": ["mistral-v1", "default"], "text": text});
    let compared = server.post_json("/compare", compared).await.ok(200);
    for figure in ["documents", "bytes", "characters", "words"] {
        assert_eq!(reply[figure], compared[figure], "{figure}");
    }
    let characters = reply["characters"].as_f64().unwrap();
    for (name, vocab) in [("mistral-7b", 0), ("mixtral-8x7b", 0), ("mine", 1)] {
        let (result, expected) = (result(&reply, name), &compared["results"][vocab]);
        for figure in ["vocab", "count", "bytes_per_token", "characters_per_token", "per_document"] {
            assert_eq!(result[figure], expected[figure], "{name} {figure}");
        }
        let han = &expected["fragmentation"]["han"];
        let share = han["whole"].as_f64().unwrap() / han["characters"].as_f64().unwrap();
        assert!((result["kept_whole"]["scripts"]["han"].as_f64().unwrap() - share).abs() < 1e-6);
        assert!(result["missing_vocab"].is_null());
    }
    let mistral = result(&reply, "mistral-7b");
    let count = mistral["count"].as_u64().unwrap();
    assert_eq!(mistral["kv_bytes"], json!({"longest": count * 131_072, "all": count * 131_072}));
    assert_eq!(mistral["serving"]["total_bytes"], json!(14_483_464_192 + count * 131_072));
    assert_eq!(
        (&mistral["serving"]["gpus"], &mistral["context"]["longer_documents"]),
        (&json!(1), &json!(0))
    );
    let per_million = count as f64 / characters * 1e6;
    let close = |value: &Value, expected: f64| {
        let value = value.as_f64().unwrap();
        assert!((value / expected - 1.0).abs() < 1e-5, "{value} and not {expected}");
    };
    close(&mistral["cost"]["flops_per_million_characters"], per_million * 14_483_464_192.0);
    close(&mistral["cost"]["price_per_million_characters"], per_million * 2.0 / 1e6);
    assert_eq!(mistral["cost"]["relative"], 1.0);
    // The same vocabulary, more active parameters.
    close(&result(&reply, "mixtral-8x7b")["cost"]["relative"], 12_879_925_248.0 / 7_241_732_096.0);
    let mine = result(&reply, "mine");
    assert!(mine["context"]["share"].as_f64().unwrap() > 1.0 && mine["kv_bytes"].is_null());
    assert_eq!((&mine["context"]["longer_documents"], &mine["serving"]["gpus"]), (&json!(1), &json!(null)));

    // No vocabulary, no figure of another's.
    let yi = result(&reply, "yi-6b");
    assert_eq!(yi["missing_vocab"]["import_command"], "vocabd import yi hf://01-ai/Yi-6B");
    for figure in ["vocab", "count", "bytes_per_token", "per_document", "kept_whole", "kv_bytes", "rank"] {
        assert!(yi[figure].is_null(), "{figure}");
    }
    assert!(yi["cost"].as_object().unwrap().values().all(Value::is_null));
    assert_eq!(
        yi["serving"],
        json!({"weight_bytes": 12_122_071_040_u64, "kv_bytes": null, "total_bytes": null, "gpus": null})
    );
    // A length of one's own needs no text to be counted.
    let serving = json!({"gpu_bytes": 10_000_000_000_u64, "weights": "int4", "batch": 8, "length": 4096});
    let body = json!({"models": ["yi-6b"], "text": "a", "serving": serving});
    let served = result(&server.post_json("/models/compare", body).await.ok(200), "yi-6b")["serving"].clone();
    let kv = 8 * 4096 * 65_536_u64;
    let total = 3_030_517_760 + kv;
    assert_eq!(
        served,
        json!({"weight_bytes": 3_030_517_760_u64, "kv_bytes": kv, "total_bytes": total, "gpus": 1})
    );
}

#[tokio::test]
async fn texts_and_an_upload_are_measured_alike_and_windows_end_each_document() {
    let server = server().await;
    let lines = ["one two three four\n", "五\n", "six\n"];
    server.put("/uploads/c", lines.concat()).await.ok(201);
    let compare = async |more: Value| {
        let mut body = json!({"models": ["mistral-7b", "mine", "qwen-7b"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post_json("/models/compare", body).await.ok(200)
    };
    let (texts, upload) = (compare(json!({"texts": lines})).await, compare(json!({"upload": "c"})).await);
    assert_eq!(texts["results"], upload["results"]);
    assert_eq!((&upload["replaced"], texts.get("replaced")), (&json!(0), None));
    let kv = &result(&texts, "mistral-7b")["kv_bytes"];
    assert!(kv["longest"].as_u64().unwrap() < kv["all"].as_u64().unwrap());
    // 20,000 tokens in windows of 4,096.
    let long = compare(json!({"text": "a ".repeat(20_000)})).await;
    assert!(result(&long, "mistral-7b")["count"].as_u64().unwrap() >= 20_000);
    assert_eq!(result(&long, "mistral-7b")["kv_bytes"]["all"], json!(4096 * 131_072_u64));
    // Nothing at all is no division by zero.
    let nothing = compare(json!({"text": "", "weights": {"tokenizer": 1, "cost": 1, "kept_whole": 1}})).await;
    let of_nothing = result(&nothing, "mistral-7b");
    assert_eq!(
        (&of_nothing["count"], &of_nothing["kept_whole"]["share"], &of_nothing["rank"]),
        (&json!(0), &json!(null), &json!(null))
    );
    assert_eq!(compare(json!({"texts": []})).await["documents"], 0);
}

#[tokio::test]
async fn the_ranking_follows_the_weights_and_says_what_each_score_was_made_from() {
    let server = server().await;
    let compare = async |more: Value| {
        let mut body =
            json!({"models": ["llama-3-8b", "mixtral-8x7b", "mistral-7b", "mine"], "text": "Hello, 世界!"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post_json("/models/compare", body).await.ok(200)
    };
    let order = |reply: &Value| -> Vec<String> {
        let mut ranked: Vec<(u64, String)> = (reply["results"].as_array().unwrap().iter())
            .filter_map(|r| Some((r["rank"].as_u64()?, r["name"].as_str().unwrap().to_owned())))
            .collect();
        ranked.sort();
        ranked.into_iter().map(|(_, name)| name).collect()
    };
    assert_eq!(order(&compare(json!({})).await), [""; 0]);
    let by_mmlu = compare(json!({"weights": {"benchmark:MMLU": 1}})).await;
    assert_eq!(order(&by_mmlu), ["mixtral-8x7b", "llama-3-8b", "mistral-7b"]);
    let by_size = compare(json!({"weights": {"benchmark:MMLU": 1, "size": 5, "context": 0}})).await;
    assert_eq!(order(&by_size), ["mistral-7b", "llama-3-8b", "mixtral-8x7b"]);
    let llama = result(&by_size, "llama-3-8b");
    let factors = llama["factors"].as_array().unwrap();
    let named: Vec<&str> = factors.iter().map(|factor| factor["factor"].as_str().unwrap()).collect();
    assert_eq!(named, ["benchmark:MMLU", "context", "size"]);
    assert_eq!((&factors[0]["value"], &factors[0]["best"]), (&json!(66.6), &json!(70.6)));
    assert_eq!(
        factors[0]["explanation"],
        "66.6 points (base, 5-shot), the most is 70.6 points: value / most = 0.943"
    );
    let by_hand: f64 =
        factors.iter().map(|f| f["score"].as_f64().unwrap() * f["weight"].as_f64().unwrap()).sum();
    assert!((llama["score"].as_f64().unwrap() - by_hand / 6.0).abs() < 1e-5);

    // Of the tokenizer of llama nothing is known here: that is no zero.
    let partly = compare(json!({"weights": {"tokenizer": 1, "context": 1, "benchmark:MMLU": 2}})).await;
    let llama = result(&partly, "llama-3-8b");
    assert_eq!((&llama["known_weight"], &llama["factors"][2]["score"]), (&json!(0.75), &json!(null)));
    let range: Vec<f64> =
        llama["score_range"].as_array().unwrap().iter().map(|r| r.as_f64().unwrap()).collect();
    let score = llama["score"].as_f64().unwrap();
    assert!(range[0] < score && score < range[1] && (range[1] - range[0] - 0.25).abs() < 1e-5, "{range:?}");
    // Of this one nothing that is weighed is known, or hardly anything.
    assert_eq!(result(&by_mmlu, "mine")["rank"], json!(null));
    assert_eq!(order(&partly).last().unwrap(), "mine");
}

#[tokio::test]
async fn filters_drop_what_does_not_pass_and_keep_what_nobody_knows_unless_told() {
    let server = server().await;
    let compare = async |filter: Value| {
        let body = json!({"models": ["llama-3-8b", "mistral-7b", "mine"], "text": "a", "filter": filter,
            "weights": {"context": 1}});
        server.post_json("/models/compare", body).await.ok(200)
    };
    let kept = |reply: &Value| -> Vec<String> {
        let kept = reply["results"].as_array().unwrap().iter().filter(|r| r["kept"] == true);
        kept.map(|r| r["name"].as_str().unwrap().to_owned()).collect()
    };
    let reply = compare(json!({"min_context": 8192, "licences": ["apache-2.0"]})).await;
    assert_eq!(kept(&reply), ["mistral-7b"]);
    let llama = result(&reply, "llama-3-8b");
    let expected =
        json!([{"filter": "licences", "wanted": ["apache-2.0"], "value": "Llama 3 Community License"}]);
    assert_eq!((&llama["fails"], &llama["rank"], &llama["factors"]), (&expected, &json!(null), &json!([])));
    assert_eq!(
        result(&reply, "mine")["fails"],
        json!([{"filter": "min_context", "wanted": 8192, "value": 100}])
    );

    let reply = compare(json!({"commercial": true})).await;
    assert_eq!(kept(&reply), ["llama-3-8b", "mistral-7b", "mine"]);
    assert_eq!(result(&reply, "mine")["unknown"], json!([{"filter": "commercial", "wanted": true}]));
    assert_eq!(
        kept(&compare(json!({"commercial": true, "unknown": "drop"})).await),
        ["llama-3-8b", "mistral-7b"]
    );
    assert_eq!(
        kept(&compare(json!({"max_memory_bytes": 15_000_000_000_u64, "unknown": "drop"})).await),
        ["mistral-7b"]
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_field() {
    let server = TestServer::with(|config| config.max_compare_models = 40).await;
    let check = async |more: Value, status: u16, code: &str, pointer: &str| {
        let mut body = json!({"text": CANARY});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        server.post_json("/models/compare", body).await.problem(status, code, Some(pointer))
    };
    check(json!({"models": []}), 422, "invalid_field", "/models").await;
    let near = check(json!({"models": ["yi-6b", "yi-7b"]}), 404, "unknown_model", "/models/1").await;
    assert_eq!(near["near"][0], "yi-6b");
    check(json!({"models": ["yi-6b", "yi-6b"]}), 422, "invalid_field", "/models/1").await;
    assert_eq!(
        check(json!({"models": vec!["yi-6b"; 41]}), 422, "invalid_field", "/models").await["limit"],
        40
    );
    check(json!({"text": null}), 422, "invalid_field", "").await;
    check(json!({"texts": ["a"]}), 422, "invalid_field", "").await;
    check(json!({"text": null, "upload": "none"}), 404, "not_found", "/upload").await;
    check(json!({"format": "jsonl"}), 422, "invalid_field", "/format").await;
    check(json!({"weights": {}}), 422, "invalid_field", "/weights").await;
    check(json!({"weights": {"context": 0, "cost": 0.0}}), 422, "invalid_field", "/weights").await;
    check(json!({"weights": {"context": -1}}), 422, "invalid_field", "/weights/context").await;
    check(json!({"weights": {"context": 1e300}}), 422, "invalid_field", "/weights/context").await;
    check(json!({"weights": {"context": "1"}}), 422, "invalid_field", "/weights/context").await;
    let problem = check(json!({"weights": {"contexts": 1}}), 422, "invalid_field", "/weights/contexts").await;
    assert!(problem["detail"].as_str().unwrap().contains("context, tools, licence"), "{problem}");
    check(json!({"weights": {format!("{CANARY} {}", "x".repeat(99)): 1}}), 422, "invalid_field", "/weights")
        .await;
    check(json!({"weights": {"languages": 1}}), 422, "invalid_field", "/weights/languages").await;
    check(json!({"prices": {"none": 1}}), 422, "invalid_field", "/prices/none").await;
    check(json!({"prices": {"yi-6b": -1}}), 422, "invalid_field", "/prices/yi-6b").await;
    check(json!({"serving": {"gpu_bytes": 0}}), 422, "invalid_field", "/serving/gpu_bytes").await;
    check(json!({"serving": {"batch": 0}}), 422, "invalid_field", "/serving/batch").await;
    check(json!({"serving": {"length": 0}}), 422, "invalid_field", "/serving/length").await;
    check(json!({"serving": {"weights": "int2"}}), 422, "invalid_field", "/serving/weights").await;
    check(json!({"filter": {"min_contxt": 1}}), 422, "invalid_field", "/filter/min_contxt").await;
    check(json!({"filter": {"licences": vec!["x"; 101]}}), 422, "invalid_field", "/filter/licences").await;
    check(json!({"rank": true}), 422, "invalid_field", "/rank").await;
    // JSON has no NaN and no infinity; MessagePack has.
    let nan =
        with_body(Method::POST, "/models/compare", "{\"text\": \"a\", \"weights\": {\"context\": NaN}}");
    server.send(nan).await.problem(400, "bad_json", None);
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        #[derive(serde::Serialize)]
        struct Body {
            text: &'static str,
            weights: std::collections::BTreeMap<&'static str, f64>,
        }
        let body = Body { text: "a", weights: [("context", bad)].into() };
        let mut asked = with_body(Method::POST, "/models/compare", rmp_serde::to_vec_named(&body).unwrap());
        asked.headers_mut().insert(header::CONTENT_TYPE, "application/msgpack".parse().unwrap());
        server.send(asked).await.problem(422, "invalid_field", Some("/weights/context"));
    }
}

#[tokio::test]
async fn vocabularies_and_models_of_one_request_are_limited() {
    let server = TestServer::with(|config| {
        config.max_compare_models = 2;
        config.max_compare_vocabs = 1;
    })
    .await;
    server.post_json("/models/compare", json!({"text": "a"})).await.problem(
        422,
        "invalid_field",
        Some("/models"),
    );
    own(&server, "a", "vocab = { ref = \"default\" }", "");
    own(&server, "b", "vocab = { ref = \"default@1\" }", "");
    server.post("/reload", "").await.ok(200);
    let body = json!({"text": "a", "models": ["a", "b"]});
    let problem =
        server.post_json("/models/compare", body).await.problem(422, "invalid_field", Some("/models"));
    assert!(problem["detail"].as_str().unwrap().contains("max_compare_vocabs"), "{problem}");
    server.post_json("/models/compare", json!({"text": "a", "models": ["a", "yi-6b"]})).await.ok(200);
}

#[tokio::test]
async fn own_cards_come_and_go_with_a_reload_and_a_bad_one_changes_nothing() {
    let server = server().await;
    own(&server, "yi-6b", "vocab = { ref = \"default\" }\ncontext_length = 7", "\"context_length\"");
    own(&server, "bad", "vocab = { ref = \"default\" }\nbeads = 7", "");
    let report = server.post("/reload", "").await.ok(200);
    let failed = json!([{"what": "models/bad.toml", "problem": "unknown fields: beads"}]);
    assert_eq!(report["failed"], failed);
    assert_eq!(server.get("/models").await.ok(200)["failed"], failed);
    assert_eq!(server.get("/health").await.ok(200)["failed"], failed);
    let yi = server.get("/models/yi-6b").await.ok(200);
    assert_eq!(
        (&yi["own"], &yi["card"]["context_length"], &yi["card"]["layers"]),
        (&json!(true), &json!(7), &json!(null))
    );
    // As after a restart.
    assert_eq!(server.again().await.get("/models/yi-6b").await.ok(200)["own"], true);
    std::fs::remove_dir_all(server.data().join("models")).unwrap();
    assert_eq!(server.post("/reload", "").await.ok(200)["failed"], json!([]));
    let yi = server.get("/models/yi-6b").await.ok(200);
    assert_eq!((&yi["own"], &yi["card"]["layers"]), (&json!(false), &json!(32)));
    server.send(request(Method::GET, "/models/mine")).await.problem(404, "unknown_model", Some("/path/name"));
}

/// A vocabulary that vanishes while models are compared by it.
#[tokio::test]
async fn a_vocabulary_that_is_deleted_is_missing_from_then_on() {
    let server = server().await;
    let missing = async || server.get("/models/mistral-7b").await.ok(200)["missing_vocab"].clone();
    assert!(missing().await.is_null());
    assert_eq!(server.delete("/vocabs/mistral-v1/versions/1").await.status, 204);
    assert_eq!(missing().await["ref"], "mistral-v1");
    let body = json!({"models": ["mistral-7b"], "text": "a"});
    let reply = server.post_json("/models/compare", body).await.ok(200);
    assert!(reply["results"][0]["count"].is_null() && !reply["results"][0]["missing_vocab"].is_null());
}
