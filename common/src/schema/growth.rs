//! How much work a schema requires by itself, before any value is known: how often its references multiply, and how
//! long their chains are. The library compiles and follows each of them, so a schema whose references multiply is
//! rejected before it is compiled.
//!
//! Counted over the graph of subschemas and references, in time linear in the schema.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::InvalidSchema;
use super::walk::{Place, subschemas};

/// The maximum number of subschemas that one value is checked against, counted along all paths to them. Rich schemas
/// have some thousands; a reference that is doubled twenty times has a million.
const MAX_EXPANSIONS: u64 = 100_000;
/// The maximum length of a chain of references between schemas that apply to one value. The library recurses for each,
/// on a stack of 2 MiB, and again for every level of the value.
const MAX_CHAIN: u64 = 128;
/// For `unevaluatedProperties` and `unevaluatedItems` the library compiles every schema that applies to the same value
/// once for every path to it, so the limit is lower.
const MAX_UNEVALUATED: u64 = 10_000;

const UNEVALUATED: [&str; 2] = ["unevaluatedProperties", "unevaluatedItems"];

/// The subschemas that are reachable from the root, and the edges between them.
struct Graph<'a> {
    nodes: Vec<Node<'a>>,
    known: HashMap<usize, usize>,
}

struct Node<'a> {
    members: Option<&'a Map<String, Value>>,
    edges: Vec<Edge>,
}

struct Edge {
    to: usize,
    /// Whether the target applies to the same value, not to a part of it.
    in_place: bool,
}

/// Rejects a schema whose references multiply; calls `check` for all reachable subschemas, including those that only a
/// reference reaches.
pub(super) fn check(
    root: &Value,
    mut check: impl FnMut(&Map<String, Value>) -> Result<(), InvalidSchema>,
) -> Result<(), InvalidSchema> {
    let graph = Graph::of(root);
    graph.nodes.iter().filter_map(|node| node.members).try_for_each(&mut check)?;
    graph.check_expansions()?;
    graph.check_unevaluated()
}

impl<'a> Graph<'a> {
    fn of(root: &'a Value) -> Self {
        let mut graph = Self { nodes: Vec::new(), known: HashMap::new() };
        let mut open = vec![root];
        graph.place(root);
        while let Some(schema) = open.pop() {
            let at = graph.place(schema);
            for (place, child) in children(root, schema) {
                if !graph.known.contains_key(&address(child)) {
                    open.push(child);
                }
                let edge = Edge { to: graph.place(child), in_place: place == Place::Same };
                graph.nodes[at].edges.push(edge);
            }
        }
        graph
    }

    fn place(&mut self, schema: &'a Value) -> usize {
        let next = self.nodes.len();
        let at = *self.known.entry(address(schema)).or_insert(next);
        if at == next {
            self.nodes.push(Node { members: schema.as_object(), edges: Vec::new() });
        }
        at
    }

    /// All nodes, each after the nodes it leads to, except in cycles.
    fn bottom_up(&self) -> Vec<usize> {
        let mut seen = vec![false; self.nodes.len()];
        let (mut order, mut path) = (Vec::new(), vec![(0, 0)]);
        seen[0] = true;
        while let Some((node, next)) = path.last_mut() {
            let Some(edge) = self.nodes[*node].edges.get(*next) else {
                order.push(*node);
                path.pop();
                continue;
            };
            *next += 1;
            if !std::mem::replace(&mut seen[edge.to], true) {
                path.push((edge.to, 0));
            }
        }
        order
    }

    /// The number of the strongly connected component of every node.
    fn components(&self, order: &[usize]) -> Vec<usize> {
        let mut back = vec![Vec::new(); self.nodes.len()];
        for (from, node) in self.nodes.iter().enumerate() {
            node.edges.iter().for_each(|edge| back[edge.to].push(from));
        }
        let mut components = vec![usize::MAX; self.nodes.len()];
        for &first in order.iter().rev() {
            let mut open = vec![first];
            while let Some(node) = open.pop() {
                if components[node] == usize::MAX {
                    components[node] = first;
                    open.extend(&back[node]);
                }
            }
        }
        components
    }

    /// A reference back to a schema on the path, or into the same component for a part of the value, counts once: the
    /// library caches the outcome.
    fn check_expansions(&self) -> Result<(), InvalidSchema> {
        let order = self.bottom_up();
        let components = self.components(&order);
        let mut counted: Vec<Option<(u64, u64)>> = vec![None; self.nodes.len()];
        for &at in &order {
            let node = &self.nodes[at];
            let twice = u64::from(node.is_unevaluated());
            let (mut expansions, mut chain) = (1_u64, 1_u64);
            for edge in &node.edges {
                let cached = !edge.in_place && components[edge.to] == components[at];
                let (below, length) = counted[edge.to].filter(|_| !cached).unwrap_or((1, 1));
                // Schemas that apply to the same value are visited again to find out what they have evaluated.
                let times = if edge.in_place { 1 + twice } else { 1 };
                expansions = expansions.saturating_add(below.saturating_mul(times));
                chain = if edge.in_place { chain.max(length + 1) } else { chain };
            }
            check_limits(expansions, chain)?;
            counted[at] = Some((expansions, chain));
        }
        Ok(())
    }

    fn check_unevaluated(&self) -> Result<(), InvalidSchema> {
        let mut left = MAX_UNEVALUATED;
        let mut path = Vec::new();
        let starts = (0..self.nodes.len()).filter(|&at| self.nodes[at].is_unevaluated());
        for start in starts {
            self.follow(start, &mut path, &mut left)?;
        }
        Ok(())
    }

    /// Follows every path as the library does, until it reaches a node that is already on the path.
    fn follow(
        &self,
        at: usize,
        path: &mut Vec<usize>,
        left: &mut u64,
    ) -> Result<(), InvalidSchema> {
        if path.contains(&at) {
            return Ok(());
        }
        let fits = path.len() as u64 <= MAX_CHAIN;
        *left = left.checked_sub(1).filter(|_| fits).ok_or(InvalidSchema::Multiplies {
            what: "next to unevaluatedProperties or unevaluatedItems",
            limit: MAX_UNEVALUATED,
        })?;
        path.push(at);
        let in_place = self.nodes[at].edges.iter().filter(|edge| edge.in_place);
        let outcome = in_place.map(|edge| edge.to).try_for_each(|to| self.follow(to, path, left));
        path.pop();
        outcome
    }
}

impl Node<'_> {
    fn is_unevaluated(&self) -> bool {
        self.members.is_some_and(|it| UNEVALUATED.iter().any(|&keyword| it.contains_key(keyword)))
    }
}

fn check_limits(expansions: u64, chain: u64) -> Result<(), InvalidSchema> {
    if expansions > MAX_EXPANSIONS {
        return Err(InvalidSchema::Multiplies { what: "in total", limit: MAX_EXPANSIONS });
    }
    if chain > MAX_CHAIN {
        return Err(InvalidSchema::LongChain { limit: MAX_CHAIN });
    }
    Ok(())
}

fn children<'a>(root: &'a Value, schema: &'a Value) -> Vec<(Place, &'a Value)> {
    let Some(members) = schema.as_object() else { return Vec::new() };
    let mut children = subschemas(members);
    let reference = members.get("$ref").and_then(Value::as_str);
    let target = reference.and_then(|it| it.strip_prefix('#')).and_then(|it| root.pointer(it));
    children.extend(target.map(|target| (Place::Same, target)));
    children
}

fn address(schema: &Value) -> usize {
    std::ptr::from_ref(schema).addr()
}
