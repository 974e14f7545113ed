//! A graph without its nesting: branches, loops and functions written out into one list of steps.
//!
//! Logic can hide in a branch or behind a function's name, so rules look at the list: each value is
//! a number, each step an operator over numbers. A body's steps stand before the step of the node
//! that has it. A loop's body stands there twice, the second time fed with what the first gave.

use ir::{AttributeValue, Few, Function, Graph, GraphBody, Initializer, Node, TensorId, ValueId};
use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;

/// Steps that are written out; functions that call functions can ask for any number. So many, or
/// some for each node of the file if that is more: a loop's body stands there twice.
const STEPS: usize = 100_000;
const TIMES: usize = 2;
/// Bodies in bodies, calls in calls.
const DEPTH: usize = 64;
/// Loops in loops whose bodies are written out twice.
const TWICE: usize = 3;

/// The number of a value, in half the room of a place: a small file can make very many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Number(NonZeroU32);

impl Number {
    /// Its place in a list for all values; see [`Flat::table`].
    pub(super) fn index(self) -> usize {
        self.0.get() as usize
    }
}

impl Default for Number {
    fn default() -> Self {
        Self(NonZeroU32::MIN)
    }
}

/// A step: a node as it would run.
pub(super) struct Step<'a> {
    /// The node.
    pub(super) node: &'a Node,
    /// The body it stands in.
    pub(super) body: &'a GraphBody,
    /// The values it takes.
    pub(super) inputs: Few<Option<Number>, 2>,
    /// The values it gives.
    pub(super) outputs: Few<Number, 2>,
    /// What its branches, or its loop's body, give in the places of its outputs.
    pub(super) given: Box<[Vec<Number>]>,
}

/// A graph written out.
#[derive(Default)]
pub(super) struct Flat<'a> {
    /// The steps, each after those it takes from.
    pub(super) steps: Vec<Step<'a>>,
    /// How many values there are.
    values: u32,
    /// What is fed.
    pub(super) inputs: HashSet<Number>,
    /// What comes out.
    pub(super) outputs: Vec<Number>,
    /// What is known before it runs, and the tensor if it is a dense one.
    pub(super) constants: HashMap<Number, Option<TensorId>>,
    /// Counters of loops.
    pub(super) counters: Vec<Number>,
    /// Whether it was too much to write out whole.
    pub(super) cut: bool,
    functions: HashMap<(&'a str, &'a str, &'a str), &'a Function>,
    /// Nodes that were written out, calls included.
    work: usize,
    most: usize,
    loops: usize,
}

/// The number of each name that can be seen, and what a body must take back when it ends.
#[derive(Default)]
struct Scope<'a> {
    numbers: HashMap<&'a str, Number>,
    before: Vec<(&'a str, Option<Number>)>,
    /// Bodies that are being written out inside another; the outermost takes nothing back.
    inside: usize,
}

impl<'a> Scope<'a> {
    fn get(&self, name: &str) -> Option<Number> {
        self.numbers.get(name).copied()
    }

    fn set(&mut self, name: &'a str, number: Number) {
        let before = self.numbers.insert(name, number);
        if self.inside > 0 {
            self.before.push((name, before));
        }
    }

    /// Forgets what was set since `mark`.
    fn back(&mut self, mark: usize) {
        while self.before.len() > mark {
            match self.before.pop() {
                Some((name, Some(number))) => self.numbers.insert(name, number),
                Some((name, None)) => self.numbers.remove(name),
                None => None,
            };
        }
    }
}

/// The numbers of one body's values, while it is written out.
struct Frame<'a> {
    body: &'a GraphBody,
    numbers: Vec<Option<Number>>,
    /// Whether bodies inside see these values by their names.
    seen: bool,
}

impl<'a> Frame<'a> {
    fn new(body: &'a GraphBody) -> Self {
        Self {
            body,
            numbers: vec![None; body.values.len()],
            seen: body.nodes.iter().any(|node| node.bodies().next().is_some()),
        }
    }

    fn set(&mut self, scope: &mut Scope<'a>, id: ValueId, number: Number) {
        if let Some(slot) = self.numbers.get_mut(id.index()) {
            *slot = Some(number);
        }
        if self.seen
            && let Some(value) = self.body.value(id)
        {
            scope.set(&value.name, number);
        }
    }
}

/// Writes a graph out.
pub(super) fn flatten(graph: &Graph) -> Flat<'_> {
    let nodes: usize = graph.bodies().iter().map(|b| b.nodes.len()).sum();
    let mut flat = Flat {
        most: STEPS.max(TIMES * nodes),
        ..Flat::default()
    };
    for function in &graph.functions {
        let key = (
            function.domain.as_str(),
            function.name.as_str(),
            function.overload.as_str(),
        );
        flat.functions.insert(key, function);
    }
    flat.steps.reserve_exact(graph.body.nodes.len());
    let mut scope = Scope::default();
    for id in &graph.body.inputs {
        let number = flat.fresh();
        flat.inputs.insert(number);
        if let Some(value) = graph.body.value(*id) {
            scope.set(&value.name, number);
        }
    }
    flat.outputs = flat.body(&graph.body, &mut scope, 0);
    flat
}

impl<'a> Flat<'a> {
    /// A list with a place for each value.
    pub(super) fn table<T: Clone>(&self, filled: T) -> Vec<T> {
        vec![filled; self.values as usize + 1]
    }

    /// The next number. There are never so many that they run out: the file would be larger.
    fn fresh(&mut self) -> Number {
        self.values = self.values.saturating_add(1);
        Number(NonZeroU32::MIN.saturating_add(self.values - 1))
    }

    /// The number of a value, a new one if it has none yet.
    fn number(
        &mut self,
        frame: &mut Frame<'a>,
        scope: &mut Scope<'a>,
        id: ValueId,
    ) -> Option<Number> {
        if let Some(number) = frame.numbers.get(id.index())? {
            return Some(*number);
        }
        let around = scope.get(&frame.body.value(id)?.name);
        let number = around.unwrap_or_else(|| self.fresh());
        frame.set(scope, id, number);
        Some(number)
    }

    /// Writes a body out and answers the numbers of what it gives. The recursion is bounded.
    fn body(&mut self, body: &'a GraphBody, scope: &mut Scope<'a>, depth: usize) -> Vec<Number> {
        let mut frame = Frame::new(body);
        for initializer in &body.initializers {
            let (id, tensor) = match initializer {
                Initializer::Dense(id, tensor) => (id, Some(*tensor)),
                Initializer::Sparse(id, _) => (id, None),
            };
            if let Some(value) = body.value(*id) {
                // An input may have a default; else a name that is known is shadowed.
                let known = scope.get(&value.name).filter(|n| self.inputs.contains(n));
                let number = known.filter(|_| depth == 0).unwrap_or_else(|| self.fresh());
                scope.set(&value.name, number);
                self.constants.insert(number, tensor);
            }
        }
        for node in &body.nodes {
            if self.work >= self.most || depth > DEPTH {
                self.cut = true;
                break;
            }
            self.work += 1;
            self.node(node, &mut frame, scope, depth);
        }
        let outputs = body.outputs.iter();
        outputs
            .filter_map(|id| self.number(&mut frame, scope, *id))
            .collect()
    }

    /// Writes out a body of a node, with these values for its inputs.
    fn inner(
        &mut self,
        inner: &'a GraphBody,
        inputs: &[Number],
        scope: &mut Scope<'a>,
        depth: usize,
    ) -> Vec<Number> {
        let mark = scope.before.len();
        scope.inside += 1;
        for (id, number) in inner.inputs.iter().zip(inputs) {
            if let Some(value) = inner.value(*id) {
                scope.set(&value.name, *number);
            }
        }
        let given = self.body(inner, scope, depth + 1);
        scope.back(mark);
        scope.inside -= 1;
        given
    }

    /// Writes out a loop's body, and answers what it gives in the places of the loop's outputs.
    fn turns(
        &mut self,
        node: &Node,
        inner: &'a GraphBody,
        inputs: &[Option<Number>],
        scope: &mut Scope<'a>,
        depth: usize,
    ) -> Vec<Number> {
        // A Loop's body takes the counter and the condition, and gives the condition, before its state.
        let (before, after) = if node.op == "Loop" { (2, 1) } else { (0, 0) };
        let numbers = inputs.iter().map(|n| n.unwrap_or_else(|| self.fresh()));
        let mut numbers: Vec<Number> = numbers.collect();
        if let Some(counter) = numbers.first_mut().filter(|_| before > 0) {
            *counter = self.fresh();
            self.counters.push(*counter);
        }
        self.loops += 1;
        let mut given = self.inner(inner, &numbers, scope, depth);
        if self.loops <= TWICE {
            let states = states(node, inputs.len());
            let carried = given.iter().skip(after).take(states).copied();
            for (number, carried) in numbers.iter_mut().skip(before).zip(carried) {
                *number = carried;
            }
            given = self.inner(inner, &numbers, scope, depth);
        }
        self.loops -= 1;
        given.drain(..after.min(given.len()));
        given
    }

    fn node(&mut self, node: &'a Node, frame: &mut Frame<'a>, scope: &mut Scope<'a>, depth: usize) {
        let inputs = node.inputs.iter();
        let inputs = inputs.map(|id| id.and_then(|id| self.number(frame, scope, id)));
        let inputs: Few<Option<Number>, 2> = inputs.collect();
        let key = (
            node.domain.as_str(),
            node.op.as_str(),
            node.overload.as_str(),
        );
        if let Some(function) = self.functions.get(&key).copied() {
            // A function sees its parameters only.
            let mut own = Scope::default();
            let numbers = inputs.iter().map(|n| n.unwrap_or_else(|| self.fresh()));
            let numbers: Vec<Number> = numbers.collect();
            let given = self.inner(&function.body, &numbers, &mut own, depth);
            // A call gives what its function gives.
            for (at, id) in node.outputs.iter().enumerate() {
                let number = given.get(at).copied().unwrap_or_else(|| self.fresh());
                if let Some(id) = id {
                    frame.set(scope, *id, number);
                }
            }
            return;
        }
        let mut given = Vec::new();
        for inner in node.bodies() {
            given.push(if node.op == "If" {
                self.inner(inner, &[], scope, depth)
            } else {
                self.turns(node, inner, &inputs, scope, depth)
            });
        }
        let outputs = node.outputs.iter().map(|id| {
            let number = self.fresh();
            if let Some(id) = id {
                frame.set(scope, *id, number);
            }
            number
        });
        let outputs = outputs.collect();
        self.steps.push(Step {
            node,
            body: frame.body,
            inputs,
            outputs,
            given: given.into(),
        });
    }
}

/// How many values a loop carries from turn to turn.
pub(super) fn states(node: &Node, inputs: usize) -> usize {
    if node.op == "Loop" {
        return inputs.saturating_sub(2);
    }
    let scanned = node.attributes.iter().find_map(|a| match a.value {
        AttributeValue::Int(n) if a.name == "num_scan_inputs" => usize::try_from(n).ok(),
        _ => None,
    });
    inputs.saturating_sub(scanned.unwrap_or(1))
}
