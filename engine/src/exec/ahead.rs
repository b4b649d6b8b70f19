//! Decode steps that are enqueued ahead of the host, which reads their tokens behind them.

use crate::cuda::host::{Event, Pinned};
use crate::cuda::page::Page;
use crate::cuda::{Arg, Args, Device, DeviceError, Field, Launch, Layout, Requires};
use crate::exec::cpu::CallError;
use crate::exec::cuda::{CudaModel, CudaSession};
use crate::exec::room::row_bytes;
use crate::ops::Phase;
use crate::program::{Id, Sizes};
use crate::tensor::Tensor;

static ARGS: Layout = Layout {
    name: "ReportArgs",
    fields: &[
        ("tokens", Field::Ptr),
        ("faults", Field::Ptr),
        ("to", Field::Ptr),
        ("rows", Field::I32),
        ("steps", Field::I32),
    ],
};

/// The page that tells the host what a step did.
pub static PAGE: Page = Page {
    name: "report",
    text: include_str!("../../../cuda/report.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: &[],
};

/// Where the host reads tokens behind the device.
#[derive(Debug)]
pub struct Ring {
    launch: Launch,
    /// The tokens of a step, then its fault words.
    told: Vec<Pinned>,
    done: Vec<Event>,
}

impl CudaSession {
    /// Enqueues a decode step of `rows` rows that begins with what the one before sampled, and
    /// behind it what tells its tokens and the fault words to place `at` of `ring`. Waits for
    /// nothing.
    ///
    /// # Errors
    /// The device's.
    pub fn step(
        &mut self,
        device: &Device,
        model: &CudaModel,
        ring: &mut Ring,
        at: usize,
        rows: usize,
    ) -> Result<(), DeviceError> {
        self.enqueue(device, model, Phase::Decode, Sizes { n: rows, m: rows })?;
        let tokens = model.plain.find("tokens").expect("a model has tokens");
        let place = |offset: usize| self.arena.address() + offset as u64;
        let address = |slot: &str| match slot {
            "tokens" => place(self.room.offsets[1][&tokens]),
            "faults" => place(self.room.faults),
            _ => ring.told[at].address(),
        };
        device.launch(&ring.launch, address)?;
        device.record(&ring.done[at])
    }

    /// Places for what is told of `count` steps that are under way.
    ///
    /// # Errors
    /// The device's.
    pub fn ring(&self, device: &mut Device, count: usize) -> Result<Ring, DeviceError> {
        let steps = self.room.steps;
        let args = [
            ("tokens", Arg::Slot("tokens", 0)),
            ("faults", Arg::Slot("faults", 0)),
            ("to", Arg::Slot("to", 0)),
            ("rows", Arg::I32(self.rows as i32)),
            ("steps", Arg::I32(steps as i32)),
        ];
        let launch = Launch::new(&PAGE, "report".to_owned(), 1, 256, Args::new(&ARGS, args));
        device.prepare(std::slice::from_ref(&launch))?;
        let words = self.rows + steps;
        let told: Result<_, _> = (0..count).map(|_| device.pinned(4 * words)).collect();
        let done: Result<_, _> = (0..count).map(|_| device.event()).collect();
        Ok(Ring { launch, told: told?, done: done? })
    }

    /// Waits for the step of `rows` rows at a place of the ring: their tokens.
    ///
    /// # Errors
    /// Data that an op refuses, and the device's.
    pub fn tokens(
        &self,
        device: &Device,
        ring: &Ring,
        at: usize,
        rows: usize,
    ) -> Result<Vec<u32>, CallError> {
        ring.done[at].wait()?;
        let (tokens, faults) = ring.told[at].bytes().split_at(4 * self.rows);
        let sizes = Sizes { n: rows, m: rows };
        self.judge_faults(device, Phase::Decode, sizes, faults)?;
        let words = tokens.chunks_exact(4).take(rows);
        Ok(words.map(|w| u32::from_le_bytes(w.try_into().expect("four bytes"))).collect())
    }

    /// Enqueues the move of row `from` of each slot to row `to`, behind the steps that are under
    /// way. Waits for nothing.
    ///
    /// # Errors
    /// The device's.
    pub fn move_row(
        &self,
        device: &Device,
        model: &CudaModel,
        slots: &[Id],
        from: usize,
        to: usize,
    ) -> Result<(), DeviceError> {
        let sizes = Sizes { n: self.rows, m: self.rows };
        slots.iter().try_for_each(|slot| {
            let (at, row) = (self.room.offsets[1][slot], row_bytes(&model.plain, *slot, sizes));
            device.shift(&self.arena, at + from * row, at + to * row, row)
        })
    }

    /// Sets row `row` of a state or an input before the next call.
    ///
    /// # Errors
    /// The device's.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn set_row(
        &self,
        device: &Device,
        model: &CudaModel,
        name: &str,
        row: usize,
        tensor: &Tensor,
    ) -> Result<(), DeviceError> {
        let slot = model.plain.find(name).unwrap_or_else(|| panic!("no state {name}"));
        let at = self.room.offsets[1][&slot] + row * tensor.bytes.len();
        device.upload(&self.arena, at, &tensor.bytes)
    }
}
