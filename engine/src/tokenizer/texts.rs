//! A list of texts in one piece of memory: a vocabulary has a hundred thousand short ones.

/// Texts by their place.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Texts {
    /// An empty list with room for this many texts.
    pub fn with_capacity(texts: usize) -> Texts {
        Texts { bytes: Vec::new(), ends: Vec::with_capacity(texts) }
    }

    /// Appends a text. All together have at most 2^32 - 1 bytes, as files of at most 64 MiB do.
    pub fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text at this place; nothing beyond the end.
    pub fn get(&self, place: usize) -> &[u8] {
        let end = |i: usize| self.ends.get(i).map_or(self.bytes.len(), |e| *e as usize);
        let start = place.checked_sub(1).map_or(0, end);
        &self.bytes[start..end(place)]
    }

    /// All of them in their order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// The places sorted by text, equal ones by place.
    pub fn order(&self) -> Order {
        let mut places: Vec<u32> = (0..u32::try_from(self.len()).unwrap_or(u32::MAX)).collect();
        let text = |i: u32| self.get(i as usize);
        places.sort_unstable_by(|a, b| text(*a).cmp(text(*b)).then(a.cmp(b)));
        Order { places }
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Texts {
        let mut all = Texts::default();
        texts.into_iter().for_each(|t| all.push(t.as_ref()));
        all
    }
}

/// Places of [`Texts`] sorted by text.
#[derive(Clone, Debug, Default)]
pub struct Order {
    places: Vec<u32>,
}

impl Order {
    /// The first place of this text.
    pub fn find(&self, texts: &Texts, text: &[u8]) -> Option<u32> {
        let at = self.places.partition_point(|p| texts.get(*p as usize) < text);
        self.places.get(at).copied().filter(|p| texts.get(*p as usize) == text)
    }

    /// Two places with one text, if there are.
    pub fn twice(&self, texts: &Texts) -> Option<(u32, u32)> {
        let same = |w: &&[u32]| texts.get(w[0] as usize) == texts.get(w[1] as usize);
        self.places.windows(2).find(same).map(|w| (w[0], w[1]))
    }

    /// Leaves out the places that this refuses.
    pub fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        self.places.retain(|p| keep(*p));
    }
}
