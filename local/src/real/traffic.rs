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

#[derive(Default)]
struct Targets {
    ports: Vec<u16>,
    next: usize,
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

    /// Sends new connections to these ports from now on.
    pub(super) fn route(&self, port: u16, to: Vec<u16>) {
        if let Some(targets) = self.ports.get(&port) {
            targets.lock().unwrap_or_else(PoisonError::into_inner).ports = to;
        }
    }
}

fn next(targets: &Mutex<Targets>) -> Option<u16> {
    let mut targets = targets.lock().unwrap_or_else(PoisonError::into_inner);
    targets.next = targets.next.wrapping_add(1);
    let at = targets.next.checked_rem(targets.ports.len())?;
    targets.ports.get(at).copied()
}
