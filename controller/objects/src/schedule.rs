//! Schedules of CronJobs: what one is, and when it is due. The rules of the API and the planner ask the same parser.
//!
//! The syntax and the words of its errors are those of the parser that Kubernetes uses: five fields, or a descriptor. A
//! crate for cron expressions would decide differently what `?`, `5/15` and a `*` beside a day mean, and take more.
//!
//! Source: <https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax>.

mod parse;

use jiff::{
    SignedDuration, Timestamp, Zoned,
    civil::Date,
    tz::{TimeZone, TimeZoneDatabase},
};

/// For so many years a schedule is searched for its next time: a day that comes no earlier (31 February) never comes.
const YEARS: i16 = 5;

/// How many missed times are many.
const MANY: usize = 100;

/// When jobs are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// At minutes that match.
    Fields(Fields),
    /// Again and again after so long, at least a second.
    Every(SignedDuration),
}

/// Minutes, by the clock on the wall.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both the day of the month and that of the week must match, because one of them says nothing; else either will do.
    both_days: bool,
}

/// Times that have passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// The last one.
    pub latest: Timestamp,
    /// There are more than a hundred.
    pub many: bool,
}

/// A time zone of the database that is part of the program: it is the same on every machine.
pub fn time_zone(name: &str) -> Result<TimeZone, String> {
    TimeZoneDatabase::bundled().get(name).map_err(|_| format!("unknown time zone {name}"))
}

/// What is wrong with a schedule.
pub(crate) fn faults(text: &str) -> Vec<String> {
    Schedule::parse(text).err().into_iter().collect()
}

impl Schedule {
    /// Reads a schedule; the error is in the words of Kubernetes.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::schedule(text.trim())
    }

    /// The first time after another one, if there is any within the next years.
    ///
    /// A time that a clock skips in spring does not come; one that it shows twice in autumn comes twice.
    pub fn after(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Fields(fields) => fields.after(at, zone),
            Self::Every(pause) => at.checked_add(*pause).ok(),
        }
    }

    /// The times after `since` that have come by `until`.
    pub fn missed(&self, since: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Missed> {
        let first = self.after(since, zone).filter(|first| *first <= until)?;
        let following =
            std::iter::successors(Some(first), |at| self.after(*at, zone)).take_while(|at| *at <= until);
        let many = following.take(MANY.saturating_add(1)).count() > MANY;
        let latest = match self {
            Self::Every(pause) => {
                let rest = until.duration_since(since).as_secs() % pause.as_secs().max(1);
                let whole = SignedDuration::from_secs(rest);
                until.checked_sub(whole).ok().and_then(|at| seconds(at.as_second()))?
            }
            Self::Fields(_) => self.last(since, until, zone)?,
        };
        Some(Missed { latest, many })
    }

    /// The last time by `until`, of which there is one after `since`: found by halving, for there may be millions.
    fn last(&self, since: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let (mut before, mut behind) = (since.as_second(), until.as_second());
        while behind.saturating_sub(before) > 1 {
            let middle = before.midpoint(behind);
            let comes = seconds(middle).and_then(|at| self.after(at, zone)).is_some_and(|at| at <= until);
            if comes {
                before = middle;
            } else {
                behind = middle;
            }
        }
        self.after(seconds(before)?, zone).filter(|at| *at <= until)
    }
}

fn seconds(second: i64) -> Option<Timestamp> {
    Timestamp::from_second(second).ok()
}

impl Fields {
    fn after(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let last_year = at.to_zoned(zone.clone()).year().saturating_add(YEARS);
        let mut at = seconds(at.as_second().checked_add(1)?)?;
        loop {
            let wall = at.to_zoned(zone.clone());
            if wall.year() > last_year {
                return None;
            }
            let Some(later) = self.leap(&wall) else { return Some(at) };
            at = later?;
        }
    }

    /// Where to look next, if a time does not match; that may be beyond all time.
    fn leap(&self, wall: &Zoned) -> Option<Option<Timestamp>> {
        let (minute, second) = (i64::from(wall.minute()), i64::from(wall.second()));
        let later = |seconds: i64| wall.timestamp().checked_add(SignedDuration::from_secs(seconds)).ok();
        let target = if second != 0 {
            // No clock is set within a minute.
            return Some(later(60_i64.saturating_sub(second)));
        } else if !has(self.months, wall.month()) {
            let next = wall.date().last_of_month().tomorrow();
            next.ok().and_then(|date| beginning(date, wall.time_zone()))
        } else if !self.is_day(wall.date()) {
            wall.date().tomorrow().ok().and_then(|date| beginning(date, wall.time_zone()))
        } else if !has(self.hours, wall.hour()) {
            later(60_i64.saturating_sub(minute).saturating_mul(60))
        } else {
            let rest = self.minutes >> minute;
            if rest & 1 == 1 {
                return None;
            }
            let wait = i64::from(rest.trailing_zeros()).min(60_i64.saturating_sub(minute));
            later(wait.saturating_mul(60))
        };
        // When the clock is set on the way, what it shows then is looked at, too.
        let set = wall.time_zone().following(wall.timestamp()).next().map(|change| change.timestamp());
        Some(target.map(|target| set.map_or(target, |set| set.min(target))))
    }

    fn is_day(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        if self.both_days { day && weekday } else { day || weekday }
    }
}

fn beginning(date: Date, zone: &TimeZone) -> Option<Timestamp> {
    date.to_zoned(zone.clone()).ok().map(|wall| wall.timestamp())
}

fn has(values: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| values.checked_shr(value).unwrap_or(0) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    /// The next times, as the clock on the wall shows them.
    fn times(schedule: &str, from: &str, zone: &str, count: usize) -> Vec<String> {
        let (schedule, zone) = (Schedule::parse(schedule).expect("good"), time_zone(zone).expect("known"));
        let all = std::iter::successors(schedule.after(at(from), &zone), |at| schedule.after(*at, &zone));
        all.take(count).map(|at| at.to_zoned(zone.clone()).strftime("%m-%dT%H:%M%:z").to_string()).collect()
    }

    #[test]
    fn schedules_come_when_they_say() {
        let from = "2026-11-22T12:00:00Z"; // A Sunday.
        for (schedule, expected) in [
            ("* * * * *", ["11-22T12:01+00:00", "11-22T12:02+00:00", "11-22T12:03+00:00"]),
            ("5/25 12,14 * * *", ["11-22T12:05+00:00", "11-22T12:30+00:00", "11-22T12:55+00:00"]),
            ("0 0 1 jan-Mar/2 ?", ["01-01T00:00+00:00", "03-01T00:00+00:00", "01-01T00:00+00:00"]),
            ("30 6 * * mon,Wed", ["11-23T06:30+00:00", "11-25T06:30+00:00", "11-30T06:30+00:00"]),
            // Either day will do, unless one says nothing.
            ("0 0 24 * 1", ["11-23T00:00+00:00", "11-24T00:00+00:00", "11-30T00:00+00:00"]),
            ("0 0 */15 * 2", ["11-24T00:00+00:00", "12-01T00:00+00:00", "12-08T00:00+00:00"]),
            ("@daily", ["11-23T00:00+00:00", "11-24T00:00+00:00", "11-25T00:00+00:00"]),
            ("@weekly", ["11-29T00:00+00:00", "12-06T00:00+00:00", "12-13T00:00+00:00"]),
            ("@yearly", ["01-01T00:00+00:00", "01-01T00:00+00:00", "01-01T00:00+00:00"]),
            ("@every 1h30m", ["11-22T13:30+00:00", "11-22T15:00+00:00", "11-22T16:30+00:00"]),
            ("0 0 29 2 *", ["02-29T00:00+00:00", "02-29T00:00+00:00", "02-29T00:00+00:00"]),
        ] {
            assert_eq!(times(schedule, from, "UTC", 3), expected, "{schedule}");
        }
        assert!(times("0 0 30 2 *", from, "UTC", 1).is_empty(), "never");
        assert!(times("0 0 30 2 *", from, "Europe/Berlin", 1).is_empty(), "never");
        assert!(times("* * * * *", "9999-12-30T22:00:00Z", "UTC", 5).len() <= 5, "the end of time");
    }

    #[test]
    fn clocks_that_are_set_skip_times_and_show_others_twice() {
        let (spring, autumn) = ("2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z");
        let berlin = |schedule, from| times(schedule, from, "Europe/Berlin", 3);
        assert_eq!(
            berlin("30 2 * * *", spring),
            ["03-30T02:30+02:00", "03-31T02:30+02:00", "04-01T02:30+02:00"]
        );
        assert_eq!(
            berlin("30 2 * * *", autumn),
            ["10-25T02:30+02:00", "10-25T02:30+01:00", "10-26T02:30+01:00"]
        );
        assert_eq!(
            berlin("0 9 * * *", autumn),
            ["10-25T09:00+01:00", "10-26T09:00+01:00", "10-27T09:00+01:00"]
        );
        // By half an hour.
        let howe = times("15,45 1,2 * * *", "2026-04-04T13:00:00Z", "Australia/Lord_Howe", 6);
        let expected = [
            "04-05T01:15+11:00",
            "04-05T01:45+11:00",
            "04-05T01:45+10:30",
            "04-05T02:15+10:30",
            "04-05T02:45+10:30",
            "04-06T01:15+10:30",
        ];
        assert_eq!(howe, expected);
        assert!(time_zone("Mars/Olympus").is_err());
    }

    #[test]
    fn the_last_missed_time_is_found_among_millions() {
        let utc = TimeZone::UTC;
        let missed = |schedule: &str, since: &str, until: &str| {
            Schedule::parse(schedule).expect("good").missed(at(since), at(until), &utc)
        };
        let until = "2026-11-22T12:00:30Z";
        let found = |latest: &str, many| Some(Missed { latest: at(latest), many });
        assert_eq!(missed("* * * * *", "2016-01-01T00:00:00Z", until), found("2026-11-22T12:00:00Z", true));
        assert_eq!(missed("*/5 * * * *", "2026-11-22T12:00:00Z", until), None);
        assert_eq!(
            missed("*/5 * * * *", "2026-11-22T03:40:00Z", until),
            found("2026-11-22T12:00:00Z", false)
        );
        assert_eq!(missed("*/5 * * * *", "2026-11-22T03:35:00Z", until), found("2026-11-22T12:00:00Z", true));
        assert_eq!(missed("0 0 1 1 *", "2020-05-05T00:00:00Z", until), found("2026-01-01T00:00:00Z", false));
        assert_eq!(missed("@every 7s", "2026-11-22T12:00:00Z", until), found("2026-11-22T12:00:28Z", false));
        assert_eq!(missed("@every 1h", "2020-11-22T12:30:00Z", until), found("2026-11-22T11:30:00Z", true));
        assert_eq!(missed("* * * * *", until, "2020-01-01T00:00:00Z"), None, "the clock was set back");
    }
}
