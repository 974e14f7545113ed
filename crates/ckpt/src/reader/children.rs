//! What an object holds, by name, without a copy where there need be none: a list can have a
//! million items.

use super::forest::Node;
use ir::ObjectId;

/// The name of a child.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Name {
    Index(usize),
    Key(Node),
}

/// An object's children by name.
#[derive(Clone, Debug)]
pub(crate) enum Children<'a> {
    /// The items of an object of this tree.
    Indexed(Node, &'a [ObjectId]),
    /// The pairs of an object of this tree.
    Keyed(Node, &'a [(ObjectId, ObjectId)]),
    /// Gathered from several places.
    Listed(Vec<(Name, Node)>),
}

impl Children<'_> {
    /// No children.
    pub(crate) fn none() -> Self {
        Self::Listed(Vec::new())
    }

    fn get(&self, n: usize) -> Option<(Name, Node)> {
        match self {
            Self::Indexed(node, items) => items.get(n).map(|&id| (Name::Index(n), node.with(id))),
            Self::Keyed(node, pairs) => pairs
                .get(n)
                .map(|&(key, value)| (Name::Key(node.with(key)), node.with(value))),
            Self::Listed(list) => list.get(n).copied(),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Indexed(_, items) => items.len(),
            Self::Keyed(_, pairs) => pairs.len(),
            Self::Listed(list) => list.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The children, one after another.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Name, Node)> + '_ {
        (0..).map_while(|n| self.get(n))
    }
}

impl<'a> IntoIterator for Children<'a> {
    type Item = (Name, Node);
    type IntoIter = Walk<'a>;

    fn into_iter(self) -> Walk<'a> {
        Walk {
            children: self,
            at: 0,
        }
    }
}

/// A walk over children that owns their list.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    children: Children<'a>,
    at: usize,
}

impl Iterator for Walk<'_> {
    type Item = (Name, Node);

    fn next(&mut self) -> Option<(Name, Node)> {
        let next = self.children.get(self.at)?;
        self.at += 1;
        Some(next)
    }
}
