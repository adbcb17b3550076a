//! Variables as docker compose has them: `.env` files, and `${NAME}` in texts.

use std::collections::BTreeMap;

/// `NAME=VALUE`, a line each; empty lines and those that begin with # are comments, as is what follows a value. A name without a value is
/// passed over, as docker does.
pub(super) fn lines_of(text: &str) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=') else { continue };
        let value = value.trim();
        let quoted = |quote: char| value.strip_prefix(quote)?.split_once(quote).map(|(inner, _)| inner.to_owned());
        let own = |name: &str| variables.get(name).cloned();
        let plain = |text: &str| interpolated(text, &own).unwrap_or_else(|_| text.to_owned());
        let value = match (quoted('\''), quoted('"')) {
            (Some(inner), _) => inner,
            (None, Some(inner)) => plain(&inner),
            (None, None) => plain(value.split_once(" #").map_or(value, |(value, _)| value.trim_end())),
        };
        variables.insert(name.trim().to_owned(), value);
    }
    variables
}

/// Whether a text has variables, whose values may be secrets.
pub(super) fn has_variables(text: &str) -> bool {
    text.replace("$$", "").contains('$')
}

/// `$NAME`, `${NAME}`, what is there instead (`:-`, `-`), besides (`:+`, `+`), or what is said without it (`:?`, `?`), and `$$` for a
/// dollar sign.
pub(super) fn interpolated(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
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
            out.push_str(&valued(name, how, variable)?);
            rest = after;
        } else {
            let end = after.find(|char| !is_part(char)).unwrap_or(after.len());
            let (name, after) = after.split_at(end);
            if name.is_empty() {
                return Err("a single `$`: write `$$` for a dollar sign".into());
            }
            let missing = || format!("`{name}` has no value: set it in .env, or write `$$` for a dollar sign");
            out.push_str(&variable(name).ok_or_else(missing)?);
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

fn valued(name: &str, how: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let value = variable(name);
    // With a colon, an empty one is none.
    let (value, how) = match how.strip_prefix(':') {
        Some(how) => (value.filter(|value| !value.is_empty()), how),
        None => (value, how),
    };
    let mut signs = how.chars();
    match (signs.next(), signs.as_str(), value) {
        (None, _, None) => Err(format!("`{name}` has no value: set it in .env, or write `${{{name}:-value}}`")),
        (None | Some('-' | '?'), _, Some(value)) => Ok(value),
        (Some('-'), other, None) | (Some('+'), other, Some(_)) => interpolated(other, variable),
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
            ("${A/a/b}", Err("`/a/b` in `${A/a/b}` is not supported here")),
            ("${A", Err("`${` is not closed: write `$$` for a dollar sign")),
        ] {
            let found = interpolated(text, &variable);
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{text}");
        }
        let read = lines_of("# c\nA=1 # one\nB=\"x # y\" # z\nexport C='$A'\nD=${A}/d\nBARE\n\nE=p#q\n");
        let read: Vec<_> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(read, [("A", "1"), ("B", "x # y"), ("C", "$A"), ("D", "1/d"), ("E", "p#q")]);
    }
}
