//! The served schema against the one written by hand.

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{TypeKind, TypeSystemDefinition};
use std::collections::BTreeSet;

/// Every fact of a schema as a line; order, descriptions and built-in directives play no part.
fn facts(sdl: &str) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    for definition in parse_schema(sdl).unwrap().definitions {
        match definition {
            TypeSystemDefinition::Schema(schema) => {
                let root = |root: &Option<_>| root.as_ref().map(ToString::to_string);
                facts.insert(format!(
                    "schema {:?}",
                    (root(&schema.node.query), root(&schema.node.mutation))
                ));
            }
            TypeSystemDefinition::Type(definition) => {
                let name = definition.node.name.to_string();
                match definition.node.kind {
                    TypeKind::Scalar => {
                        facts.insert(format!("scalar {name}"));
                    }
                    TypeKind::Object(object) => {
                        facts.insert(format!("type {name}"));
                        for interface in &object.implements {
                            facts.insert(format!("{name} implements {interface}"));
                        }
                        facts.extend(fields(&name, &object.fields));
                    }
                    TypeKind::Interface(interface) => {
                        facts.insert(format!("interface {name}"));
                        facts.extend(fields(&name, &interface.fields));
                    }
                    TypeKind::Union(_) => panic!("there is no union"),
                    TypeKind::Enum(values) => {
                        facts.extend(
                            values
                                .values
                                .iter()
                                .map(|value| format!("{name}::{}", value.node.value)),
                        );
                    }
                    TypeKind::InputObject(input) => facts.extend(input.fields.iter().map(|field| {
                        let (field, default) = (&field.node, &field.node.default_value);
                        format!("input {name}.{}: {} = {default:?}", field.name, field.ty)
                    })),
                }
            }
            TypeSystemDefinition::Directive(_) => {}
        }
    }
    facts
}

fn fields(
    name: &str,
    fields: &[async_graphql::Positioned<async_graphql::parser::types::FieldDefinition>],
) -> Vec<String> {
    let one = |field: &async_graphql::parser::types::FieldDefinition| {
        let arguments: Vec<_> = field
            .arguments
            .iter()
            .map(|argument| {
                format!(
                    "{}: {} = {:?}",
                    argument.node.name, argument.node.ty, argument.node.default_value
                )
            })
            .collect();
        format!("{name}.{}({}): {}", field.name, arguments.join(", "), field.ty)
    };
    fields.iter().map(|field| one(&field.node)).collect()
}

#[test]
fn the_served_schema_agrees_with_the_reference() {
    let (reference, served) = (
        facts(include_str!("../../schema.graphql")),
        facts(&fluent_sandbox::schema_sdl()),
    );
    let missing: Vec<_> = reference.difference(&served).collect();
    let extra: Vec<_> = served.difference(&reference).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing {missing:#?}, not in the reference {extra:#?}"
    );
    assert!(served.len() > 200, "{}", served.len());
}
