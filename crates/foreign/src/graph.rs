//! Graphs of TensorFlow: the names of their operators, and what Keras wrote beside them.
//!
//! | message | fields that are followed |
//! |---|---|
//! | `SavedModel` | 2 `MetaGraphDef` |
//! | `MetaGraphDef` | 2 `GraphDef` |
//! | `GraphDef` | 1 `NodeDef`, 2 `FunctionDefLibrary` |
//! | `FunctionDefLibrary` | 1 `FunctionDef`, of which 3 `NodeDef` |
//! | `NodeDef` | 1 name, 2 operator, 5 attributes |
//! | `SavedMetadata` (`keras_metadata.pb`) | 1 node, of which 4 identifier, 5 metadata in JSON |

use crate::ForeignError;
use crate::cursor::Cursor;
use ir::{Error, Region, Result};

/// Bytes of one graph: protobuf itself allows 2 GiB, and all of it is held here.
const MOST: u64 = 64 << 20;
/// Nodes looked at.
const NODES: usize = 2_000_000;
/// Texts of one node that are kept.
const TEXTS: usize = 16;

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Short texts among its attributes: the paths a file operator reads, say.
    pub texts: Vec<String>,
}

/// What a file of TensorFlow holds.
#[derive(Debug, Default)]
pub struct Graph {
    /// Each operator once, with the node that has it first.
    pub nodes: Vec<Node>,
    /// Keras's configurations.
    pub keras: Vec<String>,
    seen: std::collections::HashSet<String>,
    count: usize,
}

/// Reads a `SavedModel`, a frozen `GraphDef` or a `SavedMetadata`. With what was found comes what
/// stopped it; a file that is none of them gives nothing and no error.
pub fn read(region: &Region) -> (Graph, Option<Error>) {
    let mut graph = Graph::default();
    let error = read_into(&mut graph, region).err();
    (graph, error)
}

fn read_into(graph: &mut Graph, region: &Region) -> Result<()> {
    ir::Limits::check("bytes of a graph", region.len(), MOST)?;
    let bytes = region.bytes(0, usize::try_from(region.len()).unwrap_or(usize::MAX))?;
    let fields = Fields::new(bytes).all()?;
    // The first field tells the three apart: a number, a node with an operator, a node with JSON.
    let saved = fields.iter().any(|f| f.number == 1 && f.bytes.is_none());
    for field in fields {
        let Some(bytes) = field.bytes else { continue };
        if saved {
            if field.number == 2 {
                graph.meta(bytes)?;
            }
            continue;
        }
        match field.number {
            1 => graph.node_or_metadata(bytes)?,
            2 => graph.library(bytes)?,
            _ => {}
        }
    }
    Ok(())
}

impl Graph {
    fn meta(&mut self, bytes: bytes::Bytes) -> Result<()> {
        for field in Fields::new(bytes).all()? {
            if let (2, Some(graph)) = (field.number, field.bytes) {
                for field in Fields::new(graph).all()? {
                    match (field.number, field.bytes) {
                        (1, Some(node)) => self.node(node)?,
                        (2, Some(library)) => self.library(library)?,
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn library(&mut self, bytes: bytes::Bytes) -> Result<()> {
        for field in Fields::new(bytes).all()? {
            let (1, Some(function)) = (field.number, field.bytes) else {
                continue;
            };
            for field in Fields::new(function).all()? {
                if let (3, Some(node)) = (field.number, field.bytes) {
                    self.node(node)?;
                }
            }
        }
        Ok(())
    }

    fn node_or_metadata(&mut self, bytes: bytes::Bytes) -> Result<()> {
        let fields = Fields::new(bytes.clone()).all()?;
        let json = fields.iter().find_map(|field| {
            let text = field.bytes.as_ref().filter(|_| field.number == 5)?;
            text.starts_with(b"{").then(|| text.clone())
        });
        match json {
            Some(json) => {
                self.keras.push(String::from_utf8_lossy(&json).into_owned());
                Ok(())
            }
            None => self.node(bytes),
        }
    }

    fn node(&mut self, bytes: bytes::Bytes) -> Result<()> {
        self.count += 1;
        ir::Limits::check("nodes of a graph", self.count as u64, NODES as u64)?;
        let mut node = Node {
            name: String::new(),
            op: String::new(),
            texts: Vec::new(),
        };
        for field in Fields::new(bytes).all()? {
            let Some(bytes) = field.bytes else { continue };
            match field.number {
                1 => node.name = String::from_utf8_lossy(&bytes).into_owned(),
                2 => node.op = String::from_utf8_lossy(&bytes).into_owned(),
                5 if node.texts.len() < TEXTS => texts(&bytes, &mut node.texts),
                _ => {}
            }
        }
        let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '>' | '.' | '-' | '/');
        if !node.op.is_empty() && node.op.chars().all(name) && self.seen.insert(node.op.clone()) {
            self.nodes.push(node);
        }
        Ok(())
    }
}

/// Printable runs in an attribute's bytes.
fn texts(bytes: &[u8], out: &mut Vec<String>) {
    let runs = bytes.split(|b| !(0x20..0x7f).contains(b));
    for run in runs.filter(|run| run.len() >= 4).take(4) {
        let run = run.get(..run.len().min(200)).unwrap_or_default();
        out.push(String::from_utf8_lossy(run).into_owned());
    }
}

struct Field {
    number: u64,
    /// The bytes of a field that has some.
    bytes: Option<bytes::Bytes>,
}

/// The fields of one message.
struct Fields(Cursor);

impl Fields {
    fn new(bytes: bytes::Bytes) -> Self {
        Self(Cursor::new(bytes))
    }

    fn all(mut self) -> Result<Vec<Field>> {
        let mut out = Vec::new();
        while self.0.left() > 0 {
            let at = self.0.at() as u64;
            let what = "a field is damaged";
            out.push(self.field().ok_or(ForeignError::Proto { what, at })?);
            ir::Limits::check("fields of a message", out.len() as u64, NODES as u64)?;
        }
        Ok(out)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut out = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.0.byte()?;
            out |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Some(out);
            }
        }
        None
    }

    fn field(&mut self) -> Option<Field> {
        let tag = self.varint()?;
        let number = (tag >> 3).checked_sub(1)? + 1;
        let bytes = match tag & 7 {
            0 => {
                self.varint()?;
                None
            }
            1 => {
                self.0.skip(8)?;
                None
            }
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                Some(self.0.take(len)?)
            }
            5 => {
                self.0.skip(4)?;
                None
            }
            _ => return None,
        };
        Some(Field { number, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, body: &[u8]) -> Vec<u8> {
        let len = u8::try_from(body.len()).unwrap();
        [&[number << 3 | 2, len], body].concat()
    }

    #[test]
    fn operators_are_found_in_graphs_and_functions() {
        let read_file = [field(1, b"r"), field(2, b"ReadFile")].concat();
        let write_file = [
            field(1, b"w"),
            field(2, b"WriteFile"),
            field(5, b"/tmp/xyz"),
        ]
        .concat();
        let function = field(3, &write_file);
        let graph = [field(1, &read_file), field(2, &field(1, &function))].concat();
        let saved = [vec![8, 1], field(2, &field(2, &graph))].concat();
        for file in [saved, graph] {
            let (found, error) = read(&Region::memory(file));
            assert!(error.is_none());
            let ops: Vec<_> = found.nodes.iter().map(|n| n.op.as_str()).collect();
            assert_eq!(ops, ["ReadFile", "WriteFile"]);
            assert_eq!(found.nodes[1].texts, ["/tmp/xyz"]);
        }
        let (found, error) = read(&Region::memory(vec![0xff; 30]));
        assert!(found.nodes.is_empty() && error.is_some());
    }
}
