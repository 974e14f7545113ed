//! A graph without its nesting: branches, loops and functions written out into one list of steps.
//!
//! Logic can hide in a branch or behind a function's name, so rules look at the list: each value is
//! a number, each step an operator over numbers. What a branch gives is what its `If` gives.

use ir::{AttributeValue, Function, Graph, GraphBody, Initializer, Node};
use std::collections::HashMap;

/// Steps that are written out; functions that call functions can ask for any number.
const STEPS: usize = 2_000_000;
/// Bodies in bodies, calls in calls.
const DEPTH: usize = 64;

/// A step: a node as it would run.
pub(super) struct Step<'a> {
    /// The node.
    pub(super) node: &'a Node,
    /// The values it takes.
    pub(super) inputs: Vec<Option<usize>>,
    /// The values it gives.
    pub(super) outputs: Vec<usize>,
}

/// A graph written out.
#[derive(Default)]
pub(super) struct Flat<'a> {
    /// The steps, each after those it takes from.
    pub(super) steps: Vec<Step<'a>>,
    /// How many values there are.
    pub(super) values: usize,
    /// What is fed.
    pub(super) inputs: Vec<usize>,
    /// What comes out.
    pub(super) outputs: Vec<usize>,
    /// What is known before it runs.
    pub(super) constants: Vec<usize>,
    /// Whether it was too much to write out whole.
    pub(super) cut: bool,
    functions: HashMap<(&'a str, &'a str, &'a str), &'a Function>,
}

/// The number of each name that can be seen.
type Scope<'a> = HashMap<&'a str, usize>;

/// Writes a graph out.
pub(super) fn flatten(graph: &Graph) -> Flat<'_> {
    let mut flat = Flat::default();
    for function in &graph.functions {
        let key = (
            function.domain.as_str(),
            function.name.as_str(),
            function.overload.as_str(),
        );
        flat.functions.insert(key, function);
    }
    let mut scope = Scope::new();
    for id in &graph.body.inputs {
        let number = flat.fresh();
        flat.inputs.push(number);
        scope.extend(graph.body.value(*id).map(|v| (v.name.as_str(), number)));
    }
    flat.outputs = flat.body(&graph.body, &mut scope, 0);
    // An input with a default is a constant to those who do not feed it, and an input to others.
    let (inputs, mut constants) = (flat.inputs.clone(), std::mem::take(&mut flat.constants));
    constants.retain(|number| !inputs.contains(number));
    flat.constants = constants;
    flat
}

impl<'a> Flat<'a> {
    fn fresh(&mut self) -> usize {
        self.values += 1;
        self.values - 1
    }

    /// Writes a body out and answers the numbers of what it gives. The recursion is bounded.
    fn body(&mut self, body: &'a GraphBody, scope: &mut Scope<'a>, depth: usize) -> Vec<usize> {
        for initializer in &body.initializers {
            let (Initializer::Dense(id, _) | Initializer::Sparse(id, _)) = initializer;
            if let Some(value) = body.value(*id) {
                let known = scope.get(value.name.as_str()).copied();
                let number = known.unwrap_or_else(|| self.fresh());
                scope.insert(&value.name, number);
                self.constants.push(number);
            }
        }
        for node in &body.nodes {
            if self.steps.len() >= STEPS || depth > DEPTH {
                self.cut = true;
                break;
            }
            self.node(node, body, scope, depth);
        }
        let names = body.outputs.iter().map(|id| body.value(*id));
        names
            .map(|value| {
                let known = value.and_then(|v| scope.get(v.name.as_str()).copied());
                known.unwrap_or_else(|| self.fresh())
            })
            .collect()
    }

    fn node(&mut self, node: &'a Node, body: &'a GraphBody, scope: &mut Scope<'a>, depth: usize) {
        let name = |id: ir::ValueId| body.value(id).map(|value| value.name.as_str());
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for id in &node.inputs {
            inputs.push(id.and_then(name).map(|name| {
                let known = scope.get(name).copied();
                known.unwrap_or_else(|| {
                    let number = self.fresh();
                    scope.insert(name, number);
                    number
                })
            }));
        }
        let key = (
            node.domain.as_str(),
            node.op.as_str(),
            node.overload.as_str(),
        );
        let mut given: Vec<Vec<usize>> = Vec::new();
        if let Some(function) = self.functions.get(&key).copied() {
            let mut inner = Scope::new();
            for (id, number) in function.body.inputs.iter().zip(&inputs) {
                let number = number.unwrap_or_else(|| self.fresh());
                inner.extend(function.body.value(*id).map(|v| (v.name.as_str(), number)));
            }
            given.push(self.body(&function.body, &mut inner, depth + 1));
        }
        for attribute in &node.attributes {
            let bodies = match &attribute.value {
                AttributeValue::Graph(inner) => std::slice::from_ref(&**inner),
                AttributeValue::Graphs(list) => list.as_slice(),
                _ => &[],
            };
            for inner in bodies {
                let mut within = scope.clone();
                // A loop's body takes the node's inputs, the iteration and the condition first.
                let skip = if node.op == "Loop" {
                    0
                } else {
                    inner.inputs.len().saturating_sub(inputs.len())
                };
                for (id, number) in inner.inputs.iter().zip(inputs.iter().skip(skip)) {
                    let number = number.unwrap_or_else(|| self.fresh());
                    within.extend(inner.value(*id).map(|v| (v.name.as_str(), number)));
                }
                given.push(self.body(inner, &mut within, depth + 1));
            }
        }
        let called = self.functions.contains_key(&key);
        let mut outputs = Vec::with_capacity(node.outputs.len());
        for (at, id) in node.outputs.iter().enumerate() {
            let one = given.first().and_then(|list| list.get(at)).copied();
            // A call gives what its function gives; a branch is chosen by a step of its own.
            let number = match one.filter(|_| called) {
                Some(number) => number,
                None => self.fresh(),
            };
            scope.extend(id.and_then(name).map(|name| (name, number)));
            outputs.push(number);
        }
        if !called {
            inputs.extend(given.into_iter().flatten().map(Some));
            self.steps.push(Step {
                node,
                inputs,
                outputs,
            });
        }
    }
}
