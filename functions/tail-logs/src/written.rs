//! How the state is written into the token, which has 2,048 characters (fact 5) for the positions of as many containers
//! as one action follows.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_smithy_types::base64;
use serde::{Deserialize, Serialize};
use shared::Time;

use crate::lines::{Key, Position, State};

/// The state in the token.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Written {
    #[serde(rename = "s")]
    positions: Positions,
    #[serde(rename = "f")]
    floor: Time,
    #[serde(rename = "n")]
    at_floor: usize,
    #[serde(rename = "r", skip_serializing_if = "Option::is_none")]
    unsure_from: Option<(Time, usize)>,
}

/// How positions have been written.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Positions {
    /// In the beginning: an object, by the first six digits of the task and the container's place.
    Named(BTreeMap<String, (u64, u32, u64)>),
    /// Packed, in base 64.
    Packed(String),
}

impl Default for Positions {
    fn default() -> Self {
        Self::Packed(String::new())
    }
}

/// The bytes of a packed position: key, milliseconds before the floor, lines of that moment, lines.
const PACKED: usize = 4 + 4 + 2 + 3;

/// Stands for "nothing was read" where the milliseconds before the floor are: they reach back for 49 days.
const NEVER: u32 = u32::MAX;

impl From<State> for Written {
    fn from(state: State) -> Self {
        let mut bytes = Vec::with_capacity(state.positions.len() * PACKED);
        for (key, position) in state.positions {
            let before = match position.at == Time::default() {
                true => NEVER,
                false => u32::try_from(state.floor.since(position.at).as_millis()).unwrap_or(NEVER),
            };
            bytes.extend(key.0.to_be_bytes());
            bytes.extend(before.to_be_bytes());
            bytes.extend(u16::try_from(position.of_that_moment).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend(&position.lines.min(0xff_ffff).to_be_bytes()[5..]);
        }
        Self {
            positions: Positions::Packed(base64::encode(bytes)),
            floor: state.floor,
            at_floor: state.at_floor,
            unsure_from: state.unsure_from,
        }
    }
}

impl TryFrom<Written> for State {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let positions = match written.positions {
            Positions::Named(all) => all.into_iter().map(named).collect(),
            Positions::Packed(text) => {
                let bytes = base64::decode(text).map_err(|error| error.to_string())?;
                bytes.chunks_exact(PACKED).map(|one| packed(one, written.floor)).collect()
            }
        };
        let Written { floor, at_floor, unsure_from, .. } = written;
        Ok(Self { positions, floor, at_floor, unsure_from })
    }
}

fn named((name, (at, of_that_moment, lines)): (String, (u64, u32, u64))) -> (Key, Position) {
    let container = name.get(6..).and_then(|place| place.parse().ok()).unwrap_or_default();
    (Key::new(&name, container), Position { at: Time::from_millis(at), of_that_moment, lines })
}

fn packed(bytes: &[u8], floor: Time) -> (Key, Position) {
    let number = |bytes: &[u8]| bytes.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    let at = match number(&bytes[4..8]) {
        NEVER => Time::default(),
        before => floor.before(Duration::from_millis(before.into())),
    };
    let lines = u64::from(number(&bytes[10..]));
    (Key(number(&bytes[..4])), Position { at, of_that_moment: number(&bytes[8..10]), lines })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::MOST_CONTAINERS;

    #[test]
    fn the_positions_of_as_many_containers_as_are_followed_fit_the_token() {
        let mut state = State { floor: Time::from_millis(1_700_000_000_000), at_floor: 10_000, ..State::default() };
        state.unsure_from = Some((state.floor, 10_000));
        for n in 0..MOST_CONTAINERS {
            let key = Key::new(&format!("{:06x}", n / 2 * 7919), n % 2);
            let at = if n == 3 { Time::default() } else { Time::from_millis(1_700_000_000_000 - n as u64) };
            state.positions.insert(key, Position { at, of_that_moment: 60_000, lines: 16_000_000 });
        }
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
        let mut envelope = shared::token::Envelope::<State>::first("5a1f3c9e-0000-4000-8000-0123456789ab", state.floor);
        envelope.tries = Some(shared::token::Tries {
            attempt: 99,
            before: Some(state.floor),
            started: Some(state.floor),
            given_up: true,
        });
        envelope.date(state.floor);
        envelope.state = state;
        envelope.seal().unwrap();
    }

    #[test]
    fn a_state_that_version_1_wrote_is_read() {
        for text in [
            r#"{"s":{"6f1ed01":[1700000000000,2,17]},"f":1700000000000,"n":1}"#,
            r#"{"s":"bx7QAQAAAAAAAgAAEQ==","f":1700000000000,"n":1}"#,
        ] {
            let state: State = serde_json::from_str(text).unwrap();
            let position = Position { at: Time::from_millis(1_700_000_000_000), of_that_moment: 2, lines: 17 };
            assert_eq!(state.positions, BTreeMap::from([(Key::new("6f1ed0aa", 1), position)]), "{text}");
        }
    }
}
