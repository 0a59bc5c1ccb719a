//! Follows references: a schema that only refers to another, or wraps one, is read as that one.

use super::super::json::Json;
use super::words;

/// Keywords that describe a value, and demand nothing of it that a form must know.
const ANNOTATIONS: [&str; 15] = [
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
    "$schema",
    "$id",
    "$defs",
    "definitions",
    "discriminator",
    "format",
    "type",
];
/// References that are followed one after another.
const MAX_OPEN: usize = 64;

/// A schema after its references were followed.
pub(super) struct Resolved<'a> {
    pub(super) schema: &'a Json,
    /// The schemas that led to it, and it; their annotations count, outer ones first.
    layers: Vec<&'a Json>,
    pub(super) nullable: bool,
    /// Whether `schema` has everything that the layers demand.
    pub(super) complete: bool,
}

impl<'a> Resolved<'a> {
    pub(super) fn annotation(&self, keyword: &str) -> Option<&'a Json> {
        self.layers.iter().find_map(|layer| layer.get(keyword))
    }

    /// An annotation that is a text and not empty.
    pub(super) fn text(&self, keyword: &str, limit: usize) -> Option<String> {
        self.layers.iter().find_map(|layer| text(layer, keyword, limit))
    }

    /// The same of the schema that was given, as if it referred to nothing.
    pub(super) fn own_text(&self, keyword: &str, limit: usize) -> Option<String> {
        text(self.layers.first()?, keyword, limit)
    }

    /// The alternatives for a value that is not null, if it is nothing but a choice between them.
    pub(super) fn alternatives(&self) -> Option<Vec<&'a Json>> {
        alternatives(self.schema)
    }

    /// The types of a value that is not null, as far as the schema implies them.
    pub(super) fn types(&self) -> Vec<&'a str> {
        types(self.schema).into_iter().filter(|it| *it != "null").collect()
    }
}

/// Follows the references of one document.
pub(super) struct Resolver<'a> {
    root: &'a Json,
    /// The references that lead to the schema that is being read: one of them again would have no end.
    open: Vec<&'a str>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(root: &'a Json) -> Self {
        Self { root, open: Vec::new() }
    }

    /// How many references are open; they stay open until [`Resolver::close`], while the schema is read.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    pub(super) fn close(&mut self, open: usize) {
        self.open.truncate(open);
    }

    pub(super) fn resolve(&mut self, schema: &'a Json) -> Resolved<'a> {
        let mut resolved =
            Resolved { schema, layers: vec![schema], nullable: false, complete: true };
        while resolved.complete {
            let schema = resolved.schema;
            resolved.nullable |= allows_null(schema);
            let Some(next) = self.next(schema) else { break };
            resolved.complete = next.is_some();
            if let Some(next) = next {
                resolved.schema = next;
                resolved.layers.push(next);
            }
        }
        resolved
    }

    /// What a schema stands for: `None` if for itself, `Some(None)` if that cannot be followed.
    fn next(&mut self, schema: &'a Json) -> Option<Option<&'a Json>> {
        if let Some(reference) = schema.get("$ref") {
            let target = reference.as_str().filter(|_| is_only(schema, "$ref"));
            return Some(target.and_then(|target| self.follow(target)));
        }
        if let Some([inner]) = schema.get("allOf").and_then(Json::as_array)
            && is_only(schema, "allOf")
        {
            return Some(Some(inner));
        }
        match alternatives(schema)?[..] {
            // A choice that remains a choice of one has no title of its own to show.
            [inner] => Some(Some(inner)),
            _ => None,
        }
    }

    fn follow(&mut self, reference: &'a str) -> Option<&'a Json> {
        if self.open.len() >= MAX_OPEN || self.open.contains(&reference) {
            return None;
        }
        self.open.push(reference);
        self.root.at(reference.strip_prefix('#')?)
    }
}

fn text(schema: &Json, keyword: &str, limit: usize) -> Option<String> {
    let text = schema.get(keyword)?.as_str()?.trim();
    (!text.is_empty()).then(|| words::shortened(text, limit))
}

fn alternatives(schema: &Json) -> Option<Vec<&Json>> {
    let keyword = ["oneOf", "anyOf"].into_iter().find(|keyword| is_only(schema, keyword))?;
    let listed = schema.get(keyword)?.as_array()?;
    let others: Vec<_> = listed.iter().filter(|it| !is_null(it)).collect();
    (!others.is_empty()).then_some(others)
}

/// Whether a schema has a keyword, and nothing else that demands something.
fn is_only(schema: &Json, keyword: &str) -> bool {
    let demands = |name: &str| name != keyword && !ANNOTATIONS.contains(&name);
    schema.get(keyword).is_some()
        && schema.as_object().is_some_and(|all| !all.iter().any(|(name, _)| demands(name)))
}

fn is_null(schema: &Json) -> bool {
    types(schema) == ["null"] || matches!(schema.get("const"), Some(Json::Null))
}

/// Whether null is valid next to other values. In an enumeration it is one of the values.
fn allows_null(schema: &Json) -> bool {
    let listed = ["oneOf", "anyOf"].into_iter().find_map(|keyword| schema.get(keyword)?.as_array());
    let in_list = alternatives(schema).is_some() && listed.is_some_and(|it| it.iter().any(is_null));
    let enumerated = schema.get("enum").is_some() || schema.get("const").is_some();
    in_list || (types(schema).contains(&"null") && !enumerated)
}

fn types(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(one)) => vec![one],
        Some(Json::Array(several)) => several.iter().filter_map(Json::as_str).collect(),
        _ => implied_type(schema).into_iter().collect(),
    }
}

/// Keywords that only mean something for one type.
const IMPLIED: [(&str, &str); 12] = [
    ("properties", "object"),
    ("items", "array"),
    ("minLength", "string"),
    ("maxLength", "string"),
    ("pattern", "string"),
    ("format", "string"),
    ("minimum", "number"),
    ("maximum", "number"),
    ("exclusiveMinimum", "number"),
    ("exclusiveMaximum", "number"),
    ("multipleOf", "number"),
    ("additionalProperties", "object"),
];

fn implied_type(schema: &Json) -> Option<&'static str> {
    let implied = IMPLIED.iter().find(|(keyword, _)| schema.get(keyword).is_some());
    implied.map(|(_, name)| *name)
}
