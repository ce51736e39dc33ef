//! A TCP cable between two ends, which a test can cut and mend.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub struct Cable {
    near: SocketAddr,
    far: SocketAddr,
    task: Option<JoinHandle<()>>,
}

impl Cable {
    pub async fn to(far: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let mut cable = Self { near: listener.local_addr()?, far, task: None };
        cable.carry(listener);
        Ok(cable)
    }

    pub fn port(&self) -> u16 {
        self.near.port()
    }

    fn carry(&mut self, listener: TcpListener) {
        let far = self.far;
        self.task = Some(tokio::spawn(async move {
            // Dropped with this task, which cuts every connection at once.
            let mut strands = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                strands.spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(far).await {
                        let _cut = copy_bidirectional(&mut near, &mut far).await;
                    }
                });
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
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.near)?;
        self.carry(socket.listen(1024)?);
        Ok(())
    }
}
