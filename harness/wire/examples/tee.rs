//! Records a conversation: `tee FILE COMMAND…` runs the subject COMMAND and passes every frame on,
//! byte for byte, while it appends them to FILE in the order in which they came by.
//!
//! Questions have the field `call`, so one file holds both directions. The recorded frames below
//! `tests/frames` were made with it: `goldgate run --on 'rec=tee FILE goldgate worker --on cpu'`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tee: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> io::Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let (Some(path), Some(program)) = (words.next(), words.next()) else {
        return Err(io::Error::other("usage: tee FILE COMMAND…"));
    };
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let record = Arc::new(Mutex::new(file));
    let mut command = Command::new(program);
    let mut child = command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(mut to), Some(mut from)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("a pipe is missing"));
    };
    let questions = Arc::clone(&record);
    // Ends with our own stdin, which also closes the subject's.
    thread::spawn(move || pass(&mut io::stdin().lock(), &mut to, &questions));
    pass(&mut from, &mut io::stdout().lock(), &record)?;
    let status = child.wait()?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(2)))
}

/// Passes frames on until the stream ends.
fn pass(from: &mut impl Read, to: &mut impl Write, record: &Mutex<File>) -> io::Result<()> {
    loop {
        let mut frame = vec![0; 8];
        match from.read_exact(&mut frame) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let length = frame.iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        from.by_ref().take(length).read_to_end(&mut frame)?;
        // Recorded first: an answer must not overtake its question.
        record.lock().unwrap_or_else(PoisonError::into_inner).write_all(&frame)?;
        to.write_all(&frame)?;
        to.flush()?;
    }
}
