//! JSON that means one thing, read in place: no key twice, nothing after the value, few levels.
//!
//! The text is checked once, and then walked. There is no tree: a hostile file cannot make the
//! reader ask for much more memory than the file itself has, and every value knows its offset.

use std::borrow::Cow;

/// Levels of arrays and objects; model files have fewer than ten.
pub const DEPTH: usize = 64;

/// What breaks the syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Something else than the grammar wants there, or the end of the text.
    Syntax,
    /// More than [`DEPTH`] levels.
    Depth,
    /// A key that its object already has.
    Twice,
    /// Something after the value.
    Trailing,
}

/// Where the text is no JSON of this kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotJson {
    /// Of which sort.
    pub what: Break,
    /// Offset in bytes.
    pub at: usize,
    /// What the grammar wants there.
    pub expected: &'static str,
    /// Of a key that stands twice: the path of its object, without places in arrays.
    pub path: String,
}

impl NotJson {
    fn new(what: Break, at: usize, expected: &'static str) -> NotJson {
        NotJson { what, at, expected, path: String::new() }
    }
}

/// A checked text.
#[derive(Clone, Copy, Debug)]
pub struct Json<'a> {
    text: &'a str,
}

/// A value inside a checked text.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    text: &'a str,
    /// Offset of its first byte.
    pub at: usize,
}

impl<'a> Json<'a> {
    /// Checks a whole text.
    ///
    /// # Errors
    /// The first place that breaks the grammar.
    pub fn read(bytes: &'a [u8]) -> Result<Json<'a>, NotJson> {
        let text = std::str::from_utf8(bytes)
            .map_err(|e| NotJson::new(Break::Syntax, e.valid_up_to(), "UTF-8"))?;
        let mut check = Check { text, at: 0, keys: Vec::new(), path: Vec::new() };
        check.space();
        check.value(0)?;
        check.space();
        match check.at == text.len() {
            true => Ok(Json { text }),
            false => Err(NotJson::new(Break::Trailing, check.at, "the end")),
        }
    }

    /// The value.
    pub fn root(&self) -> Node<'a> {
        Node { text: self.text, at: space(self.text.as_bytes(), 0) }
    }

    /// The path (RFC 6901) of the innermost value that holds this offset.
    pub fn pointer(&self, at: usize) -> String {
        let mut path = String::new();
        let mut node = self.root();
        loop {
            let inside = |n: &Node| n.at <= at && at < n.end();
            let step = match node.first() {
                b'{' => node
                    .fields()
                    .find(|f| inside(&f.value) || (f.at..f.value.at).contains(&at))
                    .map(|f| (f.key.replace('~', "~0").replace('/', "~1"), f.value)),
                b'[' => node
                    .items()
                    .enumerate()
                    .find(|(_, n)| inside(n))
                    .map(|(i, n)| (i.to_string(), n)),
                _ => None,
            };
            let Some((name, inner)) = step else { return path };
            path = format!("{path}/{name}");
            node = inner;
        }
    }
}

/// Line and column of an offset, from 1; the column counts bytes.
pub fn line_and_column(bytes: &[u8], at: usize) -> (usize, usize) {
    let before = &bytes[..at.min(bytes.len())];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    (line, before.len() - start + 1)
}

/// A member of an object.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    /// Offset of the key.
    pub at: usize,
    /// The key, unescaped.
    pub key: Cow<'a, str>,
    /// The value.
    pub value: Node<'a>,
}

impl<'a> Node<'a> {
    fn first(&self) -> u8 {
        self.text.as_bytes()[self.at]
    }

    fn end(&self) -> usize {
        skip(self.text.as_bytes(), self.at)
    }

    /// The text as written.
    pub fn raw(&self) -> &'a str {
        &self.text[self.at..self.end()]
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.first() == b'n'
    }

    /// A boolean.
    pub fn boolean(&self) -> Option<bool> {
        match self.first() {
            b't' => Some(true),
            b'f' => Some(false),
            _ => None,
        }
    }

    /// A string, unescaped.
    pub fn string(&self) -> Option<Cow<'a, str>> {
        (self.first() == b'"').then(|| unescape(&self.text[self.at + 1..self.end() - 1]))
    }

    /// A whole number from 0, written without a point or an exponent.
    pub fn whole(&self) -> Option<u64> {
        self.raw().parse().ok()
    }

    /// A number.
    pub fn number(&self) -> Option<f64> {
        matches!(self.first(), b'-' | b'0'..=b'9').then(|| self.raw().parse().ok()).flatten()
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        self.first() == b'{'
    }

    /// Whether it is an array.
    pub fn is_array(&self) -> bool {
        self.first() == b'['
    }

    /// The members of an object in their order; none of anything else.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let (text, mut at) = (self.text, inner(self.text.as_bytes(), self.at, b'{', b'}'));
        std::iter::from_fn(move || {
            let (bytes, start) = (text.as_bytes(), at?);
            let key = Node { text, at: start };
            let colon = space(bytes, key.end());
            let value = Node { text, at: space(bytes, colon + 1) };
            at = next(bytes, value.end());
            Some(Field { at: start, key: key.string()?, value })
        })
    }

    /// The member of this name.
    pub fn get(&self, key: &str) -> Option<Node<'a>> {
        self.fields().find(|f| f.key == key).map(|f| f.value)
    }

    /// The elements of an array in their order; none of anything else.
    pub fn items(&self) -> impl Iterator<Item = Node<'a>> + use<'a> {
        let (text, mut at) = (self.text, inner(self.text.as_bytes(), self.at, b'[', b']'));
        std::iter::from_fn(move || {
            let node = Node { text, at: at? };
            at = next(text.as_bytes(), node.end());
            Some(node)
        })
    }
}

fn space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Offset of the first element of a checked array or object, if it has any.
fn inner(bytes: &[u8], at: usize, open: u8, close: u8) -> Option<usize> {
    let first = space(bytes, at + 1);
    (bytes[at] == open && bytes[first] != close).then_some(first)
}

/// Offset of the element after the one that ends here, if there is one.
fn next(bytes: &[u8], end: usize) -> Option<usize> {
    let at = space(bytes, end);
    (bytes[at] == b',').then(|| space(bytes, at + 1))
}

/// The end of the checked value that begins here.
fn skip(bytes: &[u8], at: usize) -> usize {
    let (mut at, mut depth) = (at, 0usize);
    loop {
        match bytes[at] {
            b'"' => {
                at += 1;
                while bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'{' | b'[' => {
                (at, depth) = (at + 1, depth + 1);
                continue;
            }
            b'}' | b']' => (at, depth) = (at + 1, depth - 1),
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => {
                at += 1;
                continue;
            }
            _ => {
                let word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
                while bytes.get(at).is_some_and(word) {
                    at += 1;
                }
            }
        }
        if depth == 0 {
            return at;
        }
    }
}

/// The text of a checked string without its quotes.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let unit = |at: usize| text.get(at..at + 4).and_then(|h| u16::from_str_radix(h, 16).ok());
    let mut plain = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(run) = text[at..].find('\\') {
        plain.push_str(&text[at..at + run]);
        at += run + 2;
        match text.as_bytes()[at - 1] {
            b'u' => {
                // A high surrogate is followed by its low one: that was checked.
                let pair = [unit(at).unwrap_or_default(), unit(at + 6).unwrap_or_default()];
                let high = (0xd800..0xdc00).contains(&pair[0]);
                let units = if high { &pair[..] } else { &pair[..1] };
                plain.extend(char::decode_utf16(units.iter().copied()).flatten());
                at += if high { 10 } else { 4 };
            }
            b'b' => plain.push('\u{8}'),
            b'f' => plain.push('\u{c}'),
            b'n' => plain.push('\n'),
            b'r' => plain.push('\r'),
            b't' => plain.push('\t'),
            other => plain.push(char::from(other)),
        }
    }
    plain.push_str(&text[at..]);
    Cow::Owned(plain)
}

struct Check<'a> {
    text: &'a str,
    at: usize,
    /// Offsets of the keys of every open object, innermost last.
    keys: Vec<u32>,
    /// Offsets of the keys under which the open values stand.
    path: Vec<u32>,
}

impl Check<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        self.at = space(self.text.as_bytes(), self.at);
    }

    fn wrong<T>(&self, expected: &'static str) -> Result<T, NotJson> {
        Err(NotJson::new(Break::Syntax, self.at, expected))
    }

    fn value(&mut self, depth: usize) -> Result<(), NotJson> {
        if depth > DEPTH {
            return Err(NotJson::new(Break::Depth, self.at, "at most 64 levels"));
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                let rest = &self.text[self.at..];
                let word = ["true", "false", "null"].into_iter().find(|w| rest.starts_with(w));
                let Some(word) = word else { return self.wrong("a value") };
                self.at += word.len();
                Ok(())
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), NotJson> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            self.value(depth + 1)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return self.wrong("`,` or `]`"),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), NotJson> {
        let first = self.keys.len();
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            let key = u32::try_from(self.at).unwrap_or(u32::MAX);
            if self.peek() != Some(b'"') {
                return self.wrong("a key");
            }
            self.string()?;
            self.keys.push(key);
            self.space();
            if self.peek() != Some(b':') {
                return self.wrong("`:`");
            }
            self.at += 1;
            self.space();
            self.path.push(key);
            self.value(depth + 1)?;
            self.path.pop();
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return self.wrong("`,` or `}`"),
            }
        }
        self.at += 1;
        self.once(first)
    }

    /// No two keys from `first` on are equal.
    fn once(&mut self, first: usize) -> Result<(), NotJson> {
        let text = self.text;
        let key = |at: u32| Node { text, at: at as usize }.string().unwrap_or_default();
        self.keys[first..].sort_unstable_by(|a, b| key(*a).cmp(&key(*b)).then(a.cmp(b)));
        let twice = self.keys[first..].windows(2).find(|w| key(w[0]) == key(w[1])).map(|w| w[1]);
        self.keys.truncate(first);
        match twice {
            None => Ok(()),
            Some(at) => {
                let escaped = |at: &u32| key(*at).replace('~', "~0").replace('/', "~1");
                let path = self.path.iter().map(|at| format!("/{}", escaped(at))).collect();
                let expected = "each key of an object once";
                Err(NotJson { what: Break::Twice, at: at as usize, expected, path })
            }
        }
    }

    fn string(&mut self) -> Result<(), NotJson> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(0..0x20) | None => return self.wrong("a character of a string"),
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        Ok(())
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        let bytes = self.text.as_bytes();
        match bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let unit = |at: usize| {
                    let digits =
                        bytes.get(at..at + 4).filter(|d| d.iter().all(u8::is_ascii_hexdigit))?;
                    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
                };
                let low = || match bytes.get(self.at + 6..self.at + 8) {
                    Some(b"\\u") => unit(self.at + 8).filter(|u| (0xdc00..0xe000).contains(u)),
                    _ => None,
                };
                match unit(self.at + 2) {
                    Some(0xd800..0xdc00) if low().is_some() => self.at += 12,
                    Some(0..0xd800 | 0xe000..) => self.at += 6,
                    Some(_) => return self.wrong("both halves of a surrogate pair"),
                    None => return self.wrong("four hexadecimal digits"),
                }
            }
            _ => return self.wrong("an escape"),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), NotJson> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return self.wrong("a digit");
        }
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
