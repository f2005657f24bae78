use super::*;

const CARD: &str = r#"
name = "mine-1b"
vocab = { ref = "mine@3", source = "hf://me/mine" }
layers = 2
heads = 4
kv_heads = 2
attention = { kind = "gqa" }
languages = ["zh", "en"]
benchmarks = [{ name = "MMLU", score = 50.5, source = "me" }]

[[sources]]
from = "config.json"
facts = ["layers", "heads", "kv_heads", "attention", "languages"]
"#;

#[track_caller]
fn refused(from: &str, to: &str, expected: &str) {
    assert!(from.is_empty() || CARD.contains(from), "{from}");
    let text = if from.is_empty() { format!("{to}\n{CARD}") } else { CARD.replacen(from, to, 1) };
    let error = Card::parse(&text).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_card_is_read_and_written_back() {
    let card = Card::parse(CARD).unwrap();
    assert_eq!((card.layers, card.vendor.as_deref(), card.tool_calling), (Some(2), None, None));
    assert_eq!(card.sources["heads"], "config.json");
    assert_eq!(card.import_command().unwrap(), "vocabd import mine hf://me/mine");
    assert_eq!(Card::parse(&card.to_toml()).unwrap(), card);
}

#[test]
fn what_is_unknown_is_null_in_an_answer_and_not_left_out() {
    let json = serde_json::to_value(Card::parse(CARD).unwrap()).unwrap();
    assert!(
        json["released"].is_null() && json["moe"].is_null() && json["attention"]["kv_lora_rank"].is_null()
    );
    assert_eq!((json["layers"].as_u64(), json["towers"].as_array().map(Vec::len)), (Some(2), Some(0)));
    assert!(json.get("name").is_none() && json.get("vocab").is_none());
    assert!(json.as_object().unwrap().contains_key("speed"));
}

#[test]
fn unknown_fields_are_named() {
    refused("layers = 2", "layrs = 2\nbeads = 3", "unknown fields: beads, layrs");
    refused("kind = \"gqa\"", "kind = \"gqa\", ranks = 4", "unknown field `ranks`");
    refused("score = 50.5", "score = 50.5, shots = 5", "unknown field `shots`");
}

#[test]
fn every_fact_has_a_source() {
    refused("\"layers\", ", "", "must say where `layers` is from");
    refused("\"layers\"", "\"layers\", \"vendor\"", "names `vendor`, which the card does not have");
    refused("\"layers\"", "\"layers\", \"layers\"", "the fact `layers` has two sources");
    refused("source = \"me\"", "source = \" \"", "empty source");
}

#[test]
fn values_out_of_range_and_kinds_that_do_not_fit_are_refused() {
    refused("name = \"mine-1b\"", "name = \"Mine\"", "name must be 1 to 64 lower-case");
    refused("ref = \"mine@3\"", "ref = \"a b\"", "vocab.ref must be NAME");
    refused("hf://me/mine", "hf://me/mine; rm -rf /", "vocab.source must be hf://");
    refused("layers = 2", "layers = 0", "layers must be 1 to 10000000, not 0");
    refused("layers = 2", "layers = -2", "invalid value");
    refused("layers = 2", "layers = \"2\"", "invalid type");
    refused("heads = 4", "heads = 3", "kv_heads must divide heads, 3");
    refused("kind = \"gqa\"", "kind = \"mha\"", "attention.kind does not fit 4 heads with 2");
    refused(
        "kind = \"gqa\"",
        "kind = \"gqa\", kv_lora_rank = 3",
        "attention.kv_lora_rank is for attention of kind mla",
    );
    refused("kind = \"gqa\"", "kind = \"new\"", "unknown variant `new`");
    refused("\"zh\"", "\"z h\"", "languages must be BCP 47");
    refused("score = 50.5", "score = nan", "benchmarks.score must be a number");
    refused("", "released = \"2024-13\"", "released must be YYYY");
    refused("", "modalities = [\"smell\"]", "modalities has `smell`");
    refused("", "sliding_window = { tokens = 5, layers = 3 }", "sliding_window.layers must be 1 to 2, not 3");
    refused(
        "",
        "moe = { experts = 2, active_experts = 3, expert_intermediate_size = 1 }",
        "moe.active_experts must be 1 to 2",
    );
    refused(
        "",
        "position = { kind = \"rope\", rope_base = 0.0 }",
        "position has a base or factor that is not above 0",
    );
    refused("", "vendor = \"\"", "vendor has a text that is empty");
    refused("", "x = [", "at line 3");
    refused("name = \"mine-1b\"", "name = \"compare\"", "name must not be `compare`");
}

#[test]
fn numbers_that_make_a_model_beyond_any_are_refused_and_do_not_overflow() {
    let facts = "vocab_size = 10000000\nhidden_size = 10000000\nintermediate_size = 10000000\nhead_dim = 10000000\n\
                 norm = \"rmsnorm\"\npost_norm = true\nactivation = \"swiglu\"\nqkv_bias = true\noutput_bias = true\nmlp_bias = true\n\
                 qk_norm = true\ntied_embeddings = false\nposition = { kind = \"alibi\" }\n\
                 moe = { experts = 10000000, active_experts = 1, expert_intermediate_size = 10000000 }\n";
    let text = CARD.replacen("layers = 2", &format!("{facts}layers = 10000000"), 1);
    let text = text.replacen(
        "\"layers\"",
        "\"layers\", \"vocab_size\", \"hidden_size\", \"intermediate_size\", \"head_dim\", \"norm\", \"post_norm\", \
         \"activation\", \"qkv_bias\", \"output_bias\", \"mlp_bias\", \"qk_norm\", \"tied_embeddings\", \"position\", \"moe\"",
        1,
    );
    let error = Card::parse(&text).unwrap_err().to_string();
    assert!(error.contains("over 2^53"), "{error}");
}

#[test]
fn a_language_answers_for_its_forms() {
    let card = Card::parse(CARD).unwrap();
    assert!(card.speaks("zh") && card.speaks("ZH-Hant") && !card.speaks("zha") && !card.speaks("de"));
}

#[test]
fn dates_may_leave_day_and_month_open() {
    let check = |date: &str, good: bool| assert_eq!(check::is_date(date), good, "{date}");
    for good in ["2024", "2024-09", "2024-09-19"] {
        check(good, true);
    }
    for bad in ["", "24", "2024-9", "2024-00", "2024-09-32", "2024-09-19-1", "2024-", "٢٠٢٤"] {
        check(bad, false);
    }
}

#[test]
fn a_card_of_nothing_but_brackets_ends_in_an_error() {
    for text in
        ["[".repeat(200_000), format!("x = {}", "[".repeat(200_000)), format!("x = {}", "{a=".repeat(60_000))]
    {
        assert!(matches!(Card::parse(&text), Err(CardError::Toml(_))));
    }
    let dotted = format!("{} = 1", vec!["a"; 100_000].join("."));
    assert!(Card::parse(&dotted).is_err());
}
