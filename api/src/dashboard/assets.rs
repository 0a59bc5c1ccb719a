//! The files that pages load. A file's name contains a hash of its content, so browsers keep it for ever.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header;
use sha2::{Digest, Sha256};

use super::ROOT;
use crate::problem::{NOT_FOUND, Problem};

const A_YEAR: &str = "public, max-age=31536000, immutable";

/// A file, and the path under which it is served.
#[derive(Debug)]
pub(super) struct Asset {
    content_type: &'static str,
    content: &'static str,
    name: String,
}

impl Asset {
    fn new(stem: &str, extension: &str, content_type: &'static str, content: &'static str) -> Self {
        let hash = Sha256::digest(content);
        let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { content_type, content, name: format!("{stem}.{hash}.{extension}") }
    }

    pub(super) fn path(&self) -> String {
        format!("{ROOT}/assets/{}", self.name)
    }
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

pub(super) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let content = concat!(
        include_str!("assets/style.css"),
        include_str!("assets/form.css"),
        include_str!("assets/chart.css")
    );
    Asset::new("style", "css", "text/css; charset=utf-8", content)
});
pub(super) static LIVE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("live", "js", SCRIPT, include_str!("assets/live.js")));
/// Changes a document into another one and keeps focus, selection and position: idiomorph 0.7.3, license 0BSD.
pub(super) static MORPH: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("idiomorph", "js", SCRIPT, include_str!("assets/idiomorph.min.js"))
});
pub(super) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("assets/icon.svg")));

/// Returns a file by its name.
///
/// # Errors
/// If there is none.
pub(super) fn file(name: &str) -> Result<HttpResponse, Problem> {
    let all = [&STYLE, &LIVE, &MORPH, &ICON];
    let asset = all.into_iter().find(|asset| asset.name == name);
    let asset = asset.ok_or_else(|| Problem::new(NOT_FOUND, "there is no such file"))?;
    Ok(HttpResponse::Ok()
        .content_type(asset.content_type)
        .insert_header((header::CACHE_CONTROL, A_YEAR))
        .body(asset.content))
}
