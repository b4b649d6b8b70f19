//! q4_k: d·scale·q − dmin·min over sub-blocks of 32; low nibbles of 32 bytes, then high ones.

/// Decodes one block of 144 bytes: f16 d, f16 dmin, 12 bytes of scales, 128 of codes.
pub(super) fn block(b: &[u8], out: &mut Vec<f64>) {
    let (d, dmin) = (super::half_at(b, 0), super::half_at(b, 2));
    for (pair, codes) in b[16..144].chunks_exact(32).enumerate() {
        for half in 0..2 {
            let (scale, min) = super::scale_and_min(&b[4..16], 2 * pair + half);
            let shift = 4 * half as u32;
            out.extend(codes.iter().map(|q| d * scale * f64::from(q >> shift & 15) - dmin * min));
        }
    }
}
