//! How a model's chat template marks the turns of a conversation, and the same as a template of
//! Ollama's.
//!
//! A model's template is Jinja, Ollama's are Go templates. What stands around the messages is found
//! by filling the model's template with conversations of known texts, of different lengths, with a
//! system message and without. Where all of them come to the same pieces the pieces make Ollama's
//! template; where they do not, no template is made. `tests/interop/test_modelfile.py` has Jinja and
//! Go fill in further conversations and compares. Ollama's names: its documentation of templates.

use super::jinja::{self, DAY, Message, Special};

/// A text of several lines, with signs that are written otherwise in JSON, HTML and programs, and longer
/// than what a template might cut off.
macro_rules! probe {
    ($name:literal) => {
        concat!(
            $name,
            " \"double\", 'single' & <less>\n\n\tC:\\a\\b ${x} %} {{ y }} \u{e9}\u{4e2d} ",
            "0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 ",
            "0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 ",
            "0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 ",
            $name
        )
    };
}

const SYSTEM: &str = probe!("Zsystemz0z");
const ASKED: [&str; 3] = [
    probe!("Zaskedz1z"),
    probe!("Zaskedz2z"),
    probe!("Zaskedz3z"),
];
const SAID: [&str; 2] = [probe!("Zsaidz4z"), probe!("Zsaidz5z")];

const TALKS: &[&[Message]] = &[
    &[("user", ASKED[0])],
    &[
        ("user", ASKED[0]),
        ("assistant", SAID[0]),
        ("user", ASKED[1]),
    ],
    &[
        ("user", ASKED[0]),
        ("assistant", SAID[0]),
        ("user", ASKED[1]),
        ("assistant", SAID[1]),
        ("user", ASKED[2]),
    ],
    &[("system", SYSTEM), ("user", ASKED[0])],
    &[
        ("system", SYSTEM),
        ("user", ASKED[0]),
        ("assistant", SAID[0]),
        ("user", ASKED[1]),
    ],
    &[
        ("system", SYSTEM),
        ("user", ASKED[0]),
        ("assistant", SAID[0]),
        ("user", ASKED[1]),
        ("assistant", SAID[1]),
        ("user", ASKED[2]),
    ],
];

/// What stands around the messages of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turns {
    /// Before the first question, where there is no system message.
    head: String,
    system: System,
    /// Between a question and its answer.
    answer: String,
    /// Between an answer and the next question.
    next: String,
    /// After the last question: the answer follows.
    last: String,
}

/// Where a system message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum System {
    /// Nowhere: the template refuses one, or leaves it out.
    Refused,
    /// Before the first question, between these.
    First(String, String),
    /// Right before the last question, and then this.
    Last(String),
}

impl Turns {
    /// Those of a model's template. An error says why they cannot be told.
    pub(crate) fn of(template: &str, special: &Special) -> Result<Self, String> {
        let Some(texts) = jinja::render(template, special, TALKS) else {
            return Err("it takes more time or memory than is given to it".to_owned());
        };
        let mut texts = texts.into_iter();
        let mut texts = || {
            texts
                .by_ref()
                .take(3)
                .collect::<Result<Vec<String>, String>>()
        };
        let (plain, with_system) = (texts()?, texts());
        let unlike = || "its turns are not written alike in every conversation".to_owned();
        let mut turns = Self::without_system(&plain).ok_or_else(unlike)?;
        if let Ok(texts) = with_system {
            turns.system = turns.system_in(&texts).ok_or_else(unlike)?;
        }
        Ok(turns)
    }

    fn without_system(texts: &[String]) -> Option<Self> {
        let [first, second, third] = texts else {
            return None;
        };
        let [head, last] = between(first, [ASKED[0]])?;
        let [_, answer, next, _] = between(second, [ASKED[0], SAID[0], ASKED[1]])?;
        let turns = Self {
            head,
            system: System::Refused,
            answer,
            next,
            last,
        };
        let same = *first == turns.text(&[], 1)
            && *second == turns.text(&[], 2)
            && *third == turns.text(&[], 3);
        same.then_some(turns)
    }

    /// Where the texts have the system message. None where they do not agree.
    fn system_in(&self, texts: &[String]) -> Option<System> {
        let [first, second, _] = texts else {
            return None;
        };
        let places = [
            between(first, [SYSTEM, ASKED[0]]).map(|[open, close, _]| System::First(open, close)),
            between(second, [ASKED[0], SAID[0], SYSTEM, ASKED[1]])
                .map(|[_, _, _, after, _]| System::Last(after)),
            Some(System::Refused),
        ];
        places.into_iter().flatten().find(|system| {
            let turns = Self {
                system: system.clone(),
                ..self.clone()
            };
            let same =
                |(number, text): (usize, &String)| *text == turns.text(&[SYSTEM], number + 1);
            texts.iter().enumerate().all(same)
        })
    }

    /// The conversation of so many questions, with a system message or none.
    fn text(&self, system: &[&str], questions: usize) -> String {
        let mut text = match (&self.system, system) {
            (System::First(open, close), [message]) => format!("{open}{message}{close}"),
            _ => self.head.clone(),
        };
        for (number, asked) in ASKED.iter().take(questions).enumerate() {
            let is_last = number + 1 == questions;
            if let (System::Last(after), [message], true) = (&self.system, system, is_last) {
                text += &format!("{message}{after}");
            }
            text += asked;
            text += if is_last { &self.last } else { &self.answer };
            if let (false, Some(said)) = (is_last, SAID.get(number)) {
                text += &format!("{said}{}", self.next);
            }
        }
        text
    }

    /// Without the token that a conversation begins with: where a runtime adds it, there would be two.
    pub(crate) fn without_first(mut self, token: &str) -> Self {
        let without = |text: &str| text.strip_prefix(token).unwrap_or(text).to_owned();
        self.head = without(&self.head);
        if let System::First(open, _) = &mut self.system {
            *open = without(open);
        }
        self
    }

    /// What stands between an answer and the next question.
    pub(crate) fn after_answer(&self) -> &str {
        &self.next
    }

    /// Whether a system message has a place in the model's own template.
    pub(crate) fn takes_system(&self) -> bool {
        self.system != System::Refused
    }

    /// Whether the day is told, as it is then.
    pub(crate) fn tells_day(&self) -> bool {
        self.head.contains(DAY)
    }

    /// The system message that the template writes where a conversation has none.
    pub(crate) fn default_system(&self) -> Option<&str> {
        let System::First(open, close) = &self.system else {
            return None;
        };
        let message = self.head.strip_prefix(open.as_str())?;
        let message = message.strip_suffix(close.as_str())?;
        (!message.is_empty() && !message.contains(DAY)).then_some(message)
    }

    /// As a Go template of Ollama's: `.System` is all system messages, `.Messages` the conversation.
    pub(crate) fn to_go(&self) -> String {
        // What every question begins with, and what an answer ends with, read better on their own.
        let mut asks = common_end(after_mark(&self.next), &self.head);
        if let System::First(_, close) = &self.system {
            asks = common_end(asks, close);
        }
        let cut = |text: &str| go(text.strip_suffix(asks).unwrap_or(text));
        let head = match &self.system {
            System::First(open, close) => {
                let (open, close, head) = (go(open), cut(close), cut(&self.head));
                let none = match head.as_str() {
                    "" => String::new(),
                    _ => format!("{{{{ else }}}}{head}"),
                };
                format!("{{{{ if .System }}}}{open}{{{{ .System }}}}{close}{none}{{{{ end }}}}")
            }
            // A message that the template has no place for begins the first question, as tools do it.
            System::Refused => format!("{}{{{{ $system := .System }}}}", cut(&self.head)),
            System::Last(_) => cut(&self.head),
        };
        let before_question = match &self.system {
            System::First(..) => String::new(),
            System::Refused => {
                "{{ if $system }}{{ $system }}\n\n{{ $system = \"\" }}{{ end }}".to_owned()
            }
            System::Last(after) => {
                format!(
                    "{{{{ if and $last $.System }}}}{{{{ $.System }}}}{}{{{{ end }}}}",
                    go(after)
                )
            }
        };
        let (answer, last) = (go(&self.answer), go(&self.last));
        let after_question = if answer == last {
            answer
        } else {
            format!("{{{{ if $last }}}}{last}{{{{ else }}}}{answer}{{{{ end }}}}")
        };
        let (asks_text, after_answer) = (go(asks), cut(&self.next));
        format!(
            "{head}{{{{ range $i, $_ := .Messages }}}}\
             {{{{ $last := eq (len (slice $.Messages $i)) 1 }}}}\
             {{{{ if eq .Role \"user\" }}}}{asks_text}{before_question}{{{{ .Content }}}}{after_question}\
             {{{{ else if eq .Role \"assistant\" }}}}{{{{ .Content }}}}\
             {{{{ if not $last }}}}{after_answer}{{{{ end }}}}{{{{ end }}}}{{{{ end }}}}"
        )
    }
}

/// The pieces around `marks`, which stand in this order, each once.
fn between<const MARKS: usize, const PIECES: usize>(
    text: &str,
    marks: [&str; MARKS],
) -> Option<[String; PIECES]> {
    let mut pieces = Vec::with_capacity(PIECES);
    let mut rest = text;
    for mark in marks {
        let (piece, after) = rest.split_once(mark)?;
        pieces.push(piece.to_owned());
        rest = after;
    }
    pieces.push(rest.to_owned());
    pieces.try_into().ok()
}

/// What comes after the mark that a text begins with, `<…>` or `[…]`, and the space after it.
fn after_mark(text: &str) -> &str {
    for (open, close) in [('<', '>'), ('[', ']')] {
        if let Some((_, rest)) = text
            .strip_prefix(open)
            .and_then(|rest| rest.split_once(close))
        {
            return rest.trim_start();
        }
    }
    text
}

/// The longest end that both have.
fn common_end<'a>(one: &'a str, other: &str) -> &'a str {
    let pairs = one.chars().rev().zip(other.chars().rev());
    let same = pairs.take_while(|(a, b)| a == b);
    let length: usize = same.map(|(c, _)| c.len_utf8()).sum();
    one.get(one.len() - length..).unwrap_or_default()
}

/// A text as it stands in a Go template.
fn go(text: &str) -> String {
    let text = text.replace("{{", "{{ \"{{\" }}");
    text.replace(DAY, "{{ currentDate }}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(template: &str) -> Result<Turns, String> {
        let special = Special {
            bos: Some("<s>".to_owned()),
            eos: Some("</s>".to_owned()),
        };
        Turns::of(template, &special).map(|turns| turns.without_first("<s>"))
    }

    const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n\
                          {% endfor %}{{ '<|im_start|>assistant\\n' }}";

    #[test]
    fn turns_with_roles_of_their_own() {
        let turns = turns(CHATML).unwrap();
        assert_eq!(turns.default_system(), None);
        let go = "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}\
                  {{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}\
                  {{ if eq .Role \"user\" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n\
                  <|im_start|>assistant\n{{ else if eq .Role \"assistant\" }}{{ .Content }}\
                  {{ if not $last }}<|im_end|>\n{{ end }}{{ end }}{{ end }}";
        assert_eq!(turns.to_go(), go);
    }

    #[test]
    fn a_system_message_of_the_template_s_own() {
        let own = "{% if messages[0].role != 'system' %}<|im_start|>system\nYou're Q.<|im_end|>\n\
                   {% endif %}";
        let turns = turns(&format!("{own}{CHATML}")).unwrap();
        assert_eq!(turns.default_system(), Some("You're Q."));
        let go = turns.to_go();
        assert!(go.contains("{{ else }}<|im_start|>system\nYou're Q.<|im_end|>\n{{ end }}"));
    }

    #[test]
    fn a_system_message_within_a_question() {
        let first = "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}[INST] <<SYS>>\
                     {{ m.content }}<</SYS>>{% elif m.role == 'user' %}\
                     {% if loop.index0 != 1 or messages[0].role == 'user' %}[INST] {% endif %}\
                     {{ m.content }} [/INST]{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}";
        let go = turns(first).unwrap().to_go();
        let begin = "{{ if .System }}[INST] <<SYS>>{{ .System }}<</SYS>>{{ else }}[INST] {{ end }}";
        assert!(go.starts_with(begin), "{go}");
        let last = "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}\
                    {% set messages = messages[1:] %}{% endif %}{% for m in messages %}\
                    {% if m.role == 'user' %}[INST]{% if loop.last and s %}{{ s }}\n\n{% endif %}\
                    {{ m.content }}[/INST]{% else %}{{ m.content }}</s>{% endif %}{% endfor %}";
        let go = turns(last).unwrap().to_go();
        assert!(
            go.contains(
                "[INST]{{ if and $last $.System }}{{ $.System }}\n\n{{ end }}{{ .Content }}[/INST]"
            ),
            "{go}"
        );
    }

    #[test]
    fn what_cannot_be_told_is_not() {
        let counts = "{% for m in messages %}{{ loop.index }}{{ m.content }}{% endfor %}";
        let once = "{{ messages[0].content }}{{ messages[-1].content }}";
        let refuses = "{{ raise_exception('never') }}";
        let escapes = CHATML.replace("m.content", "m.content | e");
        let json = CHATML.replace("m.content", "m.content | tojson");
        let cut = CHATML.replace("m.content", "m.content[:200]");
        let one_line = CHATML.replace("m.content", "m.content | replace('\\n', ' ')");
        let changes = [&escapes, &json, &cut, &one_line];
        let never = [counts, once, refuses, "", "{% for"];
        for template in never.into_iter().chain(changes.map(String::as_str)) {
            assert!(turns(template).is_err(), "{template}");
        }
        let no_system = CHATML.replacen(
            "%}",
            "%}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}",
            1,
        );
        assert!(!turns(&no_system).unwrap().takes_system());
        let braces = turns(&CHATML.replace("<|im_end|>", "{{ '{{' }}")).unwrap();
        assert!(braces.to_go().contains("{{ \"{{\" }}"));
    }
}
