//! Decode steps that are enqueued ahead of the host, which reads their tokens behind them.

use crate::cuda::host::{Event, Pinned};
use crate::cuda::{Device, DeviceError};
use crate::exec::cpu::CallError;
use crate::exec::cuda::{CudaModel, CudaSession};
use crate::ops::Phase;
use crate::program::Sizes;

/// Where the host reads tokens behind the device.
#[derive(Debug)]
pub struct Ring {
    tokens: Vec<Pinned>,
    faults: Vec<Pinned>,
    done: Vec<Event>,
}

impl CudaSession {
    /// Enqueues a decode step that begins with what the one before sampled, and behind it the copy
    /// of its token and of the fault words into place `at` of `ring`. Waits for nothing.
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
        let offset = self.room.offsets[1][&tokens];
        device.fetch(&self.arena, offset, 4, &mut ring.tokens[at])?;
        device.fetch(&self.arena, self.room.faults, 4 * self.room.steps, &mut ring.faults[at])?;
        device.record(&ring.done[at])
    }

    /// Places for the tokens of `count` steps that are under way.
    ///
    /// # Errors
    /// The device's.
    pub fn ring(&self, device: &Device, count: usize) -> Result<Ring, DeviceError> {
        let pinned = |bytes: usize| (0..count).map(|_| device.pinned(bytes)).collect();
        let words: Result<Vec<Pinned>, DeviceError> = pinned(4);
        let faults: Result<Vec<Pinned>, DeviceError> = pinned(4 * self.room.steps);
        Ok(Ring {
            tokens: words?,
            faults: faults?,
            done: (0..count).map(|_| device.event()).collect::<Result<_, _>>()?,
        })
    }

    /// Waits for the step at a place of the ring: its token.
    ///
    /// # Errors
    /// Data that an op refuses, and the device's.
    pub fn token(&self, device: &Device, ring: &Ring, at: usize) -> Result<u32, CallError> {
        ring.done[at].wait()?;
        self.judge_faults(device, Phase::Decode, Sizes { n: 1, m: 1 }, ring.faults[at].bytes())?;
        let word = ring.tokens[at].bytes().try_into().expect("four bytes");
        Ok(u32::from_le_bytes(word))
    }
}
