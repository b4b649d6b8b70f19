//! Parses YAML into a tree that knows where each part was written: one document, no anchors, no
//! tags, no repeated key.
//!
//! The parser is serde-saphyr's. The tree is ours, because errors of meaning need the place of
//! every value and the digits as they were written.

use serde_yaml::granit_parser::{
    ErrorKind, Event, Options, Parser, ScalarStyle, ScanError, Span, StructureStyle,
};

use crate::line::Place;
use crate::yaml::Problem;
use crate::yaml::problem::snippet;

/// The largest file that is read, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// The deepest nesting that is read.
pub const MAX_DEPTH: usize = 32;

/// The text of a file, for places and snippets.
#[derive(Clone, Debug)]
pub struct Source {
    /// The path below the specs folder.
    pub file: String,
    /// The whole text, without byte order mark.
    pub text: String,
}

impl Source {
    /// Takes the bytes of a file as text: UTF-8, at most [`MAX_BYTES`], no control characters.
    ///
    /// # Errors
    /// `SIZE`, or `YAML_CHAR` with the offending byte.
    pub fn new(file: &str, bytes: &[u8]) -> Result<Source, Problem> {
        // Before parsing, whose time and memory grow with the text.
        if bytes.len() > MAX_BYTES {
            let (found, expected) = (format!("{} bytes", bytes.len()), "at most 1 MiB");
            return Err(Problem::of_file("SIZE", file, found, expected));
        }
        // Some editors begin a file with a byte order mark, which is no part of the text.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => {
                let at = e.valid_up_to();
                let found = format!("byte 0x{:02x} at offset {at}", bytes[at]);
                return Err(Problem::of_file("YAML_CHAR", file, found, "UTF-8 text"));
            }
        };
        let source = Source { file: file.to_owned(), text: text.to_owned() };
        // A control character could change what a terminal shows of the file.
        let control = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{85}');
        if let Some((at, c)) = text.char_indices().find(|&(_, c)| control(c)) {
            let found = format!("character {:?} at offset {at}", c);
            let (line, column) = position(text, at);
            return Err(source.problem("YAML_CHAR", line, column, "", &found, "printable text"));
        }
        Ok(source)
    }

    /// A problem at a place in this file.
    pub fn problem(
        &self,
        code: &'static str,
        line: u32,
        column: u32,
        field: &str,
        found: &str,
        expected: &str,
    ) -> Problem {
        let mut problem = Problem::of_file(code, &self.file, found, expected);
        problem.place.line = line;
        problem.place.column = column;
        problem.field = field.to_owned();
        problem.snippet = snippet(&self.text, line, column);
        problem
    }
}

fn position(text: &str, offset: usize) -> (u32, u32) {
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line as u32, column as u32)
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1.
    pub column: u32,
    /// The value itself.
    pub kind: Kind,
}

/// The kinds of node.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A scalar, and whether it is unquoted.
    Scalar {
        /// The text after resolving YAML's escapes.
        text: String,
        /// Whether it is neither quoted nor a block.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// The place of the node in `source`.
    pub fn place(&self, source: &Source) -> Place {
        Place { file: source.file.clone(), line: self.line, column: self.column }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The text of an unquoted scalar.
    pub fn bare(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, plain: true } => Some(text),
            _ => None,
        }
    }

    /// The node in words, for `found`.
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Scalar { text, plain: true } => text.clone(),
            Kind::Scalar { text, plain: false } => format!("the text {text:?}"),
            Kind::List(items) => format!("a list of {}", items.len()),
            Kind::Map(entries) => format!("a mapping of {}", entries.len()),
        }
    }
}

/// Parses the single document of `source`.
///
/// # Errors
/// The first error of syntax, or the first construct that specs do not allow: anchors, aliases,
/// merge keys, tags, directives, a second document, a repeated key, nesting beyond [`MAX_DEPTH`].
pub fn parse(source: &Source) -> Result<Node, Problem> {
    let mut options = Options::default();
    // `%YAML 1.1` would change what a bare word or number means.
    options.disallow_directives = true;
    // Aliases must arrive as events to be refused; resolved, they would pass for values.
    options.emit_unresolved_aliases = true;
    options.set_emit_comments(false);
    let parser = Parser::new_from_str_with_options(&source.text, options);
    Builder { source, parser, depth: 0 }.document()
}

struct Builder<'a> {
    source: &'a Source,
    parser: Parser<'a, serde_yaml::granit_parser::StrInput<'a>>,
    depth: usize,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok(pair)) => Ok(pair),
            Some(Err(e)) => Err(self.scan_problem(&e)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn document(&mut self) -> Result<Node, Problem> {
        let mut root = None;
        let mut documents = 0;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(..) => {
                    documents += 1;
                    // A second document would be ignored silently.
                    if documents > 1 {
                        return Err(self.at(&span, "YAML_MULTIDOC", "a second document", "one"));
                    }
                }
                Event::StreamStart | Event::DocumentEnd => {}
                event => root = Some(self.node(event, &span)?),
            }
        }
        match root {
            // A file of nothing but comments parses as an empty scalar.
            Some(node) if !matches!(node.bare(), Some("" | "~")) => Ok(node),
            _ => Err(Problem::of_file("SPEC_EMPTY", &self.source.file, "nothing", "a mapping")),
        }
    }

    fn node(&mut self, event: Event<'a>, span: &Span) -> Result<Node, Problem> {
        // Aliases let a small file grow without bound, and hide where a value was written.
        if event.is_alias() || event.anchor_id().is_some() {
            let found = if event.is_alias() { "an alias" } else { "an anchor" };
            return Err(self.at(span, "YAML_ALIAS", found, "values written out"));
        }
        // A tag can give a text another type than the one that it shows.
        if let Some(tag) = event.tag() {
            return Err(self.at(span, "YAML_TAG", &format!("the tag {tag:?}"), "no tags"));
        }
        let (line, column) = place(span);
        let kind = match event {
            Event::Scalar(text, style, ..) => {
                Kind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(style, ..) => self.nested(span, style, Builder::list)?,
            Event::MappingStart(style, ..) => self.nested(span, style, Builder::map)?,
            other => {
                let found = format!("{other:?}");
                return Err(self.at(span, "YAML_SYNTAX", &found, "a value"));
            }
        };
        Ok(Node { line, column, kind })
    }

    fn nested(
        &mut self,
        span: &Span,
        _style: StructureStyle,
        read: fn(&mut Builder<'a>) -> Result<Kind, Problem>,
    ) -> Result<Kind, Problem> {
        // Limited, because reading recurses and a file could otherwise exhaust the stack.
        if self.depth == MAX_DEPTH {
            let found = format!("nesting beyond {MAX_DEPTH}");
            return Err(self.at(span, "YAML_DEPTH", &found, "at most 32 levels"));
        }
        self.depth += 1;
        let kind = read(self)?;
        self.depth -= 1;
        Ok(kind)
    }

    fn list(&mut self) -> Result<Kind, Problem> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Kind::List(items));
            }
            items.push(self.node(event, &span)?);
        }
    }

    fn map(&mut self) -> Result<Kind, Problem> {
        let mut entries: Vec<(Node, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Kind::Map(entries));
            }
            let key = self.node(event, &span)?;
            let Some(text) = key.text() else {
                return Err(self.at(&span, "TYPE", &key.describe(), "a key that is text"));
            };
            // Some YAML readers merge here, others see a key of that name.
            if key.bare() == Some("<<") {
                return Err(self.at(&span, "YAML_ALIAS", "a merge key", "values written out"));
            }
            // Readers differ in which of two equal keys wins.
            if let Some((first, _)) = entries.iter().find(|(k, _)| k.text() == Some(text)) {
                let mut problem = self.at(&span, "YAML_DUP", text, "each key once");
                problem.also = Some(first.place(self.source));
                problem.field = text.to_owned();
                return Err(problem);
            }
            let (event, span) = self.next()?;
            let value = self.node(event, &span)?;
            entries.push((key, value));
        }
    }

    fn at(&self, span: &Span, code: &'static str, found: &str, expected: &str) -> Problem {
        let (line, column) = place(span);
        self.source.problem(code, line, column, "", found, expected)
    }

    fn scan_problem(&self, error: &ScanError) -> Problem {
        let (line, column) = (error.marker().line() as u32, error.marker().col() as u32 + 1);
        // The parser reports a tab in the indent as some other mistake, so the line itself is
        // examined.
        let row = self.source.text.lines().nth(line.saturating_sub(1) as usize).unwrap_or("");
        let indent: String = row.chars().take_while(|c| c.is_whitespace()).collect();
        let info = error.info();
        let code = match error.kind() {
            ErrorKind::UnknownAnchor => "YAML_ALIAS",
            _ if indent.contains('\t') => "YAML_CHAR",
            // The parser has a limit of its own, which only its words tell from other errors.
            _ if info.contains("recursion") || info.contains("depth") => "YAML_DEPTH",
            _ => "YAML_SYNTAX",
        };
        let found = if code == "YAML_CHAR" { format!("a tab in the indent: {info}") } else { info };
        self.source.problem(code, line, column, "", &found, "YAML 1.2")
    }
}

fn place(span: &Span) -> (u32, u32) {
    // Editors count columns from 1, the parser from 0.
    (span.start.line() as u32, span.start.col() as u32 + 1)
}
