//! One op on a device: guard bands, poison, two runs, inputs held against what went in.

use std::collections::BTreeMap;

use crate::cuda::device::Memory;
use crate::cuda::{Device, DeviceError, Lowered};
use crate::error::Refusal;
use crate::ops::{Op, Question};
use crate::shape::Meta;
use crate::tensor::Tensor;

/// Bytes of the guard band on each side of every slot.
pub const GUARD: usize = 64 << 10;

/// Bytes repeated from each even address; as a number of any floating type, a NaN.
type Pattern = [u8; 2];

/// Two patterns, one a run: what was never written shows as one, then as the other.
const POISONS: [Pattern; 2] = [[0xff, 0xff], [0xff, 0x7f]];

/// The pattern of guard bands.
const GUARDS: Pattern = [0xfe, 0xff];

/// Whether the bytes at `address` are all those of `pattern`.
fn is_pattern(bytes: &[u8], address: usize, pattern: Pattern) -> bool {
    bytes.iter().enumerate().all(|(i, b)| *b == pattern[(address + i) % 2])
}

/// What an op's run shows besides its results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// `intact`, or which side of which slot was written, and how far out.
    pub guards: String,
    /// `unchanged`, or the input that changed.
    pub inputs: String,
    /// `overwritten`, or the result with elements never written, how many, and the first.
    pub poison: String,
    /// Entries that ran, in order.
    pub route: Vec<String>,
    /// Bytes of device memory held for this question.
    pub peak_bytes: u64,
}

/// Why an op gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// The data break a rule.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The device could not.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Two runs gave other bits.
    #[error("two runs of {0} gave different bits")]
    Nondeterministic(String),
}

/// Results by name, and what was observed.
pub type OpAnswer = (BTreeMap<String, Tensor>, Observed);

#[derive(Debug)]
struct Slot {
    name: String,
    offset: usize,
    bytes: usize,
    /// What it holds before a run; `None`: poison.
    before: Option<Vec<u8>>,
    /// The result that is read from it.
    result: Option<(String, Meta)>,
    /// Whether it must hold the same bytes afterwards.
    constant: bool,
}

/// Asks `op` on `device`. `alias` maps a result to the operand whose memory it shares.
///
/// # Errors
/// Data-dependent refusals by the fault word, and the device's errors.
pub fn run(
    device: &mut Device,
    op: &dyn Op,
    question: &Question,
    tensors: &BTreeMap<String, Tensor>,
    alias: &BTreeMap<String, String>,
) -> Result<OpAnswer, OpError> {
    let lowered = op.lower(question, device.card());
    device.prepare(&lowered.launches)?;
    let (slots, names) = lay_out(question, tensors, alias, &lowered);
    let end = slots.last().map_or(0, |s| s.offset + s.bytes) + GUARD;
    let memory = device.allocate(end)?;
    let mut observed = Observed {
        guards: "intact".into(),
        inputs: "unchanged".into(),
        poison: "overwritten".into(),
        route: lowered.launches.iter().map(|l| l.entry.clone()).collect(),
        peak_bytes: end as u64,
    };
    let mut runs = Vec::with_capacity(2);
    for poison in POISONS {
        let after = run_once(device, &lowered, &slots, &names, &memory, poison)?;
        check_fault(&lowered, &slots, &after)?;
        runs.push(after);
    }
    observe(&slots, &runs, &mut observed);
    let mut results = BTreeMap::new();
    for slot in &slots {
        if let Some((name, meta)) = &slot.result {
            let [first, second] = [0, 1].map(|i| &runs[i][slot.offset..slot.offset + slot.bytes]);
            if first != second && observed.poison == "overwritten" {
                return Err(OpError::Nondeterministic(name.clone()));
            }
            results.insert(name.clone(), Tensor { meta: meta.clone(), bytes: first.to_vec() });
        }
    }
    Ok((results, observed))
}

/// Where each slot lies, and which slot each name of the launches means.
fn lay_out(
    question: &Question,
    tensors: &BTreeMap<String, Tensor>,
    alias: &BTreeMap<String, String>,
    lowered: &Lowered,
) -> (Vec<Slot>, BTreeMap<String, usize>) {
    let mut slots: Vec<Slot> = Vec::new();
    let mut names = BTreeMap::new();
    let mut end = 0usize;
    let mut push = |name: &str, bytes: usize, before: Option<Vec<u8>>| {
        let offset = (end + GUARD).next_multiple_of(256);
        end = offset + bytes;
        let constant = before.is_some();
        slots.push(Slot { name: name.into(), offset, bytes, before, result: None, constant });
        names.insert(name.to_owned(), slots.len() - 1);
    };
    for (name, _) in question.operands() {
        let bytes = tensors[name].bytes.clone();
        push(name, bytes.len(), Some(bytes));
    }
    for (name, bytes) in &lowered.constants {
        push(name, bytes.len(), Some(bytes.clone()));
    }
    for (name, bytes) in &lowered.workspace {
        push(name, *bytes, None);
    }
    push("fault", 4, Some(vec![0; 4]));
    let results = question.results();
    let shared: Vec<Option<String>> = results
        .iter()
        .map(|(name, _)| {
            let slot = question.signature.results.iter().find(|r| r.name == *name);
            let state = slot.and_then(|r| r.shares).filter(|operand| operand == name);
            state.map(str::to_owned).or_else(|| alias.get(*name).cloned())
        })
        .collect();
    for ((name, meta), share) in results.iter().zip(&shared) {
        if share.is_none() {
            push(name, meta.bytes().unwrap_or(0), None);
        }
    }
    for ((name, meta), share) in results.into_iter().zip(shared) {
        let at = names[share.as_deref().unwrap_or(name)];
        slots[at].result = Some((name.to_owned(), meta));
        slots[at].constant = false;
        names.insert(name.to_owned(), at);
    }
    let fault = names["fault"];
    slots[fault].constant = false;
    (slots, names)
}

/// Fills memory, launches, waits, and returns all of it.
fn run_once(
    device: &Device,
    lowered: &Lowered,
    slots: &[Slot],
    names: &BTreeMap<String, usize>,
    memory: &Memory,
    poison: Pattern,
) -> Result<Vec<u8>, DeviceError> {
    let mut image = GUARDS.repeat(memory.bytes().div_ceil(2));
    image.truncate(memory.bytes());
    for slot in slots {
        let place = &mut image[slot.offset..slot.offset + slot.bytes];
        match &slot.before {
            Some(bytes) => place.copy_from_slice(bytes),
            None => place.iter_mut().enumerate().for_each(|(i, b)| *b = poison[i % 2]),
        }
    }
    device.upload(memory, 0, &image)?;
    for launch in &lowered.launches {
        device.launch(launch, |slot| {
            let at = *names.get(slot).unwrap_or_else(|| panic!("a launch names no slot {slot}"));
            memory.address() + slots[at].offset as u64
        })?;
    }
    device.synchronize()?;
    device.download(memory, 0, &mut image)?;
    Ok(image)
}

fn check_fault(lowered: &Lowered, slots: &[Slot], after: &[u8]) -> Result<(), Refusal> {
    let slot = slots.iter().find(|s| s.name == "fault").expect("laid out above");
    let word = after[slot.offset..slot.offset + 4].try_into().expect("four bytes");
    let code = u32::from_le_bytes(word) as usize;
    match code.checked_sub(1).and_then(|i| lowered.faults.get(i)) {
        None => Ok(()),
        Some((kind, operand)) => {
            Err(Refusal::new(*kind, operand, "the data break the rule; seen on the device"))
        }
    }
}

/// Reads guards, inputs and poison off the two images.
fn observe(slots: &[Slot], runs: &[Vec<u8>], observed: &mut Observed) {
    for image in runs {
        let mut end = 0;
        let mut previous = "start";
        for slot in slots {
            if let Some(broken) = broken_band(image, end..slot.offset, previous, &slot.name) {
                observed.guards = broken;
            }
            end = slot.offset + slot.bytes;
            previous = &slot.name;
            if slot.constant && slot.before.as_deref() != Some(&image[slot.offset..end]) {
                observed.inputs = format!("changed {}", slot.name);
            }
        }
        if let Some(broken) = broken_band(image, end..image.len(), previous, "end") {
            observed.guards = broken;
        }
    }
    for slot in slots.iter().filter(|s| s.before.is_none()) {
        let Some((name, meta)) = &slot.result else { continue };
        let width = meta.dtype.bytes();
        let left = |i: &usize| {
            let range = slot.offset + i * width..slot.offset + (i + 1) * width;
            runs.iter()
                .zip(POISONS)
                .all(|(image, pattern)| is_pattern(&image[range.clone()], range.start, pattern))
        };
        let mut untouched = (0..slot.bytes / width).filter(left);
        if let Some(at) = untouched.next() {
            observed.poison = format!("left {name} {} first {at}", 1 + untouched.count());
        }
    }
}

/// What was written in a guard band, said as bytes from the nearer slot.
fn broken_band(
    image: &[u8],
    band: std::ops::Range<usize>,
    previous: &str,
    next: &str,
) -> Option<String> {
    let is_broken = |at: &usize| image[*at] != GUARDS[at % 2];
    let first = band.clone().find(is_broken)?;
    let last = band.clone().rev().find(is_broken)?;
    let (after, before) = (first - band.start + 1, band.end - last);
    Some(if after <= before {
        format!("broken {previous} +{after} bytes")
    } else {
        format!("broken {next} -{before} bytes")
    })
}
