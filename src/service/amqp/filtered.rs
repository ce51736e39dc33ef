//! A stream whose reading side goes through the [`StreamFilter`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::io::{AsyncRead, AsyncWrite};

use super::filter::{Bounds, StreamFilter};

/// Bytes that are read at once. It bounds what a read can make wait here.
const MAX_READ: usize = 256 * 1024;

/// Bytes of a frame whose beginning is read once more, rather than kept until its end has come.
const MAX_PUT_BACK: usize = 4_096;

/// Room that must be left then to read what is new.
const MIN_READ: usize = 4_096;

/// Reads in a row of which nothing goes on, before the writing side has its turn.
const MAX_FRUITLESS_READS: usize = 16;

/// What a client library reads from and writes to: the broker behind a filter. Encryption lies
/// below.
#[derive(Debug)]
pub struct Filtered<S> {
    below: S,
    filter: StreamFilter,
    /// What the filter has let pass and the library has not read.
    ready: Vec<u8>,
    /// How much of `ready` the library has read.
    read: usize,
}

impl<S> Filtered<S> {
    /// Over a stream from which nothing has been read.
    pub fn new(below: S, bounds: Bounds) -> Self {
        Self { below, filter: StreamFilter::new(bounds), ready: Vec::new(), read: 0 }
    }

    /// Hands over what is ready.
    fn give(&mut self, buffer: &mut [u8]) -> usize {
        let left = self.ready.get(self.read..).unwrap_or_default();
        let count = left.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), left.get(..count)) {
            to.copy_from_slice(from);
        }
        self.read += count;
        if self.read >= self.ready.len() {
            self.read = 0;
            self.ready.clear();
            self.ready.shrink_to(MAX_READ);
        }
        count
    }

    /// Puts the beginning of a frame in front of what is read next, so that it passes where it lies
    /// once its end is there, and tells how many bytes that are. None if it is large or there is
    /// little room: it stays in the filter then.
    fn put_back(&self, buffer: &mut [u8]) -> usize {
        let held = self.filter.held();
        let is_worth_it = held.len() <= MAX_PUT_BACK && held.len() + MIN_READ <= buffer.len();
        match buffer.get_mut(..held.len()) {
            Some(front) if is_worth_it => {
                front.copy_from_slice(held);
                held.len()
            }
            _ => 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Filtered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = buffer.len();
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        for _ in 0..MAX_FRUITLESS_READS {
            let given = this.give(buffer);
            if given > 0 {
                return Poll::Ready(Ok(given));
            }
            let put_back = this.put_back(buffer);
            let room = length.min(put_back + MAX_READ);
            let behind = buffer.get_mut(put_back..room).unwrap_or_default();
            let count = match Pin::new(&mut this.below).poll_read(context, behind) {
                Poll::Ready(Ok(count)) if count > 0 => count,
                // The end, an error, or nothing yet.
                other => return other,
            };
            if put_back > 0 {
                this.filter.forget_held();
            }
            let input = buffer.get(..put_back + count).unwrap_or_default();
            let passed = this.filter.filter_in_place(input, &mut this.ready);
            if passed > 0 {
                return Poll::Ready(Ok(passed));
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Filtered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().below).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().below).poll_write_vectored(context, buffers)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().below).poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().below).poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::io::{AsyncReadExt, Cursor};
    use proptest::prelude::*;

    use super::*;

    /// A delivery whose routing key is not UTF-8 and whose body is too large, and one that is fine.
    fn stream() -> Vec<u8> {
        let frame = |kind: u8, payload: &[u8]| {
            let size = u32::try_from(payload.len()).expect("a size").to_be_bytes();
            [&[kind, 0, 1][..], &size, payload, &[0xce]].concat()
        };
        let deliver = |key: &[u8]| {
            let key = [&[u8::try_from(key.len()).expect("short")][..], key].concat();
            frame(
                1,
                &[&[0, 60, 0, 60, 1, b't', 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b'x'][..], &key].concat(),
            )
        };
        let header =
            |size: u64| frame(2, &[&[0, 60, 0, 0][..], &size.to_be_bytes(), &[0, 0]].concat());
        let body = |size: usize| frame(3, &vec![b'b'; size]);
        [
            [deliver(b"good"), header(700), body(700)].concat(),
            [deliver(b"\xe9"), header(300_000), body(100_000), body(100_000), body(100_000)]
                .concat(),
            [deliver(b"good too"), header(5), body(5)].concat(),
        ]
        .concat()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn buffers_of_any_size_read_the_same(
            sizes in prop::collection::vec(1..20_000_usize, 1..9),
        ) {
            let stream = stream();
            let mut expected = Vec::new();
            StreamFilter::new(Bounds::default()).filter(&stream, &mut expected);
            let mut filtered = Filtered::new(Cursor::new(stream), Bounds::default());
            let reading = async {
                let mut out = Vec::new();
                for size in sizes.iter().cycle() {
                    let mut buffer = vec![0; *size];
                    let count = filtered.read(&mut buffer).await.expect("a cursor");
                    out.extend_from_slice(&buffer[..count]);
                    if count == 0 {
                        break;
                    }
                }
                out
            };
            let out = futures_util::FutureExt::now_or_never(reading);
            // A long run of reads without fruit asks to be polled again.
            prop_assert!(out.is_none_or(|out| out == expected));
        }
    }

    #[tokio::test]
    async fn what_is_dropped_ends_in_the_right_place() {
        let stream = stream();
        let mut expected = Vec::new();
        StreamFilter::new(Bounds::default()).filter(&stream, &mut expected);
        let mut out = Vec::new();
        let mut filtered = Filtered::new(Cursor::new(stream), Bounds::default());
        let mut buffer = [0; 100];
        loop {
            let count = filtered.read(&mut buffer).await.expect("a cursor");
            if count == 0 {
                break;
            }
            out.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(out, expected);
        assert!(filtered.ready.capacity() <= MAX_READ);
    }
}
