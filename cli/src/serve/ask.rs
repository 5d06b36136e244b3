//! Requests of OpenAI's API → what the model is asked. What cannot be done is refused, not left out.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::Value;
use weft_common::data::chat::Message;
use weft_worker::generate::{GenerateOptions, Prompt, Sampling};

use super::error::ApiError;

/// Most stop strings of a request.
const MOST_STOPS: usize = 16;

/// What holds where a request does not say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    pub(super) max_new_tokens: usize,
}

/// A request, understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ask {
    pub(super) model: Option<String>,
    pub(super) prompt: Prompt,
    pub(super) options: GenerateOptions,
    pub(super) stops: Vec<String>,
    pub(super) stream: bool,
    /// Whether a stream ends with the counts of tokens.
    pub(super) stream_usage: bool,
}

/// `POST /v1/chat/completions`.
#[derive(Debug, Deserialize)]
struct ChatRequest {
    messages: Vec<Turn>,
    max_completion_tokens: Option<usize>,
    tools: Option<Value>,
    response_format: Option<Format>,
    logprobs: Option<bool>,
    #[serde(flatten)]
    common: Common,
}

/// `POST /v1/completions`.
#[derive(Debug, Deserialize)]
struct TextRequest {
    prompt: Text,
    echo: Option<bool>,
    best_of: Option<u64>,
    suffix: Option<String>,
    logprobs: Option<u64>,
    #[serde(flatten)]
    common: Common,
}

#[derive(Debug, Deserialize)]
struct Common {
    model: Option<String>,
    max_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<usize>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    seed: Option<i64>,
    stop: Option<OneOrMore>,
    n: Option<u64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Format {
    r#type: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Text {
    One(String),
    More(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct Turn {
    role: String,
    content: Content,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    r#type: String,
    text: Option<String>,
}

/// Reads a chat request.
pub(super) fn chat(body: &[u8], defaults: Defaults) -> Result<Ask, ApiError> {
    let request: ChatRequest = parse(body)?;
    let asked_format = request.response_format.as_ref();
    let refusals = [
        (
            "tools",
            request
                .tools
                .is_some_and(|tools| tools.as_array().is_none_or(|t| !t.is_empty())),
        ),
        (
            "response_format",
            asked_format.is_some_and(|format| format.r#type != "text"),
        ),
        ("logprobs", request.logprobs == Some(true)),
    ];
    refuse(&refusals)?;
    if request.messages.is_empty() {
        return Err(ApiError::invalid(Some("messages"), "there are no messages"));
    }
    let messages: Result<_, _> = request.messages.into_iter().map(Turn::message).collect();
    let max_tokens = request.max_completion_tokens;
    request
        .common
        .ask(Prompt::Chat(messages?), max_tokens, defaults)
}

/// Reads a request to continue a text.
pub(super) fn text(body: &[u8], defaults: Defaults) -> Result<Ask, ApiError> {
    let request: TextRequest = parse(body)?;
    let refusals = [
        ("echo", request.echo == Some(true)),
        (
            "best_of",
            request.best_of.is_some_and(|best_of| best_of != 1),
        ),
        ("suffix", request.suffix.is_some()),
        ("logprobs", request.logprobs.is_some()),
    ];
    refuse(&refusals)?;
    let mut prompts = match request.prompt {
        Text::One(text) => vec![text],
        Text::More(texts) => texts,
    };
    let (Some(prompt), true) = (prompts.pop(), prompts.is_empty()) else {
        let message = "give one prompt; for several send several requests";
        return Err(ApiError::invalid(Some("prompt"), message));
    };
    request.common.ask(Prompt::Text(prompt), None, defaults)
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::invalid(None, format!("the request cannot be read: {error}")))
}

fn refuse(refusals: &[(&'static str, bool)]) -> Result<(), ApiError> {
    match refusals.iter().find(|(_, asked)| *asked) {
        None => Ok(()),
        Some(&(param, _)) => {
            let message = format!("weft does not support this `{param}`; leave it out");
            Err(ApiError::invalid(Some(param), message))
        }
    }
}

impl Turn {
    fn message(self) -> Result<Message, ApiError> {
        let text = match self.content {
            Content::Text(text) => text,
            Content::Parts(parts) => {
                let texts = parts
                    .into_iter()
                    .map(|part| match (part.r#type.as_str(), part.text) {
                        ("text", Some(text)) => Ok(text),
                        (kind, _) => {
                            let message =
                                format!("content of type `{kind}` is not supported; send text");
                            Err(ApiError::invalid(Some("messages"), message))
                        }
                    });
                texts.collect::<Result<Vec<_>, _>>()?.concat()
            }
        };
        // What OpenAI's newer models call the system message; templates do not know it.
        let role = match self.role.as_str() {
            "developer" => "system".to_owned(),
            _ => self.role,
        };
        Ok(Message::new(role, text))
    }
}

impl Common {
    fn ask(
        self,
        prompt: Prompt,
        max_tokens: Option<usize>,
        defaults: Defaults,
    ) -> Result<Ask, ApiError> {
        let non_zero = |penalty: Option<f32>| penalty.is_some_and(|penalty| penalty != 0.0);
        refuse(&[
            ("n", self.n.is_some_and(|n| n != 1)),
            ("frequency_penalty", non_zero(self.frequency_penalty)),
            ("presence_penalty", non_zero(self.presence_penalty)),
        ])?;
        let stops = match &self.stop {
            None => Vec::new(),
            Some(OneOrMore::One(stop)) => vec![stop.clone()],
            Some(OneOrMore::More(stops)) => stops.clone(),
        };
        if stops.len() > MOST_STOPS {
            let message = format!("{} stop strings, {MOST_STOPS} are the most", stops.len());
            return Err(ApiError::invalid(Some("stop"), message));
        }
        let options = GenerateOptions {
            max_new_tokens: max_tokens
                .or(self.max_tokens)
                .unwrap_or(defaults.max_new_tokens),
            stop_ids: Vec::new(),
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            sampling: self.sampling(),
        };
        let checked = options.check();
        checked.map_err(|error| ApiError::invalid(None, error.to_string()))?;
        Ok(Ask {
            model: self.model,
            prompt,
            options,
            stops,
            stream: self.stream.unwrap_or(false),
            stream_usage: (self.stream_options)
                .is_some_and(|options| options.include_usage == Some(true)),
        })
    }

    /// As OpenAI's: a temperature of 1 where none is said, 0 is greedy, and no seed is another one each time.
    fn sampling(&self) -> Option<Sampling> {
        let temperature = self.temperature.unwrap_or(1.0);
        let now = || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
        };
        (temperature != 0.0).then(|| Sampling {
            temperature,
            top_k: self.top_k.unwrap_or(0),
            top_p: self.top_p.unwrap_or(1.0),
            min_p: self.min_p.unwrap_or(0.0),
            seed: self
                .seed
                .map_or_else(|| now().as_nanos() as u64, i64::cast_unsigned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Defaults = Defaults { max_new_tokens: 7 };

    fn refused(body: &str) -> Value {
        chat(body.as_bytes(), DEFAULTS).unwrap_err().to_json()
    }

    #[test]
    fn a_chat_request_is_understood() {
        let body = r#"{"model": "m", "messages": [
                {"role": "developer", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
            "temperature": 0, "max_completion_tokens": 5, "stop": "x", "stream": true, "user": "someone",
            "stream_options": {"include_usage": true}, "n": 1, "presence_penalty": 0}"#;
        let ask = chat(body.as_bytes(), DEFAULTS).unwrap();
        let turns = vec![Message::system("be brief"), Message::user("ab")];
        assert_eq!(ask.prompt, Prompt::Chat(turns));
        assert_eq!(
            (ask.options.max_new_tokens, &ask.options.sampling),
            (5, &None)
        );
        assert_eq!(
            (ask.stops, ask.stream, ask.stream_usage),
            (vec!["x".to_owned()], true, true)
        );
    }

    #[test]
    fn what_is_left_out_is_as_with_openai() {
        let body = br#"{"prompt": ["once"], "seed": -1, "top_p": 0.9}"#;
        let ask = text(body, DEFAULTS).unwrap();
        assert_eq!(ask.prompt, Prompt::Text("once".to_owned()));
        assert_eq!(ask.options.max_new_tokens, 7);
        let sampling = ask.options.sampling.unwrap();
        assert_eq!(
            (sampling.temperature, sampling.top_p, sampling.seed),
            (1.0, 0.9, u64::MAX)
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        let with = |more: &str| {
            refused(&format!(
                r#"{{"messages": [{{"role": "user", "content": "a"}}], {more}}}"#
            ))
        };
        for (more, param) in [
            (r#""n": 2"#, "n"),
            (r#""tools": [{}]"#, "tools"),
            (r#""logprobs": true"#, "logprobs"),
            (r#""presence_penalty": 0.5"#, "presence_penalty"),
            (
                r#""response_format": {"type": "json_object"}"#,
                "response_format",
            ),
        ] {
            assert_eq!(with(more)["error"]["param"], param);
        }
        let told = |error: &Value| error["error"]["message"].as_str().unwrap().to_owned();
        assert!(told(&with(r#""temperature": -1"#)).contains("temperature"));
        assert!(told(&refused("{}")).contains("messages"));
        assert!(told(&refused(r#"{"messages": []}"#)).contains("no messages"));
        let image = r#"{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}"#;
        assert!(told(&refused(image)).contains("image_url"));
    }
}
