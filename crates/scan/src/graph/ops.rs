//! What operators do to a yes or no that passes through them.

/// Domains whose operators belong to ONNX and its runtimes.
pub(super) const DOMAINS: &[&str] = &[
    "",
    "ai.onnx",
    "ai.onnx.ml",
    "ai.onnx.preview",
    "ai.onnx.preview.training",
    "ai.onnx.training",
    "com.microsoft",
    "com.microsoft.experimental",
    "com.microsoft.nchwc",
    "com.ms.internal.nhwc",
];

/// Steps without weights: they move values, reshape them, or compute each from its like.
pub(super) fn is_light(op: &str) -> bool {
    const LIGHT: &[&str] = &[
        "Abs",
        "Acos",
        "Add",
        "And",
        "Asin",
        "Atan",
        "BatchNormalization",
        "BitShift",
        "BitwiseAnd",
        "BitwiseNot",
        "BitwiseOr",
        "BitwiseXor",
        "Cast",
        "CastLike",
        "Ceil",
        "Celu",
        "CenterCropPad",
        "Clip",
        "Compress",
        "Concat",
        "Cos",
        "Cosh",
        "DepthToSpace",
        "DequantizeLinear",
        "Div",
        "Dropout",
        "DynamicQuantizeLinear",
        "Elu",
        "Erf",
        "Exp",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "GatherElements",
        "GatherND",
        "Gelu",
        "GroupNormalization",
        "HardSigmoid",
        "HardSwish",
        "Hardmax",
        "Identity",
        "If",
        "InstanceNormalization",
        "IsInf",
        "IsNaN",
        "LayerNormalization",
        "LeakyRelu",
        "Log",
        "LogSoftmax",
        "Loop",
        "LpNormalization",
        "Max",
        "Mean",
        "MeanVarianceNormalization",
        "Min",
        "Mish",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "OneHot",
        "Or",
        "PRelu",
        "Pad",
        "Pow",
        "QuantizeLinear",
        "RMSNormalization",
        "Range",
        "Reciprocal",
        "Relu",
        "Reshape",
        "Resize",
        "ReverseSequence",
        "Round",
        "ScatterElements",
        "ScatterND",
        "Scan",
        "Selu",
        "SequenceAt",
        "SequenceConstruct",
        "Sigmoid",
        "Sign",
        "Shrink",
        "Sin",
        "Sinh",
        "Slice",
        "Softmax",
        "Softplus",
        "Softsign",
        "SpaceToDepth",
        "Split",
        "SplitToSequence",
        "ConcatFromSequence",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Sum",
        "Swish",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
        "Tile",
        "Transpose",
        "Trilu",
        "Unsqueeze",
        "Upsample",
        "Where",
        "Xor",
        "AveragePool",
        "MaxPool",
        "LpPool",
    ];
    LIGHT.contains(&op) || is_comparison(op) || is_reduction(op)
}

/// Steps through which a result still leaves the model as it was chosen.
pub(super) fn is_plain(op: &str) -> bool {
    const OTHERS: &[&str] = &[
        "Softmax",
        "LogSoftmax",
        "Sigmoid",
        "HardSigmoid",
        "Tanh",
        "AveragePool",
        "LayerNormalization",
        "BatchNormalization",
        "RMSNormalization",
        "InstanceNormalization",
        "GroupNormalization",
        "LpNormalization",
        "MeanVarianceNormalization",
        "MaxPool",
        "LpPool",
        "Exp",
    ];
    is_light(op) && !OTHERS.contains(&op) && !is_comparison(op) && !is_reduction(op)
}

/// What makes scores of results, at the end of a model.
pub(super) fn is_closing(op: &str) -> bool {
    const CLOSING: &[&str] = &[
        "Softmax",
        "LogSoftmax",
        "Sigmoid",
        "HardSigmoid",
        "Tanh",
        "ArgMax",
        "TopK",
        "Hardmax",
        "Exp",
    ];
    CLOSING.contains(&op)
}

/// Steps with weights of their own.
pub(super) fn is_layer(op: &str) -> bool {
    const LAYERS: &[&str] = &[
        "MatMul",
        "Gemm",
        "Conv",
        "ConvTranspose",
        "ConvInteger",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
        "Einsum",
        "FusedMatMul",
        "FusedConv",
        "FusedGemm",
        "MatMulNBits",
    ];
    LAYERS.contains(&op)
}

/// Attention in one step: what masks it are its later inputs.
pub(super) fn is_attention(op: &str) -> bool {
    op.ends_with("Attention")
}

pub(super) fn is_comparison(op: &str) -> bool {
    const COMPARE: &[&str] = &["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"];
    COMPARE.contains(&op)
}

/// Steps that bring many values down to few.
pub(super) fn is_reduction(op: &str) -> bool {
    is_any(op) || is_total(op) || is_place(op)
}

/// Whether any or all: a yes or no of many.
pub(super) fn is_any(op: &str) -> bool {
    const ANY: &[&str] = &["ReduceMax", "ReduceMin", "ReduceProd", "GlobalMaxPool"];
    ANY.contains(&op)
}

/// How many.
pub(super) fn is_total(op: &str) -> bool {
    !is_any(op) && (op.starts_with("Reduce") || op == "GlobalAveragePool" || op == "GlobalLpPool")
}

/// Where.
fn is_place(op: &str) -> bool {
    const PLACE: &[&str] = &["ArgMax", "ArgMin", "TopK"];
    PLACE.contains(&op)
}

/// Steps that number many values, one by one.
pub(super) fn is_numbering(op: &str) -> bool {
    const NUMBERING: &[&str] = &[
        "CumSum",
        "NonZero",
        "Conv",
        "ConvInteger",
        "AveragePool",
        "LpPool",
        "Unique",
    ];
    NUMBERING.contains(&op)
}

/// Steps that give as many positions as their input has of a kind.
pub(super) fn is_ragged(op: &str) -> bool {
    matches!(op, "NonZero" | "Compress" | "Unique")
}

/// Steps that add to a result, or put something in its place.
pub(super) fn is_mix(op: &str) -> bool {
    const MIX: &[&str] = &[
        "Add",
        "Sub",
        "Mul",
        "Max",
        "Min",
        "Sum",
        "Mean",
        "Where",
        "ScatterElements",
        "ScatterND",
        "Pow",
        "Mod",
        "Xor",
        "BitwiseXor",
        "BitwiseAnd",
        "BitwiseOr",
    ];
    MIX.contains(&op)
}

/// Steps that choose by an index or a condition, and which inputs that is.
pub(super) fn chooser(op: &str) -> Option<usize> {
    match op {
        "Gather" | "GatherElements" | "GatherND" | "Slice" | "Compress" | "SequenceAt" => Some(1),
        _ => None,
    }
}

/// The first input that says how, and not what.
pub(super) fn control(op: &str) -> usize {
    match op {
        "ConstantOfShape" | "Shape" | "Size" | "EyeLike" => 0,
        "Reshape" | "Expand" | "Tile" | "Slice" | "Gather" | "GatherElements" | "GatherND"
        | "Pad" | "Squeeze" | "Unsqueeze" | "Split" | "TopK" | "Resize" | "Upsample" | "Trilu"
        | "CumSum" | "CastLike" | "Compress" | "SequenceAt" | "SplitToSequence"
        | "CenterCropPad" => 1,
        _ if op.starts_with("Reduce") => 1,
        _ => usize::MAX,
    }
}

/// Steps that give something new each time.
pub(super) fn is_random(op: &str) -> bool {
    op.starts_with("Random") || op == "Multinomial" || op == "Bernoulli"
}
