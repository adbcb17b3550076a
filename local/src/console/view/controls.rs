//! What a person can do: forms that work without a script, and by keyboard.

use maud::{Markup, html};

use super::pipeline::short;
use crate::console::address::Wanted;
use crate::console::look::pipeline::{Action, Approval, Pipeline, Release, Stage};
use crate::console::look::standing::Mark;
use crate::console::said::Said;

/// How long the run lasts that serves the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    /// Until its release is over: `release`.
    AsLongAsItsRelease,
    /// Until it is ended: `serve`.
    UntilEnded,
}

/// What every form carries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form<'a> {
    /// The page's own word: see the door.
    pub(crate) word: &'a str,
    pub(crate) wanted: &'a Wanted,
}

impl Form<'_> {
    /// A form that does this with these values.
    fn with(&self, does: &str, values: &[(&str, &Said)], inner: &Markup) -> Markup {
        html! {
            form method="post" action={ "./do/" (does) } {
                input type="hidden" name="word" value=(self.word);
                @if let Some(release) = &self.wanted.release { input type="hidden" name="view" value=(Said::from(release.as_str())); }
                @for (name, value) in values { input type="hidden" name=(name) value=(value); }
                (inner)
            }
        }
    }
}

/// Starting a release and stopping this one.
pub(crate) fn controls(pipeline: &Pipeline, form: Form<'_>, lasts: Lasts) -> Markup {
    let under_way = pipeline.shown.as_ref().filter(|release| !release.is_over());
    html! {
        div #controls.controls {
            @if let Some(release) = under_way { (stop(release, form)) }
            @match lasts {
                Lasts::UntilEnded => (start(pipeline, form)),
                Lasts::AsLongAsItsRelease => p.note { "This run ends with its release; " code { "release --stay" } " and " code { "serve" } " stay for more." },
            }
        }
    }
}

fn start(pipeline: &Pipeline, form: Form<'_>) -> Markup {
    // As the template calls the pipeline that goes back.
    let (what, tells) = match pipeline.name.raw().ends_with("-rollback") {
        true => ("a way back", "It leads to the release before the one that runs, and asks for its approval."),
        false => ("a release", "The application's folder, as it is now, goes through the whole pipeline."),
    };
    let inner = html! {
        p { (tells) }
        button { "Start" span.hidden { " " (what) } }
    };
    html! {
        details #start open[pipeline.shown.is_none()] {
            summary { "Start " (what) }
            (form.with("start", &[], &inner))
        }
    }
}

fn stop(release: &Release, form: Form<'_>) -> Markup {
    let is_stopping = release.standing.word.raw() == "Stopping";
    let inner = html! {
        fieldset {
            legend { "Stop release " code { (short(&release.id)) } }
            @if !is_stopping {
                label { input type="radio" name="abandon" value="no" checked;
                    span { strong { "Stop and wait. " } "The actions that are under way run to their end; none begins after them." } }
            }
            label { input type="radio" name="abandon" value="yes" checked[is_stopping];
                span { strong { "Stop and abandon. " } "Tasks are stopped now, and deployments under way are rolled back." } }
        }
        label.wide { "Reason" input name="reason" maxlength="200" autocomplete="off"; }
        button.bad { "Stop" span.hidden { " the release" } }
    };
    html! {
        details #stop {
            summary { @if is_stopping { "Stopping; abandon …" } @else { "Stop …" } }
            (form.with("stop", &[("release", &release.id)], &inner))
        }
    }
}

/// The approvals that wait.
pub(crate) fn approvals(pipeline: &Pipeline, form: Form<'_>) -> Markup {
    let waiting = pipeline.stages.iter().flat_map(|stage| {
        stage.actions.iter().filter_map(move |action| Some((stage, action, action.approval.as_ref()?)))
    });
    html! {
        div #approvals { @for (stage, action, waits) in waiting { (approval(stage, action, waits, form)) } }
    }
}

fn approval(stage: &Stage, action: &Action, waits: &Approval, form: Form<'_>) -> Markup {
    let inner = html! {
        // Enter in the comment sends the form as its first button does: that is none.
        button type="submit" disabled hidden { "Enter sends nothing" }
        label.wide { "Comment" input name="summary" maxlength="512" autocomplete="off"; }
        div.buttons {
            button.good name="answer" value="Approved" { "Approve" }
            button.bad name="answer" value="Rejected" { "Reject" }
        }
    };
    let values = [("stage", &stage.name), ("action", &action.name), ("token", &waits.token)];
    html! {
        section.approval aria-labelledby={ "approval-" (waits.token) } {
            h2 id={ "approval-" (waits.token) } { (action.name) " waits for your answer" }
            @if waits.tells.is_empty() { p { "A person's approval is needed." } } @else { p.tells { (waits.tells) } }
            (form.with("approve", &values, &inner))
        }
    }
}

/// Retrying a stage that has failed or was stopped.
pub(crate) fn retry(stage: &Stage, release: &Said, form: Form<'_>) -> Markup {
    let inner = html! {
        div.buttons {
            @if stage.standing.mark == Mark::Bad { button name="all" value="no" { "Retry failed actions" } }
            @else { button name="all" value="no" { "Retry what is left" } }
            button name="all" value="yes" { "Retry all actions" }
        }
    };
    html! {
        div.retry role="group" aria-label={ "Retry " (stage.name) } {
            (form.with("retry", &[("release", release), ("stage", &stage.name)], &inner))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::look::standing::Standing;

    #[test]
    fn what_can_be_done_is_offered_and_nothing_else() {
        let release =
            |word: &str| Release { id: "0123456789".into(), standing: Standing::of(word), ..Release::default() };
        let wanted = Wanted::default();
        let form = Form { word: "w0rd", wanted: &wanted };
        let none = Pipeline::default();
        let with = |word: &str| Pipeline { shown: Some(release(word)), ..Pipeline::default() };
        for (pipeline, lasts, shown, hidden) in [
            (&none, Lasts::UntilEnded, "<details id=\"start\" open>", "do/stop"),
            (&with("InProgress"), Lasts::UntilEnded, "value=\"no\" checked>", "id=\"start\" open"),
            (&with("InProgress"), Lasts::AsLongAsItsRelease, "action=\"./do/stop\"", "do/start"),
            (&with("Stopping"), Lasts::UntilEnded, "value=\"yes\" checked>", "Stop and wait"),
            (&with("Succeeded"), Lasts::UntilEnded, "do/start", "do/stop"),
            (&with("Failed"), Lasts::AsLongAsItsRelease, "This run ends with its release", "<form"),
        ] {
            let html = controls(pipeline, form, lasts).into_string();
            assert!(html.contains(shown), "{shown}\n{html}");
            assert!(!html.contains(hidden), "not {hidden}\n{html}");
            assert_eq!(html.matches("<form").count(), html.matches("name=\"word\" value=\"w0rd\"").count());
        }
    }

    #[test]
    fn an_approval_is_asked_for_with_what_it_tells_as_text() {
        let tells = "Commit \"><script>x</script>: migrate".into();
        let approval = Some(Approval { token: "t".into(), tells });
        let action = Action { name: "Approve".into(), approval, ..Action::default() };
        let stage = Stage { name: "Approve".into(), actions: vec![action, Action::default()], ..Stage::default() };
        let pipeline = Pipeline { stages: vec![stage], ..Pipeline::default() };
        let wanted = Wanted { release: Some("r".into()), environment: None };
        let html = approvals(&pipeline, Form { word: "w", wanted: &wanted }).into_string();
        assert!(html.contains("Commit &quot;&gt;&lt;script&gt;x&lt;/script&gt;: migrate"), "{html}");
        assert_eq!(html.matches("<section").count(), 1, "{html}");
        for value in ["name=\"token\" value=\"t\"", "name=\"view\" value=\"r\"", "name=\"stage\" value=\"Approve\""] {
            assert!(html.contains(value), "{value}\n{html}");
        }
    }
}
