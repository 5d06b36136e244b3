//! `deploy/Containerfile`, as far as it can be looked at without a container engine.

use std::fs;

use weft_tests::process::Weft;
use weft_tests::repository;

/// An instruction with its words; continued lines are one.
fn instructions() -> Vec<(String, String)> {
    let text = fs::read_to_string(repository().join("deploy/Containerfile")).unwrap();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    let text = lines.join("\n").replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let (instruction, words) = line.trim().split_once(' ').unwrap();
            (instruction.to_owned(), words.trim().to_owned())
        })
        .collect()
}

fn all(instruction: &str) -> Vec<String> {
    let found = instructions()
        .into_iter()
        .filter(|(name, _)| name == instruction);
    found.map(|(_, words)| words).collect()
}

fn variable(name: &str) -> String {
    let words = all("ENV").join(" ");
    let mut values = words
        .split_whitespace()
        .filter_map(|word| word.split_once('='));
    let value = values.find(|(key, _)| *key == name);
    value.unwrap_or_else(|| panic!("no {name}")).1.to_owned()
}

#[test]
fn what_is_copied_is_there() {
    let mut checked = 0;
    for words in all("COPY") {
        let mut words: Vec<&str> = words.split_whitespace().collect();
        if words[0].starts_with("--from=") {
            continue;
        }
        words.pop();
        for path in words {
            assert!(repository().join(path).exists(), "COPY {path}");
            checked += 1;
        }
    }
    assert!(checked >= 6, "only {checked} paths were found");
}

#[test]
fn the_build_has_every_member_of_the_workspace() {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let copied = all("COPY").join(" ");
    for member in manifest["workspace"]["members"].as_array().unwrap() {
        let member = member.as_str().unwrap();
        let copied = copied.split_whitespace().any(|word| word == member);
        assert!(copied, "{member} is not copied");
    }
}

#[test]
fn versions_are_said_and_the_compiler_is_the_repositorys() {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let rust = manifest["workspace"]["package"]["rust-version"]
        .as_str()
        .unwrap();
    let bases = all("FROM");
    assert!(
        bases[0].starts_with(&format!("rust:{rust}-")),
        "{}",
        bases[0]
    );
    for base in &bases {
        let image = base.split_whitespace().next().unwrap();
        let tag = image
            .split_once(':')
            .map(|(_, tag)| tag)
            .unwrap_or_default();
        assert!(tag.contains('.') && !tag.contains("latest"), "{image}");
    }
    let pip = all("RUN")
        .into_iter()
        .find(|words| words.starts_with("pip install"));
    let pip = pip.unwrap();
    let packages = pip
        .split_whitespace()
        .skip(2)
        .filter(|word| !word.starts_with('-') && !word.starts_with('/'));
    let mut count = 0;
    for package in packages {
        let (name, version) = package
            .split_once("==")
            .unwrap_or_else(|| panic!("{package}"));
        count += 1;
        if name.contains("nccl") {
            let broken = ["2.28.3", "2.28.4", "2.28.5", "2.28.6", "2.28.7", "2.28.8"];
            assert!(!broken.contains(&version), "NCCL {version} crashes");
        }
    }
    assert_eq!(count, 3);
}

#[test]
fn it_runs_as_the_user_that_pods_run_as() {
    let users = all("USER");
    let user: u32 = users
        .last()
        .unwrap()
        .split(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert_ne!(user, 0);
    let golden = repository().join("tests/fixtures/deploy/gpu.yaml");
    let golden = fs::read_to_string(golden).unwrap();
    assert!(golden.contains(&format!("runAsUser: {user}\n")));
    let owned = all("RUN").join(" ");
    assert!(owned.contains(&format!("-o {user} -g {user} /var/cache/weft /data")));
}

#[test]
fn its_commands_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let runs = all("RUN");
    let weft = runs
        .iter()
        .flat_map(|words| words.split("&&").map(str::trim));
    let commands: Vec<&str> = weft.filter(|words| words.starts_with("weft ")).collect();
    assert!(!commands.is_empty());
    for command in commands {
        // Where there is no compiler it ends with 13, and 2 where it is not understood.
        let finished = Weft::in_shell(folder.path(), command)
            .env("WEFT_KERNELS", folder.path().join("kernels"))
            .finish();
        assert!(
            [Some(0), Some(13)].contains(&finished.code),
            "{}",
            finished.text
        );
    }
    let entry = all("ENTRYPOINT");
    let default = all("CMD");
    let words: Vec<String> = [&entry[0], &default[0]]
        .into_iter()
        .flat_map(|list| serde_json::from_str::<Vec<String>>(list).unwrap())
        .collect();
    Weft::in_shell(folder.path(), &words.join(" "))
        .finish()
        .succeeded();
}

#[test]
fn kernels_are_compiled_for_all_that_they_are_written_for_and_found_where_nothing_can_be_written() {
    let compiled = all("RUN").join(" ");
    for arch in weft_worker::cuda::Arch::TESTED {
        assert!(compiled.contains(&arch.to_string()), "{arch}");
    }
    // What manifests mount over the cache must not hide them.
    let kernels = variable("WEFT_KERNELS");
    assert!(!kernels.starts_with(&variable("WEFT_CACHE")), "{kernels}");
    let golden = repository().join("tests/fixtures/deploy/gpu.yaml");
    let golden = fs::read_to_string(golden).unwrap();
    assert!(golden.contains(&format!("mountPath: {}\n", variable("WEFT_CACHE"))));
    assert!(!golden.contains(&kernels));
}
