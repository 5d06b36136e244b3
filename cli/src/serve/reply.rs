//! Answers as OpenAI's API gives them, whole or as events.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use uuid::Uuid;
use weft_worker::generate::Completion;

use super::error::ApiError;

/// Which of the two APIs an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

/// What all parts of one answer share.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    api: Api,
    id: String,
    created: u64,
    model: String,
    /// Whether a stream ends with the counts of tokens.
    usage: bool,
}

impl Reply {
    pub(super) fn new(api: Api, model: &str, usage: bool) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let prefix = match api {
            Api::Chat => "chatcmpl",
            Api::Text => "cmpl",
        };
        Self {
            api,
            id: format!("{prefix}-{}", Uuid::now_v7().simple()),
            created: since.unwrap_or_default().as_secs(),
            model: model.to_owned(),
            usage,
        }
    }

    /// The whole answer.
    pub(super) fn whole(&self, completion: &Completion) -> Value {
        let end = completion.end.name();
        let (object, choice) = match self.api {
            Api::Chat => {
                let message =
                    json!({"role": "assistant", "content": completion.text, "refusal": null});
                let choice =
                    json!({"index": 0, "message": message, "logprobs": null, "finish_reason": end});
                ("chat.completion", choice)
            }
            Api::Text => {
                let choice = json!({"index": 0, "text": completion.text, "logprobs": null, "finish_reason": end});
                ("text_completion", choice)
            }
        };
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": [choice],
            "usage": usage(completion),
        })
    }

    /// The event before any text: who speaks. Only chats have one.
    pub(super) fn first(&self) -> Option<String> {
        (self.api == Api::Chat)
            .then(|| self.chunk(json!({"role": "assistant", "content": ""}), None))
    }

    /// The event of a piece of text.
    pub(super) fn piece(&self, text: &str) -> String {
        match self.api {
            Api::Chat => self.chunk(json!({ "content": text }), None),
            Api::Text => self.chunk(text.into(), None),
        }
    }

    /// The events after the text.
    pub(super) fn last(&self, completion: &Completion) -> String {
        let nothing = match self.api {
            Api::Chat => json!({}),
            Api::Text => "".into(),
        };
        let mut events = self.chunk(nothing, Some(completion.end.name()));
        if self.usage {
            let mut counts = self.frame(json!([]));
            counts["usage"] = usage(completion);
            events += &event(&counts);
        }
        events + "data: [DONE]\n\n"
    }

    /// The event of a failure amid the text.
    pub(super) fn failed(&self, error: &ApiError) -> String {
        event(&error.to_json())
    }

    fn chunk(&self, content: Value, end: Option<&str>) -> String {
        let key = match self.api {
            Api::Chat => "delta",
            Api::Text => "text",
        };
        event(
            &self
                .frame(json!([{"index": 0, key: content, "logprobs": null, "finish_reason": end}])),
        )
    }

    fn frame(&self, choices: Value) -> Value {
        let object = match self.api {
            Api::Chat => "chat.completion.chunk",
            Api::Text => "text_completion",
        };
        let mut frame = json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if self.usage {
            frame["usage"] = Value::Null;
        }
        frame
    }
}

/// The models that there are: one.
pub(super) fn models(name: &str) -> Value {
    json!({"object": "list", "data": [model(name)]})
}

/// The one model.
pub(super) fn model(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": 0, "owned_by": "weft"})
}

fn usage(completion: &Completion) -> Value {
    json!({
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
    })
}

/// A server-sent event.
fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}
