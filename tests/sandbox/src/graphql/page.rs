//! Pages: connections whose cursors stand on the edges.
//!
//! 1. `PageInfo` has only `hasNextPage` and `hasPreviousPage`.
//! 2. A cursor names an entity, not a position: what is added meanwhile shifts nothing.
//! 3. `first` or `last`, not both; 10 where neither is given; never over the field's limit.

use super::{Code, business};
use async_graphql::{OutputType, Result, SimpleObject, TypeName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::borrow::Cow;

/// How many edges a page has where nothing is said.
const DEFAULT_PAGE: usize = 10;

/// Something that can stand on a page: its key is unique and grows.
pub(super) trait Keyed {
    fn key(&self) -> u64;
}

/// Whether there is more on either side.
#[derive(SimpleObject)]
pub(super) struct PageInfo {
    has_next_page: bool,
    has_previous_page: bool,
}

/// One node of a page, with its cursor.
#[derive(SimpleObject)]
#[graphql(name_type)]
pub(super) struct Edge<T: OutputType> {
    node: T,
    cursor: String,
}

/// A page of nodes.
#[derive(SimpleObject)]
#[graphql(name_type)]
pub(super) struct Connection<T: OutputType> {
    edges: Vec<Edge<T>>,
    page_info: PageInfo,
}

impl<T: OutputType> TypeName for Edge<T> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Edge", T::type_name()).into()
    }
}

impl<T: OutputType> TypeName for Connection<T> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Connection", T::type_name()).into()
    }
}

/// Which page is asked for.
pub(super) struct Ask {
    pub(super) first: Option<i32>,
    pub(super) last: Option<i32>,
    pub(super) after: Option<String>,
    pub(super) before: Option<String>,
}

/// How many edges an asked page may have; complexity counts with it.
pub(super) fn size(first: Option<i32>, last: Option<i32>) -> usize {
    first
        .or(last)
        .map_or(DEFAULT_PAGE, |size| usize::try_from(size).unwrap_or_default())
}

impl Ask {
    /// Cuts the page out of all that match, in the order of their keys.
    pub(super) fn page<'a, T>(
        &self,
        limit: usize,
        matching: impl Iterator<Item = &'a T>,
    ) -> Result<Connection<T>>
    where
        T: Keyed + OutputType + Clone + 'a,
    {
        if self.first.is_some() && self.last.is_some() {
            return Err(business(Code::Invalid, "first and last exclude each other"));
        }
        if self.first.or(self.last).is_some_and(|size| size < 0) || size(self.first, self.last) > limit {
            return Err(business(Code::Invalid, format!("A page has 0 to {limit} nodes")));
        }
        let after = self.after.as_deref().map(key_of).transpose()?;
        let before = self.before.as_deref().map(key_of).transpose()?;
        let (mut has_previous_page, mut has_next_page) = (false, false);
        let mut within = Vec::new();
        for node in matching {
            if after.is_some_and(|after| node.key() <= after) {
                has_previous_page = true;
            } else if before.is_some_and(|before| node.key() >= before) {
                has_next_page = true;
            } else {
                within.push(node);
            }
        }
        let size = size(self.first, self.last);
        let spare = within.len().saturating_sub(size);
        let skip = if self.last.is_some() { spare } else { 0 };
        if spare > 0 {
            *(if self.last.is_some() {
                &mut has_previous_page
            } else {
                &mut has_next_page
            }) = true;
        }
        let edge = |node: &T| Edge {
            node: node.clone(),
            cursor: cursor_of(node.key()),
        };
        let edges = within.into_iter().skip(skip).take(size).map(edge).collect();
        Ok(Connection {
            edges,
            page_info: PageInfo {
                has_next_page,
                has_previous_page,
            },
        })
    }
}

fn cursor_of(key: u64) -> String {
    STANDARD_NO_PAD.encode(format!("cursor:{key}"))
}

fn key_of(cursor: &str) -> Result<u64> {
    let read = || {
        let bytes = STANDARD_NO_PAD.decode(cursor).ok()?;
        std::str::from_utf8(&bytes)
            .ok()?
            .strip_prefix("cursor:")?
            .parse()
            .ok()
    };
    read().ok_or_else(|| business(Code::Invalid, "Invalid cursor"))
}
