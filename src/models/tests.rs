use super::*;
use std::collections::BTreeSet;
use std::fs;

#[test]
fn every_card_of_the_folder_is_in_the_program_and_good() {
    let models = Models::embedded();
    assert_eq!(models.failed, []);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/models");
    let files: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".toml", ""))
        .collect();
    let names: BTreeSet<String> = models.iter().map(|model| model.card.name.clone()).collect();
    assert_eq!(names, files);
    let wanted =
        ["llama-2-70b", "llama-3-8b", "qwen2.5-7b", "deepseek-v3", "yi-34b", "mixtral-8x7b", "qwen-vl"];
    assert!(wanted.iter().all(|name| names.contains(*name)));
    assert!(models.iter().all(|model| model.card.import_command().is_some()));
}

#[test]
fn own_cards_take_the_place_of_those_that_come_with_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("models");
    assert_eq!(Models::with_folder(&folder).iter().len(), Models::embedded().iter().len());
    fs::create_dir(&folder).unwrap();
    let put = |file: &str, text: &str| fs::write(folder.join(file), text).unwrap();
    put("a.toml", "name = \"yi-6b\"\nvocab = { ref = \"mine\" }\n");
    put("b.toml", "name = \"mine\"\nvocab = { ref = \"mine\" }\n");
    put("c.toml", "name = \"mine\"\nvocab = { ref = \"other\" }\n");
    put("d.toml", "name = \"bad\"\nlayrs = 3\n");
    fs::write(folder.join("e.toml"), [b'#', 0xff]).unwrap();
    fs::create_dir(folder.join("f.toml")).unwrap();
    put("g.toml", &"#".repeat((256 << 10) + 1));
    put("readme.md", "no card");
    let models = Models::with_folder(&folder);
    let (yi, mine) = (models.get("yi-6b").unwrap(), models.get("mine").unwrap());
    assert!(
        yi.own
            && yi.card.vocab.reference == "mine"
            && yi.card.layers.is_none()
            && yi.derived.parameters.is_none()
    );
    assert!(mine.own && mine.card.vocab.reference == "mine" && !models.get("yi-34b").unwrap().own);
    let failed: Vec<String> = models.failed.iter().map(|f| format!("{}: {}", f.file, f.problem)).collect();
    assert_eq!(
        failed,
        [
            "models/c.toml: the card mine is in models/b.toml already",
            "models/d.toml: unknown fields: layrs",
            "models/e.toml: is not UTF-8 at byte 1",
            "models/f.toml: is no regular file",
            "models/g.toml: has over 262144 bytes",
        ]
    );
}

#[test]
fn near_names_are_offered() {
    let models = Models::embedded();
    assert_eq!(models.near("Mixtral-8x7")[0], "mixtral-8x7b");
    assert!(models.near("qwen2.5-8b").contains(&"qwen2.5-7b"));
    assert_eq!(models.near(&"x".repeat(1 << 20)), [""; 0]);
}
