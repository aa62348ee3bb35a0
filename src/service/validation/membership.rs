//! Reads requests about the group of nodes.

use super::fields::{Fault, Faults, Field};
use crate::json::Node;

/// Bytes of an address.
const ADDRESS_BYTES_MAX: usize = 261;

/// Reads a node to add: its number, where its API listens, and where its peers reach it.
///
/// # Errors
/// Every fault, at least one.
pub fn new_node(node: Node<'_>) -> Result<(u64, String, String), Vec<Fault>> {
    let mut faults = Faults::default();
    let found = Field::new(node, "").object(&mut faults).and_then(|mut fields| {
        let id =
            fields.required("id", &mut faults).and_then(|field| field.integer(1..=u64::MAX, &mut faults));
        let api = fields.required("api", &mut faults).and_then(|field| address(&field, &mut faults));
        let peer = fields.required("peer", &mut faults).and_then(|field| address(&field, &mut faults));
        fields.finish("a node", &mut faults);
        Some((id?, api?, peer?))
    });
    found.filter(|_| faults.is_empty()).ok_or_else(|| faults.into_vec())
}

/// Reads who is to lead: nobody in particular, if it does not say.
///
/// # Errors
/// Every fault, at least one.
pub fn successor(node: Node<'_>) -> Result<Option<u64>, Vec<Fault>> {
    let mut faults = Faults::default();
    let mut to = None;
    if let Some(mut fields) = Field::new(node, "").object(&mut faults) {
        to = fields.read("to", &mut faults, |field, faults| field.integer(1..=u64::MAX, faults));
        fields.finish("this call", &mut faults);
    }
    if faults.is_empty() { Ok(to) } else { Err(faults.into_vec()) }
}

fn address(field: &Field<'_>, faults: &mut Faults) -> Option<String> {
    let passes = |text: &str| {
        let Some((host, port)) = text.rsplit_once(':') else { return false };
        !host.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    field.text(1..=ADDRESS_BYTES_MAX, passes, " in the form host:port", faults)
}
