//! Squarified treemaps: sizes into rectangles that are as near to squares as may be.
//!
//! After Bruls, Huizing and van Wijk, "Squarified Treemaps" (2000): rows are laid along the shorter
//! side, and a row takes the next size as long as that makes its worst rectangle no worse.

/// A rectangle; `y` grows downwards.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rect {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) w: f64,
    pub(crate) h: f64,
}

impl Rect {
    /// Its area.
    pub(crate) fn area(self) -> f64 {
        self.w * self.h
    }

    /// The rectangle without a margin on each side; empty rather than inside out.
    pub(crate) fn inset(self, left: f64, top: f64, right: f64, bottom: f64) -> Self {
        Self {
            x: self.x + left,
            y: self.y + top,
            w: (self.w - left - right).max(0.0),
            h: (self.h - top - bottom).max(0.0),
        }
    }
}

/// A rectangle a size, together exactly `within`. Sizes come largest first for the best shapes.
pub(crate) fn squarify(sizes: &[f64], within: Rect) -> Vec<Rect> {
    let total: f64 = sizes.iter().sum();
    if total <= 0.0 {
        return vec![
            Rect {
                w: 0.0,
                h: 0.0,
                ..within
            };
            sizes.len()
        ];
    }
    let scale = within.area() / total;
    let areas: Vec<f64> = sizes.iter().map(|size| size * scale).collect();
    let mut out = Vec::with_capacity(sizes.len());
    let (mut rest, mut left) = (areas.as_slice(), within);
    while !rest.is_empty() {
        let side = left.w.min(left.h);
        let mut row = 1;
        let mut sum = rest[0];
        let mut shape = worst(&rest[..1], sum, side);
        while let Some(next) = rest.get(row) {
            let wider = worst(&rest[..=row], sum + next, side);
            if wider > shape {
                break;
            }
            (row, sum, shape) = (row + 1, sum + next, wider);
        }
        let (now, later) = rest.split_at(row);
        // The last row takes what is left, so that rounding leaves no gap.
        left = lay(now, sum, left, later.is_empty(), &mut out);
        rest = later;
    }
    out
}

/// The worst ratio of sides in a row along `side`.
fn worst(row: &[f64], sum: f64, side: f64) -> f64 {
    let max = row.iter().copied().fold(0.0, f64::max);
    let min = row.iter().copied().fold(f64::INFINITY, f64::min);
    let squared = side * side;
    (squared * max / (sum * sum)).max(sum * sum / (squared * min))
}

/// Lays a row along the shorter side and answers what is left.
fn lay(row: &[f64], sum: f64, left: Rect, last: bool, out: &mut Vec<Rect>) -> Rect {
    let across = left.w >= left.h;
    let (side, other) = if across {
        (left.h, left.w)
    } else {
        (left.w, left.h)
    };
    let depth = if last {
        other
    } else {
        (sum / side.max(f64::MIN_POSITIVE)).min(other)
    };
    let mut at = 0.0;
    for (i, area) in row.iter().enumerate() {
        let share = if i + 1 == row.len() {
            side - at
        } else {
            side * area / sum
        };
        out.push(if across {
            Rect {
                x: left.x,
                y: left.y + at,
                w: depth,
                h: share,
            }
        } else {
            Rect {
                x: left.x + at,
                y: left.y,
                w: share,
                h: depth,
            }
        });
        at += share;
    }
    if across {
        left.inset(depth, 0.0, 0.0, 0.0)
    } else {
        left.inset(0.0, depth, 0.0, 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WITHIN: Rect = Rect {
        x: 10.0,
        y: 20.0,
        w: 600.0,
        h: 400.0,
    };

    #[test]
    fn as_in_the_paper() {
        let within = Rect {
            x: 0.0,
            y: 0.0,
            w: 6.0,
            h: 4.0,
        };
        let got = squarify(&[6.0, 6.0, 4.0, 3.0, 2.0, 2.0, 1.0], within);
        assert_eq!(
            got[0],
            Rect {
                x: 0.0,
                y: 0.0,
                w: 3.0,
                h: 2.0
            }
        );
        assert_eq!(
            got[1],
            Rect {
                x: 0.0,
                y: 2.0,
                w: 3.0,
                h: 2.0
            }
        );
        assert!((got[2].x, got[2].y) == (3.0, 0.0) && (got[2].w - 12.0 / 7.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_and_zeros() {
        assert!(squarify(&[], WITHIN).is_empty());
        assert!(
            squarify(&[0.0, 0.0], WITHIN)
                .iter()
                .all(|r| r.area() == 0.0)
        );
    }

    proptest! {
        #[test]
        fn areas_add_up_and_nothing_overlaps(mut sizes in prop::collection::vec(1u32..1_000_000, 1..60)) {
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            let sizes: Vec<f64> = sizes.into_iter().map(f64::from).collect();
            let total: f64 = sizes.iter().sum();
            let rects = squarify(&sizes, WITHIN);
            prop_assert_eq!(rects.len(), sizes.len());
            let near = |a: f64, b: f64| (a - b).abs() < 1e-6 * WITHIN.area();
            prop_assert!(near(rects.iter().map(|r| r.area()).sum(), WITHIN.area()));
            for (i, (a, size)) in rects.iter().zip(&sizes).enumerate() {
                prop_assert!(near(a.area(), size / total * WITHIN.area()));
                prop_assert!(a.x >= WITHIN.x - 1e-6 && a.y >= WITHIN.y - 1e-6);
                prop_assert!(a.x + a.w <= WITHIN.x + WITHIN.w + 1e-6);
                prop_assert!(a.y + a.h <= WITHIN.y + WITHIN.h + 1e-6);
                for b in &rects[i + 1..] {
                    let w = (a.x + a.w).min(b.x + b.w) - a.x.max(b.x);
                    let h = (a.y + a.h).min(b.y + b.h) - a.y.max(b.y);
                    prop_assert!(w < 1e-6 || h < 1e-6, "{:?} {:?}", a, b);
                }
            }
        }
    }
}
