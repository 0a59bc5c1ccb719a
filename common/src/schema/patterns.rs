//! What matching the patterns of a schema costs.

use serde_json::Value;

use super::walk::each_subschema;

/// What every text costs for each byte, in sixteenths of a step.
const PLAIN: u64 = 1;

/// Steps for each byte of a text that is read as a whole, in sixteenths. At worst the engine visits every place of a pattern
/// for every byte of a text, and a counted repetition stands for as many places as it counts. Most texts are far cheaper: the
/// engine visits one place for a byte as long as its cache of states suffices.
pub(super) fn byte_price(schema: &Value) -> u64 {
    let mut dearest = 0;
    each_subschema(&mut schema.clone(), &mut |members| {
        let named = members.get("patternProperties").and_then(Value::as_object);
        let named = named.into_iter().flat_map(|named| named.keys().map(String::as_str));
        let own = members.get("pattern").and_then(Value::as_str);
        dearest = named.chain(own).map(places).fold(dearest, u64::max);
    });
    PLAIN + dearest
}

/// About how many places a pattern has.
fn places(pattern: &str) -> u64 {
    let counts = pattern.split('{').skip(1).filter_map(|behind| {
        let counts = behind.split('}').next()?.split(',');
        counts.filter_map(|count| count.trim().parse::<u64>().ok()).max()
    });
    counts.fold(pattern.len() as u64, u64::saturating_add)
}
