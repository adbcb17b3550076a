//! Going back, the quick way where it is open, and saying which.
//!
//! Invariant: once it was begun it is gone to its end, also when the release is stopped: half of it would be traffic on two versions. When
//! the stage is tried again, that run does so, unless another release has deployed since.

use shared::targets::Act;
use shared::targets::quick::{Decision, mark};
use shared::{Error, Next, Tick};
use tracing::info;

use crate::decide::{LOOK, State, Way};
use crate::memory::Memory;
use crate::message;
use crate::plan::may;
use crate::workers::Standing;

/// Goes the quick way as far as it goes; `None` when there is nothing more to do for it, and the rest is to be deployed.
pub(crate) async fn go(tick: &Tick<'_>, state: &mut State, memory: &mut Memory) -> Result<Option<Next>, Error> {
    let Some(quick) = memory.quick.as_mut().filter(|_| !memory.is_back) else { return Ok(None) };
    let begun = match state.way {
        Way::Open => None,
        Way::Quick => Some(*state.quick_since.get_or_insert(tick.now)),
        Way::Deployment(_) => return Ok(None),
    };
    let decision = quick.look(tick.aws, tick.now, begun, tick.now.since(tick.begun)).await?;
    let gives_up = tick.halted || state.giving_up.is_some();
    // The function that has begun it may have died before it could say so, and what was stopped may have been stopped by somebody else.
    let (is_unseen, seems_begun) = (decision == Decision::Look, quick.is_begun(tick.now));
    let may_be = begun.is_none() && (seems_begun || (gives_up && is_unseen));
    let is_marked = may_be && mark::is_there(tick.aws, &tick.release.execution).await?;
    let (begun, decision) = match begun {
        None if is_marked && seems_begun => {
            let since = *state.quick_since.get_or_insert(tick.now);
            (true, quick.go_on(tick.now, since))
        }
        begun => (begun.is_some(), decision),
    };
    if state.way == Way::Open && begun && !gives_up {
        // An earlier try may have begun it, and another release have deployed since.
        if let Some(next) = memory.take_turn(tick).await? {
            return Ok(Some(next));
        }
        if let Some(why) = memory.quick.as_ref().and_then(message::deployed_since) {
            return close(why, tick, state, memory).await;
        }
    }
    match decision {
        _ if gives_up && !begun && !(is_marked && is_unseen) => Ok(None),
        _ if tick.taken_over => Ok(Some(Next::Fail(message::taken_over()))),
        Decision::Look => Ok(Some(Next::Wait(LOOK, message::looks_for_the_quick_way(tick)))),
        Decision::Closed(why) => close(why, tick, state, memory).await,
        Decision::Go(acts) => {
            if !begun {
                if let Some(next) = memory.take_turn(tick).await? {
                    return Ok(Some(next));
                }
                memory.workers.look(tick, false).await;
                match memory.workers.standing(tick) {
                    Standing::Ready | Standing::Released => {}
                    // The action's own verdict tells of it.
                    Standing::Broken { .. } => return Ok(None),
                    Standing::Preparing => return Ok(Some(Next::Wait(LOOK, message::looks_for_the_quick_way(tick)))),
                }
                if !tick.goes_on().await? {
                    return Ok(Some(Next::Wait(LOOK, message::looks_for_the_quick_way(tick))));
                }
            }
            let Some(quick) = &mut memory.quick else { return Ok(None) };
            if state.way != Way::Quick {
                mark::write(tick.aws, &tick.release.execution).await?;
                state.way = Way::Quick;
                state.quick_since = Some(tick.now);
                memory.plan.leave_to_the_quick_way();
                for line in message::goes_quickly(quick) {
                    memory.journal.say(tick.now, line);
                }
            }
            // What is deployed in place of a stop would run over a retry.
            let (back, stops): (Vec<_>, Vec<_>) = acts.into_iter().partition(|act| matches!(act, Act::Back { .. }));
            let may = async |act: &Act| may(tick, act, !begun).await;
            quick.act(&stops, tick.now, &may).await;
            if !back.is_empty() && tick.takes_back().await? {
                quick.act(&back, tick.now, &may).await;
            }
            Ok(Some(Next::Wait(LOOK, message::quickly(tick, quick))))
        }
        Decision::Back => {
            // What an invocation or a try before this one has begun is over by now.
            if state.way != Way::Quick {
                mark::write(tick.aws, &tick.release.execution).await?;
                state.way = Way::Quick;
                memory.plan.leave_to_the_quick_way();
            }
            let Some(quick) = &memory.quick else { return Ok(None) };
            for line in message::went_quickly(quick) {
                memory.journal.say(tick.now, line);
            }
            memory.is_back = true;
            let after = tick.now.since(tick.begun).as_secs();
            state.back_after.get_or_insert(u32::try_from(after).unwrap_or(u32::MAX));
            Ok(None)
        }
        Decision::Stuck(why) => {
            let Some(quick) = &memory.quick else { return Ok(None) };
            Ok(Some(Next::Fail(message::stuck_quickly(quick, &why))))
        }
    }
}

/// The rest is to be deployed, web services too.
async fn close(why: String, tick: &Tick<'_>, state: &mut State, memory: &mut Memory) -> Result<Option<Next>, Error> {
    // An earlier try may have gone it: what this one deploys is taken back like anything else.
    mark::leave(tick.aws, &tick.release.execution).await?;
    info!(why, "the quick way is closed");
    memory.journal.say(tick.now, message::closed(&why));
    state.way = Way::Deployment(why);
    Ok(None)
}
