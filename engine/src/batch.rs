//! Several sequences of a model side by side: their prompts one after the other, by the Program of
//! one sequence, then decode steps that have a row for each.

use crate::cuda::Device;
use crate::error::{Refusal, RefusalKind};
use crate::exec::ahead::Ring;
use crate::exec::cpu::{CallError, CallInputs, CpuModel, CpuSession, Slots};
use crate::exec::cuda::{CudaModel, CudaSession};
use crate::ops::Phase;
use crate::ops::linear::DECODE_ROWS;
use crate::program::Id;
use crate::sample::{SAMPLED, Sampling, append_keyed};
use crate::session::{Model, Place, Session, State, Want};
use crate::several::{by_row, several};
use crate::tensor::Tensor;

/// The most sequences side by side: rows that the decode kernels answer.
pub const MOST: usize = DECODE_ROWS;

/// Sequences of a model, each with a prompt of its own.
#[derive(Debug)]
pub struct Batch {
    on: On,
    /// Slots whose rows are those of a step.
    by_row: Vec<Id>,
    /// Tokens of each sequence that the cache holds.
    lengths: Vec<usize>,
    /// The sequence of each row of a step.
    rows: Vec<usize>,
}

#[derive(Debug)]
enum On {
    Cpu(Box<OnCpu>),
    Card { model: Box<Model>, session: Session },
}

#[derive(Debug)]
struct OnCpu {
    one: Model,
    steps: CpuModel,
    /// A session a prompt, until the first step.
    prompts: Vec<Session>,
    joined: Option<CpuSession>,
    /// The last token of each sequence.
    tokens: Vec<u32>,
}

fn column(of: impl Iterator<Item = usize>) -> Tensor {
    let of: Vec<i32> = of.map(|x| x as i32).collect();
    Tensor::from_i32(&[of.len()], &of)
}

impl Batch {
    /// Opens `count` empty sequences. With `sampling`, and the vocabulary that it chooses from,
    /// steps sample; without, they give logits.
    ///
    /// # Errors
    /// More sequences than the model was loaded for, and the device's.
    pub fn open(
        place: &mut Place<'_>,
        model: &Model,
        sampling: Option<(usize, &Sampling)>,
        count: usize,
    ) -> Result<Batch, CallError> {
        let most = model.settings().sequences.min(MOST);
        if count == 0 || count > most {
            let message = format!("{count} sequences, the model was loaded for {most}");
            let source = Refusal::new(RefusalKind::CapacityExceeded, "lengths", message);
            return Err(CallError::Refused { step: "attention".to_owned(), source });
        }
        let one = match sampling {
            Some((vocabulary, sampling)) => append_keyed(model.program(), vocabulary, sampling),
            None => model.program().clone(),
        };
        let steps = several(&one, count);
        let by_row = by_row(&steps);
        let on = match model.cpu() {
            Some(cpu) => {
                let (steps, one) = (cpu.extended(&steps), model.several(&one, &steps));
                let open = |_| Session::open(place, &one);
                let prompts = (0..count).map(open).collect::<Result<_, _>>()?;
                let (joined, tokens) = (None, vec![0; count]);
                On::Cpu(Box::new(OnCpu { one, steps, prompts, joined, tokens }))
            }
            None => {
                let model = Box::new(model.several(&one, &steps));
                let mut session = Session::of_rows(place, &model, count)?;
                let (cuda, device, state) = on_card(place, &model, &mut session);
                state.ready(device, cuda)?;
                On::Card { model, session }
            }
        };
        Ok(Batch { on, by_row, lengths: vec![0; count], rows: (0..count).collect() })
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        match &self.on {
            On::Cpu(_) => 0,
            On::Card { session, .. } => session.bytes(),
        }
    }

    /// Sets a state of sampling of a sequence, before its prompt.
    ///
    /// # Errors
    /// The device's.
    pub(crate) fn set(
        &mut self,
        place: &mut Place<'_>,
        sequence: usize,
        name: &str,
        tensor: &Tensor,
    ) -> Result<(), CallError> {
        match &mut self.on {
            On::Cpu(on) => on.prompts[sequence].set(place, &on.one, name, tensor),
            On::Card { model, session } => {
                let (model, device, state) = on_card(place, model, session);
                Ok(state.set_row(device, model, name, sequence, tensor)?)
            }
        }
    }

    /// The whole prompt of a sequence; the token that its last row gives, where steps sample.
    ///
    /// # Errors
    /// As [`Session::extend`].
    ///
    /// # Panics
    /// If the prompt is empty.
    pub fn prompt(
        &mut self,
        place: &mut Place<'_>,
        sequence: usize,
        ids: &[u32],
    ) -> Result<Option<u32>, CallError> {
        let (model, session) = match &mut self.on {
            On::Cpu(on) => (&on.one, &mut on.prompts[sequence]),
            On::Card { model, session } => {
                session.length = 0;
                on_card(place, model, session).2.sequence = sequence;
                (&**model, session)
            }
        };
        let samples = model.program().find(SAMPLED).is_some();
        let want = Want {
            rows: if samples { vec![ids.len() - 1] } else { Vec::new() },
            slots: if samples { vec![SAMPLED.to_owned()] } else { Vec::new() },
            phase: Some(Phase::Prefill),
        };
        let output = session.extend(place, model, ids, &want)?;
        self.lengths[sequence] = ids.len();
        Ok(output.slots.get(SAMPLED).map(|id| id.to_i32()[0] as u32))
    }

    /// What each sequence goes on with after its prompt: every one has a row.
    ///
    /// # Errors
    /// The device's.
    pub(crate) fn begin(&mut self, place: &mut Place<'_>, ids: &[u32]) -> Result<(), CallError> {
        match &mut self.on {
            On::Cpu(on) => {
                on.join();
                on.tokens = ids.to_vec();
            }
            On::Card { model, session } => {
                let count = self.lengths.len();
                let (model, device, state) = on_card(place, model, session);
                for (name, tensor) in [
                    ("tokens", column(ids.iter().map(|id| *id as usize))),
                    ("positions", column(self.lengths.iter().copied())),
                    ("sequences", column(0..count)),
                    ("out_rows", column(0..count)),
                ] {
                    state.set(device, model, name, &tensor)?;
                }
            }
        }
        Ok(())
    }

    /// Goes on with these of the sequences that have rows, in their order: the rows of the others
    /// are closed up. On a card behind the steps that are under way.
    ///
    /// # Errors
    /// The device's.
    pub(crate) fn keep(&mut self, place: &mut Place<'_>, stay: &[usize]) -> Result<(), CallError> {
        for (to, sequence) in stay.iter().enumerate() {
            let from = self.rows.iter().position(|s| s == sequence).unwrap_or(to);
            if from == to {
                continue;
            }
            match &mut self.on {
                On::Cpu(on) => {
                    on.joined().move_row(&self.by_row, from, to);
                }
                On::Card { model, session } => {
                    let (model, device, state) = on_card(place, model, session);
                    state.move_row(device, model, &self.by_row, from, to)?;
                }
            }
        }
        self.rows = stay.to_vec();
        Ok(())
    }

    /// The sequences that have rows.
    pub(crate) fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// One decode step of every row, as far as it can be done without waiting: nothing on the CPU.
    ///
    /// # Errors
    /// The device's.
    pub(crate) fn enqueue(
        &mut self,
        place: &mut Place<'_>,
        ring: &mut Option<Ring>,
        at: usize,
    ) -> Result<(), CallError> {
        let rows = self.rows.len();
        if let (On::Card { model, session }, Some(ring)) = (&mut self.on, ring) {
            let (model, device, state) = on_card(place, model, session);
            state.step(device, model, ring, at, rows)?;
        }
        Ok(())
    }

    /// Places for the tokens of steps that are under way, on a card.
    ///
    /// # Errors
    /// The device's.
    pub(crate) fn ring(
        &mut self,
        place: &mut Place<'_>,
        count: usize,
    ) -> Result<Option<Ring>, CallError> {
        match &mut self.on {
            On::Cpu(_) => Ok(None),
            On::Card { model, session } => {
                let (_, device, state) = on_card(place, model, session);
                Ok(Some(state.ring(device, count)?))
            }
        }
    }

    /// The tokens of the step at a place of the ring, whose rows were those of `of`.
    ///
    /// # Errors
    /// Data that an op refuses, and the device's.
    pub(crate) fn tokens(
        &mut self,
        place: &mut Place<'_>,
        ring: &Option<Ring>,
        at: usize,
        of: &[usize],
    ) -> Result<Vec<u32>, CallError> {
        match (&mut self.on, ring) {
            (On::Card { model, session }, Some(ring)) => {
                let (_, device, state) = on_card(place, model, session);
                state.tokens(device, ring, at, of.len())
            }
            (On::Cpu(on), _) => on.step(&mut self.lengths, of),
            _ => unreachable!("a card has a ring"),
        }
    }

    /// A decode step in which sequences go on with the tokens that are given, a row each: logits
    /// [rows, vocabulary]. For batches that do not sample.
    ///
    /// # Errors
    /// As [`Session::extend`], and sequences that are named twice.
    pub fn logits(
        &mut self,
        place: &mut Place<'_>,
        rows: &[(usize, u32)],
    ) -> Result<Tensor, CallError> {
        let inputs = CallInputs::from([
            ("tokens", column(rows.iter().map(|r| r.1 as usize))),
            ("positions", column(rows.iter().map(|r| self.lengths[r.0]))),
            ("sequences", column(rows.iter().map(|r| r.0))),
            ("out_rows", column(0..rows.len())),
        ]);
        let mut slots = match &mut self.on {
            On::Cpu(on) => on.call(&inputs, "logits")?,
            On::Card { model, session } => {
                let (model, device, state) = on_card(place, model, session);
                let sizes = state.call(device, model, Phase::Decode, &inputs)?;
                state.read(device, model, Phase::Decode, sizes, &["logits"])?
            }
        };
        rows.iter().for_each(|r| self.lengths[r.0] += 1);
        Ok(slots.remove("logits").expect("a model has logits"))
    }

    /// The model and the session of steps on a card, which have every row, for measurements.
    pub(crate) fn card(&mut self) -> Option<(&CudaModel, &mut CudaSession)> {
        match &mut self.on {
            On::Card { model, session: Session { state: State::Cuda(state), .. } } => {
                model.cuda().map(|model| (model, &mut **state))
            }
            _ => None,
        }
    }
}

/// What works on a card.
///
/// # Panics
/// If `place` is not where the batch is.
fn on_card<'a>(
    place: &'a mut Place<'_>,
    model: &'a Model,
    session: &'a mut Session,
) -> (&'a CudaModel, &'a mut Device, &'a mut CudaSession) {
    match (model.cuda(), place, &mut session.state) {
        (Some(model), Place::Cuda(device), State::Cuda(state)) => (model, device, state),
        _ => panic!("a batch is asked where it is"),
    }
}

/// The states of steps on the CPU, and the model that they are of.
struct Joined<'a>(&'a CpuModel, &'a mut CpuSession);

impl Joined<'_> {
    fn move_row(self, slots: &[Id], from: usize, to: usize) {
        self.1.move_row(self.0, slots, from, to);
    }
}

impl OnCpu {
    /// From here on the sequences have one session.
    fn join(&mut self) {
        let states = self.prompts.iter().filter_map(|s| match &s.state {
            State::Cpu(state) => Some(state),
            State::Cuda(_) => None,
        });
        let states: Vec<&CpuSession> = states.collect();
        self.joined.get_or_insert_with(|| CpuSession::joined(&self.steps, &states));
    }

    fn joined(&mut self) -> Joined<'_> {
        self.join();
        Joined(&self.steps, self.joined.as_mut().expect("joined above"))
    }

    fn call(&mut self, inputs: &CallInputs, want: &str) -> Result<Slots, CallError> {
        let Joined(model, session) = self.joined();
        session.call(model, inputs, &[want])
    }

    fn step(&mut self, lengths: &mut [usize], of: &[usize]) -> Result<Vec<u32>, CallError> {
        let inputs = CallInputs::from([
            ("tokens", column(of.iter().map(|s| self.tokens[*s] as usize))),
            ("positions", column(of.iter().map(|s| lengths[*s]))),
            ("sequences", column(of.iter().copied())),
            ("out_rows", column(0..of.len())),
        ]);
        let sampled = self.call(&inputs, SAMPLED)?[SAMPLED].to_i32();
        for (sequence, id) in of.iter().zip(&sampled) {
            lengths[*sequence] += 1;
            self.tokens[*sequence] = *id as u32;
        }
        Ok(sampled.into_iter().map(|id| id as u32).collect())
    }
}
