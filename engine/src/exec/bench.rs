//! The time of one op on a device, and the limits of the card measured in the same run.
//!
//! An op is timed inside a graph of at least [`ROUNDS`] runs over copies of its operands that
//! together exceed four times the level-2 cache, so that no run finds its operands in it.

use std::collections::BTreeMap;

use crate::cuda::device::Memory;
use crate::cuda::{Arg, Args, Device, DeviceError, Field, Launch, Layout, Lowered, Page, Requires};
use crate::ops::{Op, Question};
use crate::tensor::Tensor;

/// Fewest runs inside one graph.
pub const ROUNDS: usize = 20;

/// Most device memory that copies of operands may take, bytes.
const COPIES_MAX: usize = 8 << 30;

static ARGS: Layout = Layout {
    name: "LimitsArgs",
    fields: &[("from", Field::Ptr), ("to", Field::Ptr), ("bytes", Field::I64)],
};

/// The page of yardsticks.
pub static PAGE: Page = Page {
    name: "limits",
    text: include_str!("../../../cuda/limits.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: &[],
};

/// What a card can do at most, measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Device to device, bytes read and bytes written, GB/s.
    pub copy_gb_s: f64,
    /// Read alone, GB/s.
    pub read_gb_s: f64,
    /// mma.sync of f16 into f32, from registers, TFLOP/s.
    pub mma_tflop_s: f64,
    /// One empty launch of 132 blocks after another inside a graph, µs.
    pub gap_us: f64,
}

/// Measures the limits of the card: median of five each.
///
/// # Errors
/// The device's; 2 GiB of its memory are needed.
pub fn limits(device: &mut Device) -> Result<Limits, DeviceError> {
    let bytes: usize = 1 << 30;
    let (from, to) = (device.allocate(bytes)?, device.allocate(bytes)?);
    let launch = |entry: &str, grid: u32, block: u32, amount: i64| {
        let args = [
            ("from", Arg::Slot("from", 0)),
            ("to", Arg::Slot("to", 0)),
            ("bytes", Arg::I64(amount)),
        ];
        Launch::new(&PAGE, entry.to_owned(), grid, block, Args::new(&ARGS, args))
    };
    let mut time = |launch: &Launch, repeat: usize| {
        device.prepare(std::slice::from_ref(launch))?;
        let address = |slot: &str| if slot == "from" { from.address() } else { to.address() };
        let graph = device.capture(|d| (0..repeat).try_for_each(|_| d.launch(launch, address)))?;
        device.replay(&graph)?;
        let mut us = Vec::with_capacity(5);
        for _ in 0..5 {
            us.push(device.time_us(|d| d.replay(&graph))? / repeat as f64);
        }
        Ok::<f64, DeviceError>(median(&mut us))
    };
    let blocks = 1056;
    let copy = time(&launch("limits_copy", blocks, 512, bytes as i64), 2)?;
    let read = time(&launch("limits_read", blocks, 512, bytes as i64), 2)?;
    let rounds = 20_000i64;
    let mma = time(&launch("limits_mma", 132 * 4, 256, rounds), 1)?;
    let gap = time(&launch("limits_empty", 132, 128, 0), 100)?;
    let operations = 132.0 * 4.0 * 8.0 * 8.0 * 4096.0 * rounds as f64;
    Ok(Limits {
        copy_gb_s: 2.0 * bytes as f64 / copy / 1e3,
        read_gb_s: bytes as f64 / read / 1e3,
        mma_tflop_s: operations / mma / 1e6,
        gap_us: gap,
    })
}

/// The middle of an odd number of figures.
///
/// # Panics
/// If there are none.
pub fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Microseconds a run of `op`, `replays` times: each the mean of a graph of at least [`ROUNDS`].
///
/// # Errors
/// The device's.
pub fn time(
    device: &mut Device,
    op: &dyn Op,
    question: &Question,
    tensors: &BTreeMap<String, Tensor>,
    replays: usize,
) -> Result<Vec<f64>, DeviceError> {
    let lowered = op.lower(question, device.card());
    device.prepare(&lowered.launches)?;
    let (offsets, bytes) = lay_out(question, &lowered);
    let l2 = usize::try_from(device.card().l2_bytes).unwrap_or(usize::MAX);
    let copies = (4 * l2).div_ceil(bytes.max(1)).clamp(1, 64).min((COPIES_MAX / bytes).max(1));
    let memories: Vec<Memory> =
        (0..copies).map(|_| device.allocate(bytes)).collect::<Result<_, _>>()?;
    for memory in &memories {
        for (name, offset) in &offsets {
            let constant = lowered.constants.iter().find(|(n, _)| n == name).map(|(_, b)| b);
            let tensor = tensors.get(*name).map(|t| &t.bytes);
            if let Some(content) = constant.or(tensor) {
                device.upload(memory, *offset, content)?;
            } else if *name == "fault" {
                device.upload(memory, *offset, &[0; 4])?;
            }
        }
    }
    let rounds = ROUNDS.max(copies);
    let graph = device.capture(|d| {
        for round in 0..rounds {
            let memory = &memories[round % copies];
            for launch in &lowered.launches {
                d.launch(launch, |slot| memory.address() + offsets[slot] as u64)?;
            }
        }
        Ok(())
    })?;
    device.replay(&graph)?;
    device.synchronize()?;
    (0..replays).map(|_| Ok(device.time_us(|d| d.replay(&graph))? / rounds as f64)).collect()
}

/// Where each slot lies in one copy, and the bytes of a copy. Results that are states lie on the
/// operand of their name.
fn lay_out(question: &Question, lowered: &Lowered) -> (BTreeMap<&'static str, usize>, usize) {
    let mut offsets = BTreeMap::new();
    let mut end = 0usize;
    let mut place = |name: &'static str, bytes: usize| {
        offsets.entry(name).or_insert_with(|| {
            let at = end;
            end = (end + bytes).next_multiple_of(256);
            at
        });
    };
    question.operands().for_each(|(name, meta)| place(name, meta.bytes().unwrap_or(0)));
    lowered.constants.iter().for_each(|(name, bytes)| place(name, bytes.len()));
    lowered.workspace.iter().for_each(|(name, bytes)| place(name, *bytes));
    question.results().iter().for_each(|(name, meta)| place(name, meta.bytes().unwrap_or(0)));
    place("fault", 4);
    (offsets, end)
}
