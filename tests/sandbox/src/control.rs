//! Faults and record over HTTP, for the binary.
use crate::pipeline::World;
use crate::server::{Connection, Service};
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use std::sync::Arc;
pub(crate) struct Control;
impl Control {
    pub(crate) fn new(_world: Arc<World>) -> Self {
        Self
    }
}
impl Service for Control {
    fn connection_opened(&self) -> u64 {
        0
    }
    fn connection_closed(&self) {}
    async fn answer(&self, _c: Arc<Connection>, _r: Request<Incoming>) -> Response {
        Response::default()
    }
}
