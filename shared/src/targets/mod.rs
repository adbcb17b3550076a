//! The targets of a deployment: one service in one environment each, of whichever kind. What a kind is stands in a file of
//! its own ([`codedeploy`], [`ecs`]): how it is read, begun, continued, stopped, brought back. What a release does with
//! its targets does not stand here but in `deploy-services`; taking back ([`take_back`]) is shared with `halt-release`.
//!
//! Invariants: a deployment is begun only where none of this action was found; whoever knows the release and its manifest
//! finds everything again; what was seen of AWS is read into the same [`Phase`]s, whatever the kind.

mod act;
pub mod codedeploy;
pub mod dead;
pub mod ecs;
mod given_up;
mod look;
mod phase;
pub mod quick;
mod site;
mod standing;
mod target;
pub mod words;

pub use look::{look, look_before_begin};
pub use phase::{Act, Frees, Observed, Phase, take_back};
pub use site::{Busy, Moment, Of, Purpose, Site, Whose};
pub(crate) use target::deployed_by;
pub use target::{Kind, Target};
