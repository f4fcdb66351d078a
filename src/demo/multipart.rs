//! `multipart/form-data` (RFC 7578) as publishing clients write it, and nothing else.
//!
//! SECURITY: two readers of one form that disagree on its fields let an upload be checked as one package and stored as
//! another. So there is one reading or none: no preamble, no escapes or unknown parameters in a disposition, no
//! repeated field where one is meant.

/// Longest boundary (RFC 2046 section 5.1.1).
const MAX_BOUNDARY: usize = 70;

/// One field of a form.
#[derive(Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name.
    pub name: &'a str,
    /// The name of the file that it is, if it is one.
    pub file_name: Option<&'a str>,
    /// Its bytes.
    pub content: &'a [u8],
}

/// A whole form, its fields in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Form<'a>(Vec<Field<'a>>);

impl<'a> Form<'a> {
    /// Reads a body with that boundary; `None` when it is not exactly a form.
    pub fn parse(boundary: &str, body: &'a [u8]) -> Option<Self> {
        if boundary.is_empty() || boundary.len() > MAX_BOUNDARY {
            return None;
        }
        let delimiter = format!("\r\n--{boundary}");
        let mut rest = body.strip_prefix(delimiter.as_bytes().get(2..)?)?;
        let mut fields = Vec::new();
        while let Some(part) = rest.strip_prefix(b"\r\n") {
            let (part, after) = split(part, delimiter.as_bytes())?;
            let (head, content) = split(part, b"\r\n\r\n")?;
            let (name, file_name) = disposition(std::str::from_utf8(head).ok()?)?;
            fields.push(Field { name, file_name, content });
            rest = after;
        }
        matches!(rest, b"--" | b"--\r\n").then_some(Self(fields))
    }

    /// The field of that name; `None` if there is none or more than one.
    pub fn field(&self, name: &str) -> Option<&Field<'a>> {
        let mut named = self.0.iter().filter(|field| field.name == name);
        named.next().filter(|_| named.next().is_none())
    }

    /// The text of the one field of that name that is not a file.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        let field = self.field(name).filter(|field| field.file_name.is_none())?;
        std::str::from_utf8(field.content).ok()
    }
}

/// What is before and after the first occurrence of a separator.
fn split<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((bytes.get(..at)?, bytes.get(at + separator.len()..)?))
}

/// Name and file name from a part's headers, which have one `Content-Disposition`.
fn disposition(head: &str) -> Option<(&str, Option<&str>)> {
    let mut values = head.split("\r\n").filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-disposition").then(|| value.trim())
    });
    let mut parameters = values.next().filter(|_| values.next().is_none())?.split(';').map(str::trim);
    let (mut name, mut file_name) = (None, None);
    if parameters.next() != Some("form-data") {
        return None;
    }
    for parameter in parameters {
        let (key, value) = parameter.split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"').filter(|text| !text.contains(['"', '\\']))?;
        let slot = match key {
            "name" => &mut name,
            "filename" => &mut file_name,
            _ => return None,
        };
        if slot.replace(value).is_some() {
            return None;
        }
    }
    Some((name?, file_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str = "--b\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nwidgets\r\n\
                        --b\r\nContent-Type: application/octet-stream\r\ncontent-disposition:form-data; \
                        name=\"content\"; filename=\"w.whl\"\r\n\r\nPK\r\n\r\n--c\r\n--b--\r\n";

    #[test]
    fn fields_and_files_are_read() {
        let form = Form::parse("b", FORM.as_bytes()).unwrap();
        assert_eq!(form.text("name"), Some("widgets"));
        let content = form.field("content").unwrap();
        assert_eq!((content.file_name, content.content), (Some("w.whl"), b"PK\r\n\r\n--c".as_slice()));
        assert_eq!(form.text("content"), None);
        assert_eq!(form.field("other"), None);
        assert_eq!(Form::parse("b", b"--b--"), Some(Form(vec![])));
    }

    #[test]
    fn a_repeated_field_is_no_field() {
        let twice =
            FORM.replacen("--b\r\n", "--b\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nx\r\n--b\r\n", 1);
        assert_eq!(Form::parse("b", twice.as_bytes()).unwrap().text("name"), None);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (what, from, to) in [
            ("a preamble", "--b\r\nContent-Disposition", "x\r\n--b\r\nContent-Disposition"),
            ("an epilogue", "--b--\r\n", "--b--\r\nx"),
            ("no end", "--b--\r\n", "--b\r\n"),
            ("a longer boundary", "\r\n--b\r\n", "\r\n--bb\r\n"),
            ("bare line feeds", "\r\n", "\n"),
            ("no disposition", "Content-Disposition", "Content-Other"),
            (
                "two dispositions",
                "Content-Type: application/octet-stream",
                "Content-Disposition: form-data; name=\"x\"",
            ),
            ("another disposition", "form-data", "attachment"),
            ("no name", " name=\"name\"", " filename=\"name\""),
            ("two names", "name=\"name\"", "name=\"name\"; name=\"other\""),
            ("two file names", "filename=\"w.whl\"", "filename=\"w.whl\"; filename=\"x.whl\""),
            ("an extended file name", "filename=\"w.whl\"", "filename=\"w.whl\"; filename*=utf-8''x.whl"),
            ("an unquoted name", "name=\"name\"", "name=name"),
            ("an escape", "w.whl", "w\\\".whl"),
            ("a semicolon", "w.whl", "w;.whl"),
        ] {
            let body = FORM.replacen(from, to, if from == "\r\n" { usize::MAX } else { 1 });
            assert_ne!(body, FORM, "{what}");
            assert_eq!(Form::parse("b", body.as_bytes()), None, "{what}");
        }
        assert_eq!(Form::parse("", b"----"), None);
        assert_eq!(Form::parse("c", FORM.as_bytes()), None);
        assert_eq!(Form::parse(&"b".repeat(71), format!("--{}--", "b".repeat(71)).as_bytes()), None);
    }
}
