//! An Ollama `Modelfile`: which file, which template, where a turn ends.
//!
//! Ollama's templates are Go's, models bring Jinja. Instead of translating a language, the Jinja template is asked: a
//! conversation of marked contents is rendered, and what stands between the marks is the layout. Ollama repeats it for
//! each turn, and puts BOS in front by itself.

use std::fmt::Write as _;

use weft_common::data::ChatTokenizer;
use weft_common::data::chat::{ChatTemplate, Message, TemplateError};

const SYSTEM: &str = "\u{E000}system\u{E001}";
const USER: &str = "\u{E000}user\u{E001}";
const ANSWER: &str = "\u{E000}answer\u{E001}";

/// What stands around the parts of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layout {
    /// Around a system message; `None` where the template has no place for one.
    system: Option<(String, String)>,
    /// What the template says where nobody does.
    default_system: Option<String>,
    before_user: String,
    before_answer: String,
    after_answer: String,
}

/// The text of the `Modelfile` for `file`.
pub(super) fn modelfile(file: &str, tokenizer: &ChatTokenizer) -> String {
    let mut text = format!("FROM ./{file}\n");
    let Ok(template) = tokenizer.template() else {
        return text;
    };
    // A template that refuses even this has no layout to give; Ollama takes the file's own then.
    let Ok(layout) = Layout::of(template, tokenizer) else {
        return text;
    };
    let _ = writeln!(text, "TEMPLATE \"\"\"{}\"\"\"", layout.go_template());
    if let Some(system) = &layout.default_system {
        let _ = writeln!(text, "SYSTEM \"\"\"{system}\"\"\"");
    }
    for stop in layout.stops(tokenizer) {
        let _ = writeln!(text, "PARAMETER stop {}", quoted(&stop));
    }
    text
}

/// A parameter's text. Ollama takes everything between the quotes as it is.
fn quoted(text: &str) -> String {
    match text.contains(['"', '\n']) {
        true => format!("\"\"\"{text}\"\"\""),
        false => format!("\"{text}\""),
    }
}

impl Layout {
    fn of(template: &ChatTemplate, tokenizer: &ChatTokenizer) -> Result<Self, TemplateError> {
        let exchange = [Message::user(USER), Message::assistant(ANSWER)];
        let whole = template.render(&exchange, false)?;
        let prompt = template.render(&exchange[..1], true)?;
        // Where the tokenizer puts BOS in front, so does Ollama.
        let bos = tokenizer
            .special_token("bos_token")
            .filter(|_| tokenizer.adds_bos());
        let bos = bos.unwrap_or_default();
        let without_bos = |text: &str| text.strip_prefix(bos).unwrap_or(text).to_owned();
        let (front, before_answer) = split(&prompt, USER)?;
        let (_, after_answer) = split(&whole, ANSWER)?;
        // The second turn's front has nothing in it that stands once only.
        let again = [&exchange[..], &exchange[..1]].concat();
        let again = template.render(&again, true)?;
        let between = again.split(USER).nth(1).unwrap_or_default();
        let (_, between) = split(between, ANSWER)?;
        let before_user = between
            .strip_prefix(after_answer.as_str())
            .map_or(between.clone(), str::to_owned);
        let mut layout = Self {
            system: None,
            default_system: None,
            before_user,
            before_answer,
            after_answer,
        };
        layout.find_system(template, &without_bos(&front), &without_bos)?;
        Ok(layout)
    }

    /// Finds where a system message stands, and whether there is one where nobody gave one.
    fn find_system(
        &mut self,
        template: &ChatTemplate,
        front: &str,
        without_bos: &dyn Fn(&str) -> String,
    ) -> Result<(), TemplateError> {
        let messages = [Message::system(SYSTEM), Message::user(USER)];
        let Ok(text) = template.render(&messages, true) else {
            return Ok(());
        };
        let Ok((before, after)) = split(&text, SYSTEM) else {
            return Ok(());
        };
        let (after, _) = split(&after, USER)?;
        let after = after
            .strip_suffix(self.before_user.as_str())
            .map_or(after.clone(), str::to_owned);
        let before = without_bos(&before);
        let default = front.strip_suffix(self.before_user.as_str());
        let default = default.and_then(|text| {
            text.strip_prefix(before.as_str())?
                .strip_suffix(after.as_str())
        });
        self.default_system = default.filter(|text| !text.is_empty()).map(str::to_owned);
        self.system = Some((before, after));
        Ok(())
    }

    fn go_template(&self) -> String {
        let mut text = String::new();
        if let Some((before, after)) = &self.system {
            let _ = write!(
                text,
                "{{{{ if .System }}}}{before}{{{{ .System }}}}{after}{{{{ end }}}}"
            );
        }
        let _ = write!(
            text,
            "{{{{ if .Prompt }}}}{}{{{{ .Prompt }}}}{}{{{{ end }}}}{{{{ .Response }}}}{}",
            self.before_user, self.before_answer, self.after_answer
        );
        text
    }

    /// What ends a turn, and the control tokens of the layout: a model that writes one of them has begun another turn.
    fn stops(&self, tokenizer: &ChatTokenizer) -> Vec<String> {
        let mut stops = Vec::new();
        let mut push = |text: &str| {
            if !text.is_empty() && !stops.iter().any(|known| known == text) {
                stops.push(text.to_owned());
            }
        };
        let parts = [&self.after_answer, &self.before_user, &self.before_answer];
        for part in parts {
            for (at, _) in part.char_indices() {
                if let Some(special) = tokenizer.special_at(&part[at..]) {
                    push(special);
                }
            }
        }
        if stops.is_empty() {
            stops.extend(Some(self.before_user.trim().to_owned()).filter(|text| !text.is_empty()));
        }
        stops
    }
}

fn split(text: &str, mark: &str) -> Result<(String, String), TemplateError> {
    let (before, after) = text.split_once(mark).ok_or(TemplateError::Unlocatable)?;
    Ok((before.to_owned(), after.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quickstart(template: &str) -> ChatTokenizer {
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart/model");
        ChatTokenizer::load(std::path::Path::new(model), None, template).unwrap()
    }

    #[test]
    fn chatml_becomes_its_go_template_with_both_stops() {
        let text = modelfile("m-Q8_0.gguf", &quickstart("chatml"));
        let template = "TEMPLATE \"\"\"{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}\
             {{ if .Prompt }}<|im_start|>user\n{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n{{ end }}\
             {{ .Response }}<|im_end|>\n\"\"\"";
        assert!(text.starts_with("FROM ./m-Q8_0.gguf\n"), "{text}");
        assert!(text.contains(template), "{text}");
        assert!(
            text.contains("PARAMETER stop \"<|im_end|>\"\nPARAMETER stop \"<|im_start|>\"\n"),
            "{text}"
        );
    }

    #[test]
    fn what_a_template_says_where_nobody_does_is_ollama_s_system_message() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.jinja");
        let source = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}\
            {% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
            {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
        std::fs::write(&path, source).unwrap();
        let text = modelfile("m.gguf", &quickstart(path.to_str().unwrap()));
        assert!(text.contains("SYSTEM \"\"\"Be kind.\"\"\""), "{text}");
        assert!(
            text.contains("{{ if .Prompt }}<|im_start|>user\n{{ .Prompt }}"),
            "{text}"
        );
    }
}
