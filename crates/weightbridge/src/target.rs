//! Where a result goes.

use crate::{ConvertRequest, by_id, by_output};
use convert::recipe::FileType;
use ir::{Error, Fault, Format, Model, Places, Result};
use std::path::{Path, PathBuf};

/// Where the weights go, and whether a whole repository is asked for.
pub(crate) struct Target {
    pub(crate) format: &'static Format,
    /// The file; for several types of GGUF one each.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) repository: bool,
}

/// Most bytes of tensors in one file of a repository, unless something else is said: what the
/// loaders' own library writes.
const SHARD_SIZE: u64 = 5_000_000_000;

impl Target {
    /// What a request asks for.
    pub(crate) fn of(request: &ConvertRequest) -> Result<Self> {
        let output = request.output.as_path();
        let folder = is_folder(output);
        let format = match (&request.to, folder) {
            (Some(name), _) => by_id(name)?,
            (None, true) if !request.quantize.is_empty() => &gguf::FORMAT,
            (None, true) => &st::FORMAT,
            (None, false) => by_output(output)?,
        };
        if format.id == gguf::FORMAT.id {
            let files = quantized(&request.input, output, &request.quantize);
            return Ok(Self {
                format,
                files,
                repository: false,
            });
        }
        if !request.quantize.is_empty() {
            let what = format!("--quantize makes GGUF files, not {}", format.title);
            return Err(Error::from(Fault::Usage { what }));
        }
        let file = if folder {
            // The names that loaders of a model folder look for.
            let name = if format.id == ckpt::FORMAT.id {
                "pytorch_model.bin"
            } else if format.id == onnx::FORMAT.id {
                "model.onnx"
            } else {
                "model.safetensors"
            };
            output.join(name)
        } else {
            output.to_owned()
        };
        Ok(Self {
            format,
            files: vec![file],
            repository: folder,
        })
    }

    /// The names under which loaders look for an adapter's weights in its folder.
    pub(crate) fn for_adapter(&mut self) {
        for file in self.files.iter_mut().filter(|_| self.repository) {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
            let name = format!("adapter_model.{extension}");
            file.set_file_name(name);
        }
    }

    /// The first file.
    pub(crate) fn first(&self) -> &Path {
        self.files
            .first()
            .map_or_else(|| Path::new(""), PathBuf::as_path)
    }

    /// Where the side files of a repository go: beside the weights, and for a model in a folder
    /// `onnx/` one up, which is where `transformers.js` looks for both.
    pub(crate) fn side_files(&self) -> &Path {
        let folder = self.first().parent().unwrap_or(Path::new(""));
        let nested = self.format.id == onnx::FORMAT.id && folder.ends_with("onnx");
        match folder.parent() {
            Some(above) if nested => above,
            _ => folder,
        }
    }

    /// How large a file of the output may be when nothing is said.
    pub(crate) fn shard_size(&self) -> Option<u64> {
        (self.repository && self.format.id == st::FORMAT.id).then_some(SHARD_SIZE)
    }

    /// Refuses early what would be refused late.
    pub(crate) fn refuse_existing(&self, places: &Places) -> Result<()> {
        for file in &self.files {
            if places.exists(file)? {
                return Err(Error::from(Fault::OutputExists).in_file(file));
            }
        }
        Ok(())
    }

    /// Refuses an output that is a file of the input: were the result not what its user wanted,
    /// there would be nothing to go back to.
    pub(crate) fn refuse_spared(&self, places: &Places) -> Result<()> {
        self.files
            .iter()
            .try_for_each(|file| places.refuse_spared(file))
    }
}

fn is_folder(output: &Path) -> bool {
    output.as_os_str().to_string_lossy().ends_with(['/', '\\']) || output.is_dir()
}

/// Where GGUF files go: the output itself, or in a folder a file named after input and type.
pub(crate) fn quantized(input: &Path, output: &Path, types: &[FileType]) -> Vec<PathBuf> {
    if !is_folder(output) && types.len() < 2 {
        return vec![output.to_owned()];
    }
    let full = input.canonicalize().unwrap_or_else(|_| input.to_owned());
    let text = full.as_os_str().to_string_lossy();
    let stem = if full.is_dir() || (ir::is_url(&full) && text.ends_with('/')) {
        full.file_name()
    } else {
        full.file_stem()
    };
    let stem = stem.unwrap_or_default().to_string_lossy();
    // A set goes by its own name, not by that of the shard given.
    let name = input.file_name().unwrap_or_default().to_string_lossy();
    let stem = ir::shard::ShardName::parse(&name).map_or(stem, |shard| shard.stem.into());
    if types.is_empty() {
        return vec![output.join(format!("{stem}.gguf"))];
    }
    let name = |kind: &FileType| output.join(format!("{stem}-{}.gguf", kind.name()));
    types.iter().map(name).collect()
}

/// Spares the files of an input: the one given, and those that its reader found it to have.
pub(crate) fn spare(places: &mut Places, input: &Path, model: &Model) {
    let found = model
        .provenance
        .files
        .iter()
        .map(|(path, _)| path.as_path());
    let assets = model.assets.iter().filter_map(|asset| asset.bytes.path());
    for path in std::iter::once(input).chain(found).chain(assets) {
        places.spare(path, "the input");
    }
}
