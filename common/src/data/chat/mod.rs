//! Conversations to text: chat templates, and which of the text is the assistant's.
//!
//! ```text
//! messages ──template──▶ text with markers ──cut──▶ text + byte spans of what the assistant says
//! ```
//!
//! A template that marks assistant text with `{% generation %}` is taken at its word. For others the spans are found
//! by rendering with marked contents, and the end-of-turn token after each is learnt from a probe ([`ChatTemplate`]).

mod builtin;
mod environment;
mod json;
mod markers;
mod message;
mod spans;
mod template;

pub use builtin::{BUILTINS, Builtin, builtin, builtin_names};
pub use message::{Message, Role};
pub use template::{ChatTemplate, Rendered, SpecialTokens, TemplateError};

#[cfg(test)]
mod tests;
