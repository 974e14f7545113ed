//! Lane kernels: what runs when nothing special is asked for.

use ir::BlockFormat;

use crate::dispatch::Level;

/// Encodes whole blocks if the format has a lane kernel; says whether it did.
pub(crate) fn encode(
    _level: Level,
    _format: BlockFormat,
    _src: &[f32],
    _importance: Option<&[f32]>,
    _out: &mut [u8],
) -> bool {
    false
}

/// Decodes whole blocks if the format has a lane kernel; says whether it did.
pub(crate) fn decode(
    _level: Level,
    _format: BlockFormat,
    _blocks: &[u8],
    _out: &mut [f32],
) -> bool {
    false
}
