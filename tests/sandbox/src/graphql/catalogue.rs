//! The data: made up from a seed, the same each time, and changed by mutations.
//!
//! 1. Keys grow over all entities; lists are in the order of their keys, which is that of creation.
//! 2. A `ref` is unique among its kind.

use super::input::{CreateCustomerInput, CreateOrderItemInput};
use super::types::{
    Attribute, CatalogueRef, Customer, Fulfilment, FulfilmentOption, InventoryPosition, InventoryQuantity,
    Json, Location, Order, OrderItem, Product, VirtualPosition,
};
use super::{Code, business};
use crate::clock;
use async_graphql::{ID, Result, Value};
use chrono::{DateTime, Utc};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

const LOCATIONS: usize = 12;
const CUSTOMERS: usize = 200;
const PRODUCTS: usize = 600;
const CATALOGUE: &str = "DEFAULT:1";
const NAMES: [&str; 8] = [
    "Ada", "Grace", "Linus", "Barbara", "Edsger", "Frances", "Ken", "Radia",
];
const CITIES: [&str; 6] = ["Sydney", "London", "Tokyo", "Berlin", "Toronto", "Lima"];
const THINGS: [&str; 8] = [
    "Lamp", "Shirt", "Kettle", "Boot", "Chair", "Scarf", "Torch", "Mug",
];
const ORDER_STATES: [&str; 5] = ["CREATED", "BOOKED", "PICKING", "COMPLETE", "CANCELLED"];

/// Everything there is.
#[derive(Default)]
pub(super) struct Catalogue {
    last_key: u64,
    pub(super) locations: Vec<Location>,
    pub(super) customers: Vec<Arc<Customer>>,
    pub(super) products: Vec<Arc<Product>>,
    pub(super) positions: Vec<InventoryPosition>,
    pub(super) virtual_positions: Vec<VirtualPosition>,
    pub(super) orders: Vec<Order>,
    by_id: HashMap<String, usize>,
    by_ref: HashMap<String, usize>,
    products_by_ref: HashMap<String, Arc<Product>>,
    options: HashSet<String>,
}

/// An order that is to be.
pub(super) struct Draft {
    pub(super) reference: String,
    pub(super) kind: String,
    pub(super) customer: Option<Arc<Customer>>,
    pub(super) items: Vec<CreateOrderItemInput>,
    pub(super) total_price: Option<f64>,
    pub(super) total_tax_price: Option<f64>,
    pub(super) attributes: Option<Vec<Attribute>>,
    pub(super) now: DateTime<Utc>,
}

/// An entity of this type with the shared fields set; the others follow.
macro_rules! entity {
    ($type:ident, $key:expr, $ref:expr, $kind:expr, $status:expr, $made:expr, { $($rest:tt)* }) => {{
        let key = $key;
        $type {
            key,
            id: ID::from(key),
            reference: $ref,
            kind: $kind,
            status: Some(String::from($status)),
            workflow_ref: concat!(stringify!($type), "::DEFAULT").to_uppercase(),
            workflow_version: 1,
            created_on: Some($made),
            updated_on: Some($made),
            attributes: None,
            $($rest)*
        }
    }};
}

impl Catalogue {
    /// A shop made up from `seed`, with so many orders.
    pub(super) fn seeded(seed: u64, orders: usize) -> Self {
        let (mut shop, mut dice) = (
            Self {
                last_key: 1_000,
                ..Self::default()
            },
            Dice(seed),
        );
        let made = clock::seeded(365 * 86_400);
        for number in 1..=LOCATIONS {
            let kind = dice.pick(&["STORE", "WAREHOUSE"]).to_owned();
            let name = format!("{} {number}", dice.pick(&CITIES));
            let reference = format!("LOC_{number:03}");
            let location = entity!(Location, shop.key(), reference, kind, "ACTIVE", made, { name });
            shop.locations.push(location);
        }
        for number in 1..=CUSTOMERS {
            let (first, last) = (dice.pick(&NAMES), dice.pick(&CITIES));
            let customer = entity!(
                Customer, shop.key(), format!("CUST_{number:05}"), "CUSTOMER".to_owned(), "ACTIVE", made, {
                    first_name: Some(first.to_owned()),
                    last_name: Some(last.to_owned()),
                    primary_email: Some(format!("customer-{number}@example.com")),
                    primary_phone: None,
                }
            );
            shop.customers.push(Arc::new(customer));
        }
        for number in 1..=PRODUCTS {
            shop.seed_product(number, &mut dice, made);
        }
        for number in 1..=orders {
            shop.seed_order(number, orders, &mut dice);
        }
        shop
    }

    pub(super) fn order_by_id(&self, id: &ID) -> Option<&Order> {
        self.by_id
            .get(id.as_str())
            .and_then(|index| self.orders.get(*index))
    }

    pub(super) fn order_by_id_mut(&mut self, id: &ID) -> Option<&mut Order> {
        self.by_id
            .get(id.as_str())
            .and_then(|index| self.orders.get_mut(*index))
    }

    pub(super) fn order_by_ref(&self, reference: &str) -> Option<&Order> {
        self.by_ref
            .get(reference)
            .and_then(|index| self.orders.get(*index))
    }

    /// A customer that is not in the shop yet.
    pub(super) fn new_customer(&mut self, input: CreateCustomerInput, now: DateTime<Utc>) -> Arc<Customer> {
        Arc::new(
            entity!(Customer, self.key(), input.reference, "CUSTOMER".to_owned(), "CREATED", now, {
                first_name: input.first_name,
                last_name: input.last_name,
                primary_email: input.primary_email,
                primary_phone: input.primary_phone,
            }),
        )
    }

    /// Adds an order whose reference is new and whose products exist.
    pub(super) fn add_order(&mut self, draft: Draft) -> Result<Order> {
        if self.by_ref.contains_key(&draft.reference) {
            return Err(business(Code::Clash, "An order with this ref exists"));
        }
        let mut lines = Vec::with_capacity(draft.items.len());
        for item in draft.items {
            let product = self.products_by_ref.get(&item.product_ref).cloned();
            let product = product.ok_or_else(|| business(Code::Invalid, "No such product"))?;
            let total_price = item_total(&item);
            let key = self.key();
            lines.push(OrderItem {
                key,
                id: ID::from(key),
                reference: item.reference,
                status: Some("CREATED".to_owned()),
                created_on: Some(draft.now),
                updated_on: Some(draft.now),
                attributes: None,
                product: Some(product),
                quantity: item.quantity,
                paid_price: item.paid_price,
                price: item.price,
                total_price,
                currency: item.currency,
            });
        }
        let sum = || lines.iter().map(|line| line.total_price).sum::<Option<f64>>();
        let total_price = draft.total_price.or_else(sum);
        let mut order = entity!(Order, self.key(), draft.reference, draft.kind, "CREATED", draft.now, {
            total_price,
            total_tax_price: draft.total_tax_price,
            customer: draft.customer,
            lines: Arc::new(lines),
            shipments: Arc::default(),
        });
        order.attributes = draft.attributes;
        self.push_order(order.clone());
        Ok(order)
    }

    /// Adds a fulfilment option whose reference is new.
    pub(super) fn add_option(
        &mut self,
        reference: String,
        kind: String,
        order_type: Option<String>,
        tracking_code: Option<String>,
        attributes: Option<Vec<Attribute>>,
        now: DateTime<Utc>,
    ) -> Result<FulfilmentOption> {
        if !self.options.insert(reference.clone()) {
            return Err(business(Code::Clash, "A fulfilment option with this ref exists"));
        }
        let mut option = entity!(FulfilmentOption, self.key(), reference, kind, "CREATED", now, {
            order_type,
            tracking_code,
        });
        option.attributes = attributes;
        Ok(option)
    }

    /// Changes a quantity by its reference, and the stock of its position with it.
    pub(super) fn change_quantity(
        &mut self,
        reference: &str,
        now: DateTime<Utc>,
        change: impl FnOnce(&mut InventoryQuantity),
    ) -> Option<InventoryQuantity> {
        for position in &mut self.positions {
            let Some(quantity) = position.parts.iter_mut().find(|part| part.reference == reference) else {
                continue;
            };
            change(quantity);
            quantity.updated_on = Some(now);
            let quantity = quantity.clone();
            position.on_hand = Some(position.parts.iter().filter_map(|part| part.quantity).sum());
            position.updated_on = Some(now);
            return Some(quantity);
        }
        None
    }

    fn key(&mut self) -> u64 {
        self.last_key += 1;
        self.last_key
    }

    fn push_order(&mut self, order: Order) {
        self.by_id.insert(order.id.to_string(), self.orders.len());
        self.by_ref.insert(order.reference.clone(), self.orders.len());
        self.orders.push(order);
    }

    /// A product with its stock at two locations and what of it can be sold.
    fn seed_product(&mut self, number: usize, dice: &mut Dice, made: DateTime<Utc>) {
        let catalogue = CatalogueRef {
            reference: CATALOGUE.to_owned(),
        };
        let reference = format!("SKU_{number:05}");
        let name = format!("{} {number}", dice.pick(&THINGS));
        let mut product = entity!(
            Product, self.key(), reference.clone(), "VARIANT".to_owned(), "ACTIVE", made, {
                name,
                gtin: Some(format!("93{number:011}")),
                catalogue: catalogue.clone(),
            }
        );
        let weight = Value::from(dice.below(2_000) + 50);
        product.attributes = Some(vec![Attribute {
            name: "WEIGHT_GRAMS".to_owned(),
            kind: "INTEGER".to_owned(),
            value: Some(Json(weight)),
        }]);
        let product = Arc::new(product);
        self.products_by_ref.insert(reference.clone(), product.clone());
        self.products.push(product);
        let mut for_sale = 0;
        for offset in 0..2 {
            let location = format!("LOC_{:03}", (number + offset * 5) % LOCATIONS + 1);
            let on_hand = i32::try_from(dice.below(100)).unwrap_or_default();
            for_sale += on_hand;
            let part = entity!(
                InventoryQuantity,
                self.key(),
                format!("{location}:{reference}:LAST_ON_HAND"),
                "LAST_ON_HAND".to_owned(),
                "ACTIVE",
                made,
                { quantity: Some(on_hand), condition: Some("NEW".to_owned()) }
            );
            let position = format!("{location}:{reference}");
            let position = entity!(
                InventoryPosition, self.key(), position, "DEFAULT".to_owned(), "ACTIVE", made, {
                    product_ref: reference.clone(),
                    location_ref: Some(location),
                    on_hand: Some(on_hand),
                    catalogue: catalogue.clone(),
                    parts: vec![part],
                }
            );
            self.positions.push(position);
        }
        let position = format!("{reference}:ALL");
        let position = entity!(
            VirtualPosition, self.key(), position, "AGGREGATE".to_owned(), "ACTIVE", made, {
                product_ref: reference,
                group_ref: Some("ALL".to_owned()),
                quantity: Some(for_sale),
                catalogue,
            }
        );
        self.virtual_positions.push(position);
    }

    /// An order of one to four items, made at its place within the last year.
    fn seed_order(&mut self, number: usize, of: usize, dice: &mut Dice) {
        let before = (of - number) as u64 * (360 * 86_400) / of.max(1) as u64;
        let made = clock::seeded(u32::try_from(before).unwrap_or(u32::MAX));
        let status = dice.pick(&ORDER_STATES);
        let kind = dice.pick(&["HD", "CC"]);
        let customer = self.customers.get(dice.below_len(self.customers.len())).cloned();
        let reference = format!("{kind}_{number:06}");
        let mut lines = Vec::new();
        for line in 0..=dice.below(3) {
            let (cents, quantity) = (dice.below(20_000) + 99, dice.below(4) + 1);
            let product = self.products.get(dice.below_len(self.products.len())).cloned();
            let key = self.key();
            lines.push(OrderItem {
                key,
                id: ID::from(key),
                reference: format!("{reference}_{line}"),
                status: Some(status.to_owned()),
                created_on: Some(made),
                updated_on: Some(made),
                attributes: None,
                product,
                quantity: i32::try_from(quantity).unwrap_or(1),
                paid_price: Some(money(cents)),
                price: Some(money(cents)),
                total_price: Some(money(cents * quantity)),
                currency: Some("AUD".to_owned()),
            });
        }
        let lines = Arc::new(lines);
        let total: f64 = lines.iter().filter_map(|line| line.total_price).sum();
        let shipment = entity!(
            Fulfilment, self.key(), format!("{reference}_F1"), format!("{kind}_WH"), status, made, {
                lines: lines.clone(),
            }
        );
        let order = entity!(Order, self.key(), reference, kind.to_owned(), status, made, {
            total_price: Some(total),
            total_tax_price: Some((total * 10.0).round() / 100.0),
            customer,
            lines,
            shipments: Arc::new(vec![shipment]),
        });
        self.push_order(order);
    }
}

/// What an item costs in all, where its price is known.
pub(super) fn item_total(item: &CreateOrderItemInput) -> Option<f64> {
    item.total_price
        .or(item.price.map(|price| price * f64::from(item.quantity)))
}

fn money(cents: u32) -> f64 {
    f64::from(cents) / 100.0
}

/// A small deterministic generator of numbers (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.roll() % u64::from(end.max(1))).unwrap_or_default()
    }

    fn below_len(&mut self, length: usize) -> usize {
        usize::try_from(self.roll() % length.max(1) as u64).unwrap_or_default()
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from.get(self.below_len(from.len())).copied().unwrap_or_default()
    }
}
