use super::*;
use ir::{
    Blob, Call, CallKind, Class, DType, ModelBuilder, Object, ObjectId, Objects, PatternCompute,
    Region, Shape, TensorSpec, View, WriteOptions,
};
use std::fs;
use std::path::PathBuf;

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ckpt-writer-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, model: &Model, shard_size: Option<u64>) -> Result<Report> {
        let cx = Context {
            write: WriteOptions {
                shard_size,
                ..WriteOptions::default()
            },
            ..Context::default()
        };
        let mut out = Output::new(&self.0.join(name), true);
        let report = WRITER.write(model, &mut out, &cx)?;
        let files = out.commit()?;
        assert_eq!(
            files.iter().map(|(_, len)| len).sum::<u64>(),
            report.file_bytes
        );
        Ok(report)
    }

    fn entries(&self, name: &str) -> Vec<Unzipped> {
        unzip(&fs::read(self.0.join(name)).unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Unzipped {
    name: String,
    at: usize,
    bytes: Vec<u8>,
}

fn number(bytes: &[u8], at: usize, len: usize) -> usize {
    let field = bytes[at..at + len].iter().rev();
    field.fold(0, |n, byte| n << 8 | usize::from(*byte))
}

/// Every entry by the directory, headers and checksums compared: a plain reader for small archives.
fn unzip(file: &[u8]) -> Vec<Unzipped> {
    let end = file.len() - 22;
    assert_eq!(&file[end..end + 4], b"PK\x05\x06");
    assert_eq!(&file[end - 20..end - 16], b"PK\x06\x07");
    assert_eq!(
        number(file, end - 12, 8),
        end - 76,
        "the locator names the zip64 record"
    );
    let (count, mut at) = (number(file, end + 10, 2), number(file, end + 16, 4));
    assert_eq!(number(file, end - 76 + 24, 8), count);
    let mut out = Vec::new();
    let mut next = 0;
    for _ in 0..count {
        assert_eq!(&file[at..at + 4], b"PK\x01\x02");
        let (crc, size) = (number(file, at + 16, 4), number(file, at + 24, 4));
        let (name_len, header) = (number(file, at + 28, 2), number(file, at + 42, 4));
        let name = &file[at + 46..at + 46 + name_len];
        assert_eq!(number(file, at + 20, 4), size, "stored");
        assert_eq!(header, next, "no bytes between the entries");
        assert_eq!(&file[header..header + 4], b"PK\x03\x04");
        assert_eq!(&file[header + 30..header + 30 + name_len], name);
        let data = header + 30 + name_len + number(file, header + 28, 2);
        let bytes = file[data..data + size].to_vec();
        assert_eq!(usize::try_from(crc32fast::hash(&bytes)).unwrap(), crc);
        next = data + size;
        if size > 0 {
            assert_eq!(&file[next..next + 4], b"PK\x07\x08");
            assert_eq!(number(file, next + 4, 4), crc);
            next += 16;
        }
        out.push(Unzipped {
            name: String::from_utf8(name.to_vec()).unwrap(),
            at: data,
            bytes,
        });
        at += 46 + name_len + number(file, at + 30, 2);
    }
    assert_eq!(at, end - 76);
    out
}

/// `torch.save(OrderedDict(...), "m.pt")` of torch 2.15: the entry `m/data.pkl`.
const STATE_DICT: &[u8] = b"\x80\x02ccollections\nOrderedDict\nq\0)Rq\x01(\
    X\x01\0\0\0aq\x02ctorch._utils\n_rebuild_tensor_v2\nq\x03((X\x07\0\0\0storageq\x04\
    ctorch\nFloatStorage\nq\x05X\x01\0\0\x000q\x06X\x03\0\0\0cpuq\x07K\x06tq\x08QK\0K\x02K\x03\
    \x86q\tK\x03K\x01\x86q\n\x89h\0)Rq\x0btq\x0cRq\x0d\
    X\x01\0\0\0bq\x0eh\x03((h\x04h\x05h\x06h\x07K\x06tq\x0fQK\0K\x02K\x03\
    \x86q\x10K\x03K\x01\x86q\x11\x89h\0)Rq\x12tq\x13Rq\x14\
    X\x01\0\0\0cq\x15ctorch._utils\n_rebuild_tensor_v3\nq\x16((h\x04\
    ctorch.storage\nUntypedStorage\nq\x17X\x01\0\0\x001q\x18h\x07K\x04tq\x19QK\0K\x04\
    \x85q\x1aK\x01\x85q\x1b\x89h\0)Rq\x1cctorch\nfloat8_e4m3fn\nq\x1dtq\x1eRq\x1fu.";

fn tied_model() -> Model {
    let bytes: Vec<u8> = (0..24).collect();
    let view = View::contiguous(Region::memory(bytes));
    let tensor = |name| {
        let spec = TensorSpec::new(DType::F32, [2, 3]);
        Tensor::stored(name, spec, view.clone())
    };
    ModelBuilder::new()
        .push(tensor("a"))
        .push(tensor("b"))
        .tensor("c", DType::F8E4M3, [4], vec![9, 8, 7, 6])
        .build()
        .unwrap()
}

#[test]
fn a_state_dict_is_what_torch_saves() {
    let folder = Folder::new("flat");
    let report = folder.write("m.pt", &tied_model(), None).unwrap();
    assert_eq!((report.tensors, report.tensor_bytes), (3, 28));
    let entries = folder.entries("m.pt");
    let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "m/data.pkl",
            "m/.format_version",
            "m/.storage_alignment",
            "m/byteorder",
            "m/data/0",
            "m/data/1",
            "m/version",
            "m/.data/serialization_id"
        ]
    );
    assert!(entries.iter().all(|entry| entry.at % 64 == 0));
    let text = |n: usize| String::from_utf8_lossy(&entries[n].bytes).into_owned();
    assert_eq!(
        [text(1), text(2), text(3), text(6)],
        ["1", "64", "little", "3\n"]
    );
    assert_eq!(entries[0].bytes, STATE_DICT, "{}", text(0).escape_debug());
    assert_eq!(entries[4].bytes, (0..24).collect::<Vec<u8>>());
    assert_eq!(entries[5].bytes, [9, 8, 7, 6]);
    assert_eq!(text(7).len(), 40);
    assert!(text(7).bytes().all(|b| b.is_ascii_digit()));

    let again = Folder::new("again");
    again.write("m.pt", &tied_model(), None).unwrap();
    let bytes = |folder: &Folder| fs::read(folder.0.join("m.pt")).unwrap();
    assert!(
        bytes(&folder) == bytes(&again),
        "the same content gives the same file"
    );
}

#[test]
fn every_type_and_shape_is_laid_out() {
    let folder = Folder::new("types");
    let mut builder = ModelBuilder::new();
    let mut n = 0;
    for dtype in DType::all().filter(|dtype| has_dtype(*dtype)) {
        for shape in [&[0, 4][..], &[3, 2], &[1, 2, 3, 4], &[300, 2]] {
            builder = builder.push(PatternCompute::tensor(
                &format!("t{n}"),
                dtype,
                shape.to_vec(),
            ));
            n += 1;
        }
    }
    let model = builder.build().unwrap();
    assert_eq!(n, 4 * 28);
    folder.write("caf\u{e9}.pt", &model, None).unwrap();
    let entries = folder.entries("caf\u{e9}.pt");
    assert_eq!(entries.len(), n + 6);
    assert!(
        entries
            .iter()
            .all(|entry| entry.at % 64 == 0 && entry.name.starts_with("archive/"))
    );
    for (tensor, entry) in model.tensors.iter().zip(&entries[4..]) {
        assert_eq!(tensor.read_all().unwrap(), entry.bytes);
    }
    let pickle = String::from_utf8_lossy(&entries[0].bytes).into_owned();
    assert!(pickle.contains("ctorch\nfloat4_e2m1fn_x2\n") && pickle.contains("bcomplex32"));
}

#[test]
fn shards_are_named_and_indexed() {
    let folder = Folder::new("shards");
    let report = folder
        .write("pytorch_model.bin", &tied_model(), Some(24))
        .unwrap();
    assert_eq!((report.tensors, report.tensor_bytes), (3, 28));
    let index = fs::read_to_string(folder.0.join("pytorch_model.bin.index.json")).unwrap();
    assert!(index.contains("\"total_size\": 28"), "{index}");
    assert!(
        index.contains("\"b\": \"pytorch_model-00001-of-00002.bin\""),
        "{index}"
    );
    assert!(
        index.contains("\"c\": \"pytorch_model-00002-of-00002.bin\""),
        "{index}"
    );
    let second = folder.entries("pytorch_model-00002-of-00002.bin");
    assert_eq!(second[4].name, "pytorch_model-00002-of-00002/data/0");
    assert_eq!(second[4].bytes, [9, 8, 7, 6]);
}

/// Nodes of a tree, made one after the other.
#[derive(Default)]
struct Tree(Objects);

impl Tree {
    fn add(&mut self, object: Object) -> ObjectId {
        self.0.push(object, 0).unwrap()
    }

    fn text(&mut self, text: &str) -> ObjectId {
        self.add(Object::Str(text.into()))
    }

    fn ints<const N: usize>(&mut self, numbers: [i64; N]) -> Vec<ObjectId> {
        numbers.map(|n| self.add(Object::Int(n))).to_vec()
    }

    fn call(&mut self, kind: CallKind, module: &str, name: &str) -> Call {
        let callee = self.add(Object::global(module, name));
        let args = self.add(Object::Tuple(ir::Ids::new()));
        Call::new(kind, callee, args)
    }

    fn write(mut self, root: ObjectId) -> Result<Vec<u8>> {
        self.0.set_root(root);
        let table = ir::TensorTable::new();
        let none = Metadata::new();
        let mut storages = Storages::new(&table, &[], &none);
        tree::pickle_of(&self.0, root, &mut storages, &ir::Limits::default())
    }
}

/// `pickle.dumps(..., protocol=2)` of CPython 3.11 for the tree of the test below.
const TREE: &[u8] = b"\x80\x02}q\0(X\x04\0\0\0listq\x01]q\x02(K\x01G@\x04\0\0\0\0\0\0N\x88\x89\
    J\xfb\xff\xff\xffJp\x11\x01\0\x8a\x09\0\0\0\0\0\0\0\0@eX\x05\0\0\0tupleq\x03(K\x01K\x02K\x03\
    K\x04tq\x04X\x04\0\0\0noneq\x05)X\x05\0\0\0bytesq\x06c_codecs\nencode\nq\x07X\x03\0\0\0\0\xc3\
    \xbfq\x08X\x06\0\0\0latin1q\x09\x86q\nRq\x0bX\x05\0\0\0arrayq\x0cc__builtin__\nbytearray\nq\
    \x0dh\x07X\x02\0\0\0hiq\x0eh\x09\x86q\x0fRq\x10\x85q\x11Rq\x12X\x03\0\0\0setq\x13c__builtin__\
    \nset\nq\x14]q\x15K\x03a\x85q\x16Rq\x17X\x06\0\0\0frozenq\x18c__builtin__\nfrozenset\nq\x19]q\
    \x1aK\x04a\x85q\x1bRq\x1cX\x02\0\0\0nsq\x1dcargparse\nNamespace\nq\x1e)\x81q\x1f}q X\x02\0\0\
    \0lrq!G?\xb9\x99\x99\x99\x99\x99\x9asbX\x02\0\0\0odq\"ccollections\nOrderedDict\nq#)Rq$(X\x02\
    \0\0\0k1q%]q&X\x06\0\0\0sharedq'aX\x02\0\0\0k2q(h&uX\x03\0\0\0cycq)]q*(h*K\x07eX\x01\0\0\0tq+]\
    q,h,\x85q-a0h-X\x01\0\0\0qq.(]q/(h/K\x01K\x02K\x03tq0aK\x01K\x02K\x031h0u.";

#[test]
fn a_tree_is_what_python_pickles() {
    let mut tree = Tree::default();
    let mut list = tree.ints([1]);
    list.push(tree.add(Object::Float(2.5)));
    list.push(tree.add(Object::None));
    list.push(tree.add(Object::Bool(true)));
    list.push(tree.add(Object::Bool(false)));
    list.extend(tree.ints([-5, 70000]));
    list.push(tree.add(Object::BigInt(b"\0\0\0\0\0\0\0\0\x40"[..].into())));
    let tuple = tree.ints([1, 2, 3, 4]);
    let (three, four) = (tree.ints([3]), tree.ints([4]));
    let mut namespace = tree.call(CallKind::New, "argparse", "Namespace");
    let (lr, rate) = (tree.text("lr"), tree.add(Object::Float(0.1)));
    namespace
        .changes()
        .states
        .push(tree.add(Object::Dict(vec![(lr, rate)].into())));
    let mut ordered = tree.call(CallKind::Reduce, "collections", "OrderedDict");
    let shared = tree.text("shared");
    let shared = tree.add(Object::List(vec![shared].into()));
    for key in ["k1", "k2"] {
        let key = tree.text(key);
        ordered.changes().pairs.push((key, shared));
    }
    let seven = tree.ints([7]);
    let cycle = tree.add(Object::List(ir::Ids::new()));
    *tree.0.get_mut(cycle).unwrap() = Object::List(vec![cycle, seven[0]].into());
    let mut cyclic_tuple = |rest: &[i64]| {
        let list = tree.add(Object::List(ir::Ids::new()));
        let mut items = vec![list];
        items.extend(rest.iter().map(|n| tree.add(Object::Int(*n))));
        let tuple = tree.add(Object::Tuple(items.into()));
        *tree.0.get_mut(list).unwrap() = Object::List(vec![tuple].into());
        tuple
    };
    let (short, long) = (cyclic_tuple(&[]), cyclic_tuple(&[1, 2, 3]));
    let parts = [
        ("list", Object::List(list.into())),
        ("tuple", Object::Tuple(tuple.into())),
        ("none", Object::Tuple(ir::Ids::new())),
        (
            "bytes",
            Object::Bytes(Box::new(Blob::Held(b"\0\xff"[..].into()))),
        ),
        (
            "array",
            Object::ByteArray(Box::new(Blob::Held(b"hi"[..].into()))),
        ),
        ("set", Object::Set(three.into())),
        ("frozen", Object::FrozenSet(four.into())),
        ("ns", Object::Call(Box::new(namespace))),
        ("od", Object::Call(Box::new(ordered))),
    ];
    let mut pairs = Vec::new();
    for (key, object) in parts {
        pairs.push((tree.text(key), tree.add(object)));
    }
    for (key, value) in [("cyc", cycle), ("t", short), ("q", long)] {
        pairs.push((tree.text(key), value));
    }
    let root = tree.add(Object::Dict(pairs.into()));
    let found = tree.write(root).unwrap();
    assert_eq!(
        found.escape_ascii().to_string(),
        TREE.escape_ascii().to_string()
    );
}

#[test]
fn deep_and_wide_trees_are_no_trouble() {
    let mut tree = Tree::default();
    let mut deep = tree.add(Object::None);
    for _ in 0..100_000 {
        deep = tree.add(Object::Tuple(vec![deep].into()));
    }
    let wide = vec![deep; 2001];
    let root = tree.add(Object::List(wide.into()));
    let pickle = tree.write(root).unwrap();
    // The first item is all the tuples, the others fetch it again.
    assert!(pickle.starts_with(b"\x80\x02]q\0(N\x85q\x01\x85q\x02\x85q\x03"));
    assert!(pickle.ends_with(b"j\xa0\x86\x01\0j\xa0\x86\x01\0e(j\xa0\x86\x01\0e."));
}

#[test]
fn tensors_stand_in_their_places() {
    let folder = Folder::new("tree");
    let mut model = tied_model();
    let ids: Vec<_> = model.tensors.ids().map(|(id, _)| id).collect();
    let mut tree = Tree::default();
    let tensors: Vec<_> = ids.iter().map(|id| tree.add(Object::Tensor(*id))).collect();
    let key = tree.text("weights");
    let list = tree.add(Object::List(tensors.clone().into()));
    let root = tree.add(Object::Dict(vec![(key, list)].into()));
    tree.0.set_root(root);
    model.objects = Some(tree.0);
    folder.write("m.pt", &model, None).unwrap();
    let pickle = &folder.entries("m.pt")[0].bytes;
    assert!(pickle.starts_with(b"\x80\x02}q\0X\x07\0\0\0weightsq\x01]q\x02(ctorch._utils\n"));
    assert!(pickle.ends_with(b"es."));

    let sharded = folder.write("s.bin", &model, Some(24)).unwrap_err();
    assert!(sharded.message().contains("over 2 shards"), "{sharded}");
    *model.objects.as_mut().unwrap().get_mut(list).unwrap() =
        Object::List(tensors[..2].to_vec().into());
    // A tree that does not hold every tensor is left out, and that is told.
    let report = folder.write("m.pt", &model, None).unwrap();
    let [record] = &report.records[..] else {
        panic!("{report:?}")
    };
    assert_eq!((record.kind, record.loss), ("object-tree", true));
    assert!(record.why.starts_with("tensor \"c\": "), "{}", record.why);
}

#[test]
fn what_no_pickle_can_hold_is_an_error() {
    let refused = |object: Object, words: &str| {
        let mut tree = Tree::default();
        let first = tree.add(object);
        let root = tree.add(Object::List(vec![first].into()));
        let error = tree.write(root).unwrap_err();
        assert_eq!(error.place().unwrap(), "object 0");
        assert_eq!(error.class(), Class::Unsupported);
        assert!(error.message().contains(words), "{error}");
    };
    refused(
        Object::Persistent(ObjectId::from_index(0)),
        "outside the pickle",
    );
    refused(Object::Extension(7), "code 7");
    refused(Object::OutOfBand, "never in the file");
    refused(Object::global("os\nsystem", "x"), "no name");
}

#[test]
fn what_torch_lacks_is_an_error() {
    let folder = Folder::new("lacks");
    let refused = |dtype, shape: Shape, words: &str| {
        let model = ModelBuilder::new()
            .push(PatternCompute::tensor("x", dtype, shape))
            .build();
        let error = folder.write("m.pt", &model.unwrap(), None).unwrap_err();
        assert!(error.message().contains(words), "{error}");
        assert_eq!(error.place().unwrap(), "tensor \"x\"");
    };
    refused(DType::F6E2M3, [4].into(), "no type F6_E2M3");
    refused(DType::F4E2M1, [2, 3].into(), "which is 3");
    assert!(fs::read_dir(&folder.0).unwrap().next().is_none());
}
