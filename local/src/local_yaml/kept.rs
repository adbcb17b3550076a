//! Files in which an application itself keeps what outlives a release, such as a SQLite database: a path of its image is another file in
//! each copy that a release runs in.

/// How such addresses begin, the longest first.
const ADDRESSES: [&str; 6] = ["sqlite3:///", "sqlite:///", "sqlite3://", "sqlite://", "sqlite:", "file:"];

/// How the names of such files end.
const ENDS: [&str; 4] = [".db", ".db3", ".sqlite", ".sqlite3"];

/// A variable's value that names such a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Database<'a> {
    before: &'a str,
    path: &'a str,
    after: &'a str,
}

impl<'a> Database<'a> {
    /// That of a value, if it names one.
    pub(crate) fn of(value: &'a str) -> Option<Self> {
        let before = ADDRESSES.into_iter().find(|begin| value.starts_with(begin)).unwrap_or_default();
        let rest = &value[before.len()..];
        let (path, after) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
        let is_file = ENDS.iter().any(|end| path.len() > end.len() && path.to_lowercase().ends_with(end));
        let is_path = !path.contains(char::is_whitespace) && !path.contains("://") && !path.contains('{');
        (is_file && is_path).then_some(Self { before, path, after })
    }

    /// Whether it is a path of the folder that a container runs in.
    pub(crate) fn is_of_the_image(&self) -> bool {
        !self.path.starts_with('/')
    }

    /// The same value with a file that stays, one for each environment.
    pub(crate) fn kept(&self) -> String {
        let name = self.path.rsplit('/').next().unwrap_or(self.path);
        format!("{}{{state}}/{{environment}}/{name}{}", self.before, self.after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_outlives_a_release_is_known_by_its_name() {
        for (value, kept) in [
            ("./data/tickets.db", Some("{state}/{environment}/tickets.db")),
            ("/app/data/shop.sqlite3", Some("{state}/{environment}/shop.sqlite3")),
            ("sqlite:///blog.db?mode=rwc", Some("sqlite:///{state}/{environment}/blog.db?mode=rwc")),
            ("file:dev.db", Some("file:{state}/{environment}/dev.db")),
            ("postgres://db/shop", None),
            ("http://example.com/x.db", None),
            ("{state}/{environment}/x.db", None),
            ("a word and x.db", None),
            (".db", None),
            ("production", None),
        ] {
            assert_eq!(Database::of(value).map(|one| one.kept()).as_deref(), kept, "{value}");
        }
        assert!(Database::of("data/x.db").is_some_and(|one| one.is_of_the_image()));
        assert!(Database::of("/data/x.db").is_some_and(|one| !one.is_of_the_image()));
    }
}
