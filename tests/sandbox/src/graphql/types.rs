//! What the shop consists of, as the schema shows it.

use super::page::{Ask, Connection, Keyed, size};
use async_graphql::{
    ComplexObject, ID, InputValueError, InputValueResult, Interface, Result, Scalar, ScalarType,
};
use async_graphql::{SimpleObject, Value};
use chrono::{DateTime, Utc};
use std::sync::Arc;

/// The largest page of what hangs on one entity.
const INNER_LIMIT: usize = 500;

/// Any JSON.
#[derive(Clone)]
pub(super) struct Json(pub(super) Value);

/// Any JSON value.
#[Scalar(name = "Json")]
impl ScalarType for Json {
    fn parse(value: Value) -> InputValueResult<Self> {
        if matches!(value, Value::Enum(_)) {
            return Err(InputValueError::expected_type(value));
        }
        Ok(Self(value))
    }

    fn to_value(&self) -> Value {
        self.0.clone()
    }
}

/// A name, a type and a value of one's own.
#[derive(SimpleObject, Clone)]
pub(super) struct Attribute {
    pub(super) name: String,
    #[graphql(name = "type")]
    pub(super) kind: String,
    pub(super) value: Option<Json>,
}

/// An entity with the fields that all share.
macro_rules! entity {
    ($(#[$meta:meta])* $name:ident { $($(#[$of_field:meta])* $field:ident: $type:ty,)* }) => {
        #[derive(SimpleObject, Clone)]
        $(#[$meta])*
        pub(super) struct $name {
            #[graphql(skip)]
            pub(super) key: u64,
            pub(super) id: ID,
            #[graphql(name = "ref")]
            pub(super) reference: String,
            #[graphql(name = "type")]
            pub(super) kind: String,
            pub(super) status: Option<String>,
            pub(super) workflow_ref: String,
            pub(super) workflow_version: i32,
            pub(super) created_on: Option<DateTime<Utc>>,
            pub(super) updated_on: Option<DateTime<Utc>>,
            pub(super) attributes: Option<Vec<Attribute>>,
            $($(#[$of_field])* pub(super) $field: $type,)*
        }

        impl Keyed for $name {
            fn key(&self) -> u64 {
                self.key
            }
        }
    };
}

entity! {
    /// Where stock lies.
    Location { name: String, }
}

entity! {
    /// Who buys.
    Customer {
        first_name: Option<String>,
        last_name: Option<String>,
        primary_email: Option<String>,
        primary_phone: Option<String>,
    }
}

entity! {
    /// What is sold.
    Product { name: String, gtin: Option<String>, catalogue: CatalogueRef, }
}

entity! {
    /// How much of a product lies at a location.
    #[graphql(complex)]
    InventoryPosition {
        product_ref: String,
        location_ref: Option<String>,
        on_hand: Option<i32>,
        catalogue: CatalogueRef,
        #[graphql(skip)] parts: Vec<InventoryQuantity>,
    }
}

entity! {
    /// A part of a position, of one kind.
    InventoryQuantity { quantity: Option<i32>, condition: Option<String>, }
}

entity! {
    /// How much of a product can be sold.
    VirtualPosition {
        product_ref: String,
        group_ref: Option<String>,
        quantity: Option<i32>,
        catalogue: CatalogueRef,
    }
}

entity! {
    /// What was bought.
    #[graphql(complex)]
    Order {
        total_price: Option<f64>,
        total_tax_price: Option<f64>,
        customer: Option<Arc<Customer>>,
        #[graphql(skip)] lines: Arc<Vec<OrderItem>>,
        #[graphql(skip)] shipments: Arc<Vec<Fulfilment>>,
    }
}

entity! {
    /// A part of an order that leaves one location.
    #[graphql(complex)]
    Fulfilment { #[graphql(skip)] lines: Arc<Vec<OrderItem>>, }
}

entity! {
    /// How an order could be fulfilled.
    FulfilmentOption { order_type: Option<String>, tracking_code: Option<String>, }
}

/// One line of an order.
#[derive(SimpleObject, Clone)]
pub(super) struct OrderItem {
    #[graphql(skip)]
    pub(super) key: u64,
    pub(super) id: ID,
    #[graphql(name = "ref")]
    pub(super) reference: String,
    pub(super) status: Option<String>,
    pub(super) created_on: Option<DateTime<Utc>>,
    pub(super) updated_on: Option<DateTime<Utc>>,
    pub(super) attributes: Option<Vec<Attribute>>,
    pub(super) product: Option<Arc<Product>>,
    pub(super) quantity: i32,
    pub(super) paid_price: Option<f64>,
    pub(super) price: Option<f64>,
    pub(super) total_price: Option<f64>,
    pub(super) currency: Option<String>,
}

impl Keyed for OrderItem {
    fn key(&self) -> u64 {
        self.key
    }
}

/// Who is logged in.
#[derive(SimpleObject, Clone)]
pub(super) struct User {
    pub(super) id: ID,
    #[graphql(name = "ref")]
    pub(super) reference: String,
    #[graphql(name = "type")]
    pub(super) kind: Option<String>,
    pub(super) status: Option<String>,
    pub(super) username: String,
    pub(super) first_name: Option<String>,
    pub(super) last_name: Option<String>,
    pub(super) primary_email: Option<String>,
    pub(super) created_on: Option<DateTime<Utc>>,
    pub(super) updated_on: Option<DateTime<Utc>>,
}

/// The catalogue an entity stands in.
#[derive(SimpleObject, Clone)]
pub(super) struct CatalogueRef {
    #[graphql(name = "ref")]
    pub(super) reference: String,
}

#[ComplexObject]
impl Order {
    #[graphql(complexity = "1 + size(first, last) * child_complexity")]
    async fn items(
        &self,
        first: Option<i32>,
        last: Option<i32>,
        before: Option<String>,
        after: Option<String>,
    ) -> Result<Option<Connection<OrderItem>>> {
        Ask {
            first,
            last,
            after,
            before,
        }
        .page(INNER_LIMIT, self.lines.iter())
        .map(Some)
    }

    #[graphql(complexity = "1 + size(first, last) * child_complexity")]
    async fn fulfilments(
        &self,
        first: Option<i32>,
        last: Option<i32>,
        before: Option<String>,
        after: Option<String>,
    ) -> Result<Option<Connection<Fulfilment>>> {
        Ask {
            first,
            last,
            after,
            before,
        }
        .page(INNER_LIMIT, self.shipments.iter())
        .map(Some)
    }
}

#[ComplexObject]
impl Fulfilment {
    #[graphql(complexity = "1 + size(first, last) * child_complexity")]
    async fn items(
        &self,
        first: Option<i32>,
        last: Option<i32>,
        before: Option<String>,
        after: Option<String>,
    ) -> Result<Option<Connection<OrderItem>>> {
        Ask {
            first,
            last,
            after,
            before,
        }
        .page(INNER_LIMIT, self.lines.iter())
        .map(Some)
    }
}

#[ComplexObject]
impl InventoryPosition {
    #[graphql(complexity = "1 + size(first, last) * child_complexity")]
    async fn quantities(
        &self,
        first: Option<i32>,
        last: Option<i32>,
        before: Option<String>,
        after: Option<String>,
    ) -> Result<Option<Connection<InventoryQuantity>>> {
        Ask {
            first,
            last,
            after,
            before,
        }
        .page(INNER_LIMIT, self.parts.iter())
        .map(Some)
    }
}

/// What has an id.
#[derive(Interface)]
#[graphql(
    field(name = "id", ty = "&ID"),
    field(name = "created_on", ty = "&Option<DateTime<Utc>>"),
    field(name = "updated_on", ty = "&Option<DateTime<Utc>>")
)]
#[expect(clippy::duplicated_attributes, reason = "two fields of one type")]
pub(super) enum Node {
    Customer(Customer),
    Fulfilment(Fulfilment),
    FulfilmentOption(FulfilmentOption),
    InventoryPosition(InventoryPosition),
    InventoryQuantity(InventoryQuantity),
    Location(Location),
    Order(Order),
    OrderItem(OrderItem),
    Product(Product),
    User(User),
    VirtualPosition(VirtualPosition),
}

/// What a workflow moves.
#[derive(Interface)]
#[graphql(
    field(name = "type", method = "kind", ty = "&String"),
    field(name = "status", ty = "&Option<String>"),
    field(name = "workflow_ref", ty = "&String"),
    field(name = "workflow_version", ty = "&i32")
)]
#[expect(clippy::duplicated_attributes, reason = "two fields of one type")]
pub(super) enum Orchestrateable {
    Customer(Customer),
    Fulfilment(Fulfilment),
    FulfilmentOption(FulfilmentOption),
    InventoryPosition(InventoryPosition),
    InventoryQuantity(InventoryQuantity),
    Location(Location),
    Order(Order),
    Product(Product),
    VirtualPosition(VirtualPosition),
}

/// What carries attributes.
#[derive(Interface)]
#[graphql(field(name = "attributes", ty = "&Option<Vec<Attribute>>"))]
pub(super) enum Extendable {
    Customer(Customer),
    Fulfilment(Fulfilment),
    FulfilmentOption(FulfilmentOption),
    InventoryPosition(InventoryPosition),
    InventoryQuantity(InventoryQuantity),
    Location(Location),
    Order(Order),
    OrderItem(OrderItem),
    Product(Product),
    VirtualPosition(VirtualPosition),
}

/// What has a reference of its own.
#[derive(Interface)]
#[graphql(field(name = "ref", method = "reference", ty = "&String"))]
pub(super) enum Referenceable {
    Customer(Customer),
    Fulfilment(Fulfilment),
    FulfilmentOption(FulfilmentOption),
    InventoryPosition(InventoryPosition),
    InventoryQuantity(InventoryQuantity),
    Location(Location),
    Order(Order),
    OrderItem(OrderItem),
    Product(Product),
    User(User),
    VirtualPosition(VirtualPosition),
}
