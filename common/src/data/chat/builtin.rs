//! Chat templates that come with weft, for models whose tokenizer has none or whose users want another.
//!
//! All mark assistant text with `{% generation %}`: content and end-of-turn token, never the header in front.

/// A template that comes with weft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Builtin {
    /// As written in `model.chat_template`.
    pub name: &'static str,
    /// The Jinja source.
    pub source: &'static str,
    /// Control tokens that the layout is made of; a tokenizer without them would spell them out letter by letter.
    pub tokens: &'static [&'static str],
}

const LLAMA_3_TOKENS: &[&str] = &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"];

/// Every built-in template.
pub const BUILTINS: &[Builtin] = &[
    Builtin {
        name: "llama-3",
        source: include_str!("templates/llama-3.jinja"),
        tokens: LLAMA_3_TOKENS,
    },
    // Llama 3.1's own layout names a date; weft keeps the documented one, so that a run does not depend on its day.
    Builtin {
        name: "llama-3.1",
        source: include_str!("templates/llama-3.1.jinja"),
        tokens: LLAMA_3_TOKENS,
    },
    Builtin {
        name: "llama-2",
        source: include_str!("templates/llama-2.jinja"),
        tokens: &[],
    },
    Builtin {
        name: "mistral",
        source: include_str!("templates/mistral.jinja"),
        tokens: &[],
    },
    Builtin {
        name: "gemma",
        source: include_str!("templates/gemma.jinja"),
        tokens: &["<start_of_turn>", "<end_of_turn>"],
    },
    Builtin {
        name: "chatml",
        source: include_str!("templates/chatml.jinja"),
        tokens: &["<|im_start|>", "<|im_end|>"],
    },
    Builtin {
        name: "alpaca",
        source: include_str!("templates/alpaca.jinja"),
        tokens: &[],
    },
];

/// Other names under which users know the same layouts.
const ALIASES: &[(&str, &str)] = &[
    ("llama3", "llama-3"),
    ("llama-3.2", "llama-3.1"),
    ("llama-3.3", "llama-3.1"),
    ("llama3.1", "llama-3.1"),
    ("llama", "llama-2"),
    ("llama2", "llama-2"),
    ("gemma2", "gemma"),
];

/// The built-in template called `name`, or known under that alias.
#[must_use]
pub fn builtin(name: &str) -> Option<&'static Builtin> {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    let name = alias.map_or(name, |(_, name)| name);
    BUILTINS.iter().find(|builtin| builtin.name == name)
}

/// The names of all built-in templates, for messages.
#[must_use]
pub fn builtin_names() -> String {
    let names: Vec<_> = BUILTINS.iter().map(|builtin| builtin.name).collect();
    names.join(", ")
}
