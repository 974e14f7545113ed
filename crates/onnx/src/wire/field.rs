//! Field numbers of the messages that are read and written by hand: those of `proto/onnx.proto`.

macro_rules! fields {
    ($($message:ident { $($name:ident = $number:literal,)* })*) => {
        $(
            pub(crate) mod $message {
                $(pub(crate) const $name: u32 = $number;)*
            }
        )*
    };
}

fields! {
    model {
        IR_VERSION = 1,
        PRODUCER_NAME = 2,
        PRODUCER_VERSION = 3,
        DOMAIN = 4,
        MODEL_VERSION = 5,
        DOC = 6,
        GRAPH = 7,
        OPSET_IMPORT = 8,
        METADATA = 14,
        TRAINING = 20,
        FUNCTIONS = 25,
        CONFIGURATION = 26,
    }
    opset {
        DOMAIN = 1,
        VERSION = 2,
    }
    pair {
        KEY = 1,
        VALUE = 2,
    }
    graph {
        NODE = 1,
        NAME = 2,
        INITIALIZER = 5,
        DOC = 10,
        INPUT = 11,
        OUTPUT = 12,
        VALUE_INFO = 13,
        QUANTIZATION = 14,
        SPARSE_INITIALIZER = 15,
        METADATA = 16,
    }
    annotation {
        TENSOR_NAME = 1,
        PARAMETERS = 2,
    }
    node {
        INPUT = 1,
        OUTPUT = 2,
        NAME = 3,
        OP_TYPE = 4,
        ATTRIBUTE = 5,
        DOC = 6,
        DOMAIN = 7,
        OVERLOAD = 8,
        METADATA = 9,
        DEVICES = 10,
    }
    attribute {
        NAME = 1,
        F = 2,
        I = 3,
        S = 4,
        T = 5,
        G = 6,
        FLOATS = 7,
        INTS = 8,
        STRINGS = 9,
        TENSORS = 10,
        GRAPHS = 11,
        DOC = 13,
        TP = 14,
        TYPE_PROTOS = 15,
        TYPE = 20,
        REF = 21,
        SPARSE_TENSOR = 22,
        SPARSE_TENSORS = 23,
    }
    tensor {
        DIMS = 1,
        DATA_TYPE = 2,
        SEGMENT = 3,
        FLOAT_DATA = 4,
        INT32_DATA = 5,
        STRING_DATA = 6,
        INT64_DATA = 7,
        NAME = 8,
        RAW_DATA = 9,
        DOUBLE_DATA = 10,
        UINT64_DATA = 11,
        DOC = 12,
        EXTERNAL_DATA = 13,
        DATA_LOCATION = 14,
        METADATA = 16,
    }
    sparse {
        VALUES = 1,
        INDICES = 2,
        DIMS = 3,
    }
    value_info {
        NAME = 1,
        TYPE = 2,
        DOC = 3,
        METADATA = 4,
    }
    ty {
        TENSOR = 1,
        SEQUENCE = 4,
        MAP = 5,
        DENOTATION = 6,
        OPAQUE = 7,
        SPARSE_TENSOR = 8,
        OPTIONAL = 9,
    }
    type_tensor {
        ELEM_TYPE = 1,
        SHAPE = 2,
    }
    type_map {
        KEY_TYPE = 1,
        VALUE_TYPE = 2,
    }
    type_opaque {
        DOMAIN = 1,
        NAME = 2,
    }
    shape {
        DIM = 1,
    }
    dim {
        VALUE = 1,
        PARAM = 2,
        DENOTATION = 3,
    }
    function {
        NAME = 1,
        INPUT = 4,
        OUTPUT = 5,
        ATTRIBUTE = 6,
        NODE = 7,
        DOC = 8,
        OPSET_IMPORT = 9,
        DOMAIN = 10,
        ATTRIBUTE_PROTO = 11,
        VALUE_INFO = 12,
        OVERLOAD = 13,
        METADATA = 14,
    }
    training {
        INITIALIZATION = 1,
        ALGORITHM = 2,
        INITIALIZATION_BINDING = 3,
        UPDATE_BINDING = 4,
    }
}
