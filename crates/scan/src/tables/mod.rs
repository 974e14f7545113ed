//! What is known about names, as data. How the tables are read is in `standing.rs`.

pub(crate) mod classes;
pub(crate) mod dangerous;
pub(crate) mod harmless;
pub(crate) mod kept;
pub(crate) mod libraries;
pub(crate) mod loaders;
pub(crate) mod pipelines;
pub(crate) mod stdlib;

#[cfg(test)]
mod tests {
    use super::{
        classes::CLASS_MODULES,
        dangerous::{ANYWHERE, BORROWED, DANGEROUS, REEXPORTED, SOFT},
        harmless::HARMLESS,
        kept::{KEPT, LONE_CLASSES},
        libraries::LIBRARIES,
        loaders::{LOADERS, STATE_LOADERS},
        pipelines::PIPELINES,
        stdlib::STANDARD,
    };

    fn sorted(names: &[&str]) -> bool {
        names.windows(2).all(|pair| pair[0] < pair[1])
    }

    #[test]
    fn every_table_is_sorted_and_says_nothing_twice() {
        assert!(sorted(STANDARD) && sorted(LIBRARIES) && sorted(CLASS_MODULES) && sorted(SOFT));
        assert!(sorted(PIPELINES));
        for table in [HARMLESS, KEPT, LONE_CLASSES] {
            assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0));
            assert!((table.iter()).all(|(_, names)| !names.is_empty() && sorted(names)));
        }
        for table in [LOADERS, STATE_LOADERS] {
            assert!(table.windows(2).all(|pair| pair[0].0 <= pair[1].0));
            assert!(table.iter().all(|(_, names, _)| sorted(names)));
        }
        assert!(BORROWED.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(REEXPORTED.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(ANYWHERE.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for pair in DANGEROUS.windows(2) {
            let ((a, a_names, _), (b, b_names, _)) = (&pair[0], &pair[1]);
            assert!(
                a < b || (a == b && !a_names.is_empty()),
                "{a} {a_names:?} before {b} {b_names:?}"
            );
        }
    }

    #[test]
    fn nothing_is_both_harmless_and_dangerous_everywhere() {
        for (module, names) in HARMLESS {
            for name in *names {
                assert!(!ANYWHERE.iter().any(|(n, _)| n == name), "{module}.{name}");
            }
        }
    }
}
