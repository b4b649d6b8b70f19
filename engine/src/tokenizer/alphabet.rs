//! The byte alphabet of GPT-2: every byte has a printable character, so that tokens are text.

/// The character that stands for a byte: itself where it prints, else one from U+0100 on.
pub fn letter(byte: u8) -> char {
    match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        // The others in their order: 0x00 to 0x20, 0x7f to 0xa0, 0xad.
        0..=0x20 => shifted(u32::from(byte)),
        0x7f..=0xa0 => shifted(u32::from(byte) - 0x7f + 0x21),
        0xad => shifted(0x43),
    }
}

fn shifted(rank: u32) -> char {
    char::from_u32(0x100 + rank).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte that a character stands for.
pub fn byte(letter: char) -> Option<u8> {
    let code = u32::from(letter);
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => u8::try_from(code).ok(),
        0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// The bytes of a token's text; a text with a character outside the alphabet stands for itself.
pub fn bytes(token: &str, into: &mut Vec<u8>) {
    let start = into.len();
    for letter in token.chars() {
        let Some(byte) = byte(letter) else {
            into.truncate(start);
            into.extend_from_slice(token.as_bytes());
            return;
        };
        into.push(byte);
    }
}

/// Bytes spelled in the alphabet.
pub fn spell(bytes: &[u8]) -> String {
    bytes.iter().map(|b| letter(*b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_letter() {
        let letters: std::collections::BTreeSet<char> = (0..=255).map(letter).collect();
        assert_eq!(letters.len(), 256);
        assert!((0..=255).all(|b| byte(letter(b)) == Some(b)));
        assert_eq!((letter(b' '), letter(b'\n'), letter(0xad)), ('Ġ', 'Ċ', '\u{143}'));
    }

    #[test]
    fn a_text_outside_the_alphabet_is_itself() {
        let mut out = Vec::new();
        bytes("Ġa", &mut out);
        bytes("日a", &mut out);
        assert_eq!(out, " a日a".as_bytes());
    }
}
