//! The addresses of the console's own pages, and the links to anywhere else.
//!
//! Invariant: everything that stands in an `href` is written here.

pub(super) use shared::text::encoded;

/// What a page is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The release; the one that needs somebody unless given.
    pub(crate) release: Option<String>,
    /// The environment whose lines are shown; all unless given.
    pub(crate) environment: Option<String>,
}

impl Wanted {
    /// `./` and the query, for `below` beneath the console's folder.
    pub(crate) fn link(&self, below: &str) -> String {
        let pairs = [("release", &self.release), ("environment", &self.environment)];
        let pairs =
            pairs.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_deref()?))));
        let query: Vec<_> = pairs.collect();
        match query.as_slice() {
            [] => format!("./{below}"),
            _ => format!("./{below}?{}", query.join("&")),
        }
    }

    /// The same of another environment.
    pub(crate) fn in_environment(&self, environment: Option<&str>) -> Self {
        Self { environment: environment.map(str::to_owned), ..self.clone() }
    }
}

/// An address that others gave, when it is one that a link may lead to: the web, and nothing that runs or stays here.
pub(crate) fn outside(address: &str) -> Option<&str> {
    let is_clean = address.bytes().all(|byte| byte.is_ascii_graphic());
    (address.starts_with("https://") && is_clean).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_others_leads_to_the_web_or_nowhere() {
        for (address, is_one) in [
            ("https://eu-west-1.console.aws.amazon.com/x#y", true),
            ("http://127.0.0.1/", false),
            ("javascript:alert(1)", false),
            ("https://x y", false),
            ("//evil.example", false),
            ("data:text/html,x", false),
        ] {
            assert_eq!(outside(address).is_some(), is_one, "{address}");
        }
    }

    #[test]
    fn what_is_wanted_stands_in_the_query_and_cannot_leave_it() {
        let wanted = Wanted { release: Some("a&b=c#d".into()), environment: Some("eu".into()) };
        assert_eq!(wanted.link(""), "./?release=a%26b%3Dc%23d&environment=eu");
        assert_eq!(wanted.in_environment(None).link("events"), "./events?release=a%26b%3Dc%23d");
        assert_eq!(Wanted::default().link(""), "./");
    }
}
