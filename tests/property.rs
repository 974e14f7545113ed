//! Random models through every format and back.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests

use convert::DiffOptions;
use ir::{ByteOrder, Context, DType, Model, Output, Region, Strides, Tensor, TensorSpec, View};
use proptest::prelude::*;
use weightbridge::{ConvertRequest, Intent, Names, Session, registry};
use weightbridge_tests::folder;

/// Types that every format of this issue holds as they are.
const COMMON: &[DType] = &[
    DType::F64,
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::F8E4M3,
    DType::F8E5M2,
    DType::I64,
    DType::I32,
    DType::I16,
    DType::I8,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::Bool,
    DType::C64,
];

#[derive(Debug, Clone)]
struct Recipe {
    name: String,
    dtype: DType,
    shape: Vec<u64>,
    reversed: bool,
    swapped: bool,
    seed: u8,
}

fn recipe() -> impl Strategy<Value = Recipe> {
    (
        "[a-zA-Z0-9_. é-]{1,20}",
        prop::sample::select(COMMON),
        prop::collection::vec(0u64..6, 0..5),
        any::<bool>(),
        any::<bool>(),
        any::<u8>(),
    )
        .prop_map(|(name, dtype, shape, reversed, swapped, seed)| Recipe {
            name,
            dtype,
            shape,
            reversed,
            swapped,
            seed,
        })
}

fn tensor(recipe: &Recipe, index: usize) -> Tensor {
    let spec = TensorSpec::new(recipe.dtype, recipe.shape.clone());
    let bytes: Vec<u8> = (0..spec.byte_len().unwrap())
        .map(|i| {
            let byte = (i as u8).wrapping_mul(31).wrapping_add(recipe.seed);
            if recipe.dtype == DType::Bool {
                byte & 1
            } else {
                byte
            }
        })
        .collect();
    // Column-major strides: a transposed view wherever there are two real dimensions.
    let strides = recipe.reversed.then(|| {
        let mut step = 1;
        let steps: Vec<u64> = recipe
            .shape
            .iter()
            .map(|&dim| {
                let here = step;
                step *= dim.max(1);
                here
            })
            .collect();
        Strides::new(steps)
    });
    let byte_order = if recipe.swapped {
        ByteOrder::Big
    } else {
        ByteOrder::Little
    };
    let view = View {
        region: Region::memory(bytes),
        offset: 0,
        strides,
        byte_order,
    };
    Tensor::stored(format!("{index}.{}", recipe.name), spec, view)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_model_survives_every_format(recipes in prop::collection::vec(recipe(), 1..12)) {
        let session = Session::default();
        let dir = folder();
        let mut model = Model::default();
        for (index, recipe) in recipes.iter().enumerate() {
            model.tensors.push(tensor(recipe, index)).unwrap();
        }
        // Written by a writer directly: the starting point.
        let start = dir.path().join("start.safetensors");
        let mut out = Output::new(&start, false);
        st::FORMAT.writer.unwrap().write(&model, &mut out, &Context::default()).unwrap();
        out.commit().unwrap();
        for format in registry().iter().filter(|format| format.writer.is_some()) {
            let there = dir.path().join(format!("there.{}", format.extensions[0]));
            let back = dir.path().join(format!("back-{}.safetensors", format.id));
            let carried = ConvertRequest { intent: Some(Intent::Container), ..ConvertRequest::new(&start, &there) };
            weightbridge::convert(&carried, &session).unwrap();
            weightbridge::convert(&ConvertRequest::new(&there, &back), &session).unwrap();
            let report = weightbridge::diff(&start, &back, Names::Raw, DiffOptions::default(), &session).unwrap();
            prop_assert!(report.same(), "{}: {report:?}", format.id);
            let opened = weightbridge::open(&back, None, ir::ReadOptions::default(), &session).unwrap();
            for tensor in &model.tensors {
                let found = opened.model.tensors.by_name(&tensor.name).unwrap();
                prop_assert_eq!(&found.spec, &tensor.spec);
                prop_assert_eq!(found.read_all().unwrap(), tensor.read_all().unwrap());
            }
        }
    }

    /// The same bytes at any thread count and memory bound.
    #[test]
    fn threads_and_memory_change_nothing(recipes in prop::collection::vec(recipe(), 1..6)) {
        let dir = folder();
        let mut model = Model::default();
        for (index, recipe) in recipes.iter().enumerate() {
            model.tensors.push(tensor(recipe, index)).unwrap();
        }
        let start = dir.path().join("start.safetensors");
        let mut out = Output::new(&start, false);
        st::FORMAT.writer.unwrap().write(&model, &mut out, &Context::default()).unwrap();
        out.commit().unwrap();
        for format in registry().iter().filter(|format| format.writer.is_some()) {
            let mut seen = None;
            for (threads, memory) in [(1, 1 << 16), (3, 1 << 28)] {
                let session = Session { threads, memory, ..Session::default() };
                // The same name, since a checkpoint's entries carry its stem.
                let to = dir.path().join(format!("same.{}", format.extensions[0]));
                let request = ConvertRequest { overwrite: true,
                    intent: Some(Intent::Container), ..ConvertRequest::new(&start, &to) };
                weightbridge::convert(&request, &session).unwrap();
                let bytes = std::fs::read(&to).unwrap();
                prop_assert!(seen.get_or_insert_with(|| bytes.clone()) == &bytes, "{}", format.id);
            }
        }
    }
}
