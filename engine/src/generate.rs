//! Generation: a prompt, then one token after the other until something ends it.

mod several;

use crate::exec::cpu::{CallError, CallInputs};
use crate::ops::Phase;
use crate::sample::{SAMPLED, Sampling, append};
use crate::session::{Model, Place, Session, State};
use crate::tensor::Tensor;

pub use several::{Several, generate_several};

/// Steps that the host enqueues before it reads the first one's token.
const AHEAD: usize = 4;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The prompt, at least one token.
    pub ids: &'a [u32],
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens that end it; the last one is not handed out.
    pub stop_ids: &'a [u32],
}

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A token of `stop_ids`.
    Token,
    /// The caller had enough.
    Caller,
    /// As many tokens as were asked for.
    Length,
    /// The context is full.
    Context,
}

/// Generates; each token goes to `take`, which returns whether to go on.
///
/// # Errors
/// A prompt that the context does not hold, a NaN among logits, the device's errors.
///
/// # Panics
/// If the prompt is empty.
pub fn generate(
    place: &mut Place<'_>,
    model: &Model,
    vocabulary: usize,
    request: &Request<'_>,
    take: &mut dyn FnMut(u32) -> bool,
) -> Result<Stop, CallError> {
    assert!(!request.ids.is_empty(), "a prompt has a token");
    let program = append(model.program(), vocabulary, &request.sampling);
    let model = model.extended(&program);
    let mut session = Session::open(place, &model)?;
    set_states(place, &model, &mut session, vocabulary, request.ids)?;
    let context = model.settings().context;
    let mut end = End::of(request.max_tokens, context, request.ids.len(), request.stop_ids);
    // The prompt has to be a good one, whatever follows.
    let first = session.prompt(place, &model, request.ids)?;
    if let Some(stop) = end.before() {
        return Ok(stop);
    }
    let most = end.most;
    let mut hand_out = |id: u32| end.after(id, take);
    if let Some(stop) = hand_out(first) {
        return Ok(stop);
    }
    match place {
        Place::Cpu => on_cpu(&model, &mut session, first, &mut hand_out),
        Place::Cuda(device) => on_card(device, &model, &mut session, most - 1, &mut hand_out),
    }
}

/// What ends a sequence.
#[derive(Debug)]
struct End<'a> {
    stop_ids: &'a [u32],
    max_tokens: usize,
    /// Tokens that are wanted and have a place.
    most: usize,
    told: usize,
}

impl End<'_> {
    fn of(max_tokens: usize, context: usize, prompt: usize, stop_ids: &[u32]) -> End<'_> {
        let most = max_tokens.min(context.saturating_sub(prompt));
        End { stop_ids, max_tokens, most, told: 0 }
    }

    /// Why nothing is generated at all, if so: nothing is wanted, or nothing fits.
    fn before(&self) -> Option<Stop> {
        let why = if self.max_tokens == 0 { Stop::Length } else { Stop::Context };
        (self.most == 0).then_some(why)
    }

    /// Hands a token out; why it was the last one, if so.
    fn after(&mut self, id: u32, take: &mut dyn FnMut(u32) -> bool) -> Option<Stop> {
        if self.stop_ids.contains(&id) {
            return Some(Stop::Token);
        }
        self.told += 1;
        match take(id) {
            false => Some(Stop::Caller),
            true if self.told == self.max_tokens => Some(Stop::Length),
            true if self.told == self.most => Some(Stop::Context),
            true => None,
        }
    }
}

fn set_states(
    place: &mut Place<'_>,
    model: &Model,
    session: &mut Session,
    vocabulary: usize,
    ids: &[u32],
) -> Result<(), CallError> {
    let states = states(vocabulary, ids);
    states.iter().try_for_each(|(name, tensor)| session.set(place, model, name, tensor))
}

/// What the states of sampling are before the prompt `ids`.
pub(crate) fn states(vocabulary: usize, ids: &[u32]) -> [(&'static str, Tensor); 3] {
    let mut seen = vec![0i32; vocabulary.div_ceil(32)];
    for id in ids {
        if let Some(word) = seen.get_mut(*id as usize / 32) {
            *word |= 1 << (id % 32);
        }
    }
    [
        ("length", Tensor::from_i32(&[1], &[ids.len() as i32])),
        ("draws", Tensor::from_i32(&[2], &[0, 0])),
        ("seen", Tensor::from_i32(&[seen.len()], &seen)),
    ]
}

impl Session {
    pub(crate) fn set(
        &mut self,
        place: &mut Place<'_>,
        model: &Model,
        name: &str,
        tensor: &Tensor,
    ) -> Result<(), CallError> {
        match (&mut self.state, place) {
            (State::Cpu(session), _) => {
                session.set(model.cpu().expect("on the CPU"), name, tensor);
            }
            (State::Cuda(session), Place::Cuda(device)) => {
                session.set(device, model.cuda().expect("on a card"), name, tensor)?;
            }
            _ => panic!("a model is asked where it is"),
        }
        Ok(())
    }

    /// The whole prompt; the token that its last row gives.
    fn prompt(
        &mut self,
        place: &mut Place<'_>,
        model: &Model,
        ids: &[u32],
    ) -> Result<u32, CallError> {
        let want = crate::session::Want {
            rows: vec![ids.len() - 1],
            slots: vec![SAMPLED.to_owned()],
            phase: Some(Phase::Prefill),
        };
        let output = self.extend(place, model, ids, &want)?;
        Ok(output.slots[SAMPLED].to_i32()[0] as u32)
    }
}

fn on_cpu(
    model: &Model,
    session: &mut Session,
    first: u32,
    hand_out: &mut dyn FnMut(u32) -> Option<Stop>,
) -> Result<Stop, CallError> {
    let State::Cpu(state) = &mut session.state else { panic!("on the CPU") };
    let model = model.cpu().expect("on the CPU");
    let mut token = first;
    loop {
        let one = |x: usize| Tensor::from_i32(&[1], &[x as i32]);
        let inputs = CallInputs::from([
            ("tokens", one(token as usize)),
            ("positions", one(session.length)),
            ("out_rows", one(0)),
        ]);
        let slots = state.call(model, &inputs, &[SAMPLED])?;
        session.length += 1;
        token = slots[SAMPLED].to_i32()[0] as u32;
        if let Some(stop) = hand_out(token) {
            return Ok(stop);
        }
    }
}

/// Steps are enqueued ahead; what they sampled is read behind them.
fn on_card(
    device: &mut crate::cuda::Device,
    model: &Model,
    session: &mut Session,
    most: usize,
    hand_out: &mut dyn FnMut(u32) -> Option<Stop>,
) -> Result<Stop, CallError> {
    let State::Cuda(state) = &mut session.state else { panic!("on a card") };
    let model = model.cuda().expect("on a card");
    // A decode step has one row, and its logits are wanted.
    state.set(device, model, "out_rows", &Tensor::from_i32(&[1], &[0]))?;
    let mut ring = state.ring(device, AHEAD)?;
    let mut enqueued = 0;
    for read in 0..most {
        while enqueued < most.min(read + AHEAD) {
            state.step(device, model, &mut ring, enqueued % AHEAD, 1)?;
            enqueued += 1;
        }
        let token = state.tokens(device, &ring, read % AHEAD, 1)?;
        if let Some(stop) = hand_out(token[0]) {
            // Steps that are still under way end before their memory goes.
            device.synchronize()?;
            session.length += read + 1;
            return Ok(stop);
        }
    }
    unreachable!("the last token ends it")
}
