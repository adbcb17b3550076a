//! What is said when it was approved to go back, and something has happened since.

use shared::Verdict;

/// Another release has the traffic; an earlier try may have begun to go back before that.
pub(crate) fn overtaken(what: &str, is_begun: bool) -> Verdict {
    let more = if is_begun { "Nothing more" } else { "Nothing" };
    Verdict::misconfigured(format!(
        "Another release has the traffic since this was approved: {what}. What lies between is not what was approved. {more} was begun. \
         Start the pipeline again, and look at what it says then."
    ))
}

/// What must not be gone back behind was begun.
pub(crate) fn barred(tasks: &[(String, String)]) -> Verdict {
    Verdict::misconfigured(format!(
        "There is no way back behind {}, which was begun since this was approved: deploy.yaml says `no_way_back`. Nothing was begun. Start \
         the pipeline again, and look at what it says then.",
        each(tasks)
    ))
}

/// What was begun may be such, and nobody can say.
pub(crate) fn unread(tasks: &[(String, String)]) -> Verdict {
    Verdict::misconfigured(format!(
        "Whether there is a way back behind {}, which was begun since this was approved, is not known, since its deploy.yaml cannot be read. \
         Nothing was begun. Start the pipeline again, and look at what it says then.",
        each(tasks)
    ))
}

/// What else was begun, for the release's log.
pub(crate) fn begun_since(tasks: &[(String, String)]) -> Option<String> {
    let is_any = !tasks.is_empty();
    is_any.then(|| format!("BEGUN SINCE THE APPROVAL, AND NOT UNDONE: {}", each(tasks)))
}

/// "`migrate` (4f2a9c1 Sell teapots, which goes on)".
fn each(tasks: &[(String, String)]) -> String {
    let each: Vec<_> = tasks.iter().map(|(task, release)| format!("`{task}` ({release})")).collect();
    each.join(", ")
}
