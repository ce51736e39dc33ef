//! Carries out a [`Settlement`]: a hit that is delivered is marked for its ack, one that was not
//! sent is given back, and one that goes to another queue is handed to the task of `moves`.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::acks::AckWindow;
use super::delivery::Delivery;
use crate::domain::settle::Settlement;

/// A hit and its fate.
pub(super) type Settled = (Delivery, Settlement);

/// Settles hits. Every lane and feeder of a round has a copy.
#[derive(Debug, Clone)]
pub struct Settler {
    moves: mpsc::Sender<Settled>,
}

impl Settler {
    /// A settler that hands hits over to the receiver of `moves`.
    pub(super) fn new(moves: mpsc::Sender<Settled>) -> Self {
        Self { moves }
    }

    /// Settles hits of one request, in order. A hit whose settlement cannot be carried out stays
    /// on the broker, unacked. It never waits for the broker: hits behind these go on.
    pub(super) async fn settle(&self, hits: impl IntoIterator<Item = Settled>) {
        let mut window = None;
        for (delivery, settlement) in hits {
            match &settlement {
                Settlement::Delivered(_) => {
                    let identity = delivery.identity();
                    window = Some(delivery.finish(&settlement, Some(identity)));
                }
                // Its channel will give it back.
                Settlement::Release => drop(delivery),
                Settlement::Retry { .. } | Settlement::Park { .. } | Settlement::Reject { .. } => {
                    // There is room for all that is unacked. A mover that is gone takes nothing,
                    // and the hit goes back with its channel.
                    drop(self.moves.send((delivery, settlement)).await);
                }
            }
        }
        notify(window);
    }
}

/// Wakes the writer of acks. All hits of a batch whose windows differ share one writer.
pub(super) fn notify(window: Option<Arc<AckWindow>>) {
    if let Some(window) = window {
        window.notify();
    }
}
