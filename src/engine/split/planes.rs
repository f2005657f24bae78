//! Classes to bitmaps, 64 characters at a time.
//!
//! Three ways that agree: plain Rust for every machine, AVX2, and AVX-512 with its look-up of 128 bytes, chosen when the program
//! runs. AVX2 saves 10 instructions a byte of the 66 that encoding English took with the plain way (callgrind).

use super::chunk::CHUNK;
use super::class::{Class, Classes, decode};

/// By bit of the class, the characters of a block that have it.
pub(super) type Planes = [u64; 8];

/// Classes of the 128 ASCII characters.
pub(super) type AsciiClasses = [Class; 128];

/// Writes the bitmaps of each 64 bytes of `text`, of which there is room for all, and says whether it is ASCII: else they are void. Behind
/// its end there is nothing.
pub(super) fn of_ascii(text: &[u8], table: &AsciiClasses, planes: &mut [Planes]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if let Some(level) = x86::level() {
        return x86::of_ascii(level, text, table, planes);
    }
    plain::of_ascii(text, table, planes)
}

/// Writes the class of each character of `text`, of up to [`CHUNK`] bytes, and the byte at which it starts, and gives how many they are. Nothing is done, and
/// there is no number, where the machine has no way to do it that is quicker than one by one.
pub(super) fn of_chars(
    text: &[u8],
    table: &AsciiClasses,
    unicode: &Classes,
    classes: &mut [Class; CHUNK],
    starts: &mut [u16; CHUNK + 1],
) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    if x86::level() == Some(x86::Level::Avx512) {
        return Some(x86::of_chars(text, table, unicode, classes, starts));
    }
    None
}

/// The class of the character that starts at byte `at`, which is not ASCII.
#[inline(always)]
pub(super) fn of_char(text: &[u8], at: usize, unicode: &Classes) -> (Class, usize) {
    match text[at..].first_chunk() {
        Some(&[first, second, third]) if first & 0xf0 == 0xe0 => {
            (unicode.of_three([first, second, third]), 3)
        }
        _ => {
            let (scalar, len) = decode(text, at);
            (unicode.of(scalar), len)
        }
    }
}

/// Writes the bitmaps of each 64 classes. The rest of the last 64 may be anything.
pub(super) fn of_classes(classes: &[Class], planes: &mut [Planes]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(level) = x86::level() {
        return x86::of_classes(level, classes, planes);
    }
    plain::of_classes(classes, planes);
}

/// Writes the numbers of the bits that are set, counted from `base`, and gives how many they are. Behind them up to 63 places are written
/// over, so there is room for 64 more than the bits that are set before the last map.
pub(super) fn positions(maps: &[u64], base: u32, places: &mut [u32]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if x86::level() == Some(x86::Level::Avx512) {
        return x86::positions(maps, base, places);
    }
    plain::positions(maps, base, places)
}

mod plain {
    use super::{AsciiClasses, Class, Planes};

    pub(super) fn of_ascii(text: &[u8], table: &AsciiClasses, planes: &mut [Planes]) -> bool {
        for (block, planes) in text.chunks(64).zip(planes) {
            if !block.is_ascii() {
                return false;
            }
            let mut classes = [0; 64];
            for (class, byte) in classes.iter_mut().zip(block) {
                *class = table[usize::from(byte & 0x7f)];
            }
            of_classes(&classes[..block.len()], std::slice::from_mut(planes));
        }
        true
    }

    /// Eight classes at a time: a matrix of 8 by 8 bits, turned over.
    pub(super) fn of_classes(classes: &[Class], planes: &mut [Planes]) {
        for (block, planes) in classes.chunks(64).zip(planes) {
            *planes = [0; 8];
            for (group, rows) in block.chunks(8).enumerate() {
                let mut padded = [0; 8];
                padded[..rows.len()].copy_from_slice(rows);
                let turned = transpose(u64::from_le_bytes(padded)).to_le_bytes();
                for (plane, byte) in planes.iter_mut().zip(turned) {
                    *plane |= u64::from(byte) << (group * 8);
                }
            }
        }
    }

    /// Eight at a time: when a map ends cannot be foreseen.
    pub(super) fn positions(maps: &[u64], base: u32, places: &mut [u32]) -> usize {
        let mut len = 0;
        for (base, &map) in (base..).step_by(64).zip(maps) {
            let mut left = map;
            for eight in places[len..][..64].as_chunks_mut::<8>().0 {
                if left == 0 {
                    break;
                }
                for place in eight {
                    *place = base + left.trailing_zeros();
                    left &= left.wrapping_sub(1);
                }
            }
            len += map.count_ones() as usize;
        }
        len
    }

    /// A matrix of 8 by 8 bits, a byte a row, turned over: bit `i` of byte `k` was bit `k` of byte `i` (Warren, Hacker's
    /// Delight, 7-3).
    fn transpose(mut rows: u64) -> u64 {
        let mut swap = (rows ^ rows >> 7) & 0x00aa_00aa_00aa_00aa;
        rows ^= swap ^ swap << 7;
        swap = (rows ^ rows >> 14) & 0x0000_cccc_0000_cccc;
        rows ^= swap ^ swap << 14;
        swap = (rows ^ rows >> 28) & 0x0000_0000_f0f0_f0f0;
        rows ^ swap ^ swap << 28
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "wide registers; see the measured gain above")]
mod x86 {
    use super::{AsciiClasses, CHUNK, Class, Classes, Planes, of_char};
    use std::arch::x86_64::*;

    /// What this machine has, of what is used here.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) enum Level {
        Avx2,
        Avx512,
    }

    pub(super) fn level() -> Option<Level> {
        if is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi2")
            && is_x86_feature_detected!("popcnt")
        {
            return Some(Level::Avx512);
        }
        is_x86_feature_detected!("avx2").then_some(Level::Avx2)
    }

    pub(super) fn of_ascii(level: Level, text: &[u8], table: &AsciiClasses, planes: &mut [Planes]) -> bool {
        let (whole, rest) = text.as_chunks::<64>();
        let (planes, last_planes) = planes.split_at_mut(whole.len());
        let mut last = [0; 64];
        last[..rest.len()].copy_from_slice(rest);
        let all = |blocks: &[_], planes: &mut [_]| match level {
            // SAFETY: `level` is what the machine was seen to have.
            Level::Avx512 => unsafe { ascii_avx512(blocks, table, planes) },
            // SAFETY: the same.
            Level::Avx2 => unsafe { ascii_avx2(blocks, table, planes) },
        };
        if !all(whole, planes) || !all(&[last], &mut last_planes[..usize::from(!rest.is_empty())]) {
            return false;
        }
        // What a zero byte is told apart by is nothing of the text.
        if let Some(planes) = last_planes.first_mut() {
            let valid = (1 << rest.len()) - 1;
            planes.iter_mut().for_each(|plane| *plane &= valid);
        }
        true
    }

    pub(super) fn of_classes(level: Level, classes: &[Class], planes: &mut [Planes]) {
        let (whole, rest) = classes.as_chunks::<64>();
        let mut last = [0; 64];
        last[..rest.len()].copy_from_slice(rest);
        let blocks = whole.iter().chain((!rest.is_empty()).then_some(&last));
        for (block, planes) in blocks.zip(planes) {
            match level {
                // SAFETY: `level` is what the machine was seen to have.
                Level::Avx512 => unsafe { planes_avx512(block, planes) },
                // SAFETY: the same.
                Level::Avx2 => unsafe { planes_avx2(block, planes) },
            }
        }
    }

    /// Only where [`level`] is [`Level::Avx512`].
    pub(super) fn positions(maps: &[u64], base: u32, places: &mut [u32]) -> usize {
        debug_assert_eq!(level(), Some(Level::Avx512));
        // SAFETY: the machine has it.
        unsafe { positions_avx512(maps, base, places) }
    }

    /// The numbers 0 to 63.
    const NUMBERS: [u8; 64] = {
        let mut numbers = [0; 64];
        let mut i = 0;
        while i < 64 {
            numbers[i] = i as u8;
            i += 1;
        }
        numbers
    };

    /// Only where [`level`] is [`Level::Avx512`].
    pub(super) fn of_chars(
        text: &[u8],
        table: &AsciiClasses,
        unicode: &Classes,
        classes: &mut [Class; CHUNK],
        starts: &mut [u16; CHUNK + 1],
    ) -> usize {
        debug_assert_eq!(level(), Some(Level::Avx512));
        // SAFETY: the machine has it.
        unsafe { chars_avx512(text, table, unicode, classes, starts) }
    }

    /// Of each 64 bytes those of ASCII get their class at once and the first ones of other characters one by one; then the bytes that
    /// begin none are taken out.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,popcnt")]
    fn chars_avx512(
        text: &[u8],
        table: &AsciiClasses,
        unicode: &Classes,
        classes: &mut [Class; CHUNK],
        starts: &mut [u16; CHUNK + 1],
    ) -> usize {
        // SAFETY: the arrays have the sizes that are read.
        let (low, high, numbers) = unsafe {
            (
                _mm512_loadu_si512(table.as_ptr().cast()),
                _mm512_loadu_si512(table.as_ptr().add(64).cast()),
                _mm512_loadu_si512(NUMBERS.as_ptr().cast()),
            )
        };
        let mut len = 0;
        for (base, block) in (0..).step_by(64).zip(text.chunks(64)) {
            let mut bytes = [0; 64];
            bytes[..block.len()].copy_from_slice(block);
            // SAFETY: the array has the size that is read.
            let bytes = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
            let is_inside = _mm512_cmpeq_epi8_mask(
                _mm512_and_si512(bytes, _mm512_set1_epi8(0xc0_u8 as i8)),
                _mm512_set1_epi8(0x80_u8 as i8),
            );
            let first = !is_inside & u64::MAX >> (64 - block.len());
            let mut of_bytes = [0; 64];
            let mut others = _mm512_movepi8_mask(bytes) & first;
            // SAFETY: the array has the size that is written.
            unsafe {
                let found = _mm512_permutex2var_epi8(low, bytes, high);
                _mm512_storeu_si512(of_bytes.as_mut_ptr().cast(), found);
            }
            while others != 0 {
                let at = others.trailing_zeros() as usize;
                (of_bytes[at], _) = of_char(text, base + at, unicode);
                others &= others - 1;
            }
            // `len` is `base` at most, and whole blocks fit: there are 64 places.
            let (to, starts) = (&mut classes[len..][..64], &mut starts[len..][..64]);
            let begin = _mm512_maskz_compress_epi8(first, numbers);
            let base = _mm512_set1_epi16(base as i16);
            // SAFETY: the array that is read has 64 bytes, as have both that are written, the second one of two bytes each.
            unsafe {
                let found = _mm512_loadu_si512(of_bytes.as_ptr().cast());
                _mm512_storeu_si512(to.as_mut_ptr().cast(), _mm512_maskz_compress_epi8(first, found));
                let half = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(begin));
                _mm512_storeu_si512(starts.as_mut_ptr().cast(), _mm512_add_epi16(half, base));
                let half = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64::<1>(begin));
                _mm512_storeu_si512(starts.as_mut_ptr().add(32).cast(), _mm512_add_epi16(half, base));
            }
            len += first.count_ones() as usize;
        }
        len
    }

    /// The numbers 0 to 63 without those whose bits are not set, then widened.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
    fn positions_avx512(maps: &[u64], base: u32, places: &mut [u32]) -> usize {
        // SAFETY: the array has the size that is read.
        let numbers = unsafe { _mm512_loadu_si512(NUMBERS.as_ptr().cast()) };
        let mut len = 0;
        for (base, &map) in (base..).step_by(64).zip(maps) {
            let count = map.count_ones() as usize;
            let set = _mm512_maskz_compress_epi8(map, numbers);
            let base = _mm512_set1_epi32(base as i32);
            let (sixteens, _) = places[len..][..64].as_chunks_mut::<16>();
            let widened = [
                _mm512_cvtepu8_epi32(_mm512_castsi512_si128(set)),
                _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32::<1>(set)),
                _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32::<2>(set)),
                _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32::<3>(set)),
            ];
            // Few maps have more than half of their bits.
            let wanted = if count > 32 { 4 } else { 2 };
            for (sixteen, widened) in sixteens[..wanted].iter_mut().zip(widened) {
                // SAFETY: the array has the size that is written.
                unsafe { _mm512_storeu_si512(sixteen.as_mut_ptr().cast(), _mm512_add_epi32(widened, base)) };
            }
            len += count;
        }
        len
    }

    /// Blocks that are ASCII, until one is not.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn ascii_avx512(blocks: &[[u8; 64]], table: &AsciiClasses, planes: &mut [Planes]) -> bool {
        // SAFETY: the table has the size that is read.
        let (low, high) = unsafe {
            (_mm512_loadu_si512(table.as_ptr().cast()), _mm512_loadu_si512(table.as_ptr().add(64).cast()))
        };
        for (block, planes) in blocks.iter().zip(planes) {
            // SAFETY: the array has the size that is read.
            let bytes = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
            if _mm512_movepi8_mask(bytes) != 0 {
                return false;
            }
            *planes = bits_avx512(_mm512_permutex2var_epi8(low, bytes, high));
        }
        true
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    fn planes_avx512(classes: &[Class; 64], planes: &mut Planes) {
        // SAFETY: the array has the size that is read.
        *planes = bits_avx512(unsafe { _mm512_loadu_si512(classes.as_ptr().cast()) });
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    fn bits_avx512(classes: __m512i) -> Planes {
        [
            _mm512_test_epi8_mask(classes, _mm512_set1_epi8(1)),
            _mm512_test_epi8_mask(classes, _mm512_set1_epi8(2)),
            _mm512_test_epi8_mask(classes, _mm512_set1_epi8(4)),
            _mm512_test_epi8_mask(classes, _mm512_set1_epi8(8)),
            _mm512_test_epi8_mask(classes, _mm512_set1_epi8(16)),
            _mm512_test_epi8_mask(classes, _mm512_set1_epi8(32)),
            _mm512_test_epi8_mask(classes, _mm512_set1_epi8(64)),
            _mm512_movepi8_mask(classes),
        ]
    }

    /// The same. The table has eight rows of sixteen: a byte's high half says which, its low half where in it.
    #[target_feature(enable = "avx2")]
    fn ascii_avx2(blocks: &[[u8; 64]], table: &AsciiClasses, planes: &mut [Planes]) -> bool {
        let (rows, _) = table.as_chunks::<16>();
        for (block, planes) in blocks.iter().zip(planes) {
            let mut classes = [0; 64];
            for (half, classes) in block.as_chunks::<32>().0.iter().zip(classes.as_chunks_mut::<32>().0) {
                // SAFETY: the arrays have the sizes that are read and written.
                unsafe {
                    let bytes = _mm256_loadu_si256(half.as_ptr().cast());
                    if _mm256_movemask_epi8(bytes) != 0 {
                        return false;
                    }
                    let low = _mm256_and_si256(bytes, _mm256_set1_epi8(0x0f));
                    let high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), _mm256_set1_epi8(0x0f));
                    let mut found = _mm256_setzero_si256();
                    for (number, row) in rows.iter().enumerate() {
                        let row = _mm256_broadcastsi128_si256(_mm_loadu_si128(row.as_ptr().cast()));
                        let here = _mm256_cmpeq_epi8(high, _mm256_set1_epi8(number as i8));
                        found = _mm256_or_si256(found, _mm256_and_si256(here, _mm256_shuffle_epi8(row, low)));
                    }
                    _mm256_storeu_si256(classes.as_mut_ptr().cast(), found);
                }
            }
            planes_avx2(&classes, planes);
        }
        true
    }

    #[target_feature(enable = "avx2")]
    fn planes_avx2(classes: &[Class; 64], planes: &mut Planes) {
        // SAFETY: the array has the 64 bytes that are read.
        let (mut first, mut second) = unsafe {
            let at = classes.as_ptr();
            (_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(32).cast()))
        };
        for plane in planes.iter_mut().rev() {
            let low = _mm256_movemask_epi8(first) as u32;
            let high = _mm256_movemask_epi8(second) as u32;
            *plane = u64::from(high) << 32 | u64::from(low);
            first = _mm256_add_epi8(first, first);
            second = _mm256_add_epi8(second, second);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// Every way on every byte in every place.
        #[test]
        fn all_ways_agree() {
            let text: Vec<u8> =
                (0..1000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 & 0x7f).collect();
            let table: AsciiClasses = std::array::from_fn(|i| (i as u8).wrapping_mul(37) ^ 0x5a);
            let available = |wanted: &Level| match wanted {
                Level::Avx2 => level().is_some(),
                Level::Avx512 => level() == Some(Level::Avx512),
            };
            for len in [0, 1, 63, 64, 65, 128, 1000] {
                let mut expected = vec![[0; 8]; 16];
                assert!(super::super::plain::of_ascii(&text[..len], &table, &mut expected));
                let classes: Vec<Class> = text[..len].iter().map(|byte| table[usize::from(*byte)]).collect();
                for level in [Level::Avx2, Level::Avx512].into_iter().filter(available) {
                    let mut planes = vec![[0; 8]; 16];
                    assert!(of_ascii(level, &text[..len], &table, &mut planes));
                    assert_eq!(planes, expected, "{level:?} {len}");
                    let mut planes = vec![[0; 8]; 16];
                    of_classes(level, &classes, &mut planes);
                    assert_eq!(planes, expected, "{level:?} {len}");
                    // Where miri reads along each takes its time.
                    for at in (0..len).step_by(if cfg!(miri) { 37 } else { 1 }) {
                        let mut other = text[..len].to_vec();
                        other[at] |= 0x80;
                        assert!(!of_ascii(level, &other, &table, &mut planes), "{level:?} {len} {at}");
                        assert!(!super::super::plain::of_ascii(&other, &table, &mut planes), "{len} {at}");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number of bits.
    #[test]
    fn positions_are_those_of_the_bits() {
        let mixed = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(i as u32);
        let maps: Vec<u64> = (0..=64)
            .map(|bits| if bits == 64 { u64::MAX } else { (1 << bits) - 1 })
            .chain((0..200).flat_map(|i| [mixed(i), mixed(i) & mixed(i + 7), mixed(i) | mixed(i + 9)]))
            .collect();
        let expected: Vec<u32> = (0..64 * maps.len())
            .filter(|at| maps[at / 64] >> (at % 64) & 1 == 1)
            .map(|at| 7 + at as u32)
            .collect();
        for way in [positions, plain::positions] {
            let mut places = vec![0; 64 * maps.len()];
            let len = way(&maps, 7, &mut places);
            assert_eq!(places[..len], expected);
        }
    }
}
