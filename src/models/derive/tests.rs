use super::*;
use crate::models::{Models, card::Card};

fn derived(name: &str) -> (Card, Derived) {
    let models = Models::embedded();
    let model = models.get(name).unwrap_or_else(|| panic!("no card {name}: {:?}", models.failed));
    (model.card.clone(), model.derived.clone())
}

/// The counts of the published files, tensor by tensor.
#[test]
fn parameters_are_those_of_the_published_weights() {
    let check =
        |name: &str, parameters: u64| assert_eq!(derived(name).1.parameters, Some(parameters), "{name}");
    check("llama-2-7b", 6_738_415_616);
    check("llama-2-13b", 13_015_864_320);
    check("llama-2-70b", 68_976_648_192);
    check("llama-3-8b", 8_030_261_248);
    check("llama-3-70b", 70_553_706_496);
    check("mistral-7b", 7_241_732_096);
    check("mixtral-8x7b", 46_702_792_704);
    check("qwen-7b", 7_721_324_544);
    check("qwen1.5-32b", 32_512_218_112);
    check("qwen-72b", 72_287_920_128);
    check("qwen1.5-moe-a2.7b", 14_315_784_192);
    check("qwen2.5-0.5b", 494_032_768);
    check("qwen2.5-7b", 7_615_616_512);
    check("yi-6b", 6_061_035_520);
    check("yi-34b", 34_388_917_248);
    // With the bias of its router, which the published files have.
    check("deepseek-v3", 671_026_419_200);
}

/// Within one per cent, or what the maker rounded away.
#[test]
fn every_card_is_within_one_per_cent_of_what_its_makers_count() {
    let models = Models::embedded();
    let mut checked = 0;
    for model in models.iter() {
        let name = &model.card.name;
        let pairs = [
            (model.card.published_parameters, model.derived.parameters),
            (model.card.published_active_parameters, model.derived.active_parameters),
        ];
        for (published, derived) in pairs {
            let Some(published) = published else { continue };
            let derived = derived.unwrap_or_else(|| panic!("{name} has a published count only"));
            // Half a unit of the last digit that is not 0.
            let mut unit = 1;
            while published % (unit * 10) == 0 {
                unit *= 10;
            }
            // The parts of the encoders are rounded once more.
            let percent = if model.card.towers.is_empty() { 100 } else { 50 };
            // Its makers say 2.4B of what is 2.45B by the count that fits their other two.
            let unit = if name == "deepseek-v2-lite" { 2 * unit } else { unit };
            let off = derived.abs_diff(published);
            assert!(off <= (published / percent).max(unit / 2), "{name}: {derived} and not {published}");
            checked += 1;
        }
    }
    assert!(checked > 35, "{checked}");
}

#[test]
fn active_parameters_are_those_of_the_experts_that_a_token_goes_through() {
    let active = |name: &str| derived(name).1.active_parameters.unwrap();
    assert_eq!(active("mixtral-8x7b"), 12_879_925_248);
    assert_eq!(active("qwen1.5-moe-a2.7b"), 2_689_173_504);
    assert_eq!(active("llama-3-8b"), 8_030_261_248);
    // Its makers do not count the input embedding: 37,552,297,472 with it.
    assert_eq!(active("deepseek-v3"), 37_552_297_472 - 129_280 * 7168);
}

#[test]
fn the_cache_grows_as_the_kind_of_attention_has_it() {
    let check =
        |name: &str, bytes: u64| assert_eq!(derived(name).1.kv_bytes_per_token, Some(bytes), "{name}");
    // MHA: 2 * 32 layers * 32 heads * 128 * 2 bytes.
    check("llama-2-7b", 524_288);
    // GQA: 2 * 80 * 8 * 128 * 2, an eighth of what 64 heads would take.
    check("llama-2-70b", 327_680);
    check("llama-3-8b", 131_072);
    check("mixtral-8x7b", 131_072);
    check("qwen2.5-7b", 57_344);
    check("yi-34b", 245_760);
    // MLA: (512 + 64) * 61 * 2; DeepSeek's own 70 KB a token.
    check("deepseek-v3", 70_272);
    check("deepseek-v2", 69_120);
    // MQA.
    let (mut card, _) = derived("llama-2-7b");
    card.kv_heads = Some(1);
    card.attention.as_mut().unwrap().kind = AttentionKind::Mqa;
    assert_eq!(cache_bytes(&card, 1), Some(16_384));
}

/// "DeepSeek-V2 [...] reduces the KV cache by 93.3%" against DeepSeek 67B: 95 layers with 8 heads of keys, 128 numbers each.
#[test]
fn the_cache_of_mla_is_as_much_smaller_as_its_paper_says() {
    let mut dense = derived("llama-2-70b").0;
    (dense.layers, dense.kv_heads, dense.head_dim) = (Some(95), Some(8), Some(128));
    let (mla, gqa) = (derived("deepseek-v2").1.kv_bytes_per_token.unwrap(), cache_bytes(&dense, 1).unwrap());
    // The paper's figure is of deployment, where its cache has 6 bits a number.
    let saved = 1.0 - mla as f64 * 6.0 / 16.0 / gqa as f64;
    assert!((saved - 0.933).abs() < 0.01, "{saved}");
}

#[test]
fn a_window_stops_the_cache_from_growing() {
    let (card, _) = derived("mistral-7b");
    assert_eq!(cache_bytes(&card, 4096), Some(4096 * 131_072));
    assert_eq!(cache_bytes(&card, 100_000), Some(4096 * 131_072));
    let (full, _) = derived("mixtral-8x7b");
    assert_eq!(cache_bytes(&full, 100_000), Some(100_000 * 131_072));
    assert_eq!(cache_bytes(&full, 0), Some(0));
}

#[test]
fn work_and_knowledge_follow_from_parameters() {
    let (_, d) = derived("llama-2-7b");
    assert_eq!(d.weight_bytes.unwrap().bf16, 13_476_831_232);
    assert_eq!(d.weight_bytes.unwrap().at(Precision::Int4), 3_369_207_808);
    assert_eq!(
        (d.forward_flops_per_token, d.training_flops_per_token),
        (Some(13_476_831_232), Some(40_430_493_696))
    );
    // 2 trillion tokens over 6.7 billion parameters; Chinchilla's optimum is 20.
    assert!((d.tokens_per_parameter.unwrap() - 296.8).abs() < 0.1);
    assert!((d.over_training.unwrap() - 14.84).abs() < 0.01);
    // "a 7B model can store 14B bits of knowledge" (Physics of Language Models: Part 3.3, abstract).
    assert!((d.knowledge_bits.unwrap() as f64 / 14e9 - 1.0).abs() < 0.04);
    assert_eq!(d.embedding_parameters, Some(2 * 32_000 * 4096));
    assert!((d.embedding_share.unwrap() - 0.0389).abs() < 1e-4);
    // Tied: once.
    assert_eq!(derived("qwen2.5-0.5b").1.embedding_parameters, Some(151_936 * 896));
    // 80 GiB hold it with room; 8 of them do not hold DeepSeek-V3 in bf16, 16 do.
    assert_eq!(gpus(13_476_831_232, 80 << 30), 1);
    assert_eq!(gpus(derived("deepseek-v3").1.weight_bytes.unwrap().bf16, 80 << 30), 16);
    assert_eq!((gpus(0, 0), gpus(u64::MAX, 1)), (0, u64::MAX));
}

#[test]
fn what_a_card_does_not_know_nothing_follows_from() {
    let (mut card, _) = derived("qwen-7b");
    card.qkv_bias = None;
    // The makers' count is left.
    assert_eq!(Derived::of(&card).parameters, card.published_parameters);
    card.published_parameters = None;
    let d = Derived::of(&card);
    assert_eq!(
        (d.parameters, d.active_parameters, d.weight_bytes, d.knowledge_bits),
        (None, None, None, None)
    );
    assert_eq!((d.embedding_share, d.tokens_per_parameter, d.training_flops), (None, None, None));
    assert_eq!(d.kv_bytes_per_token, Some(524_288));
    assert_eq!(Derived::of(&Card::default()), Derived::default());
    // A language model with an encoder that nobody counted is not all of the model.
    let (mut card, whole) = derived("qwen-vl");
    assert!(whole.parameters > card.published_parameters);
    (card.towers, card.published_parameters) = (Vec::new(), None);
    assert_eq!(Derived::of(&card).parameters, None);
    // All of a mixture is known, and not what is active of it.
    let (mut card, _) = derived("mixtral-8x7b");
    (card.norm, card.published_active_parameters) = (None, None);
    let d = Derived::of(&card);
    assert_eq!((d.parameters, d.active_parameters), (Some(46_702_792_704), None));
}
