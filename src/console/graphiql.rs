//! GraphiQL, on the proxy's own listener.
//!
//! What is typed there goes to the listener that served it, like any request: the page has no rights of its own.

use bytes::Bytes;
use serde::Serialize;

use super::{Asset, File, Form, Pages};
use crate::name::Name;

/// Where the page finds the names of instances and users.
const CONFIG: &str = "/graphiql/config.json";

/// Every path that [`pages`] serves, for the guard.
pub const PATHS: &[&str] = &[
    "/",
    "/graphiql",
    CONFIG,
    "/graphiql/graphiql.css",
    "/graphiql/graphiql.js",
    "/graphiql/icon.svg",
    "/graphiql/licences.txt",
    "/graphiql/page.css",
    "/graphiql/page.js",
];

const INDEX: &[u8] = include_bytes!("assets/graphiql/index.html");
const ASSETS: [Asset; 8] = [
    Asset::plain("/", "text/html; charset=utf-8", INDEX),
    Asset::plain("/graphiql", "text/html; charset=utf-8", INDEX),
    Asset::gzip(
        "/graphiql/graphiql.css",
        "text/css; charset=utf-8",
        include_bytes!("assets/vendor/graphiql.css.gz"),
    ),
    Asset::gzip(
        "/graphiql/graphiql.js",
        "text/javascript; charset=utf-8",
        include_bytes!("assets/vendor/graphiql.js.gz"),
    ),
    Asset::plain(
        "/graphiql/icon.svg",
        "image/svg+xml",
        include_bytes!("assets/icon.svg"),
    ),
    Asset::gzip(
        "/graphiql/licences.txt",
        "text/plain; charset=utf-8",
        include_bytes!("assets/vendor/LICENCES.txt.gz"),
    ),
    Asset::plain(
        "/graphiql/page.css",
        "text/css; charset=utf-8",
        include_bytes!("assets/graphiql/page.css"),
    ),
    Asset::plain(
        "/graphiql/page.js",
        "text/javascript; charset=utf-8",
        include_bytes!("assets/graphiql/page.js"),
    ),
];

/// What the page offers to choose from; what goes by the name of the default comes first.
#[derive(Serialize)]
struct Config<'a> {
    instances: Vec<Instance<'a>>,
}

#[derive(Serialize)]
struct Instance<'a> {
    name: &'a str,
    users: Vec<&'a str>,
}

/// The page, with these instances and their users to choose from.
#[must_use]
pub fn pages<'a, U>(instances: impl IntoIterator<Item = (&'a Name, U)>) -> Pages
where
    U: IntoIterator<Item = &'a Name>,
{
    let instance = |(name, users): (&'a Name, U)| {
        let mut users: Vec<_> = users.into_iter().map(Name::as_str).collect();
        users.sort_by_key(|user| *user != Name::DEFAULT);
        Instance {
            name: name.as_str(),
            users,
        }
    };
    let mut instances: Vec<_> = instances.into_iter().map(instance).collect();
    instances.sort_by_key(|instance| instance.name != Name::DEFAULT);
    let config = serde_json::to_vec(&Config { instances }).unwrap_or_default();
    let mut pages = Pages::new(&ASSETS);
    pages.0.insert(
        CONFIG,
        File::new("application/json", Form::Plain, Bytes::from(config)),
    );
    pages
}
