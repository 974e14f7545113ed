//! The shared searches, many sub-blocks at once: lane `j` of every array is sub-block `j`.
//!
//! A tile is `[[f32; N]; B]`: element `i` of all `N` sub-blocks side by side. Loops run over lanes
//! inside and elements outside, so each lane adds in the order of the scalar reference and the
//! compiler turns the inner loop into vector instructions. Choices are bit masks, never branches.
//!
//! Rounding is `(v + 12582912) - 12582912`, which equals `nearest_int` for magnitudes to 4194303.
//! Where a product could lie beyond, the lane is marked `bad` and its super-block is left to the
//! scalar reference.

use crate::scalar::GROUP_MAX_EPS;

/// Adding and taking off this rounds to the nearest integer, ties to even.
pub(crate) const MAGIC: f32 = 12_582_912.0;

/// Products beyond this are left to the scalar reference.
const SAFE: f32 = 4e6;

/// All ones for true.
#[inline(always)]
pub(crate) fn mask(condition: bool) -> u32 {
    u32::from(condition).wrapping_neg()
}

#[inline(always)]
pub(crate) fn select(mask: u32, yes: f32, no: f32) -> f32 {
    f32::from_bits((yes.to_bits() & mask) | (no.to_bits() & !mask))
}

#[inline(always)]
pub(crate) fn round(v: f32) -> f32 {
    (v + MAGIC) - MAGIC
}

/// One instruction, unlike `f32::min`, which treats NaN otherwise.
#[inline(always)]
pub(crate) fn lesser(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
pub(crate) fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// `nearest_int` in its integer form, garbage beyond 22 bits included.
#[inline(always)]
pub(crate) fn nearest_int(v: f32) -> i32 {
    ((v + MAGIC).to_bits() & 0x007f_ffff).cast_signed() - 0x0040_0000
}

/// Fills a tile from sub-blocks that lie one after the other; missing ones become zero. Says for
/// each lane whether a value is NaN or infinite.
#[inline(always)]
pub(crate) fn fill<const N: usize, const B: usize>(src: &[f32]) -> ([[f32; N]; B], [u32; N]) {
    let mut tile = [[0.0; N]; B];
    for (j, block) in src.as_chunks::<B>().0.iter().take(N).enumerate() {
        for i in 0..B {
            tile[i][j] = block[i];
        }
    }
    let mut top = [0_u32; N];
    for row in &tile {
        for j in 0..N {
            let bits = row[j].to_bits() & 0x7fff_ffff;
            top[j] = if bits > top[j] { bits } else { top[j] };
        }
    }
    (tile, top.map(|bits| mask(bits >= 0x7f80_0000)))
}

/// What [`affine`] found for each lane.
pub(crate) struct Affine<const N: usize> {
    pub(crate) scale: [f32; N],
    /// The negated minimum, as it is stored.
    pub(crate) min: [f32; N],
    /// By which codes would follow: `round(inverse * (x - base))`. Needed only where the stored
    /// scale comes out as zero.
    pub(crate) inverse: [f32; N],
    pub(crate) base: [f32; N],
    /// All values equal: codes are zero.
    pub(crate) flat: [u32; N],
    pub(crate) bad: [u32; N],
}

/// `scalar::search::affine` for `N` sub-blocks. `nmax`, `first`, `delta`, `steps` as there.
#[inline(always)]
pub(crate) fn affine<const N: usize, const B: usize, const ABSOLUTE: bool>(
    nmax: f32,
    x: &[[f32; N]; B],
    w: &[[f32; N]; B],
    (first, delta, steps): (f32, f32, u8),
) -> Affine<N> {
    let (mut min, mut max) = (x[0], x[0]);
    let mut sum_w = w[0];
    let mut sum_x = [0.0; N];
    for j in 0..N {
        sum_x[j] = w[0][j] * x[0][j];
    }
    for i in 1..B {
        for j in 0..N {
            min[j] = lesser(x[i][j], min[j]);
            max[j] = greater(x[i][j], max[j]);
            sum_w[j] += w[i][j];
            sum_x[j] += w[i][j] * x[i][j];
        }
    }
    let lowest = min;
    let mut flat = [0_u32; N];
    let mut bad = [0_u32; N];
    for j in 0..N {
        min[j] = lesser(0.0, min[j]); // keeps the sign of a zero
        flat[j] = mask(max[j] == min[j]);
    }
    let mut inverse = [0.0; N];
    let mut scale = [0.0; N];
    let mut best = [0.0; N];
    for j in 0..N {
        inverse[j] = nmax / select(flat[j], 1.0, max[j] - min[j]);
        scale[j] = 1.0 / inverse[j];
        bad[j] |= mask(outside(inverse[j], lowest[j], max[j], min[j]));
    }
    for i in 0..B {
        for j in 0..N {
            let l = lesser(greater(round(inverse[j] * (x[i][j] - min[j])), 0.0), nmax);
            let difference = scale[j] * l + min[j] - x[i][j];
            let error = if ABSOLUTE {
                difference.abs()
            } else {
                difference * difference
            };
            best[j] += w[i][j] * error;
        }
    }
    let first_min = min;
    let mut base = min;
    let mut codes = [[0.0_f32; N]; B];
    for step in 0..=steps {
        let numerator = first + delta * f32::from(step) + nmax;
        let mut trial = [0.0; N];
        for j in 0..N {
            trial[j] = numerator / select(flat[j], 1.0, max[j] - min[j]);
            bad[j] |= mask(outside(trial[j], lowest[j], max[j], min[j]));
        }
        let (mut sum_l, mut sum_l2, mut sum_xl) = ([0.0; N], [0.0; N], [0.0; N]);
        for i in 0..B {
            for j in 0..N {
                let l = lesser(greater(round(trial[j] * (x[i][j] - min[j])), 0.0), nmax);
                codes[i][j] = l;
                let wl = w[i][j] * l;
                sum_l[j] += wl;
                sum_l2[j] += wl * l;
                sum_xl[j] += wl * x[i][j];
            }
        }
        let (mut this_scale, mut this_min) = ([0.0; N], [0.0; N]);
        let mut determinant = [0.0; N];
        for j in 0..N {
            determinant[j] = sum_w[j] * sum_l2[j] - sum_l[j] * sum_l[j];
            let fitted = (sum_w[j] * sum_xl[j] - sum_x[j] * sum_l[j]) / determinant[j];
            let fitted_min = (sum_l2[j] * sum_x[j] - sum_l[j] * sum_xl[j]) / determinant[j];
            let positive = mask(fitted_min > 0.0);
            this_min[j] = select(positive, 0.0, fitted_min);
            this_scale[j] = select(positive, sum_xl[j] / sum_l2[j], fitted);
        }
        let mut error = [0.0; N];
        for i in 0..B {
            for j in 0..N {
                let difference = this_scale[j] * codes[i][j] + this_min[j] - x[i][j];
                let deviation = if ABSOLUTE {
                    difference.abs()
                } else {
                    difference * difference
                };
                error[j] += w[i][j] * deviation;
            }
        }
        for j in 0..N {
            let better = mask(determinant[j] > 0.0) & mask(error[j] < best[j]);
            best[j] = select(better, error[j], best[j]);
            scale[j] = select(better, this_scale[j], scale[j]);
            inverse[j] = select(better, trial[j], inverse[j]);
            base[j] = select(better, min[j], base[j]);
            min[j] = select(better, this_min[j], min[j]);
        }
    }
    let mut negated = [0.0; N];
    for j in 0..N {
        scale[j] = select(flat[j], 0.0, scale[j]);
        negated[j] = -select(flat[j], first_min[j], min[j]);
        bad[j] &= !flat[j];
    }
    Affine {
        scale,
        min: negated,
        inverse,
        base,
        flat,
        bad,
    }
}

/// Whether a product of the group lies outside what [`round`] gets right. Products grow with the
/// element, so the smallest and the largest element tell. NaN counts as outside.
#[inline(always)]
fn outside(inverse: f32, lowest: f32, highest: f32, min: f32) -> bool {
    let low = (inverse * (lowest - min)).abs();
    let high = (inverse * (highest - min)).abs();
    !((low <= SAFE) & (high <= SAFE))
}

/// What [`symmetric`] found for each lane.
pub(crate) struct Symmetric<const N: usize> {
    pub(crate) scale: [f32; N],
    /// By which codes would follow; needed only where the stored scale comes out as zero.
    pub(crate) inverse: [f32; N],
    /// Below [`GROUP_MAX_EPS`]: scale and codes are zero.
    pub(crate) zero: [u32; N],
}

/// `scalar::search::symmetric` for `N` sub-blocks of finite values.
#[inline(always)]
pub(crate) fn symmetric<const N: usize, const B: usize>(
    nmax: f32,
    x: &[[f32; N]; B],
    w: &[[f32; N]; B],
) -> Symmetric<N> {
    let (mut amax, mut max) = ([0.0_f32; N], [0.0_f32; N]);
    let mut wx = [[0.0; N]; B];
    for i in 0..B {
        for j in 0..N {
            let ax = x[i][j].abs();
            let larger = mask(ax > amax[j]);
            amax[j] = greater(ax, amax[j]);
            max[j] = select(larger, x[i][j], max[j]);
            wx[i][j] = w[i][j] * x[i][j];
        }
    }
    let mut zero = [0_u32; N];
    for j in 0..N {
        zero[j] = mask(amax[j] < GROUP_MAX_EPS);
        max[j] = select(zero[j], 1.0, max[j]);
    }
    let sums = |inverse: &[f32; N]| {
        let (mut sum_lx, mut sum_l2) = ([0.0_f32; N], [0.0_f32; N]);
        for i in 0..B {
            for j in 0..N {
                let l = round(inverse[j] * x[i][j]);
                let l = lesser(greater(l, -nmax), nmax - 1.0);
                sum_lx[j] += wx[i][j] * l;
                sum_l2[j] += (w[i][j] * l) * l;
            }
        }
        (sum_lx, sum_l2)
    };
    let mut inverse = [0.0; N];
    for j in 0..N {
        inverse[j] = -nmax / max[j];
    }
    let (sum_lx, sum_l2) = sums(&inverse);
    let (mut scale, mut best) = ([0.0; N], [0.0; N]);
    for j in 0..N {
        // A zero divisor gives zero, NaN passes.
        scale[j] = select(mask(sum_l2[j] == 0.0), 0.0, sum_lx[j] / sum_l2[j]);
        best[j] = scale[j] * sum_lx[j];
    }
    for step in (-9_i8..=9).filter(|step| *step != 0) {
        let numerator = -(nmax + 0.1 * f32::from(step));
        let mut trial = [0.0; N];
        for j in 0..N {
            trial[j] = numerator / max[j];
        }
        let (sum_lx, sum_l2) = sums(&trial);
        for j in 0..N {
            let better = mask(sum_l2[j] > 0.0) & mask(sum_lx[j] * sum_lx[j] > best[j] * sum_l2[j]);
            let fitted = sum_lx[j] / sum_l2[j];
            scale[j] = select(better, fitted, scale[j]);
            best[j] = select(better, fitted * sum_lx[j], best[j]);
            inverse[j] = select(better, trial[j], inverse[j]);
        }
    }
    for j in 0..N {
        scale[j] = select(zero[j], 0.0, scale[j]);
    }
    Symmetric {
        scale,
        inverse,
        zero,
    }
}

/// `scalar::search::positive` for `N` groups of `B` finite values of zero or above: the codes, and
/// the scale of each lane. A product beyond [`SAFE`] marks the lane `bad`.
#[inline(always)]
pub(crate) fn positive<const N: usize, const B: usize>(
    nmax: f32,
    x: &[[f32; N]; B],
    w: &[[f32; N]; B],
) -> ([[f32; N]; B], [f32; N], [u32; N]) {
    let mut max = [0.0_f32; N];
    let mut low = [0.0_f32; N];
    for i in 0..B {
        for j in 0..N {
            max[j] = greater(max[j], x[i][j]);
            low[j] = lesser(x[i][j], low[j]);
        }
    }
    let (mut zero, mut bad) = ([0_u32; N], [0_u32; N]);
    for j in 0..N {
        zero[j] = mask(max[j] < GROUP_MAX_EPS);
        // Negative values wrap in C's bytes, infinities poison the products.
        bad[j] = mask(low[j] < 0.0) | mask(max[j] >= f32::INFINITY) | mask(max[j].is_nan());
        max[j] = select(zero[j] | bad[j], 1.0, max[j]);
    }
    let (mut inverse, mut best) = ([0.0; N], [0.0; N]);
    for step in [0_i8, -4, -3, -2, -1, 1, 2, 3, 4] {
        let numerator = 0.1 * f32::from(step) + nmax;
        let (mut trial, mut scale, mut error) = ([0.0; N], [0.0; N], [0.0; N]);
        for j in 0..N {
            trial[j] = numerator / max[j];
            scale[j] = 1.0 / trial[j];
        }
        for i in 0..B {
            for j in 0..N {
                let l = lesser(round(trial[j] * x[i][j]), nmax);
                let difference = x[i][j] - scale[j] * l;
                error[j] += (w[i][j] * difference) * difference;
            }
        }
        for j in 0..N {
            let better = if step == 0 {
                u32::MAX
            } else {
                mask(error[j] < best[j])
            };
            best[j] = select(better, error[j], best[j]);
            inverse[j] = select(better, trial[j], inverse[j]);
        }
    }
    let mut codes = [[0.0; N]; B];
    let (mut sum_lx, mut sum_l2) = ([0.0_f32; N], [0.0_f32; N]);
    for i in 0..B {
        for j in 0..N {
            let l = lesser(round(inverse[j] * x[i][j]), nmax);
            codes[i][j] = l;
            sum_lx[j] += (w[i][j] * x[i][j]) * l;
            sum_l2[j] += (w[i][j] * l) * l;
        }
    }
    for _ in 0..5 {
        let mut changed = [0_u32; N];
        for i in 0..B {
            for j in 0..N {
                let (w, x, l) = (w[i][j], x[i][j], codes[i][j]);
                let rest_lx = sum_lx[j] - (w * x) * l;
                let rest_l2 = sum_l2[j] - (w * l) * l;
                let product = (x * rest_l2) / rest_lx;
                let sound = mask(rest_lx > 0.0) & mask(rest_l2 > 0.0);
                let new = lesser(nearest_int(product) as f32, nmax);
                let new_lx = rest_lx + (w * x) * new;
                let new_l2 = rest_l2 + (w * new) * new;
                let better = mask(new != l)
                    & mask((new_lx * new_lx) * sum_l2[j] > (sum_lx[j] * sum_lx[j]) * new_l2)
                    & sound;
                // C keeps the code in a byte: a negative one would wrap.
                bad[j] |= better & mask(new < 0.0);
                codes[i][j] = select(better, new, l);
                sum_lx[j] = select(better, new_lx, sum_lx[j]);
                sum_l2[j] = select(better, new_l2, sum_l2[j]);
                changed[j] |= better;
            }
        }
        if changed.iter().fold(0, |all, lane| all | lane) == 0 {
            break;
        }
    }
    let mut scale = [0.0; N];
    for j in 0..N {
        let fitted = select(mask(sum_l2[j] > 0.0), sum_lx[j] / sum_l2[j], 0.0);
        scale[j] = select(zero[j], 0.0, fitted);
        for row in &mut codes {
            row[j] = select(zero[j], 0.0, row[j]);
        }
    }
    (codes, scale, bad)
}

/// The quotients that surely round to this code: a thousandth inside the ties, which is far more
/// than a division or two products err. Beyond the outermost codes all are taken to them, as far
/// as [`nearest_int`] counts. Where the products are subnormal their rounding is to whole steps
/// of the grid on which the quotient's terms stand too, so a strict comparison keeps its meaning.
#[inline(always)]
fn stays(code: f32, top: f32) -> (f32, f32) {
    let low = select(mask(code == -top), -4e6, code - 0.499);
    let high = select(mask(code == top - 1.0), 4e6, code + 0.499);
    (low, high)
}

/// `scalar::search::symmetric_descent` for `N` sub-blocks of finite values: the codes before the
/// offset, the scale, and which lanes are all zero.
#[inline(always)]
pub(crate) fn descent<const N: usize, const B: usize>(
    nmax: i16,
    x: &[[f32; N]; B],
) -> ([[f32; N]; B], [f32; N], [u32; N]) {
    let top = f32::from(nmax);
    let (mut amax, mut max) = ([0.0_f32; N], [0.0_f32; N]);
    for row in x {
        for j in 0..N {
            let ax = row[j].abs();
            let larger = mask(ax > amax[j]);
            amax[j] = greater(ax, amax[j]);
            max[j] = select(larger, row[j], max[j]);
        }
    }
    let (mut zero, mut inverse) = ([0_u32; N], [0.0; N]);
    for j in 0..N {
        zero[j] = mask(amax[j] < GROUP_MAX_EPS);
        inverse[j] = -top / select(zero[j], 1.0, max[j]);
    }
    let (mut w, mut wx, mut codes) = ([[0.0; N]; B], [[0.0; N]; B], [[0.0; N]; B]);
    let (mut sum_lx, mut sum_l2) = ([0.0_f32; N], [0.0_f32; N]);
    // What each element adds to the sums.
    let (mut lx, mut l2) = ([[0.0; N]; B], [[0.0; N]; B]);
    for i in 0..B {
        for j in 0..N {
            let l = lesser(greater(round(inverse[j] * x[i][j]), -top), top - 1.0);
            w[i][j] = x[i][j] * x[i][j];
            wx[i][j] = w[i][j] * x[i][j];
            codes[i][j] = l;
            lx[i][j] = wx[i][j] * l;
            l2[i][j] = (w[i][j] * l) * l;
            sum_lx[j] += lx[i][j];
            sum_l2[j] += l2[i][j];
        }
    }
    for _ in 0..5 {
        let mut changed = [0_u32; N];
        for i in 0..B {
            let (mut rest_lx, mut rest_l2, mut leaves) = ([0.0; N], [0.0; N], [0_u32; N]);
            for j in 0..N {
                rest_lx[j] = sum_lx[j] - lx[i][j];
                rest_l2[j] = sum_l2[j] - l2[i][j];
                let product = x[i][j] * rest_l2[j];
                let (low, high) = stays(codes[i][j], top);
                let stays = mask(product > low * rest_lx[j]) & mask(product < high * rest_lx[j]);
                leaves[j] = mask(rest_lx[j] > 0.0) & !stays;
            }
            // Most codes stay, and then there is nothing to divide.
            if leaves.iter().fold(0, |all, lane| all | lane) == 0 {
                continue;
            }
            for j in 0..N {
                let l = codes[i][j];
                let new = nearest_int((x[i][j] * rest_l2[j]) / rest_lx[j]);
                let new = (if new < -i32::from(nmax) {
                    -i32::from(nmax)
                } else {
                    new
                }) as f32;
                let new = lesser(new, top - 1.0);
                let term_lx = wx[i][j] * new;
                let term_l2 = (w[i][j] * new) * new;
                let new_lx = rest_lx[j] + term_lx;
                let new_l2 = rest_l2[j] + term_l2;
                let better = mask(rest_lx[j] > 0.0)
                    & mask(new != l)
                    & mask(new_l2 > 0.0)
                    & mask((new_lx * new_lx) * sum_l2[j] > (sum_lx[j] * sum_lx[j]) * new_l2);
                codes[i][j] = select(better, new, l);
                lx[i][j] = select(better, term_lx, lx[i][j]);
                l2[i][j] = select(better, term_l2, l2[i][j]);
                sum_lx[j] = select(better, new_lx, sum_lx[j]);
                sum_l2[j] = select(better, new_l2, sum_l2[j]);
                changed[j] |= better;
            }
        }
        if changed.iter().fold(0, |all, lane| all | lane) == 0 {
            break;
        }
    }
    let mut scale = [0.0; N];
    for j in 0..N {
        let fitted = select(mask(sum_l2[j] > 0.0), sum_lx[j] / sum_l2[j], 0.0);
        scale[j] = select(zero[j], 0.0, fitted);
    }
    (codes, scale, zero)
}
