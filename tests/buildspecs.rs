//! The buildspecs: that of the shop is run, with stand-ins for `docker` and `aws`; Cutover's own is what CI runs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

fn buildspec(path: &str) -> Value {
    let text = std::fs::read_to_string(Path::new("..").join(path)).unwrap();
    shared::yaml::read(path, &text).unwrap()
}

/// The commands, in the order in which CodeBuild runs them.
fn commands(spec: &Value) -> Vec<String> {
    let phases = ["install", "pre_build", "build", "post_build"];
    let listed = phases.iter().filter_map(|phase| spec["phases"][phase]["commands"].as_array());
    listed.flatten().map(|command| command.as_str().unwrap().to_owned()).collect()
}

#[test]
fn both_are_of_the_shape_that_codebuild_takes() {
    for path in ["buildspec.yml", "worker/buildspec.yml", "examples/shop/buildspec.yml", "local/src/init/buildspec.yml"]
    {
        let spec = buildspec(path);
        assert_eq!(spec["version"], json!(0.2), "{path}");
        assert_eq!(spec["env"]["shell"], json!("bash"), "{path}: what is used of the shell is bash's");
        for part in spec.as_object().unwrap().keys() {
            assert!(
                ["version", "batch", "env", "phases", "artifacts", "cache"].contains(&part.as_str()),
                "{path}: {part}"
            );
        }
        for (phase, described) in spec["phases"].as_object().unwrap() {
            assert!(["install", "pre_build", "build", "post_build"].contains(&phase.as_str()), "{path}: {phase}");
            for part in described.as_object().unwrap().keys() {
                assert!(["commands", "runtime-versions"].contains(&part.as_str()), "{path}: {phase}.{part}");
            }
        }
        for command in commands(&spec) {
            let checked = Command::new("bash").args(["-n", "-c", &command]).output().unwrap();
            assert!(checked.status.success(), "{path}: {command}: {}", String::from_utf8_lossy(&checked.stderr));
        }
    }
}

#[test]
fn worker_is_built_for_both_architectures_each_on_its_own() {
    let spec = buildspec("buildspec.yml");
    let builds = spec["batch"]["build-list"].as_array().unwrap();
    let other = builds.iter().find(|build| build["identifier"] == json!("x86_64")).unwrap();
    assert_eq!(other["env"]["image"], json!("aws/codebuild/amazonlinux-x86_64-standard:5.0"));
    // The build on arm64 is that of the functions.
    assert!(builds.iter().any(|build| build["identifier"] == json!("arm64") && build["buildspec"] == json!(null)));
    let own = buildspec(other["buildspec"].as_str().unwrap());
    for (name, spec) in [("arm64", &spec), ("x86_64", &own)] {
        let commands = commands(spec);
        let at = |wanted: &str| commands.iter().position(|command| command == wanted);
        let static_library = at("dnf install --assumeyes --quiet glibc-static");
        let built = at("cargo rustc --locked --release --package worker --bin worker -- -C target-feature=+crt-static");
        let kept = at("cp target/release/worker \"worker-$(uname -m)\"");
        assert!(static_library.is_some() && static_library < built && built < kept, "{name}: {commands:#?}");
        assert!(spec["artifacts"]["files"].as_array().unwrap().contains(&json!("worker-*")), "{name}");
        assert_eq!(spec["env"]["variables"]["RUST_VERSION"], own["env"]["variables"]["RUST_VERSION"], "{name}");
    }
}

/// A folder of its own, gone when it is not needed any more.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cutover-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Runs the shop's buildspec as CodeBuild does: all of it in one shell, up to the first command that fails. `docker` does
    /// this, and both programs note how they were called.
    fn build(&self, docker: &str) -> Output {
        let note = |name: &str| format!("printf '%s ' {name} \"$@\" >> calls; echo >> calls");
        let aws = format!("aws() {{ {}; echo password; }}", note("aws"));
        // It reads its password, or who writes that would die of a broken pipe.
        let login = "[ \"$1\" != login ] || cat > /dev/null";
        let docker = format!("docker() {{ {}; {login}; {docker}\n}}", note("docker"));
        let script = [vec![aws, docker], commands(&buildspec("examples/shop/buildspec.yml"))].concat().join("\n");
        Command::new("bash")
            .args(["-e", "-o", "pipefail", "-c", &script])
            .current_dir(&self.0)
            .env("IMAGE_REPOSITORY", "111122223333.dkr.ecr.us-east-1.amazonaws.com/shop")
            .env("CODEBUILD_RESOLVED_SOURCE_VERSION", "0123456789abcdef0123456789abcdef01234567")
            .output()
            .unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What buildx leaves of a build (`--metadata-file`): the digest of the image's configuration is another one.
const METADATA: &str = r#"{
  "containerimage.config.digest": "sha256:1111111111111111111111111111111111111111111111111111111111111111",
  "containerimage.digest": "sha256:2222222222222222222222222222222222222222222222222222222222222222",
  "image.name": "111122223333.dkr.ecr.us-east-1.amazonaws.com/shop:0123456789ab"
}"#;

#[test]
fn the_shops_leaves_an_image_by_its_digest_beside_the_manifest() {
    let folder = Folder::new("build");
    let built = folder.build(&format!("[ \"$1 $2\" != 'buildx build' ] || cat > image.json <<'END'\n{METADATA}\nEND"));
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let detail = std::fs::read_to_string(folder.0.join("imageDetail.json")).unwrap();
    let digest = "2".repeat(64);
    let image = format!("111122223333.dkr.ecr.us-east-1.amazonaws.com/shop@sha256:{digest}");
    assert_eq!(serde_json::from_str::<Value>(&detail).unwrap(), json!({"ImageURI": image}));

    let calls = std::fs::read_to_string(folder.0.join("calls")).unwrap();
    for wanted in [
        "docker login --username AWS --password-stdin 111122223333.dkr.ecr.us-east-1.amazonaws.com ",
        "--cache-from type=registry,ref=111122223333.dkr.ecr.us-east-1.amazonaws.com/shop:cache ",
        "--tag 111122223333.dkr.ecr.us-east-1.amazonaws.com/shop:0123456789ab ",
        "--push . ",
        "--build-arg WORKER_IMAGE=111122223333.dkr.ecr.us-east-1.amazonaws.com/shop:cutover-worker ",
    ] {
        assert!(calls.contains(wanted), "{wanted}: {calls}");
    }
    let files = buildspec("examples/shop/buildspec.yml")["artifacts"]["files"].clone();
    assert_eq!(files, json!(["deploy.yaml", "imageDetail.json", "commits.tsv"]));
    assert!(folder.0.join("commits.tsv").exists(), "also without a repository");
}

#[test]
fn the_shops_fails_when_the_image_cannot_be_built_or_has_no_digest() {
    for docker in ["[ \"$1 $2\" != 'buildx build' ]", "[ \"$1 $2\" != 'buildx build' ] || echo '{}' > image.json"] {
        let folder = Folder::new(if docker.contains("echo") { "no-digest" } else { "no-image" });
        assert!(!folder.build(docker).status.success());
        assert!(!folder.0.join("imageDetail.json").exists());
    }
}
