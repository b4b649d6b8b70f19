//! Patterns with `*`, as questions use them to name slots. This is the only definition of `*`, so
//! that filters and slots cannot differ.

/// Whether a pattern matches the whole of `name`; `*` matches any run of characters.
pub fn glob(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        // The first match of a part leaves the most text for the parts after it.
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    // The last part is looked for at the end, since the first place where it occurs may be too
    // early.
    rest.ends_with(last)
}

/// Whether a glob of slots matches a name: `*` is anything within one part between dots, and at the
/// end it is any number of parts.
pub fn means(pattern: &str, name: &str) -> bool {
    let (globs, parts): (Vec<&str>, Vec<&str>) =
        (pattern.split('.').collect(), name.split('.').collect());
    // A last `*` takes all parts that remain, so that `layer.0.*` means the whole layer.
    let open = globs.last() == Some(&"*") && parts.len() >= globs.len();
    let same = globs.len() == parts.len();
    (same || open) && globs.iter().zip(&parts).all(|(g, p)| glob(g, p))
}

/// Whether one of the globs of slots matches a name.
pub fn any(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| means(pattern, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_are_any_text() {
        for (pattern, name, want) in [
            ("a*c", "abbc", true),
            ("a*c", "abbcd", false),
            ("*", "", true),
            ("a**b", "ab", true),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("a*bc*d", "aXbcYbcd", true),
            ("aa*a", "aa", false),
        ] {
            assert_eq!(glob(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn globs_of_slots() {
        assert!(means("layer.*.attn.q", "layer.12.attn.q"));
        assert!(!means("layer.*.attn.q", "layer.12.attn.q_rope"));
        assert!(means("layer.0.*", "layer.0.attn.norm"));
        assert!(!means("layer.0.*", "layer.1.attn.norm"));
        assert!(means("layer.0.attn.q*", "layer.0.attn.q_rope"));
        assert!(means("logits", "logits"));
        assert!(means("*", "embed"));
    }
}
