//! One turn of a conversation.

use minijinja::Value;

/// Roles that every template knows. Others stay text.
pub struct Role;

impl Role {
    /// Instructions in front of the conversation.
    pub const SYSTEM: &str = "system";
    /// The human's turns.
    pub const USER: &str = "user";
    /// The model's turns: what is learnt.
    pub const ASSISTANT: &str = "assistant";
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What was said.
    pub content: String,
    /// Further fields, such as `name` or `tool_calls`, for templates that read them.
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl Message {
    /// A turn without further fields.
    #[must_use]
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
            extra: serde_json::Map::new(),
        }
    }

    /// A system turn.
    #[must_use]
    pub fn system(content: impl Into<String>) -> Self {
        Self::new(Role::SYSTEM, content)
    }

    /// A user turn.
    #[must_use]
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::USER, content)
    }

    /// An assistant turn.
    #[must_use]
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(Role::ASSISTANT, content)
    }

    /// Whether the assistant speaks.
    #[must_use]
    pub fn is_assistant(&self) -> bool {
        self.role == Role::ASSISTANT
    }

    /// The message as templates see it, with `content` in place of its own.
    pub(super) fn to_value(&self, content: &str) -> Value {
        let own = [
            ("role", Value::from(self.role.as_str())),
            ("content", Value::from(content)),
        ];
        let extra = self
            .extra
            .iter()
            .map(|(key, value)| (key.as_str(), from_json(value)));
        Value::from_pairs(own.into_iter().chain(extra))
    }
}

fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(truth) => Value::from(*truth),
        serde_json::Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => items.iter().map(from_json).collect(),
        serde_json::Value::Object(map) => Value::from_pairs(
            map.iter()
                .map(|(key, value)| (key.as_str(), from_json(value))),
        ),
    }
}
