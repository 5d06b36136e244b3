//! `weft push` against a stand-in for the hub, and the stand-in against Hugging Face's own client.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use http::Method;
use weft_tests::hub::{HubServer, PART, TOKEN};
use weft_tests::process::{Finished, Weft};

const REPO: &str = "tester/medical";

/// A folder with small files, a large one, one in parts, an empty one and one that stays.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::create_dir(folder.path().join("sub")).unwrap();
        for (name, content) in folder.files() {
            fs::write(folder.path().join(name), content).unwrap();
        }
        fs::write(folder.path().join(".hidden"), "stays").unwrap();
        folder
    }

    fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let bytes = |count: u64| (0..count).map(|at| (at * 7 % 251) as u8).collect();
        vec![
            ("README.md", b"# A model\n".to_vec()),
            ("adapter_config.json", b"{\"r\": 16}\n".to_vec()),
            ("adapter_model.safetensors", bytes(PART * 3 + 17)),
            ("empty.txt", Vec::new()),
            ("sub/tokenizer.json", bytes(5000)),
        ]
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn token(&self) -> PathBuf {
        let path = self.path().join(".token");
        fs::write(&path, format!("{TOKEN}\n")).unwrap();
        path
    }

    fn push(&self, hub: &HubServer, more: &[&str]) -> Finished {
        let token = self.token();
        let mut arguments = vec!["push".into(), self.path().as_os_str().to_owned()];
        arguments.extend(["--repo", REPO, "--token-file"].map(Into::into));
        arguments.push(token.into_os_string());
        arguments.extend(more.iter().map(Into::into));
        Weft::new(&self.path().join(".cache"), arguments)
            .env("HF_ENDPOINT", hub.endpoint())
            .finish()
    }
}

fn assert_there(hub: &HubServer, folder: &Folder) {
    for (name, content) in folder.files() {
        assert_eq!(hub.file(REPO, name).as_ref(), Some(&content), "{name}");
    }
    assert_eq!(hub.file(REPO, ".hidden"), None);
}

#[test]
fn a_folder_arrives_in_one_commit_of_a_private_repository_and_the_token_stays_with_the_hub() {
    let (hub, folder) = (HubServer::start(), Folder::new());
    let pushed = folder.push(&hub, &["--message", "First"]);
    assert_eq!(pushed.code, Some(0), "{}", pushed.text);
    assert_there(&hub, &folder);
    assert_eq!(hub.is_private(REPO), Some(true));
    assert_eq!(hub.commits(REPO), ["First"]);
    assert!(pushed.text.contains("/commit/"), "{}", pushed.text);
    assert!(!pushed.text.contains(TOKEN) && !pushed.text.contains("signature"));
    assert_eq!(hub.count(&Method::PUT, "/objects/"), 4 + 1);
    for seen in hub.seen() {
        assert_ne!(seen.storage, seen.token, "{seen:?}");
    }
}

#[test]
fn what_is_there_is_not_sent_again() {
    let (hub, folder) = (HubServer::start(), Folder::new());
    assert_eq!(folder.push(&hub, &[]).code, Some(0));
    hub.forget();
    let again = folder.push(&hub, &[]);
    assert_eq!(again.code, Some(0), "{}", again.text);
    assert!(again.text.contains("nothing was sent"), "{}", again.text);
    assert_eq!(
        (hub.count(&Method::PUT, ""), hub.commits(REPO).len()),
        (0, 1)
    );
    fs::write(folder.path().join("README.md"), "# Another\n").unwrap();
    let changed = folder.push(&hub, &[]);
    assert_eq!(changed.code, Some(0), "{}", changed.text);
    assert_eq!(hub.file(REPO, "README.md").unwrap(), b"# Another\n");
    assert_eq!(
        (hub.count(&Method::PUT, ""), hub.commits(REPO).len()),
        (0, 2)
    );
}

#[test]
fn a_push_that_was_cut_off_goes_on_where_it_was() {
    let (hub, folder) = (HubServer::start(), Folder::new());
    hub.fail("/commit/main", 400, 1);
    let cut = folder.push(&hub, &[]);
    assert_eq!(cut.code, Some(21), "{}", cut.text);
    assert!(cut.text.contains("injected"), "{}", cut.text);
    assert!(hub.commits(REPO).is_empty());
    hub.forget();
    assert_eq!(folder.push(&hub, &[]).code, Some(0));
    assert_eq!(hub.count(&Method::PUT, ""), 0);
    assert_there(&hub, &folder);
}

#[test]
fn what_fails_for_a_while_is_tried_again() {
    let (hub, folder) = (HubServer::start(), Folder::new());
    hub.fail("/preupload/", 503, 1);
    hub.fail("/objects/", 500, 1);
    hub.lose_answer("/complete/", 504, 1);
    let pushed = folder.push(&hub, &[]);
    assert_eq!(pushed.code, Some(0), "{}", pushed.text);
    assert_there(&hub, &folder);
}

#[test]
fn nothing_goes_to_a_public_repository_unasked() {
    let (hub, folder) = (HubServer::start(), Folder::new());
    hub.make(REPO, false);
    let refused = folder.push(&hub, &[]);
    assert_eq!(refused.code, Some(21), "{}", refused.text);
    assert!(refused.text.contains("--public"), "{}", refused.text);
    assert_eq!(hub.count(&Method::POST, "preupload"), 0);
    let asked = folder.push(&hub, &["--public"]);
    assert_eq!(asked.code, Some(0), "{}", asked.text);
    assert_there(&hub, &folder);
}

#[test]
fn bad_tokens_addresses_and_names_are_refused_with_a_remedy() {
    let (hub, folder) = (HubServer::start(), Folder::new());
    let cache = folder.path().join(".cache");
    let push = |repo: &str, endpoint: &str, token: Option<&str>| {
        let arguments = ["push", folder.path().to_str().unwrap(), "--repo", repo];
        let weft = Weft::new(&cache, arguments).env("HF_ENDPOINT", endpoint);
        let weft = weft.env("HF_HOME", cache.to_str().unwrap());
        weft.env("HF_TOKEN", token.unwrap_or_default()).finish()
    };
    let here = hub.endpoint();
    let wrong = push(REPO, here, Some("hf_wrong"));
    assert_eq!(wrong.code, Some(21), "{}", wrong.text);
    assert!(wrong.text.contains("not valid") && !wrong.text.contains("hf_wrong"));
    let none = push(REPO, here, None);
    assert_eq!(none.code, Some(13), "{}", none.text);
    assert!(none.text.contains("--token-file"), "{}", none.text);
    let plain = push(REPO, "http://hub.example", Some(TOKEN));
    assert_eq!(plain.code, Some(2), "{}", plain.text);
    assert!(plain.text.contains("https://"), "{}", plain.text);
    let name = push("../x", here, Some(TOKEN));
    assert_eq!(name.code, Some(2), "{}", name.text);
    let own = push("mine", here, Some(TOKEN));
    assert_eq!(own.code, Some(0), "{}", own.text);
    assert_eq!(hub.is_private("tester/mine"), Some(true));
}

#[test]
fn hugging_face_s_own_client_pushes_to_the_stand_in() {
    let Some(python) = std::env::var_os("WEFT_TEST_HUGGINGFACE_HUB") else {
        eprintln!("NOT RUN: set WEFT_TEST_HUGGINGFACE_HUB to a Python that has huggingface_hub");
        return;
    };
    let (hub, folder) = (HubServer::start(), Folder::new());
    let script = "import sys, huggingface_hub as h\n\
                  api = h.HfApi(endpoint=sys.argv[1], token=sys.argv[2])\n\
                  api.create_repo(sys.argv[3], private=True, exist_ok=True)\n\
                  ignore = ['.*', '**/.*']\n\
                  api.upload_folder(repo_id=sys.argv[3], folder_path=sys.argv[4], commit_message='Theirs', ignore_patterns=ignore)\n";
    let run = || {
        let arguments = ["-c", script, hub.endpoint(), TOKEN, REPO];
        let done = Command::new(&python)
            .args(arguments)
            .arg(folder.path())
            .env("HF_ENDPOINT", hub.endpoint())
            .env("HF_HUB_DISABLE_XET", "1")
            .env("HF_HUB_DISABLE_TELEMETRY", "1")
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    run();
    assert_there(&hub, &folder);
    assert_eq!(
        (hub.is_private(REPO), hub.commits(REPO).len()),
        (Some(true), 1)
    );
    // What one client sent, the other finds.
    hub.forget();
    let ours = folder.push(&hub, &[]);
    assert_eq!(ours.code, Some(0), "{}", ours.text);
    assert!(ours.text.contains("nothing was sent"), "{}", ours.text);
}
