//! The workers, and whether one is busy.

use maud::{Markup, html};

use super::{clock, pill, took, trouble};
use crate::console::aws::Refused;
use crate::console::look::workers::{Work, Worker};

/// The part of the page that shows them.
pub(crate) fn workers(workers: &Result<Vec<Worker>, Refused>) -> Markup {
    html! {
        div #workers-list {
            @match workers {
                Err(refused) => (trouble(refused)),
                Ok(workers) if workers.is_empty() => p.none { "No worker runs." },
                Ok(workers) => ul.cards { @for worker in workers { li { (one(worker)) } } },
            }
        }
    }
}

fn one(worker: &Worker) -> Markup {
    html! {
        div.head { h3 { (worker.environment) " " (worker.name) } (pill(&worker.standing, "")) }
        p {
            strong { (worker.tag.cut(20)) }
            @if !worker.task.is_empty() { ", task " code title=(worker.task) { (super::pipeline::short(&worker.task)) } }
            @if let Some(began) = worker.began { ", " (took(began, None)) }
        }
        p { @match &worker.work {
            Work::Protected(until) => { "Busy: it protects itself until " (clock(*until)) },
            Work::Job { id, since } => { "Works on job " code { (id.cut(40)) } " since " (clock(*since)) },
            Work::None => "Not busy, as far as anybody but itself knows",
        } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::Time;

    #[test]
    fn a_worker_says_whether_it_is_busy() {
        let idle = Worker { environment: "us".into(), name: "worker".into(), ..Worker::default() };
        let at = Time::from_millis(1_700_000_000_000);
        let busy = Worker { work: Work::Protected(at), ..idle.clone() };
        let given = Worker { work: Work::Job { id: "<7>".into(), since: at }, ..idle.clone() };
        for (all, said) in [
            (Ok(vec![idle]), "Not busy"),
            (Ok(vec![busy]), "Busy: it protects itself until 22:13:20"),
            (Ok(vec![given]), "Works on job <code>&lt;7&gt;</code> since 22:13:20"),
            (Ok(vec![]), "No worker runs."),
            (Err(Refused { code: "X".into(), message: "<gone>".into() }), "could not be read: &lt;gone&gt;"),
        ] {
            let html = workers(&all).into_string();
            assert!(html.contains(said), "{said}\n{html}");
        }
    }
}
