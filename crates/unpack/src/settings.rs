//! What `quantization_config` says.

use crate::UnpackError;
use ir::Result;
use serde_json::Value;

/// A view of the configuration with errors that name the key.
#[derive(Clone, Copy)]
pub(crate) struct Settings<'a>(pub(crate) &'a Value);

impl<'a> Settings<'a> {
    pub(crate) fn get(self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn text(self, key: &str) -> Option<&'a str> {
        self.get(key)?.as_str()
    }

    /// A whole number that must be one of `allowed`.
    pub(crate) fn one_of(
        self,
        key: &'static str,
        allowed: &[u64],
        wanted: &'static str,
    ) -> Result<u32> {
        let value = self.get(key);
        let number = value.and_then(Value::as_u64);
        let fits = number.filter(|n| allowed.contains(n));
        match fits.and_then(|n| u32::try_from(n).ok()) {
            Some(n) => Ok(n),
            None => Err(self.wrong(key, wanted)),
        }
    }

    /// How many columns share a scale; `None` for -1 or nothing, which is all of them.
    pub(crate) fn group_size(self, key: &'static str) -> Result<Option<u64>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) if value.as_i64() == Some(-1) => Ok(None),
            Some(value) => match value.as_u64().filter(|n| *n > 0) {
                Some(n) => Ok(Some(n)),
                None => Err(self.wrong(key, "a positive number, or -1")),
            },
        }
    }

    /// Rows and columns of a block that shares a scale.
    pub(crate) fn block(self, key: &'static str) -> Result<Option<[u64; 2]>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let sizes = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let size = |n: &Value| n.as_u64().filter(|n| *n > 0);
        match sizes {
            [rows, columns] => match (size(rows), size(columns)) {
                (Some(rows), Some(columns)) => Ok(Some([rows, columns])),
                _ => Err(self.wrong(key, "two positive numbers")),
            },
            _ => Err(self.wrong(key, "two positive numbers")),
        }
    }

    pub(crate) fn wrong(self, key: &'static str, wanted: &'static str) -> ir::Error {
        let found = self.get(key).map_or("missing".to_owned(), Value::to_string);
        UnpackError::Setting { key, found, wanted }.into()
    }
}
