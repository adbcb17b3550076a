//! Environments and services: versions, traffic, tasks, and the steps of their deployments.

use maud::{Markup, html};

use super::pill;
use crate::console::look::services::{Age, Deployment, Row, Version};
use crate::console::look::standing::Mark;

/// The body of the table. Roles are said, since a narrow page lays rows out as blocks.
pub(crate) fn rows(rows: &[Row]) -> Markup {
    html! {
        tbody #services-rows {
            @for row in rows { (one(row)) }
            @if rows.is_empty() { tr { td colspan="6" { "The manifest has no services." } } }
        }
    }
}

fn one(row: &Row) -> Markup {
    html! {
        tr role="row" {
            th scope="row" role="rowheader" { (row.environment) " " (row.service) br; span.region { (row.region) } }
            @if row.trouble.is_empty() {
                td role="cell" data-label="Version" { @for version in &row.versions { (told(version)) } }
                td role="cell" data-label="Traffic" { @for version in &row.versions { (traffic(version)) } }
                td role="cell" data-label="Tasks" { @for version in &row.versions { (tasks(version)) } }
                td role="cell" data-label="Deployed by" { (row.how) }
                td role="cell" data-label="Deployment" {
                    @match &row.deployment { Some(one) => (deployment(one, row)), None => span.none { "none yet" } }
                }
            } @else {
                td role="cell" colspan="5" { span.trouble { (row.trouble) } }
            }
        }
    }
}

fn told(version: &Version) -> Markup {
    let age = match version.age {
        Age::Only => "",
        Age::Old => "old",
        Age::New => "new",
    };
    html! {
        div.line.(if version.age == Age::New { "fresh" } else { "steady" }) {
            strong title=(version.image) { (version.tag.cut(20)) }
            @if !age.is_empty() { " " span.age { (age) } }
            " " span.definition { (version.definition) }
        }
    }
}

fn traffic(version: &Version) -> Markup {
    html! {
        div.line {
            @match version.traffic {
                Some(percent) => { progress max="100" value=(percent) aria-hidden="true" {} " " (percent) " %" },
                None => span.none { "none to share" },
            }
        }
    }
}

fn tasks(version: &Version) -> Markup {
    html! { div.line { (version.running) " of " (version.desired) } }
}

fn deployment(deployment: &Deployment, row: &Row) -> Markup {
    let done = deployment.steps.iter().filter(|step| step.standing.mark == Mark::Good).count();
    let current =
        deployment.steps.iter().find(|step| !matches!(step.standing.mark, Mark::Good | Mark::Open | Mark::Stopped));
    let is_over = !matches!(deployment.standing.mark, Mark::Runs | Mark::Asks);
    html! {
        details id={ "steps-" (row.environment) "-" (row.service) } {
            summary {
                (pill(&deployment.standing, "")) " "
                @match current {
                    Some(step) if !is_over => (step.name_spoken()),
                    // CodeDeploy's is under way for as long as the old tasks are kept (fact 29).
                    None if !is_over && done == deployment.steps.len() => "Traffic moved, old tasks kept",
                    _ => { (done) " of " (deployment.steps.len()) " steps" },
                }
                span.hidden { " of " (row.environment) " " (row.service) }
            }
            @if !deployment.reason.is_empty() { p { (deployment.reason) } }
            ol.steps {
                @for step in &deployment.steps {
                    li { (pill(&step.standing, "Not begun")) " " (step.name_spoken()) }
                }
            }
            p.id { code { (deployment.id) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::look::services::Step;
    use crate::console::look::standing::Standing;

    #[test]
    fn two_versions_stand_one_below_the_other_each_with_its_traffic_and_tasks() {
        let version = |age, tag: &str, traffic| Version {
            age,
            tag: tag.into(),
            running: 1,
            desired: 2,
            traffic,
            ..Version::default()
        };
        let steps = vec![
            Step { name: "BeforeInstall".into(), standing: Standing::of("Succeeded") },
            Step { name: "Install".into(), standing: Standing::of("InProgress") },
            Step { name: "AllowTraffic".into(), standing: Standing::of("Pending") },
        ];
        let under_way = Deployment { standing: Standing::of("InProgress"), steps, ..Deployment::default() };
        let row = Row {
            environment: "eu".into(),
            service: "web<".into(),
            versions: vec![version(Age::Old, "1.0", Some(90)), version(Age::New, "2.0", Some(10))],
            deployment: Some(under_way.clone()),
            ..Row::default()
        };
        let over = Row {
            versions: vec![version(Age::Only, "2.0", None)],
            deployment: Some(Deployment { standing: Standing::of("Succeeded"), ..under_way }),
            ..row.clone()
        };
        let sick = Row { trouble: "Cluster not found: <shop>".into(), ..row.clone() };
        for (row, shown) in [
            (
                &row,
                &[
                    "eu web&lt;",
                    "<strong title=\"\">1.0</strong> <span class=\"age\">old</span>",
                    "90 %",
                    "10 %",
                    "1 of 2",
                    "</span> Install<span",
                ][..],
            ),
            (&over, &["none to share", "1 of 3 steps"]),
            (&sick, &["colspan=\"5\"><span class=\"trouble\">Cluster not found: &lt;shop&gt;"]),
        ] {
            let html = rows(std::slice::from_ref(row)).into_string();
            for said in shown {
                assert!(html.contains(said), "{said}\n{html}");
            }
        }
        assert!(rows(&[]).into_string().contains("no services"));
    }
}
