//! The threads at the pipes of a worker. What a subject writes is made legible here, where it is
//! read, and nowhere else.

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};

use goldgate_wire::Tensors;
use goldgate_wire::frame::{Frame, FrameError, read_frame, write_frame};
use goldgate_wire::hello::FIRST_FRAME;

use crate::line::legible::{legible, legible_json};

/// How many bytes of stderr are kept.
const TAIL: usize = 64 << 10;

/// How long a text may be that is shown: a message, a name, a reason.
pub(super) const SHOWN: usize = 4 << 10;

/// How long a text may be that is a result, such as the chat template of a file.
const RESULT: usize = 256 << 10;

/// What the reading thread passes on.
pub(super) enum Heard {
    Frame(Frame),
    /// The stream ended.
    End,
    /// Output that does not follow the wire protocol.
    Bad(FrameError),
    /// The bytes that followed it.
    More(Vec<u8>),
}

impl std::fmt::Debug for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Heard::Frame(_) => "frame",
            Heard::End => "end",
            Heard::Bad(_) => "bad",
            Heard::More(_) => "more",
        })
    }
}

/// Passes on what arrives. The first frame has the limit for hello, later ones the limit that hello
/// agreed on.
pub(super) fn listen(mut stdout: impl Read, agreed: &Receiver<u64>, to: &SyncSender<Heard>) {
    let mut max = None;
    loop {
        let heard = match read_frame(&mut stdout, max.unwrap_or(FIRST_FRAME)) {
            Ok(Some(frame)) => Heard::Frame(readable(frame)),
            Ok(None) => Heard::End,
            Err(error) => Heard::Bad(error),
        };
        let more = matches!(&heard, Heard::Bad(FrameError::TooLong { .. }));
        let last = !matches!(&heard, Heard::Frame(_));
        if to.send(heard).is_err() {
            return;
        }
        if more {
            // Together with the 8 bytes of the length these are the 64 bytes that a report shows.
            let mut bytes = [0; 56];
            let n = stdout.read(&mut bytes).unwrap_or(0);
            // The receiver may be gone.
            let _ = to.send(Heard::More(bytes[..n].to_vec()));
        }
        if last {
            return;
        }
        // The limit for later frames is known only once hello has been read.
        if max.is_none() {
            max = agreed.recv().ok();
            if max.is_none() {
                return;
            }
        }
    }
}

/// The message with its texts, and the names of its tensors, made legible.
fn readable(frame: Frame) -> Frame {
    let most = if frame.json["ok"].is_object() { RESULT } else { SHOWN };
    Frame { json: legible_json(frame.json, most), tensors: named(frame.tensors) }
}

/// Tensors of an answer under names that can be shown. Two that become one were no names of ours.
pub(super) fn named(tensors: Tensors) -> Tensors {
    tensors.into_iter().map(|(name, tensor)| (legible(&name, SHOWN), tensor)).collect()
}

/// Writes questions as they come.
pub(super) fn speak(mut stdin: impl Write, questions: &Receiver<Frame>) {
    for frame in questions {
        if write_frame(&mut stdin, &frame).is_err() {
            return;
        }
    }
}

/// Keeps the tail of stderr.
pub(super) fn drain(mut stderr: impl Read, tail: &Mutex<Vec<u8>>) {
    let mut bytes = [0; 4096];
    while let Ok(n) = stderr.read(&mut bytes) {
        if n == 0 {
            return;
        }
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(&bytes[..n]);
        let extra = tail.len().saturating_sub(TAIL);
        tail.drain(..extra);
    }
}
