//! Layouts, spans and the environment, on templates written for the purpose.

use super::*;

fn special_at(text: &str) -> Option<usize> {
    let specials = [
        "<|im_end|>",
        "<|eot_id|>",
        "</s>",
        "<s>",
        "<end_of_turn>",
        "<|im_start|>",
    ];
    specials
        .iter()
        .find(|special| text.starts_with(**special))
        .map(|special| special.len())
}

fn compile(source: &str) -> ChatTemplate {
    let tokens =
        [("bos_token", "<s>"), ("eos_token", "</s>")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    ChatTemplate::compile(source, &tokens.into(), &special_at).unwrap()
}

fn conversation() -> Vec<Message> {
    vec![
        Message::user("Hi"),
        Message::assistant("Hello!"),
        Message::user("Why?"),
        Message::assistant("So."),
    ]
}

fn spoken(rendered: &Rendered) -> Vec<&str> {
    rendered
        .assistant
        .iter()
        .map(|span| &rendered.text[span.clone()])
        .collect()
}

const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

#[test]
fn spans_of_an_unmarked_template_hold_content_and_end_of_turn_only() {
    let template = compile(CHATML);
    assert!(!template.is_marked());
    assert_eq!(template.end_of_turn(), "<|im_end|>");
    let rendered = template.render_with_spans(&conversation()).unwrap();
    assert_eq!(spoken(&rendered), ["Hello!<|im_end|>", "So.<|im_end|>"]);
}

#[test]
fn every_builtin_agrees_with_what_is_found_without_its_markers() {
    let mut messages = conversation();
    messages.insert(0, Message::system("Be brief."));
    messages[2].content = "  padded\n".to_owned();
    for builtin in BUILTINS {
        let marked = compile(builtin.source);
        let plain: String = [
            "{% generation %}",
            "{%- generation %}",
            "{% endgeneration %}",
        ]
        .iter()
        .fold(builtin.source.to_owned(), |source, tag| {
            source.replace(tag, if tag.contains('-') { "{#- -#}" } else { "" })
        });
        let unmarked = compile(&plain);
        assert!(!unmarked.is_marked(), "{}", builtin.name);
        let found = unmarked.render_with_spans(&messages).unwrap();
        let said = marked.render_with_spans(&messages).unwrap();
        assert!(marked.is_marked());
        assert_eq!(said, found, "{}", builtin.name);
        assert_eq!(said.assistant.len(), 2, "{}", builtin.name);
        assert!(!marked.end_of_turn().is_empty(), "{}", builtin.name);
        assert!(
            said.assistant
                .iter()
                .all(|span| said.text[span.clone()].ends_with(marked.end_of_turn()))
        );
    }
}

#[test]
fn trimming_and_keeping_templates_are_told_apart() {
    let content = "\n  x \n";
    let messages = [Message::user("q"), Message::assistant(content)];
    let keeping = compile(CHATML).render_with_spans(&messages).unwrap();
    assert_eq!(spoken(&keeping), ["\n  x \n<|im_end|>"]);
    let trimming = compile(&CHATML.replace("message['content']", "message['content'] | trim"));
    assert_eq!(
        spoken(&trimming.render_with_spans(&messages).unwrap()),
        ["x<|im_end|>"]
    );
}

#[test]
fn a_template_that_removes_reasoning_keeps_the_answer_supervised() {
    let source = CHATML.replace(
        "message['content'] +",
        "(message['content'].split('</think>')[-1].lstrip('\\n') if '</think>' in message['content'] else message['content']) +",
    );
    let messages = [
        Message::user("q"),
        Message::assistant("<think>hm</think>\n\nThe answer."),
    ];
    let rendered = compile(&source).render_with_spans(&messages).unwrap();
    assert_eq!(spoken(&rendered), ["The answer.<|im_end|>"]);
}

#[test]
fn a_template_without_end_of_turn_says_so() {
    let source = "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}";
    assert_eq!(compile(source).end_of_turn(), "");
}

#[test]
fn a_reserved_character_in_the_data_is_refused() {
    let messages = [Message::user("q"), Message::assistant("a\u{FDD0}b")];
    let error = compile(CHATML).render_with_spans(&messages).unwrap_err();
    assert!(matches!(error, TemplateError::ReservedCharacter));
}

#[test]
fn an_exception_of_the_template_is_the_error() {
    let builtin = builtin("gemma").unwrap();
    let messages = [Message::user("a"), Message::user("b")];
    let error = compile(builtin.source)
        .render_with_spans(&messages)
        .unwrap_err()
        .to_string();
    assert!(error.contains("roles must alternate"), "{error}");
}

#[test]
fn the_environment_is_the_one_of_hugging_face() {
    let render = |expression: &str| {
        let source =
            format!("{{{{ {expression} }}}}{{% if false %}}{{{{ messages }}}}{{% endif %}}");
        compile(&source)
            .render(&[Message::user("q")], false)
            .unwrap()
    };
    assert_eq!(
        render("{'a': [1, 2.0, none, true], 'b': \"<é'&>\"} | tojson"),
        r#"{"a": [1, 2.0, null, true], "b": "<é'&>"}"#
    );
    assert_eq!(
        render("{'a': [1], 'b': {}} | tojson(indent=2)"),
        "{\n  \"a\": [\n    1\n  ],\n  \"b\": {}\n}"
    );
    assert_eq!(
        render("{'b': 1, 'a': 2} | tojson(separators=(',', ':'), sort_keys=true)"),
        r#"{"a":2,"b":1}"#
    );
    assert_eq!(
        render("' x '.strip() + 'ab'.upper() + 'a-b'.split('-')[-1]"),
        "xABb"
    );
    assert_eq!(render("{'k': 'v'}.get('z', 'none')"), "none");
    assert_eq!(render("strftime_now('%d %b %Y')"), "26 Jul 2024");
    assert_eq!(render("namespace(x=3).x"), "3");
}

#[test]
fn blocks_are_trimmed_and_loops_controlled() {
    let source = "{% for m in messages %}\n    {% if loop.index0 == 1 %}\n        {% break %}\n    {% endif %}\n{{ m.role }}\n{% endfor %}\n";
    assert_eq!(
        compile(source).render(&conversation(), false).unwrap(),
        "user\n"
    );
}

#[test]
fn a_template_that_does_not_compile_says_where() {
    let error =
        ChatTemplate::compile("a\n{% if %}", &SpecialTokens::new(), &special_at).unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
}
