//! [`ChatTokenizer`]: text and conversations to token ids, and back.

use std::io;
use std::ops::Range;
use std::path::Path;

use tokenizers::Tokenizer;

use super::byte_pairs::BytePairs;
use super::{Parts, TokenizerError, save};
use crate::data::chat::{self, Builtin, ChatTemplate, Message, TemplateError};
use crate::id::Digest;

/// Token ids and the bytes of the text that each stands for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encoded {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Byte range of each token in the text; empty for tokens that stand for none of it.
    pub offsets: Vec<Range<usize>>,
}

/// A model's tokenizer together with its chat template.
#[derive(Debug)]
pub struct ChatTokenizer {
    tokenizer: Tokenizer,
    /// The quick way, for pipelines that it knows.
    byte_pairs: Option<BytePairs>,
    parts: Parts,
    digest: Digest,
    template: Option<ChatTemplate>,
    end_ids: Vec<u32>,
    specials: Vec<String>,
    adds_bos: bool,
}

impl ChatTokenizer {
    /// Loads the tokenizer of a base model (a Hugging Face folder or a GGUF file), or the one at `replacement`, with the chat
    /// template that `chat_template` names: `auto` for its own, a built-in name, or a path to a `.jinja` file.
    ///
    /// # Errors
    /// When there is no usable tokenizer, or the template does not fit it.
    pub fn load(
        base_model: &Path,
        replacement: Option<&Path>,
        chat_template: &str,
    ) -> Result<Self, TokenizerError> {
        let parts = Parts::read(base_model, replacement)?;
        let mut tokenizer = parse(&parts)?;
        // Length and padding are weft's own business; a saved tokenizer may carry those of an earlier training.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| invalid(&parts, error.to_string()))?;
        let mut loaded = Self {
            digest: digest(&parts),
            byte_pairs: recognise(&parts)?,
            specials: specials(&tokenizer),
            end_ids: parts.end_ids.clone(),
            adds_bos: false,
            template: None,
            tokenizer,
            parts,
        };
        loaded.adds_bos = loaded
            .bos_id()
            .is_some_and(|bos| loaded.encode("a", true).first() == Some(&bos));
        loaded.template = loaded.compile_template(chat_template)?;
        loaded.end_ids = loaded.all_end_ids();
        Ok(loaded)
    }

    fn compile_template(&self, choice: &str) -> Result<Option<ChatTemplate>, TokenizerError> {
        if let Some(builtin) = chat::builtin(choice) {
            self.expect_tokens(choice, &self.missing_of_builtin(builtin))?;
            return self.compile_source(builtin.source).map(Some);
        }
        let source = if choice == "auto" {
            self.parts.chat_template.clone()
        } else {
            Some(read_template(choice)?)
        };
        let Some(source) = source else {
            return Ok(None);
        };
        let template = self.compile_source(&source)?;
        self.expect_tokens(choice, &self.missing_of_layout(&template)?)?;
        Ok(Some(template))
    }

    fn compile_source(&self, source: &str) -> Result<ChatTemplate, TokenizerError> {
        let special_at = |text: &str| self.special_at(text).map(str::len);
        Ok(ChatTemplate::compile(
            source,
            &self.parts.special_tokens,
            &special_at,
        )?)
    }

    fn expect_tokens(&self, template: &str, missing: &[String]) -> Result<(), TokenizerError> {
        if missing.is_empty() {
            return Ok(());
        }
        Err(TokenizerError::LacksTokens {
            template: template.to_owned(),
            origin: self.parts.origin.clone(),
            missing: missing.to_vec(),
        })
    }

    fn missing_of_builtin(&self, builtin: &Builtin) -> Vec<String> {
        let named = ["bos_token", "eos_token"].into_iter();
        let unnamed = named
            .filter(|name| builtin.source.contains(name) && self.special_token(name).is_none());
        let lacking = builtin
            .tokens
            .iter()
            .copied()
            .filter(|token| self.token_id(token).is_none());
        unnamed.chain(lacking).map(str::to_owned).collect()
    }

    /// Texts that look like control tokens in what the template puts around a plain exchange, and are none.
    fn missing_of_layout(&self, template: &ChatTemplate) -> Result<Vec<String>, TemplateError> {
        let text = template.render(
            &[Message::user("question"), Message::assistant("answer")],
            true,
        )?;
        let mut missing: Vec<_> = control_tokens(&text)
            .filter(|token| self.token_id(token).is_none())
            .collect();
        missing.sort_unstable();
        missing.dedup();
        Ok(missing.into_iter().map(str::to_owned).collect())
    }

    /// The ends that the model's configuration names, the tokenizer's own, and what ends a turn in the template.
    fn all_end_ids(&self) -> Vec<u32> {
        let turn = self
            .template
            .as_ref()
            .map_or("", ChatTemplate::end_of_turn)
            .trim_start();
        let tokens = [self.special_token("eos_token"), Some(turn)];
        let ids = tokens
            .into_iter()
            .flatten()
            .filter_map(|token| self.token_id(token));
        let mut all: Vec<u32> = self.parts.end_ids.iter().copied().chain(ids).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The text of `tokenizer.json`, whatever file it came from.
    #[must_use]
    pub fn tokenizer_json(&self) -> &str {
        &self.parts.tokenizer_json
    }

    /// Identifies vocabulary, merges, pipeline and special tokens.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Identifies the chat template; the digest of nothing where there is none.
    #[must_use]
    pub fn template_digest(&self) -> Digest {
        self.template
            .as_ref()
            .map_or_else(|| Digest::of(b""), ChatTemplate::digest)
    }

    /// The chat template.
    ///
    /// # Errors
    /// When the tokenizer has none and the recipe names none.
    pub fn template(&self) -> Result<&ChatTemplate, TokenizerError> {
        self.template
            .as_ref()
            .ok_or_else(|| TokenizerError::NoTemplate {
                origin: self.parts.origin.clone(),
            })
    }

    /// Renders a conversation with the chat template.
    ///
    /// # Errors
    /// When there is no template, or it refuses the conversation.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, TokenizerError> {
        Ok(self.template()?.render(messages, add_generation_prompt)?)
    }

    /// Token ids of `text`. With `add_special`, the tokens that the tokenizer itself puts around a text are added.
    #[must_use]
    pub fn encode(&self, text: &str, add_special: bool) -> Vec<u32> {
        self.encode_with_offsets(text, add_special).ids
    }

    /// Token ids of `text` and where in the text each lies.
    #[must_use]
    pub fn encode_with_offsets(&self, text: &str, add_special: bool) -> Encoded {
        if add_special {
            return self.encode_generally(text, true);
        }
        let quick = self
            .byte_pairs
            .as_ref()
            .and_then(|pairs| pairs.encode(&self.tokenizer, text));
        quick.unwrap_or_else(|| self.encode_generally(text, false))
    }

    /// Goes through the whole pipeline of the tokenizer.
    pub(super) fn encode_generally(&self, text: &str, add_special: bool) -> Encoded {
        let encoding = self.tokenizer.encode(text, add_special);
        let encoding = encoding.expect("a byte-level or byte-fallback BPE encodes any text");
        Encoded {
            ids: encoding.get_ids().to_vec(),
            offsets: encoding
                .get_offsets()
                .iter()
                .map(|(start, end)| *start..*end)
                .collect(),
        }
    }

    /// Token ids of a finished text: BOS is put in front where the tokenizer does so and the text has none yet.
    #[must_use]
    pub fn encode_document(&self, text: &str) -> Encoded {
        self.encode_with_offsets(text, !self.starts_with_bos(text))
    }

    /// The text of `ids`.
    #[must_use]
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        // An id outside the vocabulary has no text; the tokenizer skips it as well.
        self.tokenizer.decode(ids, skip_special).unwrap_or_default()
    }

    /// The vocabulary's own text for one id, for example `Ġthe`.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// Ids after which a generation ends, ascending.
    #[must_use]
    pub fn eos_ids(&self) -> &[u32] {
        &self.end_ids
    }

    /// The id of `token`, if the vocabulary has it.
    #[must_use]
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The special token with this name, for example `eos_token`.
    #[must_use]
    pub fn special_token(&self, name: &str) -> Option<&str> {
        self.parts.special_tokens.get(name).map(String::as_str)
    }

    /// The id that starts a text, if there is one.
    #[must_use]
    pub fn bos_id(&self) -> Option<u32> {
        self.token_id(self.special_token("bos_token")?)
    }

    /// Whether the tokenizer puts BOS in front of every text.
    #[must_use]
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// Whether `text` starts with BOS.
    #[must_use]
    pub fn starts_with_bos(&self, text: &str) -> bool {
        self.special_token("bos_token")
            .is_some_and(|bos| text.starts_with(bos))
    }

    /// The special token that `text` starts with.
    #[must_use]
    pub fn special_at(&self, text: &str) -> Option<&str> {
        let first = text.as_bytes().first()?;
        let candidates = self
            .specials
            .iter()
            .filter(|special| special.as_bytes()[0] == *first);
        candidates
            .map(String::as_str)
            .filter(|special| text.starts_with(special))
            .max_by_key(|special| special.len())
    }

    /// The first special token spelled out in `text`.
    #[must_use]
    pub fn special_within(&self, text: &str) -> Option<&str> {
        let starts = text.match_indices(['<', '[', '|']).map(|(at, _)| at);
        starts.filter_map(|at| self.special_at(&text[at..])).next()
    }

    /// Number of ids.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json` and `chat_template.jinja` into `folder`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save_pretrained(&self, folder: &Path) -> io::Result<()> {
        save::write(
            &self.parts,
            self.template.as_ref().map(ChatTemplate::source),
            folder,
        )
    }
}

fn parse(parts: &Parts) -> Result<Tokenizer, TokenizerError> {
    parts
        .tokenizer_json
        .parse()
        .map_err(|error: tokenizers::Error| invalid(parts, error.to_string()))
}

fn recognise(parts: &Parts) -> Result<Option<BytePairs>, TokenizerError> {
    let config = serde_json::from_str(&parts.tokenizer_json);
    Ok(BytePairs::recognise(
        &config.map_err(|error| invalid(parts, error.to_string()))?,
    ))
}

fn invalid(parts: &Parts, detail: String) -> TokenizerError {
    TokenizerError::Invalid {
        origin: parts.origin.clone(),
        detail,
    }
}

fn digest(parts: &Parts) -> Digest {
    let mut content = parts.tokenizer_json.clone();
    for (name, token) in &parts.special_tokens {
        content.extend(["\0", name, "\0", token]);
    }
    Digest::of(content.as_bytes())
}

fn specials(tokenizer: &Tokenizer) -> Vec<String> {
    let added = tokenizer.get_added_tokens_decoder();
    let special = added
        .into_values()
        .filter(|token| token.special && !token.content.is_empty());
    let mut texts: Vec<String> = special.map(|token| token.content).collect();
    texts.sort_unstable();
    texts
}

fn read_template(choice: &str) -> Result<String, TokenizerError> {
    let path = Path::new(choice);
    if !path.is_file() {
        return Err(TokenizerError::UnknownTemplate {
            name: choice.to_owned(),
        });
    }
    std::fs::read_to_string(path).map_err(|source| TokenizerError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Every `<|…|>`, `<start_of_…>` and `<end_of_…>` in `text`.
fn control_tokens(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices('<').filter_map(|(at, _)| {
        let rest = &text[at..];
        let token = &rest[..=rest.find('>')?];
        let inside = &token[1..token.len() - 1];
        let piped = inside.len() > 2 && inside.starts_with('|') && inside.ends_with('|');
        let named = inside.starts_with("start_of_") || inside.starts_with("end_of_");
        ((piped || named) && !inside.contains(char::is_whitespace)).then_some(token)
    })
}
