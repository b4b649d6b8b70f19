//! Several sequences of the tiny trained models side by side: each has the tokens, and the bits,
//! that it has alone. On the CPU; and on a device, where there is one.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use goldgate_engine::batch::{Batch, MOST};
use goldgate_engine::cuda::library::usual_folders;
use goldgate_engine::cuda::{self as device, Device, DeviceError};
use goldgate_engine::exec::cpu::CallError;
use goldgate_engine::exec::cuda::Options;
use goldgate_engine::generate::{Request, Several, Stop, generate, generate_several};
use goldgate_engine::model::build::{Capacity, Types};
use goldgate_engine::model::map::Map;
use goldgate_engine::model::{self, Config};
use goldgate_engine::ops::Phase;
use goldgate_engine::program::Sizes;
use goldgate_engine::sample::{Sampling, append_keyed};
use goldgate_engine::session::{Model, Place, Session, Settings, Want, need};
use goldgate_engine::several::several;
use goldgate_engine::weights::Checkpoint;
use goldgate_engine::{DType, RefusalKind, Tensor};

const MODELS: [&str; 3] = ["gpt2-tiny", "llama-tiny", "qwen2-tiny"];

const CONTEXT: usize = 96;

/// A model of golden/models, below the repository's root: cargo runs tests in the package's folder.
fn load(place: &mut Place<'_>, name: &str, dtype: DType, options: Options) -> (Model, Config) {
    let root = ["golden/models", "../golden/models"].map(PathBuf::from);
    let root = root.into_iter().find(|p| p.exists()).expect("golden/models is there");
    let checkpoint = Checkpoint::open(&root.join(name).join("q8_0.gguf")).expect("a good file");
    let (config, _) = Config::of(&checkpoint).expect("a good configuration");
    let map = Map::of(&config, &checkpoint);
    let types = Types { dtype, kv: dtype };
    let capacity = Capacity { context: CONTEXT, sequences: 1 };
    let program = model::program(&config, types, capacity, |name| map.meta(name)).expect("fits");
    let settings = settings(dtype, options);
    (Model::load(place, &program, &settings, &map, &mut |_| ()).expect("loads"), config)
}

fn settings(dtype: DType, options: Options) -> Settings {
    Settings { dtype, context: CONTEXT, sequences: MOST, chunk: 16, trace: Vec::new(), options }
}

/// Prompts of other lengths and other tokens: some of one chunk, some of several, one of one token.
fn prompt(sequence: usize) -> Vec<u32> {
    let count = [7, 1, 33, 16, 17, 40, 2, 25][sequence] as u32;
    let s = sequence as u32;
    (0..count).map(|i| (i * i * 31 + 7 * i + 101 * s + 11) % 400).collect()
}

fn seed(sequence: usize) -> u64 {
    // One beyond 32 bits, and two neighbours.
    [42, 43, (1 << 52) + 7, 0, 5, 1 << 33, 6, 7][sequence]
}

const SEEDED: Sampling = Sampling {
    temperature: 0.9,
    top_k: 40,
    top_p: 0.95,
    min_p: 0.01,
    repetition_penalty: 1.1,
    seed: 0,
};

/// Greedy, greedy with a penalty (so that what was seen matters), and a draw.
fn samplings() -> [Sampling; 3] {
    let penalised = Sampling { repetition_penalty: 1.3, ..Sampling::default() };
    [Sampling::default(), penalised, SEEDED]
}

type Loaded = (Model, Config);

fn alone(
    place: &mut Place<'_>,
    (model, config): &Loaded,
    sequence: usize,
    sampling: Sampling,
    max_tokens: usize,
    stop_ids: &[u32],
) -> (Vec<u32>, Stop) {
    let (ids, sampling) = (prompt(sequence), Sampling { seed: seed(sequence), ..sampling });
    let request = Request { ids: &ids, max_tokens, sampling, stop_ids };
    let mut told = Vec::new();
    let mut take = |id| {
        told.push(id);
        true
    };
    let stop = generate(place, model, config.vocabulary, &request, &mut take).expect("generates");
    (told, stop)
}

/// The same sequences side by side; `enough` says after how many tokens a caller has enough.
fn together(
    place: &mut Place<'_>,
    (model, config): &Loaded,
    sequences: &[usize],
    sampling: Sampling,
    (max_tokens, stop_ids): (usize, &[u32]),
    enough: &dyn Fn(usize) -> usize,
) -> Vec<(Vec<u32>, Stop)> {
    let prompts: Vec<Vec<u32>> = sequences.iter().map(|s| prompt(*s)).collect();
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let seeds: Vec<u64> = sequences.iter().map(|s| seed(*s)).collect();
    let request = Several { prompts: &prompts, max_tokens, sampling, seeds: &seeds, stop_ids };
    let mut told = vec![Vec::new(); sequences.len()];
    let mut take = |row: usize, id| {
        told[row].push(id);
        told[row].len() < enough(sequences[row])
    };
    let stops = generate_several(place, model, config.vocabulary, &request, &mut take);
    told.into_iter().zip(stops.expect("generates")).collect()
}

/// Any number of sequences, in any order: the tokens of each are those that it has alone.
fn same_as_alone(place: &mut Place<'_>, loaded: &Loaded, tokens: usize, orders: &[&[usize]]) {
    for sampling in samplings() {
        let want: Vec<_> =
            (0..MOST).map(|s| alone(place, loaded, s, sampling, tokens, &[])).collect();
        for order in orders {
            let got = together(place, loaded, order, sampling, (tokens, &[]), &|_| usize::MAX);
            for (row, sequence) in order.iter().enumerate() {
                assert_eq!(got[row], want[*sequence], "sequence {sequence} among {order:?}");
            }
        }
        let other = want.iter().filter(|(ids, _)| *ids != want[0].0).count();
        assert!(other > 4, "prompts that differ go on differently");
    }
}

const ORDERS: [&[usize]; 5] =
    [&[3], &[0, 1], &[5, 2, 7], &[4, 0, 6, 1, 3], &[7, 6, 5, 4, 3, 2, 1, 0]];

/// Sequences end by a token, by the caller, by the context and by their length, each at its own
/// time; the others have the tokens that they have alone.
fn ends_of_their_own(place: &mut Place<'_>, loaded: &Loaded) {
    for sampling in [Sampling::default(), SEEDED] {
        // What sequence 2 says fifth ends whoever says it.
        let (ids, _) = alone(place, loaded, 2, sampling, 8, &[]);
        let stop = [ids[4]];
        let enough = |s: usize| if s == 7 { 3 } else { usize::MAX };
        let order = [7, 2, 5, 0, 3];
        // The context ends sequence 5, whose prompt has 40 tokens.
        let most = CONTEXT - 40 + 4;
        let got = together(place, loaded, &order, sampling, (most, &stop), &enough);
        for ((ids, why), sequence) in got.iter().zip(order) {
            let (want, end) = alone(place, loaded, sequence, sampling, most, &stop);
            match sequence {
                7 if want.len() > 3 => {
                    assert_eq!((&ids[..], *why), (&want[..3], Stop::Caller), "sequence 7");
                }
                _ => assert_eq!((ids, *why), (&want, end), "sequence {sequence}"),
            }
        }
        assert_eq!(got[1].1, Stop::Token);
    }
}

/// Logits [rows, vocabulary] of sequences that are made to go on with given tokens.
fn forced(place: &mut Place<'_>, loaded: &Loaded, sequences: &[usize], steps: u32) -> Vec<Tensor> {
    let mut batch = Batch::open(place, &loaded.0, None, sequences.len()).expect("opens");
    for (row, sequence) in sequences.iter().enumerate() {
        assert_eq!(batch.prompt(place, row, &prompt(*sequence)).expect("a prompt"), None);
    }
    let one = |step: u32| {
        let rows: Vec<(usize, u32)> =
            sequences.iter().enumerate().map(|(row, s)| (row, token(*s, step))).collect();
        batch.logits(place, &rows).expect("a step")
    };
    (0..steps).map(one).collect()
}

fn token(sequence: usize, step: u32) -> u32 {
    (sequence as u32 * 53 + step * 17 + 3) % 400
}

/// The logits of a decode step in a batch are those of a session of one, bit by bit.
fn logits_same_as_alone(place: &mut Place<'_>, loaded: &Loaded, steps: u32) {
    let order = [4, 0, 5, 1, 2];
    let got = forced(place, loaded, &order, steps);
    let width = 4 * loaded.1.vocabulary;
    for (row, sequence) in order.into_iter().enumerate() {
        let mut session = Session::open(place, &loaded.0).expect("opens");
        let all = Want { phase: Some(Phase::Prefill), ..Want::default() };
        session.extend(place, &loaded.0, &prompt(sequence), &all).expect("a prompt");
        for (step, got) in got.iter().enumerate() {
            let id = token(sequence, step as u32);
            let want = Want { rows: vec![0], ..Want::default() };
            let output = session.extend(place, &loaded.0, &[id], &want).expect("a step");
            let bits = &got.bytes[row * width..(row + 1) * width];
            assert!(bits == output.slots["logits"].bytes, "sequence {sequence} step {step}");
        }
    }
}

#[test]
fn each_sequence_has_the_tokens_that_it_has_alone() {
    for name in MODELS {
        let place = &mut Place::Cpu;
        let loaded = load(place, name, DType::F32, Options::default());
        same_as_alone(place, &loaded, 6, &ORDERS);
    }
}

#[test]
fn a_sequence_that_ends_changes_no_other() {
    for name in MODELS {
        let place = &mut Place::Cpu;
        let loaded = load(place, name, DType::F32, Options::default());
        ends_of_their_own(place, &loaded);
    }
}

#[test]
fn logits_in_a_batch_are_those_alone() {
    for (name, dtype) in MODELS.into_iter().zip([DType::F32, DType::F16, DType::BF16]) {
        let place = &mut Place::Cpu;
        let loaded = load(place, name, dtype, Options::default());
        logits_same_as_alone(place, &loaded, 3);
    }
}

#[test]
fn too_many_sequences_and_too_long_prompts_are_refused() {
    let place = &mut Place::Cpu;
    let (model, config) = load(place, "llama-tiny", DType::F32, Options::default());
    let open = |place: &mut Place<'_>, count| {
        let refused = Batch::open(place, &model, None, count).expect_err("that many");
        let CallError::Refused { source, .. } = refused else { panic!("{refused}") };
        assert_eq!(source.kind, RefusalKind::CapacityExceeded);
        source.message
    };
    assert_eq!(open(place, 9), "9 sequences, the model was loaded for 8");
    assert_eq!(open(place, 0), "0 sequences, the model was loaded for 8");
    let long = vec![5; CONTEXT + 1];
    let request = Several {
        prompts: &[&[1, 2], &long],
        max_tokens: 4,
        sampling: Sampling::default(),
        seeds: &[0, 1],
        stop_ids: &[],
    };
    let refused = generate_several(place, &model, config.vocabulary, &request, &mut |_, _| true);
    let Err(CallError::Refused { source, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(source.kind, RefusalKind::PositionOutOfRange);
}

/// The rewritten Programs keep the rules of Programs, with each chain of sampling.
#[test]
fn programs_of_several_sequences_keep_the_rules() {
    for name in MODELS {
        let (model, config) = load(&mut Place::Cpu, name, DType::F32, Options::default());
        for sampling in samplings() {
            let one = append_keyed(model.program(), config.vocabulary, &sampling);
            let steps = several(&one, 8);
            for n in 1..=8 {
                let sizes = Sizes { n, m: n };
                steps.check(DType::F32, sizes).expect("a good Program");
                let tail = steps.steps.len() - steps.steps_of(sizes).len();
                assert_eq!(tail, (8 - n) * steps.tail.each);
            }
            assert_eq!(several(&one, 3).tail.rows, 3);
        }
    }
}

/// One test at a time has the card: what one allocates is not counted by another.
static CARD: Mutex<()> = Mutex::new(());

fn device() -> Option<Device> {
    let prefixes = ["/usr/local", "/usr"].map(PathBuf::from);
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let cache = home.map(|h| h.join(".cache/goldgate"));
    let settings =
        device::Settings { search: usual_folders(&prefixes), cache, ..Default::default() };
    match Device::open(&settings, 0) {
        Ok(device) => Some(device),
        Err(e @ (DeviceError::NoDriver | DeviceError::NoDevice { .. })) => {
            println!("nothing ran: {e}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn on_a_device_each_sequence_has_the_tokens_that_it_has_alone() {
    let _card = CARD.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut device) = device() else { return };
    for name in MODELS {
        for dtype in DType::ACTIVATIONS {
            for (fused, graph) in [(true, true), (true, false), (false, true)] {
                let place = &mut Place::Cuda(&mut device);
                let options = Options { fused, graph, ..Options::default() };
                let loaded = load(place, name, dtype, options);
                same_as_alone(place, &loaded, 40, &ORDERS);
                ends_of_their_own(place, &loaded);
                println!("{name} {dtype} fused {fused} graph {graph}: as alone");
            }
        }
    }
}

#[test]
fn on_a_device_logits_in_a_batch_are_those_alone() {
    let _card = CARD.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut device) = device() else { return };
    for name in MODELS {
        for dtype in DType::ACTIVATIONS {
            let place = &mut Place::Cuda(&mut device);
            let loaded = load(place, name, dtype, Options::default());
            logits_same_as_alone(place, &loaded, 20);
        }
    }
}

#[test]
fn on_a_device_a_batch_takes_what_was_foretold() {
    let _card = CARD.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut device) = device() else { return };
    for sequences in [1, 2, 5, 8] {
        let card = device.card().clone();
        let place = &mut Place::Cuda(&mut device);
        let (model, _) = load(place, "qwen2-tiny", DType::F16, Options::default());
        let batch = Batch::open(place, &model, None, sequences).expect("opens");
        let asked = Settings { sequences, ..settings(DType::F16, Options::default()) };
        let foretold = need(model.program(), &asked, &card).expect("it runs").session();
        if sequences == 1 {
            // One sequence is no batch, and takes no more than its session.
            assert_eq!(Session::open(place, &model).expect("opens").bytes(), foretold);
        } else {
            assert_eq!(batch.bytes(), foretold, "{sequences} sequences");
        }
    }
}
