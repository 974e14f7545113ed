//! What `object_store` has no call for: unfinished uploads, and listings that hold keys which it
//! refuses to name. Asked of S3 by requests of our own, over the library's connection and with its
//! signatures.

use crate::StoreError;
use crate::connect::CreateOnly;
use crate::error::is_about_a_bucket;
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use object_store::path::Path as Key;
use object_store::signer::{SignedUrlOptions, Signer};
use reqwest::Method;
use std::sync::Arc;
use std::time::Duration;

/// How long a signature is good for: longer than the request may take.
const VALID: Duration = Duration::from_secs(600);

/// A way to ask S3 itself.
#[derive(Clone)]
pub(crate) struct Raw {
    client: HttpClient,
    signer: Arc<dyn Signer>,
}

/// An object as a listing has it: its key, of which nothing is known, and its size.
pub(crate) type Listed = (String, u64);

impl Raw {
    pub(crate) fn new(connection: &CreateOnly, signer: Arc<dyn Signer>) -> Option<Self> {
        let client = connection.client()?;
        Some(Self { client, signer })
    }

    /// Keys and ids of the uploads below a prefix that were neither ended nor given up.
    pub(crate) async fn uploads(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        let mut found = Vec::new();
        let mut from = [String::new(), String::new()];
        loop {
            let mut query = vec![("uploads", ""), ("prefix", prefix)];
            let [key, id] = &from;
            if !key.is_empty() {
                query.extend([
                    ("key-marker", key.as_str()),
                    ("upload-id-marker", id.as_str()),
                ]);
            }
            let text = self.get(&query).await?;
            for upload in elements(&text, "Upload") {
                let of = |name| elements(upload, name).next().map(unescape);
                found.extend(of("Key").zip(of("UploadId")));
            }
            let next = ["NextKeyMarker", "NextUploadIdMarker"].map(|name| {
                elements(&text, name)
                    .next()
                    .map(unescape)
                    .unwrap_or_default()
            });
            // A server that gives the same page for ever is not asked for ever.
            if !is_cut(&text) || next == from {
                return Ok(found);
            }
            from = next;
        }
    }

    /// Keys below a prefix, whatever they hold, and a little more than `limit` at most.
    pub(crate) async fn keys(&self, prefix: &str, limit: u64) -> Result<Vec<Listed>, StoreError> {
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let mut query = vec![("list-type", "2"), ("prefix", prefix)];
            if !token.is_empty() {
                query.push(("continuation-token", token.as_str()));
            }
            let text = self.get(&query).await?;
            for object in elements(&text, "Contents") {
                let of = |name| elements(object, name).next().map(unescape);
                let size = of("Size").and_then(|size| size.parse().ok());
                found.extend(of("Key").zip(size));
            }
            let next = elements(&text, "NextContinuationToken")
                .next()
                .map(unescape);
            match next.filter(|next| is_cut(&text) && *next != token) {
                Some(next) if found.len() as u64 <= limit => token = next,
                _ => return Ok(found),
            }
        }
    }

    async fn get(&self, query: &[(&str, &str)]) -> Result<String, StoreError> {
        let bucket = Key::default();
        let options = SignedUrlOptions::default().with_query(query.iter().copied());
        let signed = self
            .signer
            .signed_url_opts(Method::GET, &bucket, VALID, &options);
        let url = signed.await?;
        let failed = |what: String| StoreError::Failed(what);
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = (url.as_str().parse()).map_err(|_| StoreError::Name("no such URL"))?;
        // What an error says may hold the URL, and that the signature.
        let answer = self.client.execute(request).await;
        let answer = answer.map_err(|error| failed(format!("{:?}", error.kind())))?;
        let status = answer.status();
        if !status.is_success() {
            let text = format!("a listing was refused: {status}");
            let body = answer.into_body().bytes().await.unwrap_or_default();
            if is_about_a_bucket(&String::from_utf8_lossy(&body)) {
                return Err(StoreError::NoBucket);
            }
            return Err(match status.as_u16() {
                401 | 403 => StoreError::Denied(text),
                // Not every storage that speaks S3 tells of unfinished uploads.
                404 | 405 | 501 => StoreError::Cannot(text),
                _ => failed(text),
            });
        }
        let bytes = answer.into_body().bytes().await;
        let bytes = bytes.map_err(|error| failed(format!("{:?}", error.kind())))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if text.trim_end().ends_with("Result>") {
            Ok(text)
        } else {
            Err(failed("a listing was cut off".to_owned()))
        }
    }
}

fn is_cut(text: &str) -> bool {
    elements(text, "IsTruncated").next() == Some("true")
}

/// What stands in each element of a name. S3's lists have no attributes and nest none in itself.
fn elements<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&open)?;
        let (inner, after) = after.split_once(&close)?;
        rest = after;
        Some(inner)
    })
}

/// Text of an element as it was meant.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let Some((entity, after)) = after.split_once(';') else {
            out.push('&');
            rest = after;
            continue;
        };
        let number = |digits: &str, radix| {
            let code = u32::from_str_radix(digits, radix).ok()?;
            char::from_u32(code)
        };
        let meant = match entity {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => match entity.strip_prefix('#') {
                Some(code) => match code.strip_prefix(['x', 'X']) {
                    Some(hex) => number(hex, 16),
                    None => number(code, 10),
                },
                None => None,
            },
        };
        out.push(meant.unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_taken_apart() {
        let text = "<?xml?><ListBucketResult><Contents><Key>a&amp;b/../&#x1;&lt;c</Key>\
                    <Size>12</Size></Contents><Contents><Key>d//e</Key><Size>3</Size></Contents>\
                    <IsTruncated>false</IsTruncated></ListBucketResult>";
        let keys: Vec<_> = elements(text, "Contents")
            .map(|one| unescape(elements(one, "Key").next().unwrap()))
            .collect();
        assert_eq!(keys, ["a&b/../\u{1}<c", "d//e"]);
        assert!(!is_cut(text));
        assert_eq!(unescape("a&b;c&"), "a\u{fffd}c&");
    }
}
