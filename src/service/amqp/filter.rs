//! A filter over the bytes that come from the broker, so that no message, whatever its bytes, can
//! overflow the client library's parser, end a session or fill the memory.
//!
//! Of an AMQP message nearly everything is its sender's: routing key, properties, names and values
//! of headers, body. The client library refuses texts that are not UTF-8 and ends the session; it
//! reads nested tables by recursion until its stack overflows; and it takes a body of any size. The
//! broker then gives the same message to the next worker. So the filter rewrites what cannot be
//! read before the library sees it:
//!
//! - in a routing key, an exchange's name, a property or the name of a header, each byte that is
//!   not UTF-8 becomes `?`;
//! - a value that is nested deeper than [`MAX_DEPTH`] becomes void;
//! - headers of more than [`MAX_HEADERS`] bytes or [`MAX_VALUES`] values, or that make no sense,
//!   are left out, and so are properties that make no sense;
//! - a body of more than [`Bounds::max_body`] bytes is left out.
//!
//! Everything else passes byte for byte. A message that was changed bears the header [`MARK`],
//! whose value tells the changed [`MessageParts`]. The one who reads it must not treat it as a hit:
//! it is refused without requeue, and the broker, which knows nothing of the filter, moves the
//! original.
//!
//! **Why a header.** The mark comes with the delivery, in every library call that gives one, and
//! nobody has to keep a list of deliveries that agrees with channels that come and go. A sender
//! cannot forge it: in every header frame, changed or not, a header with the name of the mark
//! becomes [`NOT_THE_MARK`]. So a header of the mark's name is the filter's, always, on a
//! connection that has one. The message of a sender who tried is no further changed, and not
//! marked.
//!
//! **Bounds.** A frame of a body passes as it comes; one that is dropped is replaced by a
//! heartbeat, since a library that sees nothing for long takes the broker for dead. A method or
//! header frame is kept until its end has come, but not one of more than [`MAX_HELD`] bytes: of
//! such a header frame the properties are left out, and such a method has not to do with a message.
//! For each channel that waits for the rest of a changed message there is one entry.
//!
//! The module has no socket and no clock, and needs nothing but the standard library.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

mod frame;
mod method;
mod part;
mod properties;
mod reader;
mod table;
#[cfg(test)]
mod tests;

pub use part::{MessagePart, MessageParts};
pub use properties::MAX_HEADERS;
pub use table::{MAX_DEPTH, MAX_VALUES};

use frame::{BODY, HEAD, HEARTBEAT, Head, METHOD, tuned_frame_max, write};
use properties::FIXED;

/// The header that tells of a message that it was changed, and in which [`MessageParts`].
pub const MARK: &str = "x-dnma-unreadable";

/// What becomes of a sender's own header of that name. The length is the same.
pub const NOT_THE_MARK: &str = "X-dnma-unreadable";

/// Bytes of a body that is handed on unless told otherwise. A hit has at most 64 KiB; what is
/// somewhat larger is judged and rejected with its code like any other bad input.
pub const MAX_BODY: u64 = 80 * 1024;

/// Bytes of a method or header frame that is kept until its end has come. A broker's frames have
/// 128 KiB unless it is configured otherwise, to which its own death history may add.
pub const MAX_HELD: usize = 256 * 1024;

/// The smallest limit of a frame's size that AMQP allows. A header frame without headers but for
/// the mark is always below it.
const MIN_FRAME_MAX: u32 = 4096;

/// What the filter is told when a connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of a body beyond which it is left out.
    pub max_body: u64,
    /// The largest frame that the client asks for; 0 if it leaves that to the broker.
    pub frame_max: u32,
}

/// The filter of one connection.
#[derive(Debug)]
pub struct StreamFilter {
    bounds: Bounds,
    /// The largest frame that the client library takes, header and end included.
    frame_max: u32,
    /// Where in the stream we are.
    place: Place,
    /// The beginning of a frame whose end has not come, or a few bytes of a frame's head.
    held: Vec<u8>,
    /// What comes next on channels where it is not to pass as it comes. It is nearly always empty.
    channels: HashMap<u16, Next>,
    /// A frame that was written anew, until the next step.
    written: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before a frame, or in one that is held.
    Head,
    /// So many bytes of the frame pass as they come.
    Passing(u64),
    /// So many bytes of the frame are dropped.
    Dropping(u64),
}

/// What comes next on a channel.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// The header frame of a message whose method was changed in these parts.
    Header(MessageParts),
    /// So many bytes of a body that is dropped.
    Body(u64),
}

/// What becomes of the bytes of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// They pass as they are.
    Pass(usize),
    /// Nothing of them passes, or not yet.
    Take(usize),
    /// What was written stands for them and for all that was held.
    Replace(usize),
}

impl Default for Bounds {
    fn default() -> Self {
        Self { max_body: MAX_BODY, frame_max: 0 }
    }
}

impl StreamFilter {
    /// At the beginning of a connection.
    pub fn new(bounds: Bounds) -> Self {
        let asked = if bounds.frame_max == 0 { u32::MAX } else { bounds.frame_max };
        Self {
            bounds,
            frame_max: asked.max(MIN_FRAME_MAX),
            place: Place::Head,
            held: Vec::new(),
            channels: HashMap::new(),
            written: Vec::new(),
        }
    }

    /// Takes what came from the broker, in pieces of any size, and appends what goes on to the
    /// library.
    pub fn filter(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut left = input;
        while !left.is_empty() {
            let (passed, step) = self.pass(left);
            let (as_it_is, behind) = left.split_at_checked(passed).unwrap_or((left, &[]));
            out.extend_from_slice(as_it_is);
            left = self.carry_out(step, behind, out);
        }
    }

    /// Like [`StreamFilter::filter`] for input that lies where the library reads: the returned
    /// number of bytes at its beginning go on as they are, and what goes on behind them is
    /// appended to `rest`. That is nothing as long as messages are fine and frames are whole.
    pub fn filter_in_place(&mut self, input: &[u8], rest: &mut Vec<u8>) -> usize {
        let (passed, step) = self.pass(input);
        let behind = input.get(passed..).unwrap_or_default();
        let behind = self.carry_out(step, behind, rest);
        self.filter(behind, rest);
        passed
    }

    /// The beginning of a frame whose end has not come. Whoever puts it in front of the next input,
    /// where it needs no copy once its end is there, says so by [`StreamFilter::forget_held`].
    pub fn held(&self) -> &[u8] {
        &self.held
    }

    /// What was held comes once more, at the beginning of the next input.
    pub fn forget_held(&mut self) {
        self.held.clear();
    }

    /// How many bytes at the beginning pass as they are, and what becomes of the next ones.
    fn pass(&mut self, input: &[u8]) -> (usize, Option<Step>) {
        let mut passed = 0;
        while let Some(left) = input.get(passed..).filter(|left| !left.is_empty()) {
            match self.step(left) {
                Step::Pass(count) => passed += count,
                other => return (passed, Some(other)),
            }
        }
        (passed, None)
    }

    fn carry_out<'i>(
        &mut self,
        step: Option<Step>,
        input: &'i [u8],
        out: &mut Vec<u8>,
    ) -> &'i [u8] {
        let taken = match step {
            None => 0,
            Some(Step::Pass(count) | Step::Take(count)) => count,
            Some(Step::Replace(count)) => {
                out.extend_from_slice(&self.written);
                count
            }
        };
        input.get(taken..).unwrap_or_default()
    }

    /// The next piece of the input, which is not empty: at least one byte.
    fn step(&mut self, input: &[u8]) -> Step {
        match self.place {
            Place::Passing(left) => Step::Pass(self.go_on(left, input.len(), Place::Passing)),
            Place::Dropping(left) => Step::Take(self.go_on(left, input.len(), Place::Dropping)),
            Place::Head if self.held.is_empty() => match Head::read(input) {
                None => self.hold(input, input.len()),
                Some(head) => self.begin(head, input),
            },
            Place::Head => self.complete(input),
        }
    }

    fn go_on(&mut self, left: u64, at_hand: usize, place: impl Fn(u64) -> Place) -> usize {
        let count = usize::try_from(left).map_or(at_hand, |left| left.min(at_hand));
        let left = left.saturating_sub(count as u64);
        self.place = if left == 0 { Place::Head } else { place(left) };
        count
    }

    fn hold(&mut self, input: &[u8], count: usize) -> Step {
        let count = count.min(input.len());
        self.held.extend_from_slice(input.get(..count).unwrap_or_default());
        Step::Take(count)
    }

    /// A frame whose beginning is at hand.
    fn begin(&mut self, head: Head, input: &[u8]) -> Step {
        let Some(wanted) = head.wanted() else {
            if self.is_dropped(head) {
                return Step::Replace(HEAD);
            }
            return Step::Pass(self.go_on(head.whole(), input.len(), Place::Passing));
        };
        match input.get(..wanted) {
            None => self.hold(input, input.len()),
            Some(frame) if self.is_fine(head, frame) => Step::Pass(wanted),
            Some(_) => Step::Replace(wanted),
        }
    }

    /// A frame whose beginning is held.
    fn complete(&mut self, input: &[u8]) -> Step {
        let Some(head) = Head::read(&self.held) else {
            let missing = HEAD.saturating_sub(self.held.len());
            let taken = self.hold(input, missing);
            let (Step::Take(count), Some(head)) = (taken, Head::read(&self.held)) else {
                return taken;
            };
            if head.wanted().is_some() {
                return taken;
            }
            // The frame needs no look: it goes on, or is dropped, from here.
            if !self.is_dropped(head) {
                self.place = Place::Passing(head.whole().saturating_sub(HEAD as u64));
                std::mem::swap(&mut self.held, &mut self.written);
            }
            self.held.clear();
            return Step::Replace(count);
        };
        let wanted = head.wanted().unwrap_or_default();
        let taken = self.hold(input, wanted.saturating_sub(self.held.len()));
        if self.held.len() < wanted {
            return taken;
        }
        let Step::Take(count) = taken else { return taken };
        let mut frame = std::mem::take(&mut self.held);
        if self.is_fine(head, &frame) {
            std::mem::swap(&mut frame, &mut self.written);
        }
        frame.clear();
        self.held = frame;
        Step::Replace(count)
    }

    /// Whether the frame belongs to a body that is dropped. If so, what stands for it is written
    /// and the rest of it is dropped.
    fn is_dropped(&mut self, head: Head) -> bool {
        if head.kind != BODY || self.channels.is_empty() {
            return false;
        }
        let Entry::Occupied(mut entry) = self.channels.entry(head.channel) else { return false };
        let Next::Body(left) = entry.get_mut() else { return false };
        *left = left.saturating_sub(head.size.into());
        if *left == 0 {
            entry.remove();
        }
        self.place = Place::Dropping(head.whole().saturating_sub(HEAD as u64));
        self.written.clear();
        self.written.extend_from_slice(&HEARTBEAT);
        true
    }

    /// Whether a method or header frame goes on as it is. If not, what stands for it is written.
    fn is_fine(&mut self, head: Head, frame: &[u8]) -> bool {
        let before = if self.channels.is_empty() {
            MessageParts::default()
        } else {
            match self.channels.remove(&head.channel) {
                Some(Next::Header(parts)) => parts,
                _ => MessageParts::default(),
            }
        };
        let payload = frame.get(HEAD..).unwrap_or_default();
        if head.size as usize > MAX_HELD {
            self.write_without_properties(head, payload, before);
            return false;
        }
        let payload = payload.get(..head.size as usize).unwrap_or_default();
        if head.kind == METHOD {
            self.is_fine_method(head, payload)
        } else {
            self.is_fine_header(head, payload, before)
        }
    }

    fn is_fine_method(&mut self, head: Head, payload: &[u8]) -> bool {
        if let Some(limit) = tuned_frame_max(payload) {
            self.frame_max = self.frame_max.min(limit.max(MIN_FRAME_MAX));
        }
        let Some(parts) = method::look(payload) else { return true };
        let written = write(&mut self.written, head, |out| method::write_readable(payload, out));
        if written.is_some() && !parts.is_empty() {
            self.channels.insert(head.channel, Next::Header(parts));
        }
        written.is_none()
    }

    fn is_fine_header(&mut self, head: Head, payload: &[u8], before: MessageParts) -> bool {
        let Some(found) = properties::look(payload, self.bounds.max_body) else { return true };
        let mut parts = before.with(found.parts);
        let largest = u64::from(self.frame_max);
        if head.whole() > largest {
            parts.add(MessagePart::Headers);
        } else if parts.is_empty() && !found.is_to_be_written {
            return true;
        }
        self.write_header(head, payload, parts);
        if self.written.len() as u64 > largest {
            parts.add(MessagePart::Headers);
            self.write_header(head, payload, parts);
        }
        self.expect_body(head, parts);
        false
    }

    fn write_header(&mut self, head: Head, payload: &[u8], mut parts: MessageParts) {
        let written =
            write(&mut self.written, head, |out| properties::write_readable(payload, parts, out));
        if written.is_none() {
            parts.add(MessagePart::Properties);
            _ = write(&mut self.written, head, |out| {
                properties::write_readable(payload, parts, out)
            });
        }
    }

    /// For a header frame of which only the beginning is at hand.
    fn write_without_properties(&mut self, head: Head, beginning: &[u8], mut parts: MessageParts) {
        parts.add(MessagePart::Properties);
        if let Some(found) = properties::look(beginning, self.bounds.max_body) {
            let body = found.parts.body_left_out();
            body.into_iter().for_each(|bytes| parts.leave_body_out(bytes));
        }
        _ = write(&mut self.written, head, |out| properties::write_readable(beginning, parts, out));
        self.expect_body(head, parts);
        self.place = Place::Dropping(u64::from(head.size).saturating_sub(FIXED as u64) + 1);
    }

    fn expect_body(&mut self, head: Head, parts: MessageParts) {
        if let Some(bytes) = parts.body_left_out() {
            self.channels.insert(head.channel, Next::Body(bytes));
        }
    }
}
