//! A plan divided among machines that know nothing of each other.

use crate::Line;
use std::str::FromStr;

/// Part `index` of `count`, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    index: usize,
    count: usize,
}

impl FromStr for Task {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let parts = parts.and_then(|(i, n)| Some((i.trim().parse().ok()?, n.trim().parse().ok()?)));
        let Some((index, count)) = parts else {
            return Err(format!("{text:?} is not I/N, e.g. 0/8"));
        };
        if index >= count {
            return Err(format!(
                "{text:?}: tasks of {count} are counted from 0 to N-1"
            ));
        }
        Ok(Self { index, count })
    }
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl Task {
    /// Which lines are this task's. The largest goes first, each to the task that has least so far:
    /// decided by the plan alone, so that every machine comes to the same division.
    pub(crate) fn mine(self, lines: &[(usize, Line)]) -> Vec<bool> {
        let mut order: Vec<usize> = (0..lines.len()).collect();
        let key = |index: &usize| {
            lines
                .get(*index)
                .map(|(_, line)| (std::cmp::Reverse(line.weight()), line.id()))
        };
        order.sort_by_cached_key(key);
        let mut loads: Vec<u64> = vec![0; self.count.min(lines.len().max(1))];
        let mut mine = vec![false; lines.len()];
        for index in order {
            let Some((task, load)) = loads
                .iter_mut()
                .enumerate()
                .min_by_key(|(task, load)| (**load, *task))
            else {
                continue;
            };
            // Even an empty model is some work.
            let weight = lines.get(index).map_or(0, |(_, line)| line.weight());
            *load = load.saturating_add(weight).saturating_add(1 << 20);
            if let Some(slot) = mine.get_mut(index) {
                *slot = task == self.index;
            }
        }
        mine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_one_task() {
        let lines: Vec<(usize, Line)> = (0..23u64)
            .map(|n| {
                let text = format!(
                    r#"{{"version":1,"action":"leave","model":"m","root":"/r","output":"{n}","bytes_in":{},"settings":{{"to":"gguf"}}}}"#,
                    (n * n) << 24
                );
                (1, serde_json::from_str(&text).unwrap())
            })
            .collect();
        for count in [1, 2, 5, 40] {
            let mut times = vec![0; lines.len()];
            let mut heaviest = 0;
            for index in 0..count {
                let task: Task = format!("{index}/{count}").parse().unwrap();
                let mine = task.mine(&lines);
                assert_eq!(mine, task.mine(&lines));
                for (times, mine) in times.iter_mut().zip(&mine) {
                    *times += i32::from(*mine);
                }
                let load = lines.iter().zip(&mine).filter(|(_, mine)| **mine);
                heaviest = heaviest.max(load.map(|((_, line), _)| line.weight()).sum());
            }
            assert!(times.iter().all(|times| *times == 1), "{count}: {times:?}");
            let total: u64 = lines.iter().map(|(_, line)| line.weight()).sum();
            assert!(
                heaviest <= total / u64::try_from(count).unwrap() + ((22 * 22) << 24),
                "{count}"
            );
        }
        for bad in ["3", "3/3", "1/0", "-1/2", "a/b"] {
            assert!(bad.parse::<Task>().is_err(), "{bad}");
        }
    }
}
