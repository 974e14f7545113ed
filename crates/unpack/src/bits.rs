//! Codes of a few bits in words of 32.

/// The code of `width` bits that begins at bit `bit` of a run of words, lowest bits first. Codes of
/// three bits may straddle two words: 32 of them fill three.
pub(crate) fn code(word: impl Fn(usize) -> u32, bit: usize, width: u32) -> i32 {
    let (at, shift) = (bit / 32, bit % 32);
    let mut value = word(at) >> shift;
    if shift + width as usize > 32 {
        value |= word(at + 1) << (32 - shift);
    }
    (value & ((1 << width) - 1)).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_straddle_words() {
        // 32 codes of three bits, packed by hand: code i is i % 8.
        let mut bits = [0u32; 3];
        for i in 0..32u32 {
            for b in 0..3 {
                let at = i * 3 + b;
                bits[(at / 32) as usize] |= (((i % 8) >> b) & 1) << (at % 32);
            }
        }
        for i in 0..32 {
            assert_eq!(code(|w| bits[w], i * 3, 3).unsigned_abs() as usize, i % 8);
        }
        assert_eq!(code(|_| 0x8765_4321, 28, 4), 8);
    }
}
