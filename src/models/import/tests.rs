use super::*;
use crate::models::{Models, derive::Derived};
use serde_json::json;

fn naming(name: &str) -> Naming {
    let vocab = VocabSource { reference: "mine".to_owned(), source: None };
    Naming { name: name.to_owned(), vocab, from: "config.json".to_owned() }
}

fn config(name: &str) -> String {
    let path = format!("{}/tests/data/configs/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

fn imported(name: &str) -> Card {
    from_config(&config(name), naming(name)).unwrap()
}

#[test]
fn published_configs_make_cards_with_the_published_parameters() {
    let check = |name: &str, parameters: u64, active: u64| {
        let derived = Derived::of(&imported(name));
        assert_eq!(
            (derived.parameters, derived.active_parameters),
            (Some(parameters), Some(active)),
            "{name}"
        );
    };
    let dense = |name: &str, parameters: u64| check(name, parameters, parameters);
    dense("llama-2-7b", 6_738_415_616);
    dense("llama-3-8b", 8_030_261_248);
    dense("yi-34b", 34_388_917_248);
    dense("mistral-7b", 7_241_732_096);
    dense("qwen-7b", 7_721_324_544);
    dense("qwen2.5-7b", 7_615_616_512);
    dense("gpt2", 124_439_808);
    dense("gemma-2b", 2_506_172_416);
    dense("gemma-2-2b", 2_614_341_888);
    dense("baichuan2-13b", 13_896_668_160);
    check("mixtral-8x7b", 46_702_792_704, 12_879_925_248);
    check("qwen1.5-moe-a2.7b", 14_315_784_192, 2_689_173_504);
    check("qwen3-30b-a3b", 30_532_122_624, 3_353_032_704);
    check("deepseek-v2", 235_741_434_880, 21_375_800_320);
    check("deepseek-v3", 671_026_419_200, 37_552_297_472);
}

/// What both say is the same: the cards that come with the program were made from these configs.
#[test]
fn imported_facts_are_those_of_the_cards_that_come_with_the_program() {
    let models = Models::embedded();
    let names = [
        "llama-2-7b",
        "llama-3-8b",
        "yi-34b",
        "mistral-7b",
        "mixtral-8x7b",
        "qwen-7b",
        "qwen1.5-moe-a2.7b",
        "deepseek-v2",
        "deepseek-v3",
        "baichuan2-13b",
    ];
    for name in names {
        let (known, mut made) = (models.get(name).unwrap().card.clone(), imported(name));
        // What makers say elsewhere: the length that they vouch for, how they count.
        made.context_length = known.context_length;
        if let (Some(made), Some(known)) = (&mut made.moe, &known.moe) {
            made.counts_input_embedding = known.counts_input_embedding;
        }
        let (known, made) = (serde_json::to_value(known).unwrap(), serde_json::to_value(made).unwrap());
        for (fact, value) in made.as_object().unwrap() {
            let is_fact = !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty());
            if is_fact && fact != "sources" {
                assert_eq!(value, &known[fact], "{name} {fact}");
            }
        }
    }
}

#[test]
fn places_windows_and_kinds_of_attention_are_read() {
    let mistral = imported("mistral-7b");
    assert_eq!(mistral.sliding_window, Some(SlidingWindow { tokens: 4096, layers: 32 }));
    let gemma = imported("gemma-2-2b");
    assert_eq!(gemma.sliding_window, Some(SlidingWindow { tokens: 4096, layers: 13 }));
    assert_eq!((gemma.activation, gemma.post_norm), (Some(Activation::Geglu), Some(true)));
    assert_eq!(imported("gemma-2b").attention.unwrap().kind, AttentionKind::Mqa);
    assert_eq!(imported("qwen2.5-7b").sliding_window, None);
    let position = imported("deepseek-v3").position.unwrap();
    let yarn = Scaling { kind: ScalingKind::Yarn, factor: Some(40.0), original_context: Some(4096) };
    assert_eq!((position.rope_base, position.scaling), (Some(10_000.0), Some(yarn)));
    assert_eq!(imported("gpt2").position.unwrap().kind, PositionKind::Learned);
    assert_eq!(imported("baichuan2-13b").position.unwrap().kind, PositionKind::Alibi);
    let qwen = imported("qwen-7b");
    assert_eq!((qwen.log_n_scaling, qwen.attention_window), (Some(true), Some(true)));
    assert_eq!(qwen.position.unwrap().scaling.unwrap().kind, ScalingKind::DynamicNtk);
    // What no config says is not made up.
    assert_eq!((qwen.licence, qwen.languages.len(), qwen.tool_calling), (None, 0, None));
}

#[track_caller]
fn changed(name: &str, field: &str, value: Value) -> Result<Card, ImportError> {
    let mut config: Value = serde_json::from_str(&config(name)).unwrap();
    let fields = config.as_object_mut().unwrap();
    if value == json!("gone") {
        fields.remove(field)
    } else {
        fields.insert(field.to_owned(), value)
    };
    from_config(&config.to_string(), naming(name))
}

#[test]
fn newer_spellings_of_the_same_are_read() {
    let nested = json!({"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192});
    let card = changed("llama-3-8b", "rope_parameters", nested).unwrap();
    let position = card.position.unwrap();
    assert_eq!((position.rope_base, position.scaling.unwrap().kind), (Some(5e5), ScalingKind::Llama3));
    let plain =
        changed("llama-3-8b", "rope_parameters", json!({"rope_theta": 1e6, "rope_type": "default"})).unwrap();
    assert_eq!(plain.position.unwrap().scaling, None);
    let text: Value = serde_json::from_str(&config("mistral-7b")).unwrap();
    let outer = json!({"model_type": "mistral3", "text_config": text, "vision_config": {}});
    let card = from_config(&outer.to_string(), naming("m")).unwrap();
    assert_eq!((card.layers, card.modalities), (Some(32), vec!["text".to_owned(), "image".to_owned()]));
    let layers = json!(["sliding_attention", "full_attention", "sliding_attention"]);
    let card = changed("gemma-2-2b", "layer_types", layers).unwrap();
    assert_eq!(card.sliding_window.unwrap().layers, 2);
    assert_eq!(changed("llama-2-7b", "num_key_value_heads", json!("gone")).unwrap().kv_heads, Some(32));
}

#[test]
fn what_is_lacking_or_wrong_is_named() {
    let check = |name: &str, field: &str, value: Value, expected: &str| {
        let error = changed(name, field, value).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("llama-3-8b", "num_attention_heads", json!("gone"), "lacks num_attention_heads or n_head");
    check("llama-3-8b", "model_type", json!("gone"), "lacks model_type");
    check(
        "llama-3-8b",
        "model_type",
        json!("mamba"),
        "model_type `mamba` is not known here; these are: llama",
    );
    check("llama-3-8b", "hidden_size", json!(-1), "hidden_size must be a whole number from 1 to 2^53");
    check("llama-3-8b", "hidden_size", json!("4096"), "hidden_size must be a whole number from 1 to 2^53");
    check(
        "llama-3-8b",
        "hidden_size",
        json!(4097),
        "hidden_size must be divisible by num_attention_heads, 32",
    );
    check("llama-3-8b", "num_key_value_heads", json!(5), "kv_heads must divide heads, 32");
    check("llama-3-8b", "hidden_act", json!("snake"), "hidden_act is none of silu");
    check("llama-3-8b", "rope_scaling", json!({"type": "odd"}), "rope_scaling.rope_type is none of");
    check("llama-3-8b", "rope_scaling", json!(3), "rope_scaling must be an object or null");
    check("llama-3-8b", "rope_theta", json!("x"), "rope_theta must be a number above 0");
    check("llama-3-8b", "vocab_size", json!(1e300), "vocab_size must be a whole number from 1 to 2^53");
    check("llama-3-8b", "vocab_size", json!(1u64 << 40), "vocab_size must be 1 to 10000000");
    check("llama-3-8b", "tie_word_embeddings", json!(1), "tie_word_embeddings must be true or false");
    check("mistral-7b", "num_key_value_heads", json!("gone"), "lacks num_key_value_heads");
    check("mixtral-8x7b", "num_experts_per_tok", json!("gone"), "lacks num_experts_per_tok");
    check("mixtral-8x7b", "num_experts_per_tok", json!(9), "moe.active_experts must be 1 to 8, not 9");
    check("qwen1.5-moe-a2.7b", "decoder_sparse_step", json!(2), "decoder_sparse_step must be 1");
    check("qwen3-30b-a3b", "mlp_only_layers", json!([5]), "mlp_only_layers must be the first layers");
    check("deepseek-v3", "v_head_dim", json!("gone"), "lacks v_head_dim");
    check(
        "deepseek-v3",
        "first_k_dense_replace",
        json!(62),
        "first_k_dense_replace must be a whole number of layers",
    );
    let of = |text: &str| from_config(text, naming("x")).unwrap_err().to_string();
    assert_eq!(of("{"), "is not a JSON object: line 1, column 1");
    assert_eq!(of("[]"), "is not a JSON object");
    assert_eq!(of("{}"), "lacks model_type");
}

/// Every field of a config with something odd in it: an error or a card, never a panic, and no number beyond its range.
#[test]
fn odd_values_are_refused_or_make_a_card_that_adds_up() {
    let odd = [
        json!(null),
        json!(0),
        json!(1),
        json!(-1),
        json!(3.5),
        json!(10_000_000),
        json!(1u64 << 53),
        json!(u64::MAX),
        json!(1e308),
        json!(""),
        json!("x"),
        json!([]),
        json!([0]),
        json!({}),
        json!({"type": "yarn"}),
        json!(true),
        json!("gone"),
    ];
    let (mut cards, mut errors) = (0, 0);
    for name in ["llama-3-8b", "qwen-7b", "qwen1.5-moe-a2.7b", "deepseek-v3", "gemma-2-2b"] {
        let fields: Map<String, Value> = serde_json::from_str(&config(name)).unwrap();
        let more = [
            "text_config",
            "rope_parameters",
            "layer_types",
            "sliding_window_pattern",
            "num_experts",
            "mlp_only_layers",
        ];
        for field in fields.keys().map(String::as_str).chain(more) {
            for value in &odd {
                match changed(name, field, value.clone()) {
                    Ok(card) => {
                        cards += 1;
                        let derived = Derived::of(&card);
                        assert!(
                            derived.parameters.is_none_or(|all| all <= 1 << 53),
                            "{name} {field} {value}"
                        );
                        assert_eq!(Card::parse(&card.to_toml()).as_ref(), Ok(&card));
                    }
                    Err(error) => {
                        errors += 1;
                        assert!(error.to_string().len() < 600, "{name} {field} {value}: {error}");
                    }
                }
            }
        }
    }
    assert!(cards > 500 && errors > 300, "{cards} {errors}");
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(from_config(&deep, naming("x")).is_err());
}
