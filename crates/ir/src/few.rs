//! Lists that hold next to nothing, nearly always.

use std::fmt;
use std::ops::Deref;

/// A list whose first `N` items need no memory of their own.
///
/// A pickle of a megabyte can make a million lists and tuples, most of them empty: as vectors they
/// would take three words each, and what they hold an allocation.
#[derive(Clone)]
pub struct Few<T, const N: usize>(Held<T, N>);

#[derive(Clone)]
enum Held<T, const N: usize> {
    /// So many of these.
    Here(u8, [T; N]),
    #[expect(clippy::box_collection, reason = "one word here, three there")]
    Apart(Box<Vec<T>>),
}

impl<T: Copy + Default, const N: usize> Few<T, N> {
    /// An empty list.
    pub fn new() -> Self {
        Self(Held::Here(0, [T::default(); N]))
    }

    /// Adds an item at the end.
    pub fn push(&mut self, item: T) {
        self.extend([item]);
    }

    /// Adds items at the end.
    pub fn extend_from_slice(&mut self, items: &[T]) {
        self.extend(items.iter().copied());
    }
}

impl<T: Copy + Default, const N: usize> Extend<T> for Few<T, N> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        let mut items = items.into_iter();
        if let Held::Here(len, held) = &mut self.0 {
            while let Some(slot) = held.get_mut(usize::from(*len)) {
                let Some(item) = items.next() else { return };
                *slot = item;
                *len += 1;
            }
            let Some(item) = items.next() else { return };
            let mut all = held.to_vec();
            all.push(item);
            self.0 = Held::Apart(Box::new(all));
        }
        if let Held::Apart(all) = &mut self.0 {
            all.extend(items);
        }
    }
}

impl<T, const N: usize> Deref for Few<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Held::Here(len, held) => held.get(..usize::from(*len)).unwrap_or_default(),
            Held::Apart(all) => all,
        }
    }
}

impl<T: Copy + Default, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy + Default, const N: usize> From<Vec<T>> for Few<T, N> {
    fn from(items: Vec<T>) -> Self {
        if items.len() <= N {
            items.into_iter().collect()
        } else {
            Self(Held::Apart(Box::new(items)))
        }
    }
}

impl<T: Copy + Default, const N: usize> FromIterator<T> for Few<T, N> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut this = Self::new();
        this.extend(items);
        this
    }
}

impl<'a, T, const N: usize> IntoIterator for &'a Few<T, N> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: fmt::Debug, const N: usize> fmt::Debug for Few<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_list_at_every_length() {
        let mut grown: Few<u32, 2> = Few::new();
        for n in 0..9u32 {
            let all: Vec<u32> = (0..n).collect();
            assert_eq!(*grown, all[..]);
            assert_eq!(*Few::<u32, 2>::from(all.clone()), all[..]);
            let mut extended: Few<u32, 2> = Few::from(vec![0; usize::from(n > 0)]);
            extended.extend_from_slice(&all[usize::from(n > 0)..]);
            assert_eq!(*extended, all[..]);
            grown.push(n);
        }
        assert_eq!(format!("{grown:?}"), "[0, 1, 2, 3, 4, 5, 6, 7, 8]");
        assert_eq!((&grown).into_iter().count(), 9);
    }
}
