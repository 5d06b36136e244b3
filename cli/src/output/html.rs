//! A page that needs nothing around it: no network, no script, readable in light and dark.

/// Blue for what was measured and red for what went wrong, which differ in shape too, so that colour alone tells nothing.
const STYLE: &str = ":root{color-scheme:light dark;--text:#1c1e21;--soft:#555;--back:#fff;--grid:#e3e5e8;--line:#1f6feb;\
--warn:#b3261e;--band:#f3f5f8}\
@media(prefers-color-scheme:dark){:root{--text:#e6e6e6;--soft:#a0a4aa;--back:#16181b;--grid:#33373d;--line:#6ea8fe;\
--warn:#ff8a80;--band:#1f2226}}\
body{font:15px/1.5 system-ui,sans-serif;max-width:1360px;margin:2em auto;padding:0 1em;color:var(--text);background:var(--back)}\
h1{font-size:1.4em}h2{font-size:1.15em;margin:1.6em 0 .4em}table{border-collapse:collapse;margin:1em 0}\
th{text-align:left;vertical-align:top;white-space:nowrap;font-weight:500;padding:.15em 2em .15em 0;color:var(--soft)}\
td{font-variant-numeric:tabular-nums;padding:.15em 2em .15em 0}\
main{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr));gap:1em 2em}figure{margin:0}\
.wide{grid-column:1/-1}figcaption{font-weight:600}figcaption small{font-weight:400;color:var(--soft);margin-left:.6em}\
svg{width:100%;height:auto}svg text{font-size:11px;fill:var(--soft)}.grid{stroke:var(--grid)}\
polyline{fill:none;stroke:var(--line);stroke-width:1.6}.dot{fill:var(--line)}\
.span{fill:var(--line);stroke:var(--back);opacity:.75}.span.even{opacity:.45}\
.incident line{stroke:var(--warn);stroke-dasharray:3 3}.incident circle{fill:var(--warn)}.samples{table-layout:fixed;width:100%}\
.samples td,.samples th{vertical-align:top;padding:.5em 1em .5em 0;border-top:1px solid var(--grid)}\
.samples td{white-space:pre-wrap;overflow-wrap:anywhere}";

/// A whole page. `title` is text, `body` is HTML.
pub(crate) fn page(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\n\
         <body><h1>{title}</h1>\n{body}</body></html>\n"
    )
}

/// Text as HTML holds it.
pub(crate) fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut html, c| {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            _ => html.push(c),
        }
        html
    })
}

/// Rows of a table, each a heading and text.
pub(crate) fn figures<N: AsRef<str>>(rows: &[(N, String)]) -> String {
    let rows: String = rows
        .iter()
        .map(|(name, value)| {
            format!(
                "<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n",
                escaped(name.as_ref()),
                escaped(value)
            )
        })
        .collect();
    format!("<table>\n{rows}</table>\n")
}

/// Reading pages back, for tests.
#[cfg(test)]
pub(crate) mod reading {
    /// Elements that have no end.
    const VOID: [&str; 2] = ["meta", "!doctype"];

    /// An element or a text of a page.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(crate) struct Node {
        /// Names of the elements that it lies in, the outermost first; its own last.
        pub(crate) path: Vec<String>,
        /// Attributes of an element as they are written; empty for a text.
        pub(crate) attributes: String,
        /// The text; empty for an element.
        pub(crate) text: String,
    }

    /// Every element and text, in order.
    ///
    /// # Panics
    /// An element does not end, or another one does.
    pub(crate) fn read(html: &str) -> Vec<Node> {
        let (mut nodes, mut path) = (Vec::new(), Vec::<String>::new());
        let mut rest = html;
        while let Some(at) = rest.find('<') {
            let text = rest[..at].trim();
            if !text.is_empty() {
                nodes.push(Node {
                    path: path.clone(),
                    attributes: String::new(),
                    text: text.to_owned(),
                });
            }
            let end = at + rest[at..].find('>').expect("a tag ends");
            let tag = &rest[at + 1..end];
            rest = &rest[end + 1..];
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(path.pop().as_deref(), Some(name), "in {path:?}");
                continue;
            }
            let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
            let name = name.trim_end_matches('/');
            path.push(name.to_owned());
            nodes.push(Node {
                path: path.clone(),
                attributes: attributes.to_owned(),
                text: String::new(),
            });
            if tag.ends_with('/') || VOID.contains(&name) {
                path.pop();
            }
        }
        assert!(path.is_empty(), "{path:?} does not end");
        nodes
    }
}
