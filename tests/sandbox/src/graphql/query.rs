//! What can be asked.

use super::input::{DateRange, InventoryCatalogueKey, VirtualCatalogueKey};
use super::page::{Ask, Connection, size};
use super::types::{
    Customer, Fulfilment, InventoryPosition, Location, Order, Product, User, VirtualPosition,
};
use super::{Backend, Code, business};
use crate::clock;
use crate::config::Account;
use crate::lock;
use async_graphql::{Context, ID, Object, Result};

/// The largest page of products, and of everything else.
const PRODUCT_LIMIT: usize = 500;
const LIMIT: usize = 5_000;

/// The root of all questions.
pub(super) struct Query;

/// A filter that may name several values.
type OneOf = Option<Vec<String>>;

#[Object]
impl Query {
    /// Who is logged in; needs no argument.
    async fn me(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let account = ctx.data::<Account>()?;
        Ok(Some(User {
            id: ID::from(1),
            reference: account.username.clone(),
            kind: Some("USER".to_owned()),
            status: Some("ACTIVE".to_owned()),
            username: account.username.clone(),
            first_name: Some("Demo".to_owned()),
            last_name: Some("User".to_owned()),
            primary_email: Some(format!("{}@example.com", account.username)),
            created_on: Some(clock::seeded(400 * 86_400)),
            updated_on: None,
        }))
    }

    /// An order by its id or its reference.
    async fn order(
        &self,
        ctx: &Context<'_>,
        id: Option<ID>,
        #[graphql(name = "ref")] reference: Option<String>,
    ) -> Result<Option<Order>> {
        let catalogue = lock(&ctx.data::<Backend>()?.catalogue);
        match (id, reference) {
            (Some(id), None) => Ok(catalogue.order_by_id(&id).cloned()),
            (None, Some(reference)) => Ok(catalogue.order_by_ref(&reference).cloned()),
            (Some(_), Some(_)) | (None, None) => Err(business(Code::Invalid, "Give either id or ref")),
        }
    }

    async fn order_by_id(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Order>> {
        Ok(lock(&ctx.data::<Backend>()?.catalogue).order_by_id(&id).cloned())
    }

    #[graphql(complexity = "1 + size(first, last) * child_complexity")]
    #[expect(clippy::too_many_arguments, reason = "the vendor's field has them")]
    async fn orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(name = "ref")] reference: OneOf,
        #[graphql(name = "type")] kind: OneOf,
        status: OneOf,
        created_on: Option<DateRange>,
        first: Option<i32>,
        last: Option<i32>,
        before: Option<String>,
        after: Option<String>,
    ) -> Result<Option<Connection<Order>>> {
        let catalogue = lock(&ctx.data::<Backend>()?.catalogue);
        let within = |order: &Order| {
            created_on.as_ref().is_none_or(|range| {
                range.from.is_none_or(|from| order.created_on >= Some(from))
                    && range.to.is_none_or(|to| order.created_on <= Some(to))
            })
        };
        let matching = catalogue.orders.iter().filter(|order| {
            is_one(&reference, &order.reference)
                && is_one(&kind, &order.kind)
                && is_one_if_any(&status, order.status.as_deref())
                && within(order)
        });
        Ask {
            first,
            last,
            after,
            before,
        }
        .page(LIMIT, matching)
        .map(Some)
    }

    async fn inventory_position(
        &self,
        ctx: &Context<'_>,
        #[graphql(name = "ref")] reference: String,
        catalogue: InventoryCatalogueKey,
    ) -> Result<Option<InventoryPosition>> {
        let wanted = |position: &&InventoryPosition| {
            position.reference == reference && position.catalogue.reference == catalogue.reference
        };
        Ok(lock(&ctx.data::<Backend>()?.catalogue)
            .positions
            .iter()
            .find(wanted)
            .cloned())
    }

    #[graphql(complexity = "1 + size(first, None) * child_complexity")]
    #[expect(clippy::too_many_arguments, reason = "the vendor's field has them")]
    async fn inventory_positions(
        &self,
        ctx: &Context<'_>,
        #[graphql(name = "ref")] reference: OneOf,
        #[graphql(name = "type")] kind: OneOf,
        status: OneOf,
        product_ref: OneOf,
        location_ref: OneOf,
        catalogue: Option<InventoryCatalogueKey>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Option<Connection<InventoryPosition>>> {
        let of = catalogue;
        let catalogue = lock(&ctx.data::<Backend>()?.catalogue);
        let matching = catalogue.positions.iter().filter(|position| {
            is_one(&reference, &position.reference)
                && is_one(&kind, &position.kind)
                && is_one_if_any(&status, position.status.as_deref())
                && is_one(&product_ref, &position.product_ref)
                && is_one_if_any(&location_ref, position.location_ref.as_deref())
                && of
                    .as_ref()
                    .is_none_or(|of| of.reference == position.catalogue.reference)
        });
        Ask {
            first,
            last: None,
            after,
            before: None,
        }
        .page(LIMIT, matching)
        .map(Some)
    }

    #[graphql(complexity = "1 + size(first, None) * child_complexity")]
    #[expect(clippy::too_many_arguments, reason = "the vendor's field has them")]
    async fn virtual_positions(
        &self,
        ctx: &Context<'_>,
        #[graphql(name = "ref")] reference: OneOf,
        status: OneOf,
        product_ref: OneOf,
        group_ref: OneOf,
        catalogue: Option<VirtualCatalogueKey>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Option<Connection<VirtualPosition>>> {
        let of = catalogue;
        let catalogue = lock(&ctx.data::<Backend>()?.catalogue);
        let matching = catalogue.virtual_positions.iter().filter(|position| {
            is_one(&reference, &position.reference)
                && is_one_if_any(&status, position.status.as_deref())
                && is_one(&product_ref, &position.product_ref)
                && is_one_if_any(&group_ref, position.group_ref.as_deref())
                && of
                    .as_ref()
                    .is_none_or(|of| of.reference == position.catalogue.reference)
        });
        Ask {
            first,
            last: None,
            after,
            before: None,
        }
        .page(LIMIT, matching)
        .map(Some)
    }

    async fn fulfilment_by_id(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Fulfilment>> {
        let catalogue = lock(&ctx.data::<Backend>()?.catalogue);
        let mut all = catalogue.orders.iter().flat_map(|order| order.shipments.iter());
        Ok(all.find(|fulfilment| fulfilment.id == id).cloned())
    }

    #[graphql(complexity = "1 + size(first, last) * child_complexity")]
    #[expect(clippy::too_many_arguments, reason = "the vendor's field has them")]
    async fn locations(
        &self,
        ctx: &Context<'_>,
        #[graphql(name = "ref")] reference: OneOf,
        status: OneOf,
        first: Option<i32>,
        last: Option<i32>,
        before: Option<String>,
        after: Option<String>,
    ) -> Result<Option<Connection<Location>>> {
        let catalogue = lock(&ctx.data::<Backend>()?.catalogue);
        let matching = catalogue.locations.iter().filter(|location| {
            is_one(&reference, &location.reference) && is_one_if_any(&status, location.status.as_deref())
        });
        Ask {
            first,
            last,
            after,
            before,
        }
        .page(LIMIT, matching)
        .map(Some)
    }

    async fn customer(
        &self,
        ctx: &Context<'_>,
        #[graphql(name = "ref")] reference: String,
    ) -> Result<Option<Customer>> {
        let catalogue = lock(&ctx.data::<Backend>()?.catalogue);
        Ok(catalogue
            .customers
            .iter()
            .find(|customer| customer.reference == reference)
            .map(|c| (**c).clone()))
    }

    #[graphql(complexity = "1 + size(first, last) * child_complexity")]
    #[expect(clippy::too_many_arguments, reason = "the vendor's field has them")]
    async fn products(
        &self,
        ctx: &Context<'_>,
        #[graphql(name = "ref")] reference: OneOf,
        status: OneOf,
        first: Option<i32>,
        last: Option<i32>,
        before: Option<String>,
        after: Option<String>,
    ) -> Result<Option<Connection<Product>>> {
        let catalogue = lock(&ctx.data::<Backend>()?.catalogue);
        let matching = catalogue
            .products
            .iter()
            .map(AsRef::as_ref)
            .filter(|product: &&Product| {
                is_one(&reference, &product.reference) && is_one_if_any(&status, product.status.as_deref())
            });
        Ask {
            first,
            last,
            after,
            before,
        }
        .page(PRODUCT_LIMIT, matching)
        .map(Some)
    }
}

fn is_one(wanted: &OneOf, value: &str) -> bool {
    wanted
        .as_ref()
        .is_none_or(|wanted| wanted.iter().any(|one| one == value))
}

fn is_one_if_any(wanted: &OneOf, value: Option<&str>) -> bool {
    value.map_or(wanted.is_none(), |value| is_one(wanted, value))
}
