//! The endpoints as one page of HTML, for people.
//!
//! SECURITY: it is served on the host of a registry, so it must be good for nothing else: no script, no form, nothing
//! from elsewhere, and no text of a request or a policy in it. The policy in its header says so to browsers.

use std::fmt::Write as _;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::code::Code;
use crate::http::ENDPOINTS;
use crate::http::body;
use crate::http::endpoint::Access;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::Operation;
use crate::http::endpoint::Place;
use crate::http::endpoint::Verb;
use crate::http::endpoint::shape::Member;
use crate::http::endpoint::shape::Shape;
use crate::http::openapi::document;
use crate::secret::sha256;

const STYLE: &str = include_str!("page.css");

/// The page.
#[derive(Debug)]
pub struct Page {
    /// Its text.
    pub html: String,
    /// Its digest.
    pub digest: [u8; 32],
    /// What browsers may do with it.
    pub security_policy: String,
}

static MADE: LazyLock<Page> = LazyLock::new(|| {
    let html = whole();
    let style = STANDARD.encode(sha256(STYLE.as_bytes()));
    let security_policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    Page { digest: sha256(html.as_bytes()), html, security_policy }
});

/// The page, made once.
pub fn get() -> &'static Page {
    &MADE
}

fn whole() -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>trustmint API</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<header>\n<h1>trustmint API</h1>\n<p>{}</p>\n<p>Version {}; the same for programs: <a \
         href=\"/openapi.json\">openapi.json</a>.</p>\n</header>\n",
        inline(document::ABOUT),
        env!("CARGO_PKG_VERSION"),
    );
    page.push_str("<nav aria-label=\"Endpoints\">\n");
    for access in Access::ALL {
        add(&mut page, format_args!("<p>{}</p>\n<ul>\n", access.title()));
        for (endpoint, operation) in operations(access) {
            let (id, method, path) = (operation.id, method(operation), escaped(&endpoint.shown_path()));
            add(&mut page, format_args!("<li><a href=\"#{id}\"><b>{method}</b> {path}</a></li>\n"));
        }
        page.push_str("</ul>\n");
    }
    page.push_str("<p><a href=\"#codes\">Failure codes</a></p>\n</nav>\n<main>\n");
    for access in Access::ALL {
        add(&mut page, format_args!("<h2>{}</h2>\n<p>{}</p>\n", access.title(), inline(access.credential())));
        for (endpoint, operation) in operations(access) {
            section(&mut page, endpoint, operation);
        }
    }
    failure_codes(&mut page);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn operations(access: Access) -> impl Iterator<Item = (&'static Endpoint, &'static Operation)> {
    let all = ENDPOINTS.iter().copied();
    let all = all.flat_map(|endpoint| endpoint.operations.iter().map(move |operation| (endpoint, operation)));
    all.filter(move |(_, operation)| operation.access == access)
}

fn method(operation: &Operation) -> &'static str {
    match operation.method {
        Verb::Get => "GET",
        Verb::Post => "POST",
        Verb::Put => "PUT",
        Verb::Delete => "DELETE",
        Verb::Any => "any method",
    }
}

fn section(page: &mut String, endpoint: &Endpoint, operation: &Operation) {
    let (id, method, path) = (operation.id, method(operation), escaped(&endpoint.shown_path()));
    add(page, format_args!("<section id=\"{id}\">\n<h3><b>{method}</b> <code>{path}</code></h3>\n"));
    let (summary, about) = (inline(operation.summary), inline(operation.about));
    add(page, format_args!("<p><strong>{summary}.</strong> {about}</p>\n"));
    if !operation.parameters.is_empty() {
        page.push_str("<h4>Parameters</h4>\n");
        let rows = operation.parameters.iter().map(|it| {
            let place = match it.place {
                Place::Query => "query",
                Place::Header => "header",
                Place::Path => "path",
            };
            [name(it.name, it.required), format!("{place}: {}", inline(&it.shape.words())), inline(it.about)]
        });
        table(page, ["name", "what it may be", "what it says"], rows);
    }
    if let Some(body) = &operation.body {
        let media = body.media.iter().map(|media| format!("<code>{media}</code>")).collect::<Vec<_>>().join(" or ");
        add(page, format_args!("<h4>Body</h4>\n<p>{media}, at most {} bytes.</p>\n", body::MAX_BODY));
        shape(page, &body.shape);
        example(page, body.example);
    }
    page.push_str("<h4>Answers</h4>\n");
    for answer in operation.answers {
        add(page, format_args!("<p><b>{}</b> {}</p>\n", answer.status.as_u16(), inline(answer.about)));
        for (header, about) in answer.headers {
            add(page, format_args!("<p><code>{header}</code>: {}</p>\n", inline(about)));
        }
        if let Some(content) = &answer.content {
            add(page, format_args!("<p><code>{}</code></p>\n", content.media));
            shape(page, &content.shape);
            if !matches!(content.shape, Shape::AnyObject | Shape::AnyText) {
                example(page, content.example);
            }
        }
    }
    let failures = document::by_status(endpoint, operation).into_iter().map(|(status, codes)| {
        let link = |code: &Code| format!("<a href=\"#code-{code}\"><code>{code}</code></a>");
        [format!("<b>{status}</b>"), codes.iter().map(link).collect::<Vec<_>>().join(", ")]
    });
    page.push_str("<details>\n<summary>Failures</summary>\n");
    table(page, ["status", "code"], failures);
    page.push_str("</details>\n</section>\n");
}

/// The members of an object, those of objects in it under their whole path.
fn shape(page: &mut String, shape: &Shape) {
    for (number, members) in shape.objects().into_iter().filter(|members| !members.is_empty()).enumerate() {
        if number > 0 {
            page.push_str("<p>or</p>\n");
        }
        let mut rows = Vec::new();
        member_rows(&mut rows, "", members);
        table(page, ["member", "what it may be", "what it says"], rows.into_iter());
    }
}

fn member_rows(rows: &mut Vec<[String; 3]>, prefix: &str, members: &[Member]) {
    for member in members {
        let path = format!("{prefix}{}", member.name);
        rows.push([name(&path, member.required), inline(&member.shape.words()), inline(member.about)]);
        let list = if let Shape::List(of) = member.shape { Some(of) } else { None };
        let prefix = if list.is_some() { format!("{path}[].") } else { format!("{path}.") };
        let of = list.unwrap_or(&member.shape);
        for inner in of.objects() {
            member_rows(rows, &prefix, inner);
        }
    }
}

fn failure_codes(page: &mut String) {
    page.push_str("<h2 id=\"codes\">Failure codes</h2>\n");
    page.push_str("<p>The same code is in the answer, the audit log and the metrics.</p>\n");
    let rows = Code::ALL.iter().map(|code| {
        let anchor = format!("<code id=\"code-{code}\">{code}</code>");
        [anchor, code.class().as_str().to_owned(), inline(code.mend())]
    });
    table(page, ["code", "class", "what to do"], rows);
}

fn name(name: &str, required: bool) -> String {
    let mark = if required { "" } else { " <i>optional</i>" };
    format!("<code>{}</code>{mark}", escaped(name))
}

fn example(page: &mut String, text: &str) {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let pretty = serde_json::to_string_pretty(&value).unwrap_or_default();
    add(page, format_args!("<pre>{}</pre>\n", escaped(&pretty)));
}

fn table<const N: usize>(page: &mut String, heads: [&str; N], rows: impl Iterator<Item = [String; N]>) {
    page.push_str("<div><table>\n<tr>");
    for head in heads {
        add(page, format_args!("<th>{head}</th>"));
    }
    page.push_str("</tr>\n");
    for row in rows {
        page.push_str("<tr>");
        for cell in row {
            add(page, format_args!("<td>{cell}</td>"));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
}

/// Text with code in backticks.
fn inline(text: &str) -> String {
    let mut html = String::new();
    for (number, part) in text.split('`').enumerate() {
        let (open, close) = if number % 2 == 1 { ("<code>", "</code>") } else { ("", "") };
        add(&mut html, format_args!("{open}{}{close}", escaped(part)));
    }
    html
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Writing into a string cannot fail.
fn add(page: &mut String, text: std::fmt::Arguments<'_>) {
    let _written = page.write_fmt(text);
}
