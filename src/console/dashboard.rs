//! The dashboard, on the admin listener: is it well, and if not, whose fault.
//!
//! What changes comes from that listener's `/events`; the settings stand still and are a file.

use bytes::Bytes;
use serde::Serialize;

use super::{Asset, File, Form, Pages};

/// Where the page finds the settings.
const SETTINGS: &str = "/dashboard/settings.json";

/// Every path that [`pages`] serves, for the guard.
pub const PATHS: &[&str] = &[
    "/",
    "/dashboard/icon.svg",
    "/dashboard/licences.txt",
    "/dashboard/page.css",
    "/dashboard/page.js",
    "/dashboard/plots.js",
    SETTINGS,
    "/dashboard/uplot.css",
    "/dashboard/uplot.js",
];

const ASSETS: [Asset; 8] = [
    Asset::plain(
        "/",
        "text/html; charset=utf-8",
        include_bytes!("assets/dashboard/index.html"),
    ),
    Asset::plain(
        "/dashboard/icon.svg",
        "image/svg+xml",
        include_bytes!("assets/icon.svg"),
    ),
    Asset::gzip(
        "/dashboard/licences.txt",
        "text/plain; charset=utf-8",
        include_bytes!("assets/vendor/LICENCES.txt.gz"),
    ),
    Asset::plain(
        "/dashboard/page.css",
        "text/css; charset=utf-8",
        include_bytes!("assets/dashboard/page.css"),
    ),
    Asset::plain(
        "/dashboard/page.js",
        "text/javascript; charset=utf-8",
        include_bytes!("assets/dashboard/page.js"),
    ),
    Asset::plain(
        "/dashboard/plots.js",
        "text/javascript; charset=utf-8",
        include_bytes!("assets/dashboard/plots.js"),
    ),
    Asset::plain(
        "/dashboard/uplot.css",
        "text/css; charset=utf-8",
        include_bytes!("assets/vendor/uplot.css"),
    ),
    Asset::gzip(
        "/dashboard/uplot.js",
        "text/javascript; charset=utf-8",
        include_bytes!("assets/vendor/uplot.js.gz"),
    ),
];

/// One setting in force, as the page shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    /// Its key.
    pub key: String,
    /// Its value; of a secret no more than that it is set.
    pub value: String,
    /// Where that stands; none where it is not set.
    pub source: Option<String>,
}

/// The page, with these settings.
#[must_use]
pub fn pages(settings: &[Setting]) -> Pages {
    let settings = serde_json::to_vec(settings).unwrap_or_default();
    let mut pages = Pages::new(&ASSETS);
    let file = File::new("application/json", Form::Plain, Bytes::from(settings));
    pages.0.insert(SETTINGS, file);
    pages
}
