//! The condition that `object_store` cannot put on the end of a multipart upload.
//!
//! S3 takes `If-None-Match: *` with `CompleteMultipartUpload`, which makes "only if nothing is
//! there" atomic for objects of any size; the library has no way to ask for it. The header needs
//! no signature, so it is added to the request on its way out, for the uploads that want it.
//! The connection is kept, too: `raw.rs` asks over it what the library has no call for.

use async_trait::async_trait;
use object_store::HeaderValue;
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Ids of the uploads that may only create, and the connection they go over.
#[derive(Clone, Debug, Default)]
pub(crate) struct CreateOnly {
    ids: Arc<Mutex<HashSet<String>>>,
    client: Arc<OnceLock<HttpClient>>,
}

impl CreateOnly {
    pub(crate) fn add(&self, upload: &str) {
        self.set(|ids| ids.insert(upload.to_owned()));
    }

    pub(crate) fn remove(&self, upload: &str) {
        self.set(|ids| ids.remove(upload));
    }

    fn has(&self, upload: &str) -> bool {
        self.set(|ids| ids.contains(upload))
    }

    fn set<T>(&self, act: impl FnOnce(&mut HashSet<String>) -> T) -> T {
        act(&mut self.ids.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The connection, once a client was built over it.
    pub(crate) fn client(&self) -> Option<HttpClient> {
        self.client.get().cloned()
    }
}

impl HttpConnector for CreateOnly {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        let _ = self.client.set(client.clone());
        let uploads = self.clone();
        Ok(HttpClient::new(Conditional { client, uploads }))
    }
}

#[derive(Debug)]
struct Conditional {
    client: HttpClient,
    uploads: CreateOnly,
}

#[async_trait]
impl HttpService for Conditional {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if request.method().as_str() == "POST" {
            let query = request.uri().query().unwrap_or_default();
            let upload = url::form_urlencoded::parse(query.as_bytes())
                .find(|(key, _)| key == "uploadId")
                .is_some_and(|(_, id)| self.uploads.has(&id));
            if upload {
                let any = HeaderValue::from_static("*");
                request.headers_mut().insert("if-none-match", any);
            }
        }
        self.client.execute(request).await
    }
}
