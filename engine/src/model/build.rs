//! What model files build with: each call of a [`Builder`] adds one step, named by its result.

use std::mem::take;
use std::ops::Range;

use serde_json::{Map, Value, json};

use crate::dtype::DType;
use crate::program::{Axis, Id, Kind, Program, ProgramError, Step, View};
use crate::shape::Meta;

/// The types that a run chooses; everything else is f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Types {
    /// Normed values, projections, results of attention, activations.
    pub dtype: DType,
    /// The cache.
    pub kv: DType,
}

/// How much a session holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Positions of a sequence.
    pub context: usize,
    /// Sequences.
    pub sequences: usize,
}

/// Heads of an attention, and their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub q: usize,
    /// Key heads, a divisor of the query heads.
    pub k: usize,
    /// Elements of a head.
    pub d: usize,
}

/// Whether a projection has a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// It has one, and the file must.
    Must,
    /// It has one where the file does.
    May,
    /// It has none.
    None,
}

/// Rows of a matrix of the file: all of it, or a part where projections are fused.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The tensor, without `.weight`.
    pub tensor: &'static str,
    /// How many rows the tensor has.
    pub of: usize,
    /// The rows that are meant.
    pub part: Range<usize>,
}

impl Rows {
    /// All rows of a matrix.
    pub fn all(tensor: &'static str, rows: usize) -> Rows {
        Rows { tensor, of: rows, part: 0..rows }
    }
}

/// Builds a Program step by step and collects every weight that does not fit.
pub struct Builder<'a> {
    program: Program,
    types: Types,
    capacity: Capacity,
    found: &'a dyn Fn(&str) -> Option<Meta>,
    problems: Vec<ProgramError>,
    positions: Id,
    sequences: Option<Id>,
    /// What stands before the names of slots: `layer.3.`.
    pub slots: String,
    /// What stands before the names of tensors: `blk.3.`.
    pub tensors: String,
}

impl<'a> Builder<'a> {
    /// An empty Program whose calls bring `positions` \[n\], and `sequences` \[n\] where there are
    /// several. `found` tells type and shape of each tensor of the model.
    pub fn new(
        types: Types,
        capacity: Capacity,
        found: &'a dyn Fn(&str) -> Option<Meta>,
    ) -> Builder<'a> {
        let mut program = Program::default();
        let positions = program.slot("positions", Kind::Input, DType::I32, &[Axis::N]);
        let several = capacity.sequences > 1;
        let sequences =
            several.then(|| program.slot("sequences", Kind::Input, DType::I32, &[Axis::N]));
        let (slots, tensors, problems) = (String::new(), String::new(), Vec::new());
        Builder { program, types, capacity, found, problems, positions, sequences, slots, tensors }
    }

    /// The Program, if every weight fitted.
    ///
    /// # Errors
    /// Every weight that is missing or has another shape or type, at once.
    pub fn finish(mut self) -> Result<Program, ProgramError> {
        if self.program.body == 0 {
            self.program.body = self.program.steps.len();
        }
        match self.problems.len() {
            0 => Ok(self.program),
            1 => Err(self.problems.remove(0)),
            _ => Err(ProgramError::Weights(self.problems)),
        }
    }

    /// A slot that a call brings.
    pub fn input(&mut self, name: &str, dtype: DType, shape: &[Axis]) -> Id {
        self.program.slot(name, Kind::Input, dtype, shape)
    }

    /// Whether the file has a tensor.
    pub fn has(&self, tensor: &str) -> bool {
        (self.found)(&format!("{}{tensor}", self.tensors)).is_some()
    }

    /// The steps so far work on all tokens, what follows on the wanted rows.
    pub fn head(&mut self) {
        self.program.body = self.program.steps.len();
    }

    /// The type of a tensor of the file, held against the shape that it must have.
    fn fits(&mut self, tensor: &str, wanted: &[usize]) -> DType {
        let found = (self.found)(tensor);
        let what = match &found {
            None => "is missing".to_owned(),
            Some(m) if m.shape != wanted => format!("is {:?}, wants {wanted:?}", m.shape),
            Some(m) if wanted.len() == 1 && m.dtype != DType::F32 => {
                format!("is {}, vectors are f32", m.dtype)
            }
            Some(_) => String::new(),
        };
        // A tensor that is used in parts is told once.
        let told =
            |p: &ProgramError| matches!(p, ProgramError::Weight { tensor: t, .. } if t == tensor);
        if !what.is_empty() && !self.problems.iter().any(told) {
            self.problems.push(ProgramError::Weight { tensor: tensor.to_owned(), what });
        }
        found.map_or(DType::F32, |m| m.dtype)
    }

    /// The slot of rows of a tensor; what is asked for twice is one slot.
    fn weight(&mut self, name: &str, tensor: &str, of: &[usize], part: Range<usize>) -> View {
        let tensor = format!("{}{tensor}", self.tensors);
        let dtype = self.fits(&tensor, of);
        let mut axes: Vec<Axis> = of.iter().copied().map(Axis::Is).collect();
        axes[0] = Axis::Is(part.len());
        let kind = Kind::Weight { tensor, first: part.start };
        let known = self.program.slots.iter().position(|s| s.kind == kind && s.shape == axes);
        let id = known.map_or_else(
            || self.program.slot(&format!("{}{name}", self.slots), kind, dtype, &axes),
            Id,
        );
        self.program.whole(id)
    }

    fn vector(&mut self, name: &str, tensor: &str, count: usize) -> View {
        self.weight(name, tensor, &[count], 0..count)
    }

    fn value(&mut self, name: &str, dtype: DType, shape: &[Axis]) -> View {
        let id = self.program.slot(&format!("{}{name}", self.slots), Kind::Value, dtype, shape);
        self.program.whole(id)
    }

    /// A value with the rows of `like` and another width.
    fn beside(&mut self, name: &str, like: Id, width: usize, dtype: DType) -> View {
        let rows = self.program.slots[like.0].shape[0];
        self.value(name, dtype, &[rows, Axis::Is(width)])
    }

    fn width(&self, slot: Id) -> usize {
        match self.program.slots[slot.0].shape.last() {
            Some(Axis::Is(width)) => *width,
            _ => 1,
        }
    }

    /// Adds a step; its first result names it.
    fn step(
        &mut self,
        op: &'static str,
        attributes: Value,
        operands: Vec<(&'static str, View)>,
        results: Vec<(&'static str, View)>,
    ) -> Id {
        let slot = results[0].1.slot;
        let name = self.program.slots[slot.0].name.clone();
        let attributes = attributes.as_object().cloned().unwrap_or_else(Map::new);
        let scalars = Vec::new();
        self.program.steps.push(Step { name, op, attributes, scalars, operands, results });
        slot
    }

    /// Rows of the table `tensor` [vocabulary, hidden] by the ids in `tokens` \[n\].
    pub fn embedding(&mut self, name: &str, tokens: Id, tensor: &str, table: [usize; 2]) -> Id {
        let w = self.weight("embed.w", tensor, &table, 0..table[0]);
        let y = self.beside(name, tokens, table[1], DType::F32);
        let operands = vec![("ids", self.program.whole(tokens)), ("table", w)];
        self.step("embedding", json!({"to": "f32"}), operands, vec![("y", y)])
    }

    /// Adds a learned row a position: `tensor` [positions, hidden].
    pub fn positional(&mut self, name: &str, x: Id, tensor: &str, count: usize) -> Id {
        let hidden = self.width(x);
        let table = self.weight("embed.positions", tensor, &[count, hidden], 0..count);
        let y = self.beside(name, x, hidden, DType::F32);
        let batch = |slot: Id| View { slot, shape: vec![Axis::Is(1), Axis::N, Axis::Is(hidden)] };
        let positions = self.program.whole(self.positions);
        let operands = vec![("x", batch(x)), ("table", table), ("positions", positions)];
        self.step("positional", json!({}), operands, vec![("y", batch(y.slot))])
    }

    /// layernorm by `<tensor>.weight` and `<tensor>.bias`.
    pub fn layernorm(&mut self, name: &str, x: Id, tensor: &str, eps: f64) -> Id {
        let h = self.width(x);
        let gamma = self.vector(&format!("{name}.gamma"), &format!("{tensor}.weight"), h);
        let beta = self.vector(&format!("{name}.beta"), &format!("{tensor}.bias"), h);
        let y = self.beside(name, x, h, self.types.dtype);
        let operands = vec![("x", self.program.whole(x)), ("gamma", gamma), ("beta", beta)];
        self.step("layernorm", json!({"eps": eps, "to": "D"}), operands, vec![("y", y)])
    }

    /// rmsnorm by `<tensor>.weight`.
    pub fn rmsnorm(&mut self, name: &str, x: Id, tensor: &str, eps: f64) -> Id {
        let h = self.width(x);
        let gamma = self.vector(&format!("{name}.gamma"), &format!("{tensor}.weight"), h);
        let y = self.beside(name, x, h, self.types.dtype);
        let operands = vec![("x", self.program.whole(x)), ("gamma", gamma)];
        self.step("rmsnorm", json!({"eps": eps, "to": "D"}), operands, vec![("y", y)])
    }

    /// A projection by rows of `<tensor>.weight`, and of `<tensor>.bias` where it has one, to D.
    pub fn linear(&mut self, name: &str, x: Id, rows: &Rows, bias: Bias) -> Id {
        self.project(name, x, rows, bias, self.types.dtype)
    }

    /// A projection whose result is added to the residual stream, or is gated, or is logits: f32.
    pub fn linear_f32(&mut self, name: &str, x: Id, rows: &Rows, bias: Bias) -> Id {
        self.project(name, x, rows, bias, DType::F32)
    }

    fn project(&mut self, name: &str, x: Id, rows: &Rows, bias: Bias, to: DType) -> Id {
        let tensor = rows.tensor;
        let of = [rows.of, self.width(x)];
        let weight = format!("{tensor}.weight");
        let w = self.weight(&format!("{name}.w"), &weight, &of, rows.part.clone());
        let mut operands = vec![("x", self.program.whole(x)), ("w", w)];
        let b = format!("{tensor}.bias");
        if bias == Bias::Must || bias == Bias::May && self.has(&b) {
            let bias = self.weight(&format!("{name}.b"), &b, &of[..1], rows.part.clone());
            operands.push(("bias", bias));
        }
        let y = self.beside(name, x, rows.part.len(), to);
        let to = if to == self.types.dtype { "D" } else { "f32" };
        self.step("linear", json!({"to": to}), operands, vec![("y", y)])
    }

    fn by_head(&self, slot: Id, heads: usize, d: usize) -> View {
        View { slot, shape: vec![Axis::N, Axis::Is(heads), Axis::Is(d)] }
    }

    /// Rotates the heads of `x` by their positions; `attributes` as the op's, and divisors by the
    /// tensor of that name where the file has it.
    pub fn rope(
        &mut self,
        name: &str,
        x: Id,
        heads: (usize, usize),
        attributes: &Value,
        divisors: Option<(&str, usize)>,
    ) -> Id {
        let y = self.beside(name, x, heads.0 * heads.1, self.types.dtype);
        let view = |b: &Builder, slot: Id| b.by_head(slot, heads.0, heads.1);
        let positions = self.program.whole(self.positions);
        let mut operands = vec![("x", view(self, x)), ("positions", positions)];
        if let Some((tensor, count)) = divisors {
            let (slots, tensors) = (take(&mut self.slots), take(&mut self.tensors));
            operands.push(("divisors", self.vector("rope.divisors", tensor, count)));
            (self.slots, self.tensors) = (slots, tensors);
        }
        let y = vec![("y", view(self, y.slot))];
        self.step("rope", attributes.clone(), operands, y)
    }

    /// Appends k and v to the caches and attends with q; `attributes` as the op's.
    pub fn attention(
        &mut self,
        name: &str,
        [q, k, v]: [Id; 3],
        heads: Heads,
        attributes: &Value,
    ) -> Id {
        let Heads { q: query, k: groups, d } = heads;
        let mut cache = vec![Axis::Is(self.capacity.context), Axis::Is(groups), Axis::Is(d)];
        if self.sequences.is_some() {
            cache.insert(0, Axis::Is(self.capacity.sequences));
        }
        let kv = self.types.kv;
        let [k_cache, v_cache] = ["kv.k", "kv.v"].map(|name| {
            let name = format!("{}{name}", self.slots);
            let id = self.program.slot(&name, Kind::State, kv, &cache);
            self.program.whole(id)
        });
        let caches = vec![("k_cache", k_cache.clone()), ("v_cache", v_cache.clone())];
        let mut append = vec![("k", self.by_head(k, groups, d)), ("v", self.by_head(v, groups, d))];
        append.extend(caches.clone());
        let mut attend = vec![("q", self.by_head(q, query, d)), ("k", k_cache), ("v", v_cache)];
        if let Some(sequences) = self.sequences {
            for operands in [&mut append, &mut attend] {
                operands.push(("sequences", self.program.whole(sequences)));
                operands.push(("positions", self.program.whole(self.positions)));
            }
        }
        self.step("kv_append", json!({}), append, caches);
        let y = self.beside(name, q, query * d, self.types.dtype);
        let results = vec![("y", self.by_head(y.slot, query, d))];
        let y = self.step("attention_prefill", attributes.clone(), attend, results);
        if self.sequences.is_none() {
            // One sequence: its rows are neighbours, and where they begin is enough.
            for step in self.program.steps.iter_mut().rev().take(2) {
                step.scalars = vec![("start", self.positions)];
            }
        }
        y
    }

    /// a + b, in the type of the residual stream.
    pub fn residual(&mut self, name: &str, a: Id, b: Id) -> Id {
        let y = self.beside(name, a, self.width(a), DType::F32);
        let operands = vec![("a", self.program.whole(a)), ("b", self.program.whole(b))];
        self.step("residual", json!({}), operands, vec![("y", y)])
    }

    /// GELU by its tanh form.
    pub fn gelu_tanh(&mut self, name: &str, x: Id) -> Id {
        let y = self.beside(name, x, self.width(x), self.types.dtype);
        let operands = vec![("x", self.program.whole(x))];
        self.step("gelu", json!({"approximate": "tanh"}), operands, vec![("y", y)])
    }

    /// silu(gate) · up.
    pub fn swiglu(&mut self, name: &str, gate: Id, up: Id) -> Id {
        let y = self.beside(name, gate, self.width(gate), self.types.dtype);
        let operands = vec![("gate", self.program.whole(gate)), ("up", self.program.whole(up))];
        self.step("swiglu", json!({}), operands, vec![("y", y)])
    }

    /// The rows of `x` that are wanted, by `out_rows` \[m\]; the head begins here.
    pub fn rows(&mut self, name: &str, x: Id) -> Id {
        self.head();
        let rows = self.input("out_rows", DType::I32, &[Axis::M]);
        let y = self.value(name, DType::F32, &[Axis::M, Axis::Is(self.width(x))]);
        let operands = vec![("x", self.program.whole(x)), ("rows", self.program.whole(rows))];
        self.step("rows", json!({}), operands, vec![("y", y)])
    }
}
