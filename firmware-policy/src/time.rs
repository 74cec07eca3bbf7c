//! Durations in a form for people.

/// A duration in the unit that fits.
pub(crate) fn stretch(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..7_200 => (seconds.div_ceil(60), "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}
