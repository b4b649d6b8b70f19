//! Calendar days: known failures expire on one, and witnesses date their answers.

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day {
    /// Year, month, day.
    ymd: (i64, u8, u8),
}

impl Day {
    /// Reads `2026-11-20`.
    pub fn parse(text: &str) -> Option<Day> {
        let mut parts = text.split('-');
        let (y, m, d) = (parts.next()?, parts.next()?, parts.next()?);
        // Fixed widths, so that each day has one written form.
        let form = y.len() == 4 && m.len() == 2 && d.len() == 2 && parts.next().is_none();
        let (y, m, d) = (y.parse::<i64>().ok()?, m.parse::<u8>().ok()?, d.parse::<u8>().ok()?);
        let leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
        let days = match m {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            // A month that does not exist has no days, so no day fits it.
            _ => 0,
        };
        (form && (1..=days).contains(&d)).then_some(Day { ymd: (y, m, d) })
    }

    /// Days since 0000-03-01 in the civil calendar.
    pub fn number(self) -> i64 {
        let (y, m, d) = self.ymd;
        // The year begins in March here: a leap day is then its last day and shifts no other month.
        let y = if m <= 2 { y - 1 } else { y };
        let month = (i64::from(m) + 9) % 12;
        // The ten months from March have 306 days, in the order 31, 30, 31, 30, 31.
        y * 365 + y.div_euclid(4) - y.div_euclid(100)
            + y.div_euclid(400)
            + (month * 306 + 5) / 10
            + i64::from(d)
            - 1
    }

    /// The day that lies this many seconds after 1970-01-01.
    pub fn of_seconds(seconds: u64) -> Day {
        // 719 468 days lie between 0000-03-01 and 1970-01-01.
        let mut left = (seconds / 86_400) as i64 + 719_468;
        // The calendar repeats after 400 years, which have 146 097 days.
        let era = left.div_euclid(146_097);
        left -= era * 146_097;
        // Leap days are taken out, so that what is left are years of 365 days.
        let year = (left - left / 1460 + left / 36_524 - left / 146_096) / 365;
        let of_year = left - (365 * year + year / 4 - year / 100);
        // From March on, months of 31, 30, 31, 30 and 31 days repeat: 153 days in five months.
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let m = if month < 10 { month + 3 } else { month - 9 };
        // Counted from March, January and February belong to the year before.
        let y = year + era * 400 + i64::from(m <= 2);
        Day { ymd: (y, m as u8, day as u8) }
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (y, m, d) = self.ymd;
        // The widths that `parse` demands, without which a day could not be read back.
        write!(f, "{y:04}-{m:02}-{d:02}")
    }
}
