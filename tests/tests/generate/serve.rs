//! `weft serve`: OpenAI's own client is answered, and what cannot be answered is refused as OpenAI refuses it.

use std::fs;
use std::io::Read;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use serde_json::{Value, json};
use weft_tests::process::{DEADLINE, Weft};
use weft_tests::repository;

use crate::http::{JSON, Server, answer};

/// The folder that CI has pip install tools into.
const TOOLS: &str = "WEFT_TEST_PYTHON_TOOLS";

/// What the client saw; nothing, said aloud, where it is not on this machine.
pub(crate) fn openai_client(server: &Server, key: &str) -> Option<Value> {
    let Some(tools) = std::env::var_os(TOOLS) else {
        println!("SKIPPED: `pip install --target FOLDER openai` and set {TOOLS}=FOLDER");
        return None;
    };
    let python = |script: &[&str]| {
        let mut command = Command::new("python3");
        command
            .args(script)
            .env("PYTHONPATH", &tools)
            .output()
            .unwrap()
    };
    if !python(&["-c", "import openai"]).status.success() {
        println!("SKIPPED: the folder that {TOOLS} names has no openai");
        return None;
    }
    let script = repository().join("tests/tests/generate/ask_openai.py");
    let url = format!("http://{}/v1", server.address);
    let ran = python(&[script.to_str().unwrap(), &url, key]);
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{told}");
    Some(serde_json::from_slice(&ran.stdout).unwrap())
}

#[test]
fn openai_s_client_is_answered_whole_and_as_a_stream() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    fs::write(&keys, "\nfirst\nsecond\n").unwrap();
    let arguments = [
        "--api-key-file",
        keys.to_str().unwrap(),
        "--name",
        "medical",
    ];
    let server = Server::start(&arguments, None);
    let Some(said) = openai_client(&server, "second") else {
        return;
    };
    assert_eq!(
        (&said["model"], &said["retrieved"]),
        (&json!("medical"), &json!("medical"))
    );
    assert_eq!(
        (&said["role"], &said["finish_reason"]),
        (&json!("assistant"), &json!("length"))
    );
    let answer = said["chat"].as_str().unwrap();
    assert!(answer.split_whitespace().count() > 1, "{answer}");
    assert_eq!(said["streamed"], said["chat"]);
    assert!(said["pieces"].as_u64() > Some(1));
    assert_eq!(said["streamed_finish_reason"], "length");
    assert_eq!(said["usage"]["completion_tokens"], 12);
    assert_eq!(said["streamed_usage"], said["usage"]);
    let stopped = &said["stopped"];
    assert_eq!(stopped["finish_reason"], "stop");
    let first = answer.split_whitespace().next().unwrap();
    assert_eq!(stopped["message"]["content"], first);
    let seeded = &said["seeded"];
    assert_eq!(seeded[0], seeded[1]);
    assert_ne!(seeded[0], seeded[2]);
    assert_eq!(said["seeded_stream"], seeded[0]);
    let error = |name: &str, class: &str| {
        let error = &said["errors"][name];
        assert_eq!(error["class"], class, "{name}: {error}");
        error.clone()
    };
    assert_eq!(error("n", "BadRequestError")["param"], "n");
    error("temperature", "BadRequestError");
    assert_eq!(error("model", "NotFoundError")["code"], "model_not_found");
    error("key", "AuthenticationError");
    let too_long = error("too_long", "BadRequestError");
    assert_eq!(too_long["code"], "context_length_exceeded");
    let told = too_long["message"].as_str().unwrap();
    assert!(told.contains("context is 512"), "{told}");
}

#[test]
fn what_cannot_be_a_request_is_refused() {
    let server = Server::start(&[], None);
    let post = |path: &str, headers: &str, body: &str| server.ask("POST", path, headers, body);
    assert_eq!(
        server.ask("GET", "/healthz", "", "").json(),
        json!({"status": "ok"})
    );
    let models = server.ask("GET", "/v1/models", "", "").json();
    assert_eq!(models["data"][0]["id"], "model");
    for (status, answer) in [
        (404, server.ask("GET", "/v1/embeddings", "", "")),
        (404, server.ask("GET", "/v1/models/another", "", "")),
        (405, server.ask("GET", "/v1/chat/completions", "", "")),
        (405, post("/v1/models", JSON, "{}")),
        (415, post("/v1/chat/completions", "", "{}")),
        (
            415,
            post("/v1/completions", "content-type: text/plain\r\n", "{}"),
        ),
        (400, post("/v1/chat/completions", JSON, "{")),
        (
            400,
            post("/v1/completions", JSON, r#"{"prompt": ["a", "b"]}"#),
        ),
        (400, post("/v1/completions", JSON, r#"{"prompt": ""}"#)),
        (
            413,
            post("/v1/completions", JSON, &" ".repeat((4 << 20) + 1)),
        ),
    ] {
        assert_eq!(answer.status, status, "{answer:?}");
        let error = &answer.json()["error"];
        assert!(!error["message"].as_str().unwrap().is_empty());
        assert_eq!(error["type"], "invalid_request_error");
    }
}

#[test]
fn who_waits_too_many_is_told_to_come_back_and_who_leaves_makes_room() {
    // A token takes so long that nothing of this ends by itself.
    let server = Server::start(&["--queue", "1"], Some("token:delay-400"));
    let mut first = server.chat(10_000, true);
    // It is being answered.
    let mut begun = [0; 400];
    let read = first.read(&mut begun).unwrap();
    assert!(String::from_utf8_lossy(&begun[..read]).contains("200 OK"));
    let (sender, answers) = mpsc::channel();
    for _ in 0..2 {
        let waiting = server.chat(2, false);
        let sender = sender.clone();
        thread::spawn(move || sender.send(answer(waiting)));
    }
    let refused = answers.recv_timeout(DEADLINE).unwrap();
    assert_eq!((refused.status, refused.code()), (429, json!("queue_full")));
    assert!(refused.head.contains("retry-after: 1"), "{}", refused.head);
    drop(first);
    let served = answers.recv_timeout(DEADLINE).unwrap();
    assert_eq!(served.status, 200, "{served:?}");
    assert_eq!(served.json()["usage"]["completion_tokens"], 2);
}

#[test]
fn a_request_that_takes_too_long_and_one_under_way_when_it_stops_are_told_so() {
    let server = Server::start(&["--deadline", "1"], Some("token:delay-400"));
    let late = answer(server.chat(10_000, false));
    assert_eq!(
        (late.status, late.code()),
        (504, json!("deadline_exceeded"))
    );
    let late = answer(server.chat(10_000, true));
    assert!(late.body.contains("deadline_exceeded"), "{}", late.body);
}

#[test]
fn beyond_this_machine_it_listens_only_when_told_that_the_network_is_trusted() {
    let cache = tempfile::tempdir().unwrap();
    let weft = Weft::new(
        cache.path(),
        ["serve", "no-such-model", "--listen", "0.0.0.0:0"],
    );
    let refused = weft.finish();
    assert_eq!(refused.code, Some(13), "{}", refused.text);
    assert!(refused.text.contains("--insecure"), "{}", refused.text);
}

#[test]
fn it_ends_when_it_is_told_to() {
    let server = Server::start(&[], None);
    server.process.terminate();
    let finished = server.process.finish();
    assert_eq!(finished.code, Some(0), "{}", finished.text);
}
