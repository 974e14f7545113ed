//! Which tensors of a mixture get more or fewer bits.
//!
//! The rules are facts about `llama_tensor_get_type_impl` in llama.cpp's `src/llama-quant.cpp`
//! (v0.5.0), told by category. Most of them were found by measuring perplexity, few follow from
//! anything; what counts is that the same tensor gets the same type. Layers are counted as the
//! tensors come, so the order matters (see [`super::order`]).

use super::{Category, FileType, ModelFacts, order::block_number};
use ir::BlockFormat::{self, IQ2_S, IQ2_XXS, IQ3_S, IQ3_XXS, MXFP4};
use ir::BlockFormat::{Q2_K, Q3_K, Q4_1, Q4_K, Q5_1, Q5_K, Q6_K, Q8_0};
use ir::DType;

/// A tensor the mixture decides about.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) name: &'a str,
    pub(crate) category: Category,
    /// Elements a row.
    pub(crate) columns: u64,
    /// The third dimension from within: experts, for most tensors that have it.
    pub(crate) experts: u64,
}

/// Counts what came before a tensor, and knows the model.
#[derive(Debug)]
pub(crate) struct Mixture<'a> {
    pub(crate) facts: &'a ModelFacts,
    pub(crate) file_type: FileType,
    pub(crate) has_imatrix: bool,
    /// No output matrix: the token embeddings serve as one.
    pub(crate) tied: bool,
    pub(crate) output_type: Option<DType>,
    /// Tensors like attention's values in the whole model.
    pub(crate) n_value: u64,
    pub(crate) i_value: u64,
    pub(crate) i_down: u64,
    pub(crate) i_up: u64,
    pub(crate) i_gate: u64,
}

/// The first eighth of the layers, the last eighth, and every third between.
fn more_bits(i: u64, n: u64) -> bool {
    let eighth = n / 8;
    i < eighth || i >= 7 * n / 8 || (i - eighth) % 3 == 2
}

/// A type with the rule that gave it.
type Ruled = (DType, &'static str);

const fn block(format: BlockFormat) -> DType {
    DType::Block(format)
}

impl Mixture<'_> {
    /// The type for a tensor whose base type is `base`.
    pub(crate) fn decide(&mut self, tensor: &Subject<'_>, base: DType) -> Ruled {
        let arch = self.facts.architecture.as_str();
        if arch == "glm5-next"
            && ["attn_q_a", "attn_q_b", "nextn.eh_proj"]
                .iter()
                .any(|part| tensor.name.contains(part))
        {
            return (block(Q8_0), "never below Q8_0 in this architecture");
        }
        let embedding = tensor.category == Category::TokenEmbedding;
        if tensor.category == Category::Output || embedding && self.tied {
            return self.output(tensor, base);
        }
        if self.file_type == FileType::MXFP4_MOE {
            let ffn = matches!(
                tensor.category,
                Category::FfnUp | Category::FfnGate | Category::FfnDown
            );
            return if tensor.experts > 1 && (arch != "bailingmoe3" || ffn) {
                (block(MXFP4), "experts")
            } else {
                (block(Q8_0), "not experts")
            };
        }
        let found = match tensor.category {
            Category::TokenEmbedding => self.embedding().map(|to| (to, "token embeddings")),
            _ if self.very_low() => self.decide_very_low(tensor),
            Category::AttentionV | Category::AttentionQkv | Category::AttentionKvB => {
                self.value(base).map(|to| (to, "attention values"))
            }
            Category::AttentionK => self.key().map(|to| (to, "attention keys")),
            Category::AttentionQ => self.query().map(|to| (to, "attention queries")),
            Category::FfnDown => {
                let i = self.layer(tensor.name, self.i_down);
                self.i_down += 1;
                self.down(i).map(|to| (to, "feed-forward down, by layer"))
            }
            Category::AttentionOutput => self.attention_output().map(|to| (to, "attention output")),
            Category::FfnGate => {
                let i = self.layer(tensor.name, self.i_gate);
                self.i_gate += 1;
                self.up_or_gate(i)
                    .map(|to| (to, "feed-forward gate, by layer"))
            }
            Category::FfnUp => {
                let i = self.layer(tensor.name, self.i_up);
                self.i_up += 1;
                self.up_or_gate(i)
                    .map(|to| (to, "feed-forward up, by layer"))
            }
            Category::Output | Category::Other => None,
        };
        found.map_or((base, "base type"), |(to, why)| (block(to), why))
    }

    /// The layer of a feed-forward tensor. Experts stored one by one come in any order, so there
    /// the name tells; elsewhere, and where it does not, the count does.
    ///
    /// (`llama-quantize` stops at a name without a layer in a model of experts. There is no
    /// telling reason to.)
    fn layer(&self, name: &str, count: u64) -> u64 {
        if self.facts.n_expert > 1 {
            block_number(name).map_or(count, u64::from)
        } else {
            count
        }
    }

    fn output(&self, tensor: &Subject<'_>, base: DType) -> Ruled {
        if let Some(to) = self.output_type {
            return (to, "--output-tensor-type");
        }
        let per_block = u64::from(base.block().0);
        let why = match tensor.category {
            Category::Output => "output",
            _ => "token embeddings that serve as output",
        };
        let to = if self.file_type == FileType::MXFP4_MOE
            || self.facts.architecture == "falcon"
            || !tensor.columns.is_multiple_of(per_block)
        {
            block(Q8_0)
        } else {
            match self.file_type {
                FileType::IQ2_XXS
                | FileType::IQ2_XS
                | FileType::IQ3_XXS
                | FileType::IQ1_S
                | FileType::IQ2_S
                | FileType::IQ2_M
                | FileType::IQ1_M => block(Q5_K),
                _ if base == block(Q8_0) => base,
                _ => block(Q6_K),
            }
        };
        (to, why)
    }

    fn embedding(&self) -> Option<BlockFormat> {
        match self.file_type {
            FileType::IQ2_XXS | FileType::IQ2_XS | FileType::IQ1_S | FileType::IQ1_M => Some(Q2_K),
            FileType::IQ2_S | FileType::IQ2_M | FileType::IQ3_XXS => Some(IQ3_S),
            FileType::TQ1_0 | FileType::TQ2_0 | FileType::Q2_0 => Some(Q4_K),
            _ => None,
        }
    }

    /// The types of about two bits and less, which have rules of their own.
    fn very_low(&self) -> bool {
        matches!(
            self.file_type,
            FileType::IQ1_S
                | FileType::IQ1_M
                | FileType::IQ2_XXS
                | FileType::IQ2_XS
                | FileType::IQ2_S
                | FileType::IQ2_M
        )
    }

    fn decide_very_low(&mut self, tensor: &Subject<'_>) -> Option<(BlockFormat, &'static str)> {
        let two = matches!(self.file_type, FileType::IQ2_S | FileType::IQ2_M);
        let better = if two { IQ3_S } else { Q2_K };
        let eight = self.facts.n_expert == 8;
        match tensor.category {
            category if category.is_value() => {
                self.i_value += 1;
                let shared = self.facts.n_gqa >= 4 || self.facts.n_expert >= 4;
                Some((if shared { Q4_K } else { better }, "attention values"))
            }
            Category::AttentionK if eight => Some((Q4_K, "attention keys, eight experts")),
            Category::FfnDown => {
                let first = self.i_down < self.facts.n_layer / 8;
                self.i_down += 1;
                first.then_some((better, "feed-forward down, first layers"))
            }
            Category::AttentionOutput if eight => Some((Q5_K, "attention output, eight experts")),
            Category::AttentionOutput => match self.file_type {
                FileType::IQ1_S | FileType::IQ1_M => Some((IQ2_XXS, "attention output")),
                _ if two => Some((IQ3_S, "attention output")),
                _ => None,
            },
            _ => None,
        }
    }

    fn value(&mut self, base: DType) -> Option<BlockFormat> {
        let i = self.i_value;
        self.i_value += 1;
        let shared = self.facts.n_gqa >= 4;
        let mut to = match self.file_type {
            FileType::Q2_K => Some(if shared { Q4_K } else { Q3_K }),
            FileType::Q2_K_S | FileType::IQ3_XXS | FileType::IQ3_XS | FileType::IQ3_S if shared => {
                Some(Q4_K)
            }
            FileType::IQ3_XXS => Some(if self.has_imatrix { IQ3_XXS } else { IQ3_S }),
            FileType::IQ3_M => Some(Q4_K),
            FileType::Q3_K_M => Some(if i < 2 { Q5_K } else { Q4_K }),
            FileType::Q3_K_L => Some(Q5_K),
            FileType::IQ4_NL | FileType::IQ4_XS if shared => Some(Q5_K),
            FileType::Q4_K_M | FileType::Q5_K_M if more_bits(i, self.n_value) => Some(Q6_K),
            FileType::Q4_K_S if i < 4 => Some(Q5_K),
            _ => None,
        };
        let so_far = to.map_or(base, block);
        // Eight heads share each value there, so the tensor is small and bits are cheap.
        if self.facts.is_70b && (so_far == block(Q3_K) || so_far == block(Q4_K)) {
            to = Some(Q5_K);
        }
        if self.facts.n_expert == 8 {
            to = Some(Q8_0);
        }
        to
    }

    fn key(&self) -> Option<BlockFormat> {
        if self.facts.n_expert == 8 {
            return Some(Q8_0);
        }
        self.query()
    }

    fn query(&self) -> Option<BlockFormat> {
        match self.file_type {
            FileType::IQ3_XS => Some(IQ3_XXS),
            FileType::IQ3_XXS => Some(IQ2_S),
            _ => None,
        }
    }

    fn down(&self, i: u64) -> Option<BlockFormat> {
        let n = self.facts.n_layer;
        let falcon = self.facts.architecture == "falcon";
        let (first, more) = (i < n / 8, more_bits(i, n));
        match self.file_type {
            FileType::Q2_K => Some(Q3_K),
            FileType::Q2_K_S if first => Some(Q4_K),
            FileType::IQ3_XXS if !self.has_imatrix => Some(if first { Q4_K } else { Q3_K }),
            FileType::Q3_K_M if i < n / 16 => Some(Q5_K),
            FileType::Q3_K_M => Some(if !falcon || more { Q4_K } else { Q3_K }),
            FileType::IQ3_M if first || self.facts.n_expert == 8 && more => Some(Q4_K),
            FileType::Q3_K_L => Some(if falcon { Q4_K } else { Q5_K }),
            FileType::Q4_K_M if falcon && i < n / 16 => Some(Q6_K),
            FileType::Q4_K_M if falcon => Some(if more { Q5_K } else { Q4_K }),
            FileType::Q4_K_M | FileType::Q5_K_M if more => Some(Q6_K),
            FileType::IQ4_NL | FileType::IQ4_XS if first && !self.has_imatrix => Some(Q5_K),
            FileType::Q4_K_S if first && !falcon => Some(Q5_K),
            // With an importance matrix the types without a minimum can go astray here.
            FileType::Q4_0 if first && self.has_imatrix => Some(Q4_1),
            FileType::Q5_0 if first && self.has_imatrix => Some(Q5_1),
            _ => None,
        }
    }

    fn attention_output(&self) -> Option<BlockFormat> {
        if self.facts.architecture == "falcon" {
            return (self.file_type == FileType::Q3_K_L).then_some(Q4_K);
        }
        if self.facts.n_expert == 8 {
            return matches!(
                self.file_type,
                FileType::Q2_K
                    | FileType::IQ3_XS
                    | FileType::IQ3_XXS
                    | FileType::Q3_K_S
                    | FileType::Q3_K_M
                    | FileType::IQ4_NL
                    | FileType::Q4_K_S
                    | FileType::Q4_K_M
                    | FileType::IQ3_S
                    | FileType::IQ3_M
                    | FileType::IQ4_XS
            )
            .then_some(Q5_K);
        }
        match self.file_type {
            FileType::Q2_K => Some(Q3_K),
            FileType::IQ3_XXS => Some(IQ3_S),
            FileType::Q3_K_M | FileType::IQ3_M => Some(Q4_K),
            FileType::Q3_K_L => Some(Q5_K),
            _ => None,
        }
    }

    fn up_or_gate(&self, i: u64) -> Option<BlockFormat> {
        let n = self.facts.n_layer;
        let middle = i >= n / 8 && i < 7 * n / 8;
        (self.file_type == FileType::IQ3_XS && middle).then_some(IQ3_XXS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_and_every_third_get_more() {
        let more: Vec<u64> = (0..32).filter(|&i| more_bits(i, 32)).collect();
        assert_eq!(
            more,
            [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
        );
        assert!(more_bits(0, 0));
        assert!((0..2).filter(|&i| more_bits(i, 2)).eq([1]));
    }
}
