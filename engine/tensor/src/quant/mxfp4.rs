//! mxfp4: E2M1 codes under one E8M0 scale byte (OCP Microscaling 1.0); GGUF order: the scale
//! first, element j in the low nibble of byte j, element j + 16 in the high one.

/// The values of the sixteen codes; code 8 is minus zero.
pub const VALUES: [f64; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// The value of a scale byte: 2^(e − 127), with 2^−127 for 0; 255 is NaN.
pub fn scale(e: u8) -> f64 {
    if e == 255 { f64::NAN } else { 2f64.powi(i32::from(e) - 127) }
}

/// Decodes one block of 17 bytes.
pub(super) fn block(b: &[u8], out: &mut Vec<f64>) {
    let scale = scale(b[0]);
    let codes = &b[1..17];
    out.extend(codes.iter().map(|q| scale * VALUES[usize::from(q & 15)]));
    out.extend(codes.iter().map(|q| scale * VALUES[usize::from(q >> 4)]));
}
