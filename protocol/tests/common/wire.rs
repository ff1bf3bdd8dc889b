//! What the pages say: tables, and messages read with nothing but the encodings that WIRE.md has for their fields.

use serde_json::{Value, json};

use super::unhex;

pub(crate) const WIRE: &str = include_str!("../../WIRE.md");
pub(crate) const STATES: &str = include_str!("../../WIRE-STATES.md");

/// The rows of the first table of `page` after `from` whose header begins with `header`.
pub(crate) fn table_of(page: &'static str, from: &str, header: &str) -> Vec<Vec<&'static str>> {
    let at = page.find(from).unwrap_or_else(|| panic!("the page lacks {from:?}"));
    let lines = page[at..].lines().skip_while(|line| !line.starts_with(header));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

/// The same of WIRE.md.
pub(crate) fn table(from: &str, header: &str) -> Vec<Vec<&'static str>> {
    table_of(WIRE, from, header)
}

pub(crate) fn number(text: &str) -> u64 {
    text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16)).expect(text)
}

pub(crate) fn row_of<'a>(rows: &'a [Vec<&'static str>], first: &str) -> &'a [&'static str] {
    rows.iter().find(|row| row[0] == first).unwrap_or_else(|| panic!("the table has no row {first}"))
}

/// Fields of a message: name and encoding.
pub(crate) type Fields = Vec<(&'static str, &'static str)>;

pub(crate) fn fields_under(heading: &str) -> Fields {
    table(heading, "| Field | Encoding |").into_iter().map(|row| (row[0], row[1])).collect()
}

/// Takes one field off the front, knowing nothing but what WIRE.md says about its encoding. Bytes become hexadecimal, and
/// a number that not every reader of JSON can hold becomes text.
pub(crate) fn take(encoding: &str, bytes: &mut &[u8]) -> Value {
    match encoding {
        "varint" => match take_varint(bytes) {
            wide if wide >= 1 << 53 => json!(wide.to_string()),
            value => json!(value),
        },
        "byte" => json!(bytes.split_off_first().expect("a byte")),
        "bool" => match bytes.split_off_first().expect("a byte") {
            value @ 0..=1 => json!(*value == 1),
            _ => panic!("not a bool"),
        },
        "4 bytes" => hex(bytes.split_off(..4).expect("4 bytes")),
        "16 bytes" => hex(bytes.split_off(..16).expect("16 bytes")),
        "bytes" => hex(take_bytes(bytes)),
        "text" => json!(std::str::from_utf8(take_bytes(bytes)).expect("UTF-8")),
        "list of text" => take_items(bytes, |items| take("text", items)),
        "list of varint" => take_items(bytes, |items| take("varint", items)),
        list => {
            let item = list.strip_prefix("list of ").unwrap_or_else(|| panic!("no encoding of section 3: {list}"));
            let fields = fields_under(&format!("An **{item}** is"));
            take_items(bytes, |items| take_fields(&fields, items))
        }
    }
}

/// Takes the fields of a message off the front: a list of name, encoding and value.
pub(crate) fn take_fields(fields: &Fields, bytes: &mut &[u8]) -> Value {
    fields.iter().map(|(name, encoding)| json!([name, encoding, take(encoding, bytes)])).collect()
}

fn take_items(bytes: &mut &[u8], item: impl Fn(&mut &[u8]) -> Value) -> Value {
    let (mut items, mut all) = (take_bytes(bytes), Vec::new());
    while !items.is_empty() {
        all.push(item(&mut items));
    }
    all.into()
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let length = take_varint(bytes) as usize;
    bytes.split_off(..length).expect("as many bytes as the length says")
}

fn take_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = *bytes.split_off_first().expect("a byte of a varint");
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

pub(crate) fn hex(bytes: &[u8]) -> Value {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// One frame of the session in section 17.
pub(crate) struct Step {
    pub(crate) from_client: bool,
    pub(crate) stream: &'static str,
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Each line's bytes, and what they are said to be: a field's name, perhaps followed by its value.
    pub(crate) lines: Vec<(Vec<u8>, &'static str)>,
}

/// The session of section 17.
pub(crate) fn session() -> Vec<Step> {
    let block = WIRE.split("```session\n").nth(1).and_then(|rest| rest.split("\n```").next()).expect("a session block");
    block.split("\n\n").map(step).collect()
}

fn step(text: &'static str) -> Step {
    let mut lines = text.lines();
    let head = lines.next().expect("a head").split(';').next().unwrap();
    let [direction, stream, name] = head.split_whitespace().collect::<Vec<_>>()[..] else { panic!("no head: {head}") };
    assert!([">", "<"].contains(&direction), "{head}");
    let parts = lines.map(|line| line.split_once(" ; ").expect(line));
    let lines: Vec<_> = parts.map(|(hex, what)| (unhex(hex), what)).collect();
    let bytes = lines.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
    Step { from_client: direction == ">", stream, name, bytes, lines }
}
