//! Variables as docker compose has them: `.env` files, and `${NAME}` in texts.

use std::collections::BTreeMap;

/// `NAME=VALUE`, a line each; empty lines and those that begin with # are comments, as is what follows a value. A name without a value is
/// passed over, as docker does. What stands in quotes may have several lines; in double quotes a backslash is an escape, and there and
/// without quotes variables are replaced: by what the file says before, or from outside.
///
/// # Errors
/// The line of a quote that is not closed.
pub(super) fn lines_of(
    text: &str,
    outside: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut variables = BTreeMap::new();
    // Some editors begin a file with a mark of its encoding.
    let (mut rest, mut number) = (text.trim_start_matches('\u{feff}'), 1);
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let whole = line.trim();
        let named = whole.strip_prefix("export ").unwrap_or(whole).split_once('=');
        let Some((name, _)) = named.filter(|_| !whole.starts_with('#')) else {
            (rest, number) = (after, number + 1);
            continue;
        };
        // The value begins on this line, and a quoted one may end on another.
        let begins = rest.find('=').map_or(rest.len(), |at| at + 1);
        let value = rest[begins..].trim_start_matches([' ', '\t']);
        let own = |name: &str| variables.get(name).cloned().or_else(|| outside(name));
        let plain = |text: &str| interpolated(text, &own, &|_| {}).unwrap_or_else(|_| text.to_owned());
        let (value, end) = match value.chars().next() {
            Some(quote @ ('\'' | '"')) => {
                let inner = &value[1..];
                let Some(end) = closing(inner, quote) else {
                    return Err(format!("line {number}: the {quote} after {}= is not closed", name.trim()));
                };
                let said = if quote == '"' { plain(&unescaped(&inner[..end])) } else { inner[..end].to_owned() };
                (said, &inner[end + 1..])
            }
            _ => {
                let own = value.split('\n').next().unwrap_or_default();
                let said = own.find(" #").map_or(own, |at| &own[..at]).trim();
                (plain(said), &value[own.len()..])
            }
        };
        variables.insert(name.trim().to_owned(), value);
        // What follows on the last line of it is a comment.
        let after = end.split_once('\n').map_or("", |(_, after)| after);
        number += rest[..rest.len() - after.len()].matches('\n').count();
        rest = after;
    }
    Ok(variables)
}

/// Where a quote is closed; in double quotes an escaped one closes nothing.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    for (at, char) in text.char_indices() {
        if is_escaped {
            is_escaped = false;
        } else if char == quote {
            return Some(at);
        } else {
            is_escaped = quote == '"' && char == '\\';
        }
    }
    None
}

/// The escapes of a text in double quotes; a dollar sign that is escaped is none of a variable's.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match (char, if char == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('r')) => out.push('\r'),
            ('\\', Some('t')) => out.push('\t'),
            ('\\', Some('$')) => out.push_str("$$"),
            ('\\', Some(other @ ('"' | '\\'))) => out.push(other),
            ('\\', Some(other)) => out.extend(['\\', other]),
            (char, _) => out.push(char),
        }
    }
    out
}

/// Whether a text has variables, whose values may be secrets.
pub(super) fn has_variables(text: &str) -> bool {
    text.replace("$$", "").contains('$')
}

/// `$NAME`, `${NAME}`, what is there instead (`:-`, `-`), besides (`:+`, `+`), or what is said without it (`:?`, `?`), and `$$` for a
/// dollar sign. One without a value is empty, as docker has it, and `lacking` is told of it.
pub(super) fn interpolated(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    lacking: &dyn Fn(&str),
) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let is_part = |char: char| char.is_ascii_alphanumeric() || char == '_';
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inner) = after.strip_prefix('{') {
            let (inner, after) = braced(inner).ok_or("`${` is not closed: write `$$` for a dollar sign")?;
            let end = inner.find(|char| !is_part(char)).unwrap_or(inner.len());
            let (name, how) = inner.split_at(end);
            out.push_str(&valued(name, how, variable, lacking)?);
            rest = after;
        } else {
            let end = after.find(|char| !is_part(char)).unwrap_or(after.len());
            let (name, after) = after.split_at(end);
            if name.is_empty() {
                return Err("a single `$`: write `$$` for a dollar sign".into());
            }
            out.push_str(&valued(name, "", variable, lacking)?);
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// What stands before the brace that closes, and after it.
fn braced(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0;
    for (at, char) in text.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => return Some((&text[..at], &text[at + 1..])),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn valued(
    name: &str,
    how: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    lacking: &dyn Fn(&str),
) -> Result<String, String> {
    let value = variable(name);
    // With a colon, an empty one is none.
    let (value, how) = match how.strip_prefix(':') {
        Some(how) => (value.filter(|value| !value.is_empty()), how),
        None => (value, how),
    };
    let mut signs = how.chars();
    match (signs.next(), signs.as_str(), value) {
        (None, _, None) => {
            lacking(name);
            Ok(String::new())
        }
        (None | Some('-' | '?'), _, Some(value)) => Ok(value),
        (Some('-'), other, None) | (Some('+'), other, Some(_)) => interpolated(other, variable, lacking),
        (Some('+'), _, None) => Ok(String::new()),
        (Some('?'), "", None) => Err(format!("`{name}` has no value: set it in .env")),
        (Some('?'), why, None) => Err(format!("`{name}` has no value: {why}")),
        (Some(_), ..) => Err(format!("`{how}` in `${{{name}{how}}}` is not supported here")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_as_docker_compose_does() {
        let variable = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("$A-${A}", Ok("a-a")),
            ("$$A", Ok("$A")),
            ("${B:-${C-http://z}}/x", Ok("http://z/x")),
            ("${EMPTY:-b}${EMPTY-b}", Ok("b")),
            ("${A:?set it}", Ok("a")),
            ("${B:?set it}", Err("`B` has no value: set it")),
            ("${A:+x}${B:+x}${EMPTY+y}", Ok("xy")),
            ("a${B}b$B", Ok("ab")),
            ("${A/a/b}", Err("`/a/b` in `${A/a/b}` is not supported here")),
            ("${A", Err("`${` is not closed: write `$$` for a dollar sign")),
        ] {
            let found = interpolated(text, &variable, &|_| {});
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{text}");
        }
        let read =
            lines_of("# c\nA=1 # one\nB=\"x # y\" # z\nexport C='$A'\nD=${A}/d\nBARE\n\nE=p#q\n", &variable).unwrap();
        let read: Vec<_> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(read, [("A", "1"), ("B", "x # y"), ("C", "$A"), ("D", "1/d"), ("E", "p#q")]);
    }

    #[test]
    fn quoted_values_have_escapes_and_lines_and_one_that_is_not_closed_is_named() {
        let outside = |name: &str| (name == "USER").then(|| "ada".to_owned());
        for (text, value) in [
            (r#"A="{\"a\": 1}""#, r#"{"a": 1}"#),
            (r#"A="-----BEGIN\nMII" # key"#, "-----BEGIN\nMII"),
            ("A=\"one\n# two\nthree\"\nB=2", "one\n# two\nthree"),
            ("A='one\n${USER}'", "one\n${USER}"),
            ("A=postgres://${USER}@db", "postgres://ada@db"),
            (r#"A="\$USER costs \\""#, "$USER costs \\"),
            ("A=", ""),
            ("A=\"\"", ""),
        ] {
            assert_eq!(lines_of(text, &outside).unwrap()["A"], value, "{text}");
        }
        assert_eq!(lines_of("\u{feff}A=1", &outside).unwrap()["A"], "1");
        let second = lines_of("A=\"one\ntwo\"\nB=2\n", &outside).unwrap();
        assert_eq!(second["B"], "2");
        let said = lines_of("A=\"x\ny\"\n\nB='open\n", &outside).unwrap_err();
        assert_eq!(said, "line 4: the ' after B= is not closed");
    }
}
