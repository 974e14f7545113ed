//! Lane kernels: what runs when nothing special is asked for.

mod affine;
mod iq4;
mod lanes;
mod plain;
mod symmetric;
mod weighted;

use std::marker::PhantomData;

use ir::BlockFormat;

use crate::dispatch::Level;

/// Encodes whole blocks if the format has a lane kernel; says whether it did.
pub(crate) fn encode(
    level: Level,
    format: BlockFormat,
    src: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> bool {
    macro_rules! affine {
        ($format:ident, $bytes:literal, $sub:literal) => {{
            let format = PhantomData::<affine::$format>;
            if let Some(importance) = importance {
                level.run(affine::Job::<_, $bytes, $sub, true> {
                    src,
                    importance,
                    out,
                    format,
                });
            } else {
                let importance = &[];
                level.run(affine::Job::<_, $bytes, $sub, false> {
                    src,
                    importance,
                    out,
                    format,
                });
            }
        }};
    }
    macro_rules! symmetric {
        ($format:ident) => {
            if let Some(importance) = importance {
                level.run(symmetric::$format::<true> {
                    src,
                    importance,
                    out,
                });
            } else {
                level.run(symmetric::$format::<false> {
                    src,
                    importance: &[],
                    out,
                });
            }
        };
    }
    macro_rules! plain {
        ($format:ident, $bytes:literal) => {
            if let Some(importance) = importance {
                let format = PhantomData::<weighted::$format>;
                level.run(weighted::Job::<_, $bytes> {
                    src,
                    importance,
                    out,
                    format,
                });
            } else {
                level.run(plain::$format { src, out });
            }
        };
    }
    macro_rules! iq4 {
        ($format:ident) => {
            if let Some(importance) = importance {
                level.run(iq4::$format::<true> {
                    src,
                    importance,
                    out,
                });
            } else {
                level.run(iq4::$format::<false> {
                    src,
                    importance: &[],
                    out,
                });
            }
        };
    }
    match format {
        BlockFormat::Q4_0 => plain!(Q4_0, 18),
        BlockFormat::Q4_1 => plain!(Q4_1, 20),
        BlockFormat::Q5_0 => plain!(Q5_0, 22),
        BlockFormat::Q5_1 => plain!(Q5_1, 24),
        BlockFormat::Q8_0 => level.run(plain::Q8_0 { src, out }),
        BlockFormat::MXFP4 => level.run(plain::Mxfp4 { src, out }),
        BlockFormat::IQ4_NL => iq4!(Nl),
        BlockFormat::IQ4_XS => iq4!(Xs),
        BlockFormat::Q3_K => symmetric!(Q3K),
        BlockFormat::Q6_K => symmetric!(Q6K),
        BlockFormat::Q2_K => affine!(Q2K, 84, 16),
        BlockFormat::Q4_K => affine!(Q4K, 144, 32),
        BlockFormat::Q5_K => affine!(Q5K, 176, 32),
        _ => return false,
    }
    true
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
