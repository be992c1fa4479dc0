//! What mutations and filters take.

use super::types::Json;
use async_graphql::{Enum, ID, InputObject};
use chrono::{DateTime, Utc};

/// A span of time; an end that is missing is open.
#[derive(InputObject)]
pub(super) struct DateRange {
    pub(super) from: Option<DateTime<Utc>>,
    pub(super) to: Option<DateTime<Utc>>,
}

/// Names an inventory catalogue.
#[derive(InputObject)]
pub(super) struct InventoryCatalogueKey {
    #[graphql(name = "ref")]
    pub(super) reference: String,
}

/// Names a virtual catalogue.
#[derive(InputObject)]
pub(super) struct VirtualCatalogueKey {
    #[graphql(name = "ref")]
    pub(super) reference: String,
}

/// Names a retailer.
#[derive(InputObject)]
pub(super) struct RetailerId {
    pub(super) id: ID,
}

/// Names a customer by id or by reference.
#[derive(InputObject)]
pub(super) struct CustomerKey {
    pub(super) id: Option<ID>,
    #[graphql(name = "ref")]
    pub(super) reference: Option<String>,
}

#[derive(InputObject)]
pub(super) struct AttributeInput {
    pub(super) name: String,
    #[graphql(name = "type")]
    pub(super) kind: String,
    pub(super) value: Option<Json>,
}

#[derive(InputObject)]
pub(super) struct CreateOrderItemInput {
    #[graphql(name = "ref")]
    pub(super) reference: String,
    pub(super) product_ref: String,
    pub(super) quantity: i32,
    pub(super) paid_price: Option<f64>,
    pub(super) price: Option<f64>,
    pub(super) total_price: Option<f64>,
    pub(super) currency: Option<String>,
}

#[derive(InputObject)]
pub(super) struct CreateOrderInput {
    #[graphql(name = "ref")]
    pub(super) reference: String,
    #[graphql(name = "type")]
    pub(super) kind: String,
    pub(super) retailer: Option<RetailerId>,
    pub(super) customer: Option<CustomerKey>,
    pub(super) items: Vec<CreateOrderItemInput>,
    pub(super) total_price: Option<f64>,
    pub(super) total_tax_price: Option<f64>,
    pub(super) attributes: Option<Vec<AttributeInput>>,
}

#[derive(InputObject)]
pub(super) struct CreateCustomerInput {
    #[graphql(name = "ref")]
    pub(super) reference: String,
    pub(super) first_name: Option<String>,
    pub(super) last_name: Option<String>,
    pub(super) primary_email: Option<String>,
    pub(super) primary_phone: Option<String>,
}

#[derive(InputObject)]
pub(super) struct CreateOrderAndCustomerInput {
    #[graphql(name = "ref")]
    pub(super) reference: String,
    #[graphql(name = "type")]
    pub(super) kind: String,
    pub(super) retailer: Option<RetailerId>,
    pub(super) customer: CreateCustomerInput,
    pub(super) items: Vec<CreateOrderItemInput>,
    pub(super) total_price: Option<f64>,
    pub(super) total_tax_price: Option<f64>,
    pub(super) attributes: Option<Vec<AttributeInput>>,
}

/// Changes what is given and leaves the rest.
#[derive(InputObject)]
pub(super) struct UpdateOrderInput {
    pub(super) id: ID,
    #[graphql(name = "type")]
    pub(super) kind: Option<String>,
    pub(super) status: Option<String>,
    pub(super) total_price: Option<f64>,
    pub(super) total_tax_price: Option<f64>,
    pub(super) attributes: Option<Vec<AttributeInput>>,
}

#[derive(InputObject)]
pub(super) struct CreateFulfilmentOptionInput {
    #[graphql(name = "ref")]
    pub(super) reference: String,
    #[graphql(name = "type")]
    pub(super) kind: String,
    pub(super) order_type: Option<String>,
    pub(super) tracking_code: Option<String>,
    pub(super) attributes: Option<Vec<AttributeInput>>,
}

#[derive(InputObject)]
pub(super) struct UpdateInventoryQuantityInput {
    #[graphql(name = "ref")]
    pub(super) reference: String,
    pub(super) quantity: i32,
    pub(super) status: Option<String>,
    pub(super) condition: Option<String>,
}

/// When a mutation answers.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExecutionMode {
    /// As soon as the entity is there.
    Async,
    /// When the workflow has run.
    AwaitOrchestration,
}
