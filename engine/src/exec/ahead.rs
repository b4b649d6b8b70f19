//! Decode steps that are enqueued ahead of the host, which reads their tokens behind them.

use crate::cuda::host::{Event, Pinned};
use crate::cuda::page::Page;
use crate::cuda::{Arg, Args, Device, DeviceError, Field, Launch, Layout, Requires};
use crate::exec::cpu::CallError;
use crate::exec::cuda::{CudaModel, CudaSession};
use crate::ops::Phase;
use crate::program::Sizes;

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
    /// The token of a step, then its fault words.
    told: Vec<Pinned>,
    done: Vec<Event>,
}

impl CudaSession {
    /// Enqueues a decode step that begins with what the one before sampled, and behind it what
    /// tells its token and the fault words to place `at` of `ring`. Waits for nothing.
    ///
    /// # Errors
    /// The device's.
    pub fn step(
        &mut self,
        device: &Device,
        model: &CudaModel,
        ring: &mut Ring,
        at: usize,
    ) -> Result<(), DeviceError> {
        self.enqueue(device, model, Phase::Decode, Sizes { n: 1, m: 1 })?;
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
            ("rows", Arg::I32(1)),
            ("steps", Arg::I32(steps as i32)),
        ];
        let launch = Launch::new(&PAGE, "report".to_owned(), 1, 256, Args::new(&ARGS, args));
        device.prepare(std::slice::from_ref(&launch))?;
        let told: Result<_, _> = (0..count).map(|_| device.pinned(4 * (1 + steps))).collect();
        let done: Result<_, _> = (0..count).map(|_| device.event()).collect();
        Ok(Ring { launch, told: told?, done: done? })
    }

    /// Waits for the step at a place of the ring: its token.
    ///
    /// # Errors
    /// Data that an op refuses, and the device's.
    pub fn token(&self, device: &Device, ring: &Ring, at: usize) -> Result<u32, CallError> {
        ring.done[at].wait()?;
        let (token, faults) = ring.told[at].bytes().split_at(4);
        self.judge_faults(device, Phase::Decode, Sizes { n: 1, m: 1 }, faults)?;
        Ok(u32::from_le_bytes(token.try_into().expect("four bytes")))
    }
}
