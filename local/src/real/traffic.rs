//! Load balancers: a port of this machine whose connections go to the tasks that have the traffic.
//!
//! Invariant: moving the traffic touches new connections only; those that are open stay where they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, TcpStream};

/// The ports, and where each goes.
#[derive(Default)]
pub(super) struct Traffic {
    ports: BTreeMap<u16, Arc<Mutex<Targets>>>,
}

/// The tasks behind a port, each with its weight and what it has been owed so far.
#[derive(Default)]
struct Targets(Vec<Target>);

struct Target {
    port: u16,
    weight: u32,
    owed: i64,
}

impl Traffic {
    /// Takes connections on a port from now on.
    pub(super) fn open(&mut self, port: u16, listener: TcpListener) {
        let targets = Arc::<Mutex<Targets>>::default();
        self.ports.insert(port, targets.clone());
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let target = next(&targets);
                tokio::spawn(async move {
                    // Without a target the connection closes, as a load balancer's would with a 503.
                    let Some(port) = target else { return };
                    if let Ok(task) = TcpStream::connect(("127.0.0.1", port)).await {
                        let (mut client, mut task) = (client, task);
                        drop(tokio::io::copy_bidirectional(&mut client, &mut task).await);
                    }
                });
            }
        });
    }

    /// Sends new connections to these ports from now on, each with its weight.
    pub(super) fn route(&self, port: u16, to: Vec<(u16, u32)>) {
        if let Some(targets) = self.ports.get(&port) {
            let to = to.into_iter().map(|(port, weight)| Target { port, weight, owed: 0 }).collect();
            *targets.lock().unwrap_or_else(PoisonError::into_inner) = Targets(to);
        }
    }
}

fn next(targets: &Mutex<Targets>) -> Option<u16> {
    targets.lock().unwrap_or_else(PoisonError::into_inner).next()
}

impl Targets {
    /// Whose turn it is: every turn, each is owed its weight, and whoever is owed most gets the connection and pays for all.
    /// So the shares are kept in any stretch of connections, and not only in the long run.
    fn next(&mut self) -> Option<u16> {
        let total: i64 = self.0.iter().map(|one| i64::from(one.weight)).sum();
        for one in &mut self.0 {
            one.owed += i64::from(one.weight);
        }
        let chosen = self.0.iter_mut().rev().max_by_key(|one| one.owed)?;
        chosen.owed -= total;
        Some(chosen.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(weights: &[u32], connections: usize) -> Vec<usize> {
        let ports = weights.iter().enumerate();
        let ports = ports.map(|(at, weight)| Target { port: u16::try_from(at).unwrap(), weight: *weight, owed: 0 });
        let mut targets = Targets(ports.collect());
        let mut got = vec![0; weights.len()];
        for _ in 0..connections {
            got[usize::from(targets.next().unwrap())] += 1;
        }
        got
    }

    #[test]
    fn a_canary_of_ten_percent_gets_a_tenth_of_any_twenty_connections() {
        assert_eq!(share(&[45, 45, 10], 20), [9, 9, 2]);
        assert_eq!(share(&[50, 50], 7), [4, 3]);
        assert_eq!(share(&[1], 3), [3]);
        assert!(Targets::default().next().is_none());
    }
}
