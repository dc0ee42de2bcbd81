//! Dates as they are written on the command line; sizes are `spec`'s.

pub use spec::size::parse_size;

/// Parses `YYYY-MM-DD`, `YYYY-MM-DDTHH:MM:SS` (with an optional Z) or Unix seconds, into Unix seconds.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_date(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(seconds);
    }
    parse_civil(text).ok_or_else(|| {
        "expected a date such as 2026-01-01, 2026-01-01T12:30:00, or Unix seconds".to_owned()
    })
}

fn parse_civil(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    let date: Vec<i64> = numbers(date, '-')?;
    let time: Vec<i64> = numbers(time, ':')?;
    let (&[year, month, day], &[hour, minute, second]) = (date.as_slice(), time.as_slice()) else {
        return None;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = [
        31,
        if leap { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let days_in_month = *month_days.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    let valid = (1980..=2099).contains(&year)
        && (1..=days_in_month).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second);
    valid.then(|| days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn numbers(text: &str, separator: char) -> Option<Vec<i64>> {
    text.split(separator)
        .map(|part| part.parse().ok())
        .collect()
}

/// Days since 1970-01-01 of a date in the Gregorian calendar, with March as the year's first month.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read() {
        assert_eq!(parse_date("1767225600"), Ok(1_767_225_600));
        assert_eq!(parse_date("2026-01-01"), Ok(1_767_225_600));
        assert_eq!(parse_date("2026-01-01T00:00:01Z"), Ok(1_767_225_601));
        assert_eq!(parse_date("2000-02-29"), Ok(951_782_400));
        for bad in [
            "2026-02-29",
            "2026-13-01",
            "tomorrow",
            "2026-01-01T24:00:00",
        ] {
            assert!(parse_date(bad).is_err(), "{bad}");
        }
    }
}
