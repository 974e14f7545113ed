//! Signing models, and holding them against signatures and statements.

use crate::Session;
use ir::{Context, Error, Fault, Input, Output, ReadOptions, Region, Result};
use sign::{
    Difference, Digest, Found, Manifest, Method, PrivateKey, PublicKey, Resource, Scope, SignError,
    Span, Survey, wire,
};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which files of a folder a signature is about.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// Paths to leave out, as seen from here, or from the model's folder; each must be in it.
    pub ignore: Vec<PathBuf>,
    /// Cover what git puts into a folder too.
    pub with_git: bool,
    /// Let a link to a file count as that file.
    pub allow_symlinks: bool,
}

/// What to sign.
#[derive(Clone, Debug)]
pub struct SignRequest {
    /// A model's folder, or one file.
    pub model: PathBuf,
    /// The signature; `None` for the usual place.
    pub signature: Option<PathBuf>,
    /// With what.
    pub key: Arc<PrivateKey>,
    /// Which files.
    pub coverage: Coverage,
    /// A digest for each so many bytes, not for each file.
    pub shard_size: Option<u64>,
    /// Replace a signature that exists.
    pub overwrite: bool,
}

/// What was signed.
#[derive(Clone, Debug)]
pub struct SignedModel {
    /// Where the signature is.
    pub signature: PathBuf,
    /// How many files it covers.
    pub files: usize,
    /// How many bytes.
    pub nbytes: u64,
    /// The digest that stands for the whole.
    pub digest: Digest,
    /// What it does not cover, in words.
    pub notes: Vec<String>,
}

/// What to verify.
#[derive(Clone, Debug)]
pub struct VerifyRequest {
    /// A model's folder, or one file.
    pub model: PathBuf,
    /// The signature; `None` for the usual place.
    pub signature: Option<PathBuf>,
    /// Whose signature it should be.
    pub key: PublicKey,
    /// Which files.
    pub coverage: Coverage,
    /// Files that were not signed are no difference.
    pub ignore_unsigned: bool,
}

/// What is known of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The key made it.
    Valid,
    /// Another key made it, by what it says.
    OtherKey,
    /// The key did not make it, or what it is about was changed.
    Invalid,
    /// There is none.
    NotSigned,
    /// No key was given to check it with.
    NotChecked,
}

/// The answer of `verify`.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Where the signature or statement is.
    pub signature: PathBuf,
    /// Whether it is the key's.
    pub standing: Standing,
    /// How many files it is about; none are looked at where the signature does not hold.
    pub files: usize,
    /// How they differ.
    pub difference: Difference,
    /// What no signature can cover, and why: links, devices.
    pub unsuitable: BTreeMap<String, &'static str>,
}

impl Verified {
    /// Whether all is as it was signed, or at least stated.
    pub fn holds(&self) -> bool {
        matches!(self.standing, Standing::Valid | Standing::NotChecked)
            && self.difference.is_empty()
            && self.unsuitable.is_empty()
    }
}

/// Signs a model.
pub fn sign(request: &SignRequest, session: &Session) -> Result<SignedModel> {
    let cx = session.reading(ReadOptions::default());
    let model = request.model.as_path();
    let signature = place(model, request.signature.as_deref());
    let scope = scope(model, &signature, &request.coverage)?;
    let survey = sign::survey(model, &scope, &cx)?;
    let named = |error: SignError| Error::from(error).in_file(model);
    survey.refuse_unsuitable().map_err(named)?;
    let mut out = output(request, &signature, &survey, session)?;
    let number = out.main_file()?;
    let method = request.shard_size.map_or(Method::Files, Method::Shards);
    let found = digests(method, &survey.files, session, &cx)?;
    let resources = found.into_iter();
    let manifest = Manifest {
        name: name_of(model),
        method,
        scope,
        resources: resources
            .map(|(name, digest)| Resource { name, digest })
            .collect(),
    };
    let text = sign::seal(&manifest.statement(), &request.key);
    out.get(number)?.write_at(0, text.as_bytes())?;
    cx.cancel.check()?;
    out.commit()?;
    Ok(SignedModel {
        signature,
        files: survey.files.len(),
        nbytes: survey.files.iter().map(|file| file.len).sum(),
        digest: manifest.root(),
        notes: notes(&survey, method),
    })
}

/// Where the signature goes: over no file that is signed. What stands there in the model's folder
/// is not covered as the signature's own place, and so is replaced only if it is a signature.
fn output(
    request: &SignRequest,
    signature: &Path,
    survey: &Survey,
    session: &Session,
) -> Result<Output> {
    const SIGNED: &str = "a file that is signed";
    let mut places = session.places.clone();
    for file in &survey.files {
        places.spare(&file.path, SIGNED);
    }
    if ir::is_inside(&request.model, signature)
        && signature.is_file()
        && !read(signature).is_ok_and(|text| text.is_empty() || sign::is_bundle(&text))
    {
        places.spare(signature, SIGNED);
    }
    places.refuse_spared(signature)?;
    Ok(Output::new(signature, request.overwrite).within(&places))
}

fn notes(survey: &Survey, method: Method) -> Vec<String> {
    let mut notes = Vec::new();
    for folder in &survey.linked_folders {
        notes.push(format!(
            "{folder} is a link to a folder: what is in it is not covered"
        ));
    }
    let empty = survey.files.iter().filter(|file| file.len == 0);
    if method != Method::Files {
        for file in empty {
            notes.push(format!(
                "{} is empty: with shards it is not covered",
                file.name
            ));
        }
    }
    notes
}

/// Holds a model against its signature. A signature that is not the key's is an answer, not an
/// error; nothing is hashed then.
pub fn verify(request: &VerifyRequest, session: &Session) -> Result<Verified> {
    let cx = session.reading(ReadOptions::default());
    let model = request.model.as_path();
    let signature = place(model, request.signature.as_deref());
    let named = |error: SignError| Error::from(error).in_file(&signature);
    let sealed = sign::open(&read(&signature)?).map_err(named)?;
    let mut verified = Verified {
        signature: signature.clone(),
        standing: standing(sealed.signed_by(&request.key)),
        files: 0,
        difference: Difference::default(),
        unsuitable: BTreeMap::new(),
    };
    if verified.standing != Standing::Valid {
        return Ok(verified);
    }
    let statement = sealed.statement().map_err(named)?;
    if statement["predicateType"] == wire::PROVENANCE {
        let why = "this is a signed statement of a conversion, not a model's signature".to_owned();
        let error = SignError::Malformed {
            expected: "model's signature",
            why,
        };
        return Err(named(error).with_help("Verify it with --statement FILE"));
    }
    let manifest = Manifest::from_statement(&statement).map_err(named)?;
    let mut scope = scope(model, &signature, &request.coverage)?;
    for path in &manifest.scope.ignore {
        scope.ignoring(path);
    }
    let mut survey = sign::survey(model, &scope, &cx)?;
    let files: HashSet<&str> = manifest.files().collect();
    if request.ignore_unsigned {
        survey
            .files
            .retain(|file| files.contains(file.name.as_str()));
        survey
            .unsuitable
            .retain(|name, _| files.contains(name.as_str()));
    }
    // What is extra anyway needs no digest, and its name may not even have one.
    let (known, extra): (Vec<Found>, Vec<Found>) =
        (survey.files.into_iter()).partition(|file| files.contains(file.name.as_str()));
    let found = digests(manifest.method, &known, session, &cx)?;
    verified.files = files.len();
    verified.difference = sign::compare(&manifest, &found);
    // Shards have no digest for an empty file: one more of them makes no difference.
    let counts = |file: &Found| manifest.method == Method::Files || file.len > 0;
    let extra = extra.into_iter().filter(counts);
    verified
        .difference
        .extra
        .extend(extra.map(|file| file.name));
    verified.unsuitable = survey.unsuitable;
    Ok(verified)
}

fn standing(signed: sign::Signed) -> Standing {
    match signed {
        sign::Signed::Yes => Standing::Valid,
        sign::Signed::OtherKey => Standing::OtherKey,
        sign::Signed::No => Standing::Invalid,
    }
}

/// Holds the files that a statement is about against it: in `folder`, or beside the statement.
/// With a key the statement must be signed by it.
pub fn verify_statement(
    file: &Path,
    folder: Option<&Path>,
    key: Option<&PublicKey>,
    session: &Session,
) -> Result<Verified> {
    let cx = session.reading(ReadOptions::default());
    let named = |error: SignError| Error::from(error).in_file(file);
    let text = read(file)?;
    let is_bundle = serde_json::from_slice::<serde_json::Value>(&text)
        .is_ok_and(|value| value.get("mediaType").is_some());
    let mut verified = Verified {
        signature: file.to_owned(),
        standing: Standing::NotSigned,
        files: 0,
        difference: Difference::default(),
        unsuitable: BTreeMap::new(),
    };
    let statement = if is_bundle {
        let sealed = sign::open(&text).map_err(named)?;
        let signed = key.map(|key| standing(sealed.signed_by(key)));
        verified.standing = signed.unwrap_or(Standing::NotChecked);
        sealed.statement()
    } else {
        if key.is_none() {
            verified.standing = Standing::NotChecked;
        }
        sign::unsigned(&text)
    };
    if verified.standing != Standing::NotChecked && verified.standing != Standing::Valid {
        return Ok(verified);
    }
    let subjects = sign::subjects(&statement.map_err(named)?).map_err(named)?;
    verified.files = subjects.len();
    let beside = file.parent().unwrap_or(Path::new(""));
    let folder = folder.unwrap_or(beside);
    let mut spans = Vec::new();
    let mut there = Vec::new();
    for subject in &subjects {
        match std::fs::metadata(folder.join(&subject.name)) {
            Ok(meta) if meta.is_file() => {
                spans.push(Span::file(folder.join(&subject.name), 0..meta.len()));
                there.push(subject);
            }
            _ => verified.difference.missing.push(subject.name.clone()),
        }
    }
    let digests = sign::digests(&spans, session.threads, &cx)?;
    for (subject, digest) in there.iter().zip(digests) {
        if subject.digest != digest {
            verified.difference.changed.push(subject.name.clone());
        }
    }
    Ok(verified)
}

/// Where a model's signature is: where it is said, else `model.sig` in its folder, or beside a file
/// `NAME.sig`.
pub(crate) fn place(model: &Path, signature: Option<&Path>) -> PathBuf {
    if let Some(path) = signature {
        return path.to_owned();
    }
    if model.is_dir() {
        return model.join("model.sig");
    }
    let mut name = model.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

/// What is left out: what is asked for, what git has, and the signature itself.
fn scope(model: &Path, signature: &Path, coverage: &Coverage) -> Result<Scope> {
    let mut scope = if coverage.with_git {
        Scope::default()
    } else {
        Scope::with_git_ignored()
    };
    scope.allow_symlinks = coverage.allow_symlinks;
    let root = model
        .canonicalize()
        .map_err(|source| Error::io("open", model, source))?;
    // The signature may not be there yet, its folder is.
    if let Some(inside) = inside(&root, signature) {
        scope.ignoring(inside);
    }
    for path in &coverage.ignore {
        // As the official tool takes it; and as it stands in a signature.
        let there = |path: &Path| path.symlink_metadata().is_ok();
        let named = [path.clone(), root.join(path)]
            .iter()
            .filter(|path| there(path))
            .find_map(|path| inside(&root, path));
        let Some(inside) = named else {
            let what = "nothing of this name is in the model's folder, to be ignored".to_owned();
            return Err(Error::from(Fault::Usage { what }).in_file(path));
        };
        scope.ignoring(inside);
    }
    Ok(scope)
}

/// What a path is called inside a folder; none for what is elsewhere, and for the folder itself.
fn inside(root: &Path, path: &Path) -> Option<String> {
    // Not what a link leads to: the link is what lies in the folder.
    let full = ir::unfollowed(path).or_else(|| path.canonicalize().ok())?;
    let inside = full.strip_prefix(root).ok()?.to_str()?.replace('\\', "/");
    (!inside.is_empty()).then_some(inside)
}

fn name_of(model: &Path) -> String {
    let full = model.canonicalize().unwrap_or_else(|_| model.to_owned());
    let name = full.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn digests(
    method: Method,
    files: &[Found],
    session: &Session,
    cx: &Context,
) -> Result<Vec<(String, Digest)>> {
    let (names, spans): (Vec<String>, Vec<Span>) = method.spans(files)?.into_iter().unzip();
    let digests = sign::digests(&spans, session.threads, cx)?;
    Ok(names.into_iter().zip(digests).collect())
}

/// A signature or statement, whole.
fn read(file: &Path) -> Result<Vec<u8>> {
    let input = Input::open(file)?;
    let region: &Region = input.file()?;
    ir::Limits::check("bytes of a signature", region.len(), wire::FILE_MAX)
        .map_err(|error| error.in_file(file))?;
    let bytes = region.bytes(0, usize::try_from(region.len()).unwrap_or(0))?;
    Ok(bytes.to_vec())
}
