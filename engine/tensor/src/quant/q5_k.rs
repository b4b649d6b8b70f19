//! q5_k: as q4_k, with the fifth bit of sub-block g in bit g of 32 shared bytes.

/// Decodes one block of 176 bytes: f16 d, f16 dmin, 12 bytes of scales, 32 of high bits, 128 of
/// low nibbles.
pub(super) fn block(b: &[u8], out: &mut Vec<f64>) {
    let (d, dmin) = (super::half_at(b, 0), super::half_at(b, 2));
    let high = &b[16..48];
    for (pair, codes) in b[48..176].chunks_exact(32).enumerate() {
        for half in 0..2 {
            let group = 2 * pair + half;
            let (scale, min) = super::scale_and_min(&b[4..16], group);
            let shift = 4 * half as u32;
            out.extend(codes.iter().zip(high).map(|(q, h)| {
                let code = q >> shift & 15 | (h >> group & 1) << 4;
                d * scale * f64::from(code) - dmin * min
            }));
        }
    }
}
