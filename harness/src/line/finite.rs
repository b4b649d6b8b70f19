//! Numbers that JSON cannot express: NaN, the infinities and negative zero are written as words, so
//! that a report loses none of them.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WrittenNumber {
    Number(f64),
    Word(String),
}

fn spell(x: f64) -> WrittenNumber {
    match x {
        // JSON readers may drop the sign of a zero, and judging tells the two zeros apart.
        x if x == 0.0 && x.is_sign_negative() => WrittenNumber::Word("-0".to_owned()),
        x if x.is_finite() => WrittenNumber::Number(x),
        x if x.is_nan() => WrittenNumber::Word("NaN".to_owned()),
        x if x > 0.0 => WrittenNumber::Word("inf".to_owned()),
        _ => WrittenNumber::Word("-inf".to_owned()),
    }
}

fn read<E: Error>(written: WrittenNumber) -> Result<f64, E> {
    match written {
        // Each number has one written form, so that a report reads back to the same text.
        WrittenNumber::Number(x) if x == 0.0 && x.is_sign_negative() => {
            Err(E::custom("a zero with a sign is written \"-0\""))
        }
        WrittenNumber::Number(x) => Ok(x),
        WrittenNumber::Word(word) => match word.as_str() {
            "-0" => Ok(-0.0),
            "NaN" => Ok(f64::NAN),
            "inf" => Ok(f64::INFINITY),
            "-inf" => Ok(f64::NEG_INFINITY),
            // Not NaN: a misspelled number must not become a value that was never measured.
            _ => Err(E::custom(format!("{word:?} is no number"))),
        },
    }
}

/// For an optional number.
pub mod maybe {
    use super::{Deserialize, Deserializer, Serialize, Serializer, WrittenNumber, read, spell};

    /// Writes it.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(x: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        x.map(spell).serialize(to)
    }

    /// Reads it.
    ///
    /// # Errors
    /// A word that is no number.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        Option::<WrittenNumber>::deserialize(from)?.map(read).transpose()
    }
}

/// For one number.
pub mod one {
    use super::{Deserialize, Deserializer, Serialize, Serializer, WrittenNumber, read, spell};

    /// Writes it.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(x: &f64, to: S) -> Result<S::Ok, S::Error> {
        spell(*x).serialize(to)
    }

    /// Reads it.
    ///
    /// # Errors
    /// A word that is no number.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        read(WrittenNumber::deserialize(from)?)
    }
}

/// For numbers by name.
pub mod map {
    use std::collections::BTreeMap;

    use super::{Deserialize, Deserializer, Serializer, WrittenNumber, read, spell};

    /// Writes them.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(map: &BTreeMap<String, f64>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(map.iter().map(|(name, x)| (name, spell(*x))))
    }

    /// Reads them.
    ///
    /// # Errors
    /// A word that is no number.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<String, f64>, D::Error> {
        let written = BTreeMap::<String, WrittenNumber>::deserialize(from)?;
        written.into_iter().map(|(name, x)| Ok((name, read(x)?))).collect()
    }
}

/// For a list of numbers.
pub mod list {
    use super::{Deserialize, Deserializer, Serializer, WrittenNumber, read, spell};

    /// Writes it.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(list: &[f64], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|x| spell(*x)))
    }

    /// Reads it.
    ///
    /// # Errors
    /// A word that is no number.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        Vec::<WrittenNumber>::deserialize(from)?.into_iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::line::Worst;

    #[test]
    fn what_json_cannot_say_comes_back() {
        let worst = Worst {
            result: "y".into(),
            index: vec![0],
            first: 0,
            got: vec![f64::NAN, f64::NEG_INFINITY, -0.0],
            want: vec![0.0; 3],
            load: vec![f64::INFINITY, f64::INFINITY, 0.0],
            over: 2,
            total: 3,
        };
        let text = serde_json::to_string(&worst).expect("said");
        assert!(text.contains(r#""got":["NaN","-inf","-0"]"#), "{text}");
        let back: Worst = serde_json::from_str(&text).expect("read");
        assert!(back.got[0].is_nan() && back.load == worst.load);
    }
}
