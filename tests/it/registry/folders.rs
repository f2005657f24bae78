//! The import folder where a vocabulary has several files: folders of its own, and files beside each other.

use super::reload::{failed, refs, tiktoken};
use super::{at, name, native, open, vref};
use std::path::{Path, PathBuf};
use vocabd::registry::Registry;

struct Folder {
    dir: tempfile::TempDir,
    registry: Registry,
}

impl Folder {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = open(dir.path()).await;
        std::fs::create_dir(dir.path().join("import")).unwrap();
        Self { dir, registry }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join("import").join(file)
    }

    fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        let path = self.path(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// What a reload takes, each as a ref.
    async fn takes(&self, loaded: &[&str]) {
        let report = self.registry.reload().await;
        assert_eq!((report.loaded, failed_of(&report.failed)), (refs(loaded), Vec::<String>::new()));
    }
}

fn failed_of(failures: &[vocabd::registry::Failure]) -> Vec<String> {
    failures.iter().map(|failure| format!("{}: {}", failure.what, failure.problem)).collect()
}

const SPLIT: &str = "split = \"cl100k\"\n";

#[tokio::test]
async fn a_folder_holds_the_files_of_the_vocabulary_of_its_name() {
    let f = Folder::new().await;
    f.write("zh/qwen.tiktoken", tiktoken(&["hello"]));
    f.write("zh/tokenizer_config.json", "{}");
    f.write("zh/README.md", "# zh");
    f.write("zh/.cache/x", "");
    f.write("zh/weights.safetensors.part", "");
    f.write("zh.toml", format!("{SPLIT}aliases = [\"prod\"]"));
    f.write("inner/qwen.tiktoken", tiktoken(&["world"]));
    f.write("inner/qwen.toml", SPLIT);
    f.write("unfinished.part/qwen.tiktoken", "x");
    f.takes(&["inner@1", "zh@1", "zh@prod"]).await;
    let facts = &f.registry.resolve(Some(&vref("zh"))).await.unwrap().facts;
    assert_eq!((facts.format.as_str(), facts.source.as_str()), ("tiktoken", "import/zh"));
    f.takes(&[]).await;
    // The same after a restart: the record knows what it was made from.
    let again = open(f.dir.path()).await;
    assert_eq!(again.vocab(&name("zh")).unwrap().versions.len(), 1);
    assert!(again.failed().is_empty());

    f.write("zh/qwen.tiktoken", tiktoken(&["hello", "world"]));
    f.takes(&["zh@2", "zh@prod"]).await;
}

/// A companion that changes makes the vocabulary be read again, although its own file is as it was.
#[tokio::test]
async fn companions_are_part_of_what_is_watched() {
    let f = Folder::new().await;
    f.write("zh.tiktoken", tiktoken(&["hello"]));
    f.write("zh.toml", SPLIT);
    f.takes(&["zh@1"]).await;
    let digest = || f.registry.vocab(&name("zh")).unwrap().versions[0].source_digest;
    let alone = digest();
    // One that leads out of the folder spoils the whole, and nothing is lost.
    let outside = f.dir.path().join("outside.json");
    std::fs::write(&outside, "{}").unwrap();
    std::os::unix::fs::symlink(&outside, f.path("zh.tokenizer_config.json")).unwrap();
    assert_eq!(failed(&f.registry.reload().await), ["import/zh.tiktoken"]);
    assert_eq!(at(&f.registry, "zh").await, Ok(1));
    std::fs::remove_file(f.path("zh.tokenizer_config.json")).unwrap();
    // The content is the same whatever that file says, so that there is nothing to publish.
    f.write("zh.tokenizer_config.json", "{}");
    f.takes(&[]).await;
    assert_eq!(digest(), alone);

    f.write("en.tiktoken", tiktoken(&["world"]));
    f.write("en.tokenizer_config.json", "{}");
    f.write("en.toml", SPLIT);
    f.takes(&["en@1"]).await;
    let with = f.registry.vocab(&name("en")).unwrap().versions[0].source_digest;
    let file = tiktoken(&["world"]);
    let only = [&(SPLIT.len() as u64).to_le_bytes()[..], SPLIT.as_bytes(), file.as_bytes()];
    assert!(with.is_some() && with != Some(vocabd::registry::Digest::of(&only.concat())));
}

#[tokio::test]
async fn what_belongs_to_nothing_is_listed() {
    let f = Folder::new().await;
    let outside = f.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("x.vocabd"), native("outside")).unwrap();
    std::os::unix::fs::symlink(&outside, f.path("away")).unwrap();
    f.write("lone.tokenizer_config.json", "{}");
    f.write("gpt.encoder.json", "{}");
    f.write("tokenizer.json", "{}");
    f.write("native.chat_template.jinja", "{{ x }}");
    f.write("native.vocabd", native("native"));
    f.write("both/x.vocabd", native("both"));
    f.write("both.vocabd", native("other"));
    f.write("two/a.tiktoken", tiktoken(&["hello"]));
    f.write("two/b.tiktoken", tiktoken(&["hello"]));
    f.write("-odd/x.vocabd", native("odd"));
    f.write("nothing/README.md", "");
    f.write("link/notes", "");
    std::os::unix::fs::symlink("/dev/zero", f.path("link/x.vocabd")).unwrap();
    f.write("pipe/notes", "");
    let pipe = f.path("pipe/x.vocabd");
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, pipe, kind, 0o600.into(), 0).unwrap();
    f.write("huge/x.vocabd", "");
    std::fs::File::create(f.path("huge/x.gguf")).unwrap().set_len((1 << 30) + 1).unwrap();
    std::fs::remove_file(f.path("huge/x.vocabd")).unwrap();
    for _ in 0..2 {
        let report = f.registry.reload().await;
        let mut names = failed(&report);
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "import/-odd",
                "import/away",
                "import/both.vocabd",
                "import/gpt.encoder.json",
                "import/huge",
                "import/link",
                "import/lone.tokenizer_config.json",
                "import/native.chat_template.jinja",
                "import/nothing",
                "import/pipe",
                "import/tokenizer.json",
                "import/two",
            ]
        );
        let path = f.dir.path().to_str().unwrap();
        assert!(report.failed.iter().all(|failure| !failure.problem.contains(path)), "{report:?}");
        assert_eq!((at(&f.registry, "native").await, at(&f.registry, "both").await), (Ok(1), Ok(1)));
        assert!(at(&f.registry, "away").await.is_err());
    }
    assert!(f.path("two/a.tiktoken").exists());
}

#[tokio::test]
async fn links_to_folders_within_are_followed() {
    let f = Folder::new().await;
    f.write("..data_1/zh/x.vocabd", native("hello"));
    std::os::unix::fs::symlink("..data_1", f.path("..data")).unwrap();
    std::os::unix::fs::symlink(Path::new("..data/zh"), f.path("zh")).unwrap();
    f.takes(&["zh@1"]).await;
}
