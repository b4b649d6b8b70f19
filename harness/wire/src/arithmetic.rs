//! Where a subject rounds intermediate values: what it declares about its arithmetic.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use goldgate_tensor::dtype::DType;
use serde_json::Value;

/// A place at which an engine may round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Weights, after dequantising.
    Weights,
    /// What enters a product with a weight.
    X,
    /// A normalised row, before gamma scales it.
    Norm,
    /// Cosine and sine of rotary positions, and the products with them.
    Rope,
    /// Results of products inside a fused op, and the steps of its activation function.
    Activation,
    /// The weights that a softmax gives.
    P,
    /// The scores that a softmax takes.
    Logits,
}

impl Place {
    /// All of them, in the order of docs/wire.md.
    pub const ALL: [Place; 7] = [
        Place::Weights,
        Place::X,
        Place::Norm,
        Place::Rope,
        Place::Activation,
        Place::P,
        Place::Logits,
    ];

    /// The word on the wire and in subject files.
    pub const fn name(self) -> &'static str {
        match self {
            Place::Weights => "weights",
            Place::X => "x",
            Place::Norm => "norm",
            Place::Rope => "rope",
            Place::Activation => "activation",
            Place::P => "p",
            Place::Logits => "logits",
        }
    }
}

/// What a number is rounded to: nothing coarser can be declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// The type of the question's activations.
    D,
    /// f16.
    F16,
    /// bf16.
    Bf16,
    /// tf32: the exponent of f32, 10 bits of mantissa.
    Tf32,
    /// Whole numbers to ±127 under one scale for so many elements, 32 or 256.
    Int8(u16),
}

impl Rounding {
    /// All of them, in the order of docs/wire.md.
    pub const ALL: [Rounding; 6] = [
        Rounding::D,
        Rounding::F16,
        Rounding::Bf16,
        Rounding::Tf32,
        Rounding::Int8(32),
        Rounding::Int8(256),
    ];

    /// The words on the wire and in subject files.
    pub const fn name(self) -> &'static str {
        match self {
            Rounding::D => "D",
            Rounding::F16 => "f16",
            Rounding::Bf16 => "bf16",
            Rounding::Tf32 => "tf32",
            Rounding::Int8(32) => "int8 per 32",
            Rounding::Int8(_) => "int8 per 256",
        }
    }

    /// The relative error of one rounding, where activations are of type `dtype`: 2^-11 for f16
    /// and tf32, 2^-8 for bf16. None for f32, which every bound allows for already, and for int8,
    /// whose error depends on its block.
    pub fn unit(self, dtype: DType) -> Option<f64> {
        match (self, dtype) {
            (Rounding::F16 | Rounding::Tf32, _) | (Rounding::D, DType::F16) => Some(1.0 / 2048.0),
            (Rounding::Bf16, _) | (Rounding::D, DType::BF16) => Some(1.0 / 256.0),
            _ => None,
        }
    }

    /// The smallest normal number of the type. Below it a rounding moves a number by as much as at
    /// it. None where [`Rounding::unit`] is none.
    pub fn smallest(self, dtype: DType) -> Option<f64> {
        match (self, dtype) {
            (Rounding::F16, _) | (Rounding::D, DType::F16) => Some(2f64.powi(-14)),
            _ => self.unit(dtype).map(|_| f64::from(f32::MIN_POSITIVE)),
        }
    }
}

impl FromStr for Rounding {
    type Err = ();

    fn from_str(text: &str) -> Result<Rounding, ()> {
        Rounding::ALL.into_iter().find(|r| r.name() == text).ok_or(())
    }
}

/// What a subject declares of its arithmetic: a rounding for each place that has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arithmetic(BTreeMap<Place, Rounding>);

impl Arithmetic {
    /// Adds a place.
    ///
    /// # Errors
    /// int8 elsewhere than in what enters a product.
    pub fn declare(&mut self, place: Place, rounding: Rounding) -> Result<(), String> {
        // A weight, a softmax or a norm in int8 would be coarser than any bound that tells a right
        // engine from a wrong one.
        if matches!(rounding, Rounding::Int8(_)) && place != Place::X {
            return Err(format!("{} in int8: only x can be", place.name()));
        }
        self.0.insert(place, rounding);
        Ok(())
    }

    /// Reads what hello declares; nothing where it is absent.
    ///
    /// # Errors
    /// It is no object, or a place or a type is unknown.
    pub fn read(value: &Value) -> Result<Arithmetic, String> {
        let mut all = Arithmetic::default();
        let map = match value {
            Value::Null => return Ok(all),
            Value::Object(map) => map,
            _ => return Err(format!("arithmetic is {value}, wants places with types")),
        };
        for (name, value) in map {
            let place = Place::ALL.into_iter().find(|place| place.name() == name);
            let rounding = value.as_str().and_then(|text| text.parse().ok());
            match (place, rounding) {
                (Some(place), Some(rounding)) => all.declare(place, rounding)?,
                (None, _) => {
                    return Err(format!("arithmetic.{name} is no place; {}", listed(&places())));
                }
                (_, None) => {
                    let types = Rounding::ALL.map(Rounding::name);
                    return Err(format!("arithmetic.{name} is {value}, wants {}", listed(&types)));
                }
            }
        }
        Ok(all)
    }

    /// As hello says it.
    pub fn json(&self) -> Value {
        self.0.iter().map(|(place, rounding)| (place.name(), rounding.name())).collect()
    }

    /// Each place with its rounding.
    pub fn places(&self) -> impl Iterator<Item = (Place, Rounding)> {
        self.0.iter().map(|(place, rounding)| (*place, *rounding))
    }

    /// The rounding of a place.
    pub fn at(&self, place: Place) -> Option<Rounding> {
        self.0.get(&place).copied()
    }

    /// Whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn places() -> [&'static str; 7] {
    Place::ALL.map(Place::name)
}

fn listed(words: &[&str]) -> String {
    format!("one of {}", words.join(", "))
}

/// `weights D, x int8 per 32`.
impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (place, rounding)) in self.places().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", place.name(), rounding.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_declared_is_read_back() {
        let said = json!({"weights": "D", "x": "int8 per 32"});
        let arithmetic = Arithmetic::read(&said).expect("known");
        assert_eq!(arithmetic.to_string(), "weights D, x int8 per 32");
        assert_eq!(arithmetic.json(), said);
        assert_eq!(arithmetic.at(Place::X), Some(Rounding::Int8(32)));
        assert!(Arithmetic::read(&Value::Null).expect("nothing").is_empty());
    }

    #[test]
    fn nothing_coarser_can_be_declared() {
        for (said, error) in [
            (json!([]), "arithmetic is [], wants places with types"),
            (json!({"cache": "f16"}), "arithmetic.cache is no place"),
            (json!({"x": "fp8"}), "arithmetic.x is \"fp8\", wants one of D, f16, bf16, tf32"),
            (json!({"x": "int8 per 128"}), "arithmetic.x is \"int8 per 128\""),
            (json!({"p": "int8 per 32"}), "p in int8: only x can be"),
        ] {
            let found = Arithmetic::read(&said).expect_err("coarse");
            assert!(found.starts_with(error), "{found}");
        }
    }

    #[test]
    fn the_unit_of_d_is_that_of_the_question() {
        assert_eq!(Rounding::D.unit(DType::F32), None);
        assert_eq!(Rounding::D.unit(DType::BF16), Some(0.003_906_25));
        assert_eq!(Rounding::F16.unit(DType::F32), Rounding::Tf32.unit(DType::BF16));
        assert_eq!(Rounding::D.smallest(DType::F16), Some(0.000_061_035_156_25));
        assert_eq!(Rounding::Tf32.smallest(DType::F16), Some(f64::from(f32::MIN_POSITIVE)));
        assert_eq!(Rounding::D.smallest(DType::F32), None);
    }
}
