//! What can be changed.
//!
//! 1. A change is made whole or not at all, and stands in the record once it is made.
//! 2. Waiting for a workflow comes after the change: a caller who leaves takes nothing back.

use super::catalogue::{Draft, item_total};
use super::input::{
    AttributeInput, CreateFulfilmentOptionInput, CreateOrderAndCustomerInput, CreateOrderInput,
    CreateOrderItemInput, CustomerKey, ExecutionMode, UpdateInventoryQuantityInput, UpdateOrderInput,
};
use super::types::{Attribute, FulfilmentOption, InventoryQuantity, Order};
use super::{Backend, Code, business};
use crate::lock;
use crate::seen::ApiTicket;
use async_graphql::{Context, Object, Result};

/// The root of all changes.
pub(super) struct Mutation;

#[Object]
impl Mutation {
    /// Creates an order for a customer that exists, or for nobody.
    async fn create_order(&self, ctx: &Context<'_>, input: CreateOrderInput) -> Result<Option<Order>> {
        let backend = ctx.data::<Backend>()?;
        let now = backend.clock.now().calendar();
        let mut catalogue = lock(&backend.catalogue);
        let customer = match &input.customer {
            None => None,
            Some(CustomerKey { id, reference }) => {
                let found = catalogue.customers.iter().find(|customer| {
                    id.as_ref().is_none_or(|id| *id == customer.id)
                        && reference
                            .as_ref()
                            .is_none_or(|reference| *reference == customer.reference)
                });
                Some(
                    found
                        .cloned()
                        .ok_or_else(|| business(Code::Invalid, "No such customer"))?,
                )
            }
        };
        check_items(&input.items)?;
        let order = catalogue.add_order(Draft {
            reference: input.reference,
            kind: input.kind,
            customer,
            items: input.items,
            total_price: input.total_price,
            total_tax_price: input.total_tax_price,
            attributes: input.attributes.map(attributes),
            now,
        })?;
        executed(ctx, "createOrder", &order.reference);
        Ok(Some(order))
    }

    /// Creates an order and its customer, or neither.
    async fn create_order_and_customer(
        &self,
        ctx: &Context<'_>,
        input: CreateOrderAndCustomerInput,
    ) -> Result<Option<Order>> {
        let backend = ctx.data::<Backend>()?;
        let now = backend.clock.now().calendar();
        let mut catalogue = lock(&backend.catalogue);
        check_items(&input.items)?;
        if catalogue
            .customers
            .iter()
            .any(|customer| customer.reference == input.customer.reference)
        {
            return Err(business(Code::Clash, "A customer with this ref exists"));
        }
        let customer = catalogue.new_customer(input.customer, now);
        let order = catalogue.add_order(Draft {
            reference: input.reference,
            kind: input.kind,
            customer: Some(customer.clone()),
            items: input.items,
            total_price: input.total_price,
            total_tax_price: input.total_tax_price,
            attributes: input.attributes.map(attributes),
            now,
        })?;
        catalogue.customers.push(customer);
        executed(ctx, "createOrderAndCustomer", &order.reference);
        Ok(Some(order))
    }

    /// Changes what is given of an order.
    async fn update_order(&self, ctx: &Context<'_>, input: UpdateOrderInput) -> Result<Option<Order>> {
        let backend = ctx.data::<Backend>()?;
        let now = backend.clock.now().calendar();
        let mut catalogue = lock(&backend.catalogue);
        let missing = || business(Code::Invalid, "No such order");
        let order = catalogue.order_by_id_mut(&input.id).ok_or_else(missing)?;
        if let Some(kind) = input.kind {
            order.kind = kind;
        }
        order.status = input.status.or(order.status.take());
        order.total_price = input.total_price.or(order.total_price);
        order.total_tax_price = input.total_tax_price.or(order.total_tax_price);
        if let Some(given) = input.attributes {
            order.attributes = Some(attributes(given));
        }
        order.updated_on = Some(now);
        let order = order.clone();
        executed(ctx, "updateOrder", &order.reference);
        Ok(Some(order))
    }

    /// Creates a fulfilment option; with `AWAIT_ORCHESTRATION` it answers when the workflow has run.
    async fn create_fulfilment_option(
        &self,
        ctx: &Context<'_>,
        input: CreateFulfilmentOptionInput,
        execution_mode: Option<ExecutionMode>,
    ) -> Result<Option<FulfilmentOption>> {
        let backend = ctx.data::<Backend>()?;
        let now = backend.clock.now().calendar();
        let given = input.attributes.map(attributes);
        let mut option = lock(&backend.catalogue).add_option(
            input.reference,
            input.kind,
            input.order_type,
            input.tracking_code,
            given,
            now,
        )?;
        executed(ctx, "createFulfilmentOption", &option.reference);
        match execution_mode {
            Some(ExecutionMode::AwaitOrchestration) => {
                tokio::time::sleep(backend.orchestration_time).await;
                option.status = Some("PROPOSED".to_owned());
            }
            Some(ExecutionMode::Async) | None => {}
        }
        Ok(Some(option))
    }

    /// Sets a quantity; the position's `onHand` follows.
    async fn update_inventory_quantity(
        &self,
        ctx: &Context<'_>,
        input: UpdateInventoryQuantityInput,
    ) -> Result<Option<InventoryQuantity>> {
        let backend = ctx.data::<Backend>()?;
        let now = backend.clock.now().calendar();
        if input.quantity < 0 {
            return Err(business(Code::Invalid, "A quantity is never negative"));
        }
        let mut catalogue = lock(&backend.catalogue);
        let missing = || business(Code::Invalid, "No such inventory quantity");
        let quantity = catalogue
            .change_quantity(&input.reference, now, |quantity| {
                quantity.quantity = Some(input.quantity);
                quantity.status = input.status.or(quantity.status.take());
                quantity.condition = input.condition.or(quantity.condition.take());
            })
            .ok_or_else(missing)?;
        executed(ctx, "updateInventoryQuantity", &quantity.reference);
        Ok(Some(quantity))
    }
}

fn check_items(items: &[CreateOrderItemInput]) -> Result<()> {
    if items.is_empty() {
        return Err(business(Code::Invalid, "An order has at least one item"));
    }
    if items
        .iter()
        .any(|item| item.quantity < 1 || item_total(item).is_some_and(f64::is_nan))
    {
        return Err(business(Code::Invalid, "An item has a quantity of at least 1"));
    }
    Ok(())
}

fn attributes(given: Vec<AttributeInput>) -> Vec<Attribute> {
    given
        .into_iter()
        .map(|one| Attribute {
            name: one.name,
            kind: one.kind,
            value: one.value,
        })
        .collect()
}

/// Notes in the record that a change was made.
fn executed(ctx: &Context<'_>, field: &str, reference: &str) {
    if let Some(ticket) = ctx.data_opt::<ApiTicket>() {
        ticket.mutated(field, reference);
    }
}
