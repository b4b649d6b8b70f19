//! Suggests what was probably meant by an unknown word.

/// Words of other programs, with our words for the same things.
const SYNONYMS: &[(&str, &str)] = &[
    ("bfloat16", "bf16"),
    ("double", "f64"),
    ("float", "f32"),
    ("float16", "f16"),
    ("float32", "f32"),
    ("float64", "f64"),
    ("fp16", "f16"),
    ("fp32", "f32"),
    ("fp64", "f64"),
    ("half", "f16"),
    ("int32", "i32"),
    ("uint8", "u8"),
];

/// The shortest abbreviation that is recognised, such as `eps` for `epsilon`.
const SHORTEST: usize = 3;

/// The word of `known` that is nearest to `word`, if one is near: a synonym, or else the one with
/// the fewest edits, or else one that begins with the other.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let known: Vec<&str> = known.into_iter().collect();
    let lower = word.to_ascii_lowercase();
    // Names of types in other programs mean the same and differ in most letters.
    let synonym = SYNONYMS.iter().find(|(other, _)| *other == lower).map(|(_, own)| *own);
    if let Some(own) = known.iter().find(|k| Some(**k) == synonym) {
        return Some(own);
    }
    // Any other letter is a single edit away from a word of one letter.
    let count = word.chars().count();
    let limit = if count < 2 { 0 } else { (count / 3).max(1) };
    let by_edits = known.iter().map(|k| (distance(&lower, &k.to_ascii_lowercase()), *k));
    // By distance and then by name, so that the same mistake always gets the same suggestion.
    if let Some((_, k)) = by_edits.filter(|(d, _)| *d <= limit).min() {
        return Some(k);
    }
    // An abbreviation is many edits away from its word, but begins like it.
    let begins = |k: &&&str| {
        k.len().min(word.len()) >= SHORTEST && (k.starts_with(&lower) || lower.starts_with(**k))
    };
    known.iter().filter(begins).min_by_key(|k| k.len().abs_diff(word.len())).copied()
}

/// `; did you mean X?` if a word of `known` is near, else nothing.
pub fn guess<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map(|k| format!("; did you mean {k}?")).unwrap_or_default()
}

/// The allowed words for a message: the nearest word alone if there is one, or else the whole list.
pub fn one_of(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(k) => format!("another word; did you mean {k}?"),
        None => format!("one of {}", known.join(", ")),
    }
}

/// The least number of insertions, deletions, replacements and swaps of neighbours between two
/// words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut next = vec![i + 1];
        for j in 0..b.len() {
            let replaced = row[j] + usize::from(a[i] != b[j]);
            let mut best = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            // Swapped neighbours are the commonest slip, so they count as one edit and not as two.
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["tolerance", "cases", "dtypes", "sizes", "why"];
        assert_eq!(nearest("tolerence", known), Some("tolerance"));
        assert_eq!(nearest("dtype", known), Some("dtypes"));
        assert_eq!(nearest("szies", known), Some("sizes"));
        assert_eq!(nearest("wyh", known), Some("why"));
        assert_eq!(nearest("bench", known), None);
        assert_eq!(nearest("epsilon", ["eps", "scale"]), Some("eps"));
        assert_eq!(nearest("F16", ["f32", "f16", "bf16"]), Some("f16"));
        assert_eq!(nearest("fp16", ["f32", "f16", "bf16"]), Some("f16"));
        assert_eq!(nearest("float32", ["f32", "f16", "bf16"]), Some("f32"));
        assert_eq!(nearest("fp8", ["f32", "f16", "bf16"]), None);
    }

    #[test]
    fn neighbours_that_changed_places_are_one_edit() {
        assert_eq!(distance("szies", "sizes"), 1);
        assert_eq!(distance("", "ab"), 2);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
