//! Times as people read them.

/// A time in RFC 3339, UTC; what no calendar has stays a number. Unix seconds.
pub(crate) fn rfc3339(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.to_string())
}

/// A stretch of time in the unit that fits.
pub(crate) fn stretch(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..7_200 => (seconds.div_ceil(60), "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}
