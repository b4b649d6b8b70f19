//! Launches as data: an op describes them, the executor performs them.

use super::page::{Page, Variant};

/// The kind of a field of an argument struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// A device pointer.
    Ptr,
    /// `int`.
    I32,
    /// `unsigned`.
    U32,
    /// `float`.
    F32,
    /// `long long`.
    I64,
}

impl Field {
    const fn size(self) -> usize {
        match self {
            Field::Ptr | Field::I64 => 8,
            Field::I32 | Field::U32 | Field::F32 => 4,
        }
    }
}

/// An argument struct: the one place where its fields are written down for both sides.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// The name of the struct in the page.
    pub name: &'static str,
    /// Its fields, in order.
    pub fields: &'static [(&'static str, Field)],
}

impl Layout {
    fn offsets(&self) -> (Vec<usize>, usize) {
        let mut end = 0usize;
        let mut align = 4;
        let mut offsets = Vec::with_capacity(self.fields.len());
        for (_, field) in self.fields {
            let size = field.size();
            align = align.max(size);
            let at = end.next_multiple_of(size);
            offsets.push(at);
            end = at + size;
        }
        (offsets, end.next_multiple_of(align))
    }

    /// The bytes of the struct.
    pub fn size(&self) -> usize {
        self.offsets().1
    }

    /// Text that compiles only where the page's struct has these fields, of these sizes, in this
    /// order. (NVRTC before 13.5 knows no offsetof.)
    pub fn assertions(&self) -> String {
        let name = self.name;
        let mut text = format!(
            "static_assert(sizeof({name}) == {}, \"size of {name} drifted\");\n\
             constexpr {name} {name}_probe{{}};\n",
            self.size()
        );
        let mut before: Option<&str> = None;
        for (field, kind) in self.fields {
            let at = |f: &str| format!("static_cast<const void*>(&{name}_probe.{f})");
            let order =
                before.map_or_else(String::new, |b| format!(" && {} < {}", at(b), at(field)));
            text.push_str(&format!(
                "static_assert(sizeof({name}_probe.{field}) == {}{order}, \
                 \"{name}.{field} drifted\");\n",
                kind.size()
            ));
            before = Some(field);
        }
        text
    }
}

/// A value of an argument struct.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// The address of a slot plus bytes: an operand, a result, workspace, `fault`, a constant.
    Slot(&'static str, u64),
    /// A null pointer: an optional operand that is not there.
    Null,
    /// `int`.
    I32(i32),
    /// `unsigned`.
    U32(u32),
    /// `float`.
    F32(f32),
    /// `long long`.
    I64(i64),
}

/// The arguments of one launch, in the order of its [`Layout`].
#[derive(Clone, Debug, PartialEq)]
pub struct Args {
    /// The struct.
    pub layout: &'static Layout,
    /// A value a field.
    pub values: Vec<Arg>,
}

impl Args {
    /// Arguments by name.
    ///
    /// # Panics
    /// If names, order or kinds are not those of the layout: every lowering is run by a test
    /// without a GPU.
    pub fn new<const N: usize>(layout: &'static Layout, values: [(&'static str, Arg); N]) -> Args {
        assert_eq!(layout.fields.len(), N, "fields of {}", layout.name);
        for ((name, field), (given, value)) in layout.fields.iter().zip(&values) {
            let fits = matches!(
                (field, value),
                (Field::Ptr, Arg::Slot(..) | Arg::Null)
                    | (Field::I32, Arg::I32(_))
                    | (Field::U32, Arg::U32(_))
                    | (Field::F32, Arg::F32(_))
                    | (Field::I64, Arg::I64(_))
            );
            assert!(fits && name == given, "{}.{name} given {given} {value:?}", layout.name);
        }
        Args { layout, values: values.into_iter().map(|(_, value)| value).collect() }
    }

    /// The struct's bytes, once every slot has an address.
    pub fn bytes(&self, mut address: impl FnMut(&str) -> u64) -> Vec<u8> {
        let (offsets, size) = self.layout.offsets();
        let mut bytes = vec![0u8; size];
        for (value, at) in self.values.iter().zip(offsets) {
            let mut put = |b: &[u8]| bytes[at..at + b.len()].copy_from_slice(b);
            match value {
                Arg::Slot(slot, offset) => put(&(address(slot) + offset).to_le_bytes()),
                Arg::Null => put(&0u64.to_le_bytes()),
                Arg::I32(x) => put(&x.to_le_bytes()),
                Arg::U32(x) => put(&x.to_le_bytes()),
                Arg::F32(x) => put(&x.to_le_bytes()),
                Arg::I64(x) => put(&x.to_le_bytes()),
            }
        }
        bytes
    }

    /// The slots that are pointed at.
    pub fn slots(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.values.iter().filter_map(|v| match v {
            Arg::Slot(name, _) => Some(*name),
            _ => None,
        })
    }
}

/// One kernel launch, as data. Made by an op's launcher after its shape check; performed by
/// [`Device`](super::Device) alone.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The page that holds the entry.
    pub page: &'static Page,
    /// The defines it is compiled with.
    pub variant: Variant,
    /// The entry.
    pub entry: String,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads a block.
    pub block: u32,
    /// Dynamic shared memory, bytes.
    pub shared: u32,
    /// Arguments.
    pub args: Args,
    /// Whether it may start before the launch ahead of it ends (the entry waits by itself).
    pub overlap: bool,
}

impl Launch {
    /// A launch of `entry` of `page`, without shared memory, in order.
    pub fn new(page: &'static Page, entry: String, grid: u32, block: u32, args: Args) -> Launch {
        Launch {
            page,
            variant: Variant(&[]),
            entry,
            grid: [grid, 1, 1],
            block,
            shared: 0,
            args,
            overlap: false,
        }
    }
}

/// What an op's question becomes on a card.
#[derive(Clone, Debug, Default)]
pub struct Lowered {
    /// Launches, in order.
    pub launches: Vec<Launch>,
    /// Scratch slots: name, bytes. Uninitialised.
    pub workspace: Vec<(&'static str, usize)>,
    /// Slots that hold these bytes before the first launch: tables, scalars in device memory.
    pub constants: Vec<(&'static str, Vec<u8>)>,
    /// What a value in the slot `fault` means, by its code from 1: kind and operand. A kernel that
    /// finds such data stores the code once and writes nothing out of bounds.
    pub faults: Vec<(crate::error::RefusalKind, &'static str)>,
}

impl Lowered {
    /// One launch and nothing else.
    pub fn one(launch: Launch) -> Lowered {
        Lowered { launches: vec![launch], ..Lowered::default() }
    }
}
