//! The vendor's REST paths.
use crate::pipeline::World;
use axum::Router;
use std::sync::Arc;
pub(crate) fn routes(_world: Arc<World>) -> Router {
    Router::new()
}
