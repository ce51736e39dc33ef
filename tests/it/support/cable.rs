//! A TCP cable between two ends, which a test can cut, freeze, slow down, and make lie.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::{listen, listen_anywhere};

/// What is wrong with the cable, for connections that stand and for new ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    None,
    /// Connections stand, and nothing moves any more: a firewall that forgot them, a machine that
    /// hangs.
    Frozen,
    /// Everything comes so much later.
    Delayed(Duration),
    /// So many bytes a second in each direction.
    Throttled(u32),
    /// The connection is reset when the answer begins: the request has done its work, and nobody
    /// hears of it.
    ResetOnAnswer,
    /// One bit of each piece of the answer is flipped.
    CorruptAnswers,
}

pub struct Cable {
    near: SocketAddr,
    far: SocketAddr,
    fault: watch::Sender<Fault>,
    task: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    There,
    Back,
}

/// The connection is to be reset.
struct Reset;

impl Cable {
    pub async fn to(far: SocketAddr) -> anyhow::Result<Self> {
        let listener = listen_anywhere().await?;
        let mut cable = Self {
            near: listener.local_addr()?,
            far,
            fault: watch::Sender::new(Fault::None),
            task: None,
        };
        cable.carry(listener);
        Ok(cable)
    }

    pub fn port(&self) -> u16 {
        self.near.port()
    }

    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    fn carry(&mut self, listener: TcpListener) {
        let (far, fault) = (self.far, self.fault.clone());
        self.task = Some(tokio::spawn(async move {
            // Dropped with this task, which cuts every connection at once.
            let mut strands = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                strands.spawn(strand(near, far, fault.subscribe()));
                while strands.try_join_next().is_some() {}
            }
        }));
    }

    /// Every connection breaks, and no new one is taken.
    pub async fn cut(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _aborted = task.await;
        }
    }

    pub async fn mend(&mut self) -> anyhow::Result<()> {
        if self.task.is_some() {
            return Ok(());
        }
        self.carry(listen(self.near).await?);
        Ok(())
    }
}

async fn strand(mut near: TcpStream, far: SocketAddr, fault: watch::Receiver<Fault>) {
    let Ok(mut far) = TcpStream::connect(far).await else { return };
    let outcome = {
        let ((near_read, near_write), (far_read, far_write)) = (near.split(), far.split());
        let there = pump(near_read, far_write, Way::There, fault.clone());
        let back = pump(far_read, near_write, Way::Back, fault);
        tokio::try_join!(there, back)
    };
    if outcome.is_err() {
        // Closed with a reset rather than in good order.
        let _closed_before = near.set_zero_linger();
    }
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    way: Way,
    mut fault: watch::Receiver<Fault>,
) -> Result<(), Reset> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await.map_err(|_| Reset)?;
        let now = fault
            .wait_for(|fault| *fault != Fault::Frozen)
            .await
            .map(|fault| *fault)
            .map_err(|_| Reset)?;
        if read == 0 {
            let _closed_before = to.shutdown().await;
            return Ok(());
        }
        match now {
            Fault::None | Fault::Frozen => {}
            Fault::Delayed(time) => tokio::time::sleep(time).await,
            Fault::Throttled(rate) => {
                tokio::time::sleep(Duration::from_secs_f64(read as f64 / f64::from(rate))).await
            }
            Fault::ResetOnAnswer if way == Way::Back => return Err(Reset),
            Fault::CorruptAnswers if way == Way::Back => buffer[read - 1 - read / 8] ^= 1,
            Fault::ResetOnAnswer | Fault::CorruptAnswers => {}
        }
        to.write_all(&buffer[..read]).await.map_err(|_| Reset)?;
    }
}
