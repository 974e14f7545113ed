//! Names that a pickle computes to hide them: put together from pieces, or turned by thirteen.

use crate::calls::name_of;
use ir::{ObjectId, Objects};

/// How many calls inside calls are followed.
const MAX_STEPS: usize = 8;
/// How long a computed text may get.
const MAX_TEXT: usize = 1024;

/// The name that `pickle.Unpickler.find_class(module, name)` is asked for, where it can be worked
/// out.
pub(crate) fn name(objects: &Objects, args: &[ObjectId]) -> Option<String> {
    let [module, name] = *args else { return None };
    Some(format!(
        "{}.{}",
        text(objects, module, MAX_STEPS)?,
        text(objects, name, MAX_STEPS)?
    ))
}

/// The text an object is or computes. The recursion is bounded by `steps`.
fn text(objects: &Objects, id: ObjectId, steps: usize) -> Option<String> {
    if let Some(text) = objects.str(id) {
        return (text.len() <= MAX_TEXT).then(|| text.to_owned());
    }
    let steps = steps.checked_sub(1)?;
    let ir::Object::Call(call) = objects.get(id) else {
        return None;
    };
    let (module, function) = name_of(objects, call.callee)?;
    match (module, &*function, objects.sequence(call.args)?) {
        ("builtins", "str.join", &[separator, list]) => {
            let separator = text(objects, separator, steps)?;
            let parts = objects.sequence(list)?;
            if parts.len() > MAX_TEXT {
                return None;
            }
            let parts = parts.iter().map(|part| text(objects, *part, steps));
            let joined = parts.collect::<Option<Vec<_>>>()?.join(&separator);
            (joined.len() <= MAX_TEXT).then_some(joined)
        }
        ("_codecs" | "codecs", "encode" | "decode", &[coded, codec]) => {
            let codec = objects.str(codec)?;
            let turned = matches!(codec, "rot13" | "rot_13" | "rot-13");
            turned
                .then(|| text(objects, coded, steps))?
                .map(|text| text.chars().map(turn).collect())
        }
        _ => None,
    }
}

fn turn(c: char) -> char {
    let base = match c {
        'a'..='z' => b'a',
        'A'..='Z' => b'A',
        _ => return c,
    };
    u8::try_from(c).map_or(c, |letter| char::from((letter - base + 13) % 26 + base))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirteen_and_back() {
        let turned: String = "Exec-1".chars().map(turn).collect();
        assert_eq!(turned, "Rkrp-1");
    }
}
