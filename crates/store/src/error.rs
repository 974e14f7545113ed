//! What can go wrong on the way to a storage, in words that hold no secrets.

use ir::{Class, Diagnose, Error, Fault};
use object_store::Error as Raw;
use std::path::Path;

/// An error of a storage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The name cannot be used.
    #[error("this URL cannot be used: {0}")]
    Name(&'static str),
    /// The settings in the environment do not make a client.
    #[error("no client for this storage: {0}")]
    Setup(String),
    /// Plain HTTP to another machine, which nobody asked for.
    #[error("plain http to another machine is not allowed")]
    Plain,
    /// There is no such object.
    #[error("there is no such object")]
    Missing,
    /// There is no bucket of that name.
    #[error("there is no such bucket")]
    NoBucket,
    /// An object of that name is there and may not be replaced.
    #[error("an object of that name exists already")]
    Exists,
    /// The storage does not let us.
    #[error("the storage refuses access: {0}")]
    Denied(String),
    /// The object was replaced while it was read.
    #[error("the object changed while it was read: {0}")]
    Changed(&'static str),
    /// The storage cannot do what is asked.
    #[error("the storage cannot do this: {0}")]
    Cannot(String),
    /// A key that is no plain path.
    #[error("a key in this storage is no plain path: {0}")]
    Key(String),
    /// Anything else: the network, the server.
    #[error("the storage did not answer as it should: {0}")]
    Failed(String),
    /// The file that parts wait in could not be written.
    #[error("no room for parts of the upload in the temporary folder: {0}")]
    Disk(String),
    /// Bytes that were announced never came; a bug of the writer.
    #[error("bytes of the output are missing or come twice: {0}")]
    OffPlan(String),
    /// The user stopped it.
    #[error("stopped")]
    Stopped,
}

impl Diagnose for StoreError {
    fn class(&self) -> Class {
        match self {
            Self::Name(_) | Self::Plain | Self::Exists => Class::Usage,
            Self::Cannot(_) | Self::Key(_) => Class::Unsupported,
            Self::OffPlan(_) => Class::Malformed,
            Self::Stopped => Class::Interrupted,
            Self::Setup(_)
            | Self::Missing
            | Self::NoBucket
            | Self::Denied(_)
            | Self::Disk(_)
            | Self::Changed(_)
            | Self::Failed(_) => Class::Io,
        }
    }

    fn help(&self) -> Option<String> {
        let text = match self {
            Self::Denied(_) | Self::Setup(_) => {
                "Credentials and regions come from the environment: AWS_ACCESS_KEY_ID, \
                 GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME and others, see \
                 docs/storage.md; AWS_SKIP_SIGNATURE=true reads public buckets"
            }
            Self::NoBucket => {
                "The name of the bucket, or container, stands behind s3://, gs:// or az://. Check it, \
                 and that region, account and endpoint in the environment are those it is in \
                 (docs/storage.md)"
            }
            Self::Plain => {
                "Use https, or set AWS_ALLOW_HTTP=true (AZURE_ALLOW_HTTP, GOOGLE_ALLOW_HTTP) if the \
                 network is yours"
            }
            Self::Changed(_) => "Run it again: it reads the new object",
            Self::Disk(_) => "Free some space there, or name another folder with TMPDIR",
            Self::Failed(_) => "Run it again; nothing was left behind",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

impl StoreError {
    /// Whether another try cannot help.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }

    /// As the house's error about a file.
    pub(crate) fn about(self, path: &Path) -> Error {
        let path = &crate::address::shown(path);
        match self {
            Self::Missing => ir::missing(path),
            Self::Exists => Error::from(Fault::OutputExists).in_file(path),
            Self::Stopped => Fault::Interrupted.into(),
            other => Error::from(other).in_file(path),
        }
    }
}

impl From<Raw> for StoreError {
    fn from(raw: Raw) -> Self {
        let said = || said(&raw);
        if is_about_a_bucket(&raw.to_string()) {
            return Self::NoBucket;
        }
        match &raw {
            Raw::NotFound { .. } => Self::Missing,
            Raw::AlreadyExists { .. } => Self::Exists,
            Raw::Precondition { .. } => Self::Changed("its version is another"),
            Raw::PermissionDenied { .. } | Raw::Unauthenticated { .. } => Self::Denied(said()),
            Raw::NotSupported { .. } | Raw::NotImplemented { .. } => Self::Cannot(said()),
            Raw::InvalidPath { .. } => Self::Key(said()),
            _ => Self::Failed(said()),
        }
    }
}

/// Whether a storage says that there is no such bucket: S3 and Google by its XML, Google by its
/// JSON, Azure of a container.
pub(crate) fn is_about_a_bucket(text: &str) -> bool {
    [
        "<Code>NoSuchBucket</Code>",
        "<Code>ContainerNotFound</Code>",
        "specified bucket does not exist",
    ]
    .iter()
    .any(|mark| text.contains(mark))
}

/// Longest text taken from a server.
const SAID: usize = 240;

/// What an error says, without what a server may have echoed: queries of URLs hold signatures, and
/// bodies hold key ids and strings that were signed. Of a body only its code is kept.
fn said(raw: &Raw) -> String {
    clean(&raw.to_string())
}

fn clean(text: &str) -> String {
    let code = text
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"))
        .map(|(code, _)| code)
        .filter(|code| code.len() < 64 && code.bytes().all(|b| b.is_ascii_alphanumeric()));
    let head = text.split(['<', '{']).next().unwrap_or_default();
    let mut words = Vec::new();
    for word in head.split_whitespace() {
        words.push(word.split_once('?').map_or(word, |(url, _)| url));
    }
    let mut out: String = words.join(" ").chars().take(SAID).collect();
    while out.ends_with([':', ' ', ',', '(']) {
        out.pop();
    }
    if let Some(code) = code {
        out = format!("{out} ({code})");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_that_is_not_there_is_told() {
        let raw = |text: &str| Raw::Generic {
            store: "S3",
            source: text.to_owned().into(),
        };
        // As moto, Azurite and Google answer.
        for text in [
            "404 Not Found: <Error><Code>NoSuchBucket</Code><Message>gone</Message></Error>",
            "404 Not Found: <?xml?><Error><Code>ContainerNotFound</Code></Error>",
            r#"{"error": {"code": 404, "message": "The specified bucket does not exist."}}"#,
        ] {
            let error = StoreError::from(raw(text));
            assert_eq!(error, StoreError::NoBucket);
            assert!(error.help().unwrap().contains("bucket"));
        }
        let other = StoreError::from(raw("<Error><Code>NoSuchKey</Code></Error>"));
        assert!(matches!(other, StoreError::Failed(_)));
    }

    #[test]
    fn no_secret_is_repeated() {
        let text = "Error performing PUT https://h/b/k?sig=hunter2 in 1s - Server returned: \
                    <?xml?><Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>hunter2";
        let said = clean(text);
        assert!(!said.contains("hunter2"), "{said}");
        assert!(said.contains("https://h/b/k in 1s"), "{said}");
        assert!(said.ends_with("(SignatureDoesNotMatch)"), "{said}");
        assert!(clean(&"x".repeat(10_000)).len() <= SAID);
        assert_eq!(clean("403: {\"error\": \"hunter2\"}"), "403");
    }
}
