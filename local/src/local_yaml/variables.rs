//! Variables as docker compose has them: `.env` files, and `${NAME}` in texts.

use std::collections::BTreeMap;

/// `NAME=VALUE`, a line each; empty lines and those that begin with # are comments.
pub(super) fn lines_of(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut variables = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=') else {
            return Err(format!("line {}: write it as NAME=VALUE", at + 1));
        };
        let value = value.trim();
        let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
        variables.insert(name.trim().to_owned(), quoted.unwrap_or(value).to_owned());
    }
    Ok(variables)
}

/// `$NAME`, `${NAME}`, `${NAME:-otherwise}`, `${NAME-otherwise}`, and `$$` for a dollar sign.
pub(super) fn interpolated(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let is_part = |char: char| char.is_ascii_alphanumeric() || char == '_';
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inner) = after.strip_prefix('{') {
            let (inner, after) = inner.split_once('}').ok_or("`${` is not closed: write `$$` for a dollar sign")?;
            let end = inner.find(|char| !is_part(char)).unwrap_or(inner.len());
            let (name, how) = inner.split_at(end);
            let value = variable(name);
            out.push_str(&match (value, how) {
                (Some(value), "") => value,
                (Some(value), how) if how.starts_with(":-") && !value.is_empty() => value,
                (_, how) if how.starts_with(":-") => how[2..].to_owned(),
                (Some(value), how) if how.starts_with('-') => value,
                (None, how) if how.starts_with('-') => how[1..].to_owned(),
                (None, "") => {
                    return Err(format!("`{name}` has no value: set it in .env, or write `${{{name}:-value}}`"));
                }
                (_, how) => return Err(format!("`{how}` in `${{{inner}}}` is not supported here")),
            });
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
