//! Where the assistant's text lies in the output of a template that does not mark it.
//!
//! The conversation is rendered once as it is and once with markers around the visible part of each assistant content.
//! If both texts are the same but for the markers, the markers say where the assistant's text is. Templates that take contents apart
//! (for example to remove earlier reasoning) lose the markers; for them the text before and after each assistant turn is compared.

use std::ops::Range;

use super::markers;
use super::message::Message;
use super::template::{ChatTemplate, Rendered, TemplateError};

/// What the probe showed of a template.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// A special token, with the whitespace before it.
    pub(super) end_of_turn: String,
    keeps_leading_space: bool,
    keeps_trailing_space: bool,
}

const PROBE: &str = "weft probe";

/// Renders small conversations to see how the template lays out an assistant turn.
pub(super) fn probe(
    template: &ChatTemplate,
    special_at: &dyn Fn(&str) -> Option<usize>,
) -> Result<Layout, TemplateError> {
    let text = render_exchange(template, PROBE)?;
    let spaced = render_exchange(template, &format!(" \n{PROBE}\n "))?;
    let tail = text.rfind(PROBE).map_or("", |at| &text[at + PROBE.len()..]);
    Ok(Layout {
        end_of_turn: end_of_turn(tail, special_at).to_owned(),
        keeps_leading_space: spaced.contains(&format!(" \n{PROBE}")),
        keeps_trailing_space: spaced.contains(&format!("{PROBE}\n ")),
    })
}

fn render_exchange(template: &ChatTemplate, answer: &str) -> Result<String, TemplateError> {
    template.render(
        &[Message::user("question"), Message::assistant(answer)],
        false,
    )
}

/// Whitespace and the special token after it, at the start of what follows an answer.
fn end_of_turn<'a>(tail: &'a str, special_at: &dyn Fn(&str) -> Option<usize>) -> &'a str {
    let space = tail.len() - tail.trim_start().len();
    match special_at(&tail[space..]) {
        Some(len) => &tail[..space + len],
        None => "",
    }
}

/// Renders the conversation and finds each assistant content and the end-of-turn token after it.
pub(super) fn locate(
    template: &ChatTemplate,
    layout: &Layout,
    messages: &[Message],
) -> Result<Rendered, TemplateError> {
    let text = template.render(messages, false)?;
    let marked = template.render_with(messages, false, |message| mark(message, layout))?;
    let turns = messages
        .iter()
        .filter(|message| message.is_assistant())
        .count();
    let spans = match markers::cut(&marked) {
        Some((same, spans)) if same == text && spans.len() == turns => spans,
        _ => compare(template, messages, &text)?,
    };
    let assistant = spans
        .into_iter()
        .map(|span| with_end(&text, span, &layout.end_of_turn))
        .collect();
    Ok(Rendered { text, assistant })
}

/// Puts markers around the part of an assistant's content that the template keeps.
fn mark(message: &Message, layout: &Layout) -> String {
    let content = message.content.as_str();
    if !message.is_assistant() {
        return content.to_owned();
    }
    let start = if layout.keeps_leading_space {
        0
    } else {
        content.len() - content.trim_start().len()
    };
    let end = if layout.keeps_trailing_space {
        content.len()
    } else {
        content.trim_end().len().max(start)
    };
    let (before, kept, after) = (&content[..start], &content[start..end], &content[end..]);
    format!("{before}{}{kept}{}{after}", markers::START, markers::END)
}

fn with_end(text: &str, span: Range<usize>, end_of_turn: &str) -> Range<usize> {
    if text[span.end..].starts_with(end_of_turn) {
        span.start..span.end + end_of_turn.len()
    } else {
        span
    }
}

/// An assistant turn is what the conversation up to it has more than the prompt in front of it.
fn compare(
    template: &ChatTemplate,
    messages: &[Message],
    text: &str,
) -> Result<Vec<Range<usize>>, TemplateError> {
    let turns = messages
        .iter()
        .enumerate()
        .filter(|(_, message)| message.is_assistant());
    let mut spans = Vec::new();
    for (index, message) in turns {
        let prompt = template.render(&messages[..index], true)?;
        let visible = message.content.trim();
        let after_prompt = text
            .strip_prefix(prompt.as_str())
            .ok_or(TemplateError::Unlocatable)?;
        // Reasoning that the template removed is not in the text; the rest of the content is, up to its end.
        let kept = longest_kept_suffix(visible, after_prompt).ok_or(TemplateError::Unlocatable)?;
        spans.push(prompt.len()..prompt.len() + kept);
    }
    Ok(spans)
}

/// Where in `after_prompt` the last paragraph of `content` ends, if it is there.
fn longest_kept_suffix(content: &str, after_prompt: &str) -> Option<usize> {
    let last = content
        .rsplit("\n\n")
        .next()
        .filter(|last| !last.is_empty())?;
    after_prompt.find(last).map(|at| at + last.len())
}
