//! Points of the grids, and the way from any combination of codes to the points near it.
//!
//! A *key* packs the codes of one group, two bits each for eight elements (`D` = 8), three for
//! four. Keys on the grid map to their point; every other key has a list of the points at its
//! few smallest distances, in order of distance and then of index, as ggml prepares them in
//! `iq2xs_init_impl` and `iq3xs_init_impl`. Lists are made on first use and kept.

use std::sync::OnceLock;

use super::tables;

/// A grid of points of `D` codes each.
pub(crate) struct Grid<const D: usize> {
    points: Vec<[u8; D]>,
    /// By key: the point, or `-1 - start` of a list in `near`.
    map: Vec<i32>,
    /// Lists of points, each led by its length.
    near: Vec<u16>,
}

impl<const D: usize> Grid<D> {
    const BITS: usize = if D == 8 { 2 } else { 3 };
    /// Codes an element can have: two-bit codes stop at 2.
    pub(crate) const CODES: u8 = if D == 8 { 3 } else { 8 };

    /// `distances`: how many different distances a list holds.
    fn new(table: &[u16], distances: usize) -> Self {
        let unpack = |key: usize| {
            let mut codes = [0_u8; D];
            for (i, code) in codes.iter_mut().enumerate() {
                *code = (key >> (Self::BITS * i)) as u8 & ((1 << Self::BITS) - 1);
            }
            codes
        };
        let points: Vec<[u8; D]> = table
            .iter()
            .map(|entry| unpack(usize::from(*entry)))
            .collect();
        let mut map = vec![0_i32; 1 << (Self::BITS * D)];
        let mut known = vec![false; map.len()];
        for (index, entry) in (0..).zip(table) {
            map[usize::from(*entry)] = index;
            known[usize::from(*entry)] = true;
        }
        let mut near = Vec::new();
        // Columns, so that the distances of one key to all points vectorise.
        let columns: Vec<Vec<i16>> = (0..D)
            .map(|i| points.iter().map(|point| i16::from(point[i])).collect())
            .collect();
        let mut distance = vec![0_i16; points.len()];
        for key in 0..map.len() {
            let codes = unpack(key);
            if known[key] || codes.iter().any(|code| *code >= Self::CODES) {
                continue;
            }
            distance.fill(0);
            for (column, code) in columns.iter().zip(codes) {
                for (distance, value) in distance.iter_mut().zip(column) {
                    let step = value - i16::from(code);
                    *distance += step * step;
                }
            }
            let start = near.len();
            map[key] = -1 - start as i32;
            near.push(0);
            let mut last = -1;
            for _ in 0..distances {
                let Some(next) = distance.iter().copied().filter(|d| *d > last).min() else {
                    break;
                };
                last = next;
                near.extend(
                    (0_u16..)
                        .zip(&distance)
                        .filter(|(_, d)| **d == next)
                        .map(|(j, _)| j),
                );
            }
            near[start] = (near.len() - start - 1) as u16;
        }
        Self { points, map, near }
    }

    /// Packs codes into a key.
    #[inline(always)]
    pub(crate) fn key(codes: &[u8; D]) -> usize {
        codes
            .iter()
            .rev()
            .fold(0, |key, code| key << Self::BITS | usize::from(*code))
    }

    /// The point of a key, or the points near it.
    #[inline(always)]
    pub(crate) fn at(&self, key: usize) -> Result<usize, &[u16]> {
        // A key with codes no grid has cannot come from values ggml accepts; it gets point 0.
        let found = self.map.get(key).copied().unwrap_or(0);
        if found >= 0 {
            return Ok(found as usize);
        }
        let start = (-1 - found) as usize;
        let len = usize::from(self.near[start]);
        Err(&self.near[start + 1..start + 1 + len])
    }

    /// Codes of a point.
    #[inline(always)]
    pub(crate) fn codes(&self, point: usize) -> &[u8; D] {
        &self.points[point]
    }

    /// The listed point of least error, the first of equals. `errors` holds what each code of each
    /// element adds; sums run in element order, which is C's. Where no sum is a number C stops;
    /// here the nearest point stands in.
    #[inline(always)]
    pub(crate) fn nearest(&self, list: &[u16], errors: &[[f32; 8]; D]) -> usize {
        let mut best = f32::MAX;
        let mut found = list[0];
        for &point in list {
            let codes = &self.points[usize::from(point)];
            let mut error = 0.0;
            for i in 0..D {
                error += errors[i][usize::from(codes[i] & 7)];
            }
            if error < best {
                best = error;
                found = point;
            }
        }
        usize::from(found)
    }
}

macro_rules! grid {
    ($name:ident, $dim:literal, $table:ident, $distances:literal) => {
        #[doc = concat!("The grid of ", stringify!($table), ".")]
        pub(crate) fn $name() -> &'static Grid<$dim> {
            static GRID: OnceLock<Grid<$dim>> = OnceLock::new();
            GRID.get_or_init(|| Grid::new(&tables::$table, $distances))
        }
    };
}

grid!(iq2_xxs, 8, IQ2_XXS, 2);
grid!(iq2_xs, 8, IQ2_XS, 2);
grid!(iq2_s, 8, IQ2_S, 1);
grid!(iq1, 8, IQ1, 3);
grid!(iq3_xxs, 4, IQ3_XXS, 2);
grid!(iq3_s, 4, IQ3_S, 3);

/// A table of points as the values decoders multiply by.
pub(crate) const fn values<const D: usize, const P: usize>(
    table: &[u16; P],
    values: [i8; 8],
) -> [[i8; D]; P] {
    let bits = if D == 8 { 2 } else { 3 };
    let mut out = [[0; D]; P];
    let mut p = 0;
    while p < P {
        let mut i = 0;
        while i < D {
            out[p][i] = values[(table[p] >> (bits * i)) as usize & ((1 << bits) - 1)];
            i += 1;
        }
        p += 1;
    }
    out
}
