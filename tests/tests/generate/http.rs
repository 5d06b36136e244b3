//! A server of the binary, and a client of no library's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use serde_json::Value;
use weft_tests::process::{DEADLINE, Running, Weft};
use weft_tests::repository;

/// A model, the quickstart's unless a test says another, behind a port of its own.
pub(crate) struct Server {
    pub(crate) process: Running,
    pub(crate) address: SocketAddr,
    _cache: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Server {
    pub(crate) fn start(arguments: &[&str], failpoint: Option<&str>) -> Self {
        let model = repository().join("examples/quickstart/model");
        Self::of(&model, arguments, failpoint)
    }

    /// The same with another model.
    pub(crate) fn of(model: &Path, arguments: &[&str], failpoint: Option<&str>) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let fixed = ["serve", model.to_str().unwrap(), "--listen", "127.0.0.1:0"];
        let weft = Weft::new(cache.path(), fixed)
            .args(["--device", "cpu"])
            .args(arguments);
        let weft = match failpoint {
            Some(failpoint) => weft.env("WEFT_FAILPOINT", failpoint),
            None => weft,
        };
        let mut process = weft.start();
        let line = process.wait_for("answers on http://");
        let (_, url) = line.split_once("http://").unwrap();
        let address = url.strip_suffix("/v1").unwrap().parse().unwrap();
        Self {
            process,
            address,
            _cache: cache,
        }
    }

    /// Sends a request and leaves its answer to be read.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: weft\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // A body that is not wanted is not read either.
        let _ = stream.write_all(body.as_bytes());
        stream
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        answer(self.send(method, path, headers, body))
    }

    /// A chat of so many tokens.
    pub(crate) fn chat(&self, tokens: usize, stream: bool) -> TcpStream {
        let body = serde_json::json!({
            "messages": [{"role": "user", "content": "What is anaemia?"}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": stream,
        });
        self.send("POST", "/v1/chat/completions", JSON, &body.to_string())
    }
}

/// The header of a JSON body.
pub(crate) const JSON: &str = "content-type: application/json\r\n";

/// Reads to the end.
pub(crate) fn answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// What OpenAI calls the error's code.
    pub(crate) fn code(&self) -> Value {
        self.json()["error"]["code"].clone()
    }
}
