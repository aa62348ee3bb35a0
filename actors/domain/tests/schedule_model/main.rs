//! Schedules against models too plain to be wrong: one walks over every minute, one over every day.
//!
//! The models share nothing with what they judge: local time is chrono-tz's, and crontab's rules are written down once more.

mod days;
mod decades;
mod fields;
mod nights;
mod series;
mod texts;

use chrono_tz::Tz;
use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::Schedule;
use escapement_domain::task::trigger::{Dst, Trigger};
use escapement_domain::timestamp::Timestamp;

fn schedule(expression: &str, tz: Tz, dst: Dst) -> Option<Schedule> {
    let trigger = Trigger::Cron { expression: expression.into(), timezone: tz.name().into(), dst };
    Schedule::compile(&trigger, TaskId(0), Timestamp(0)).ok()
}
