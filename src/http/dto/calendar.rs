//! A calendar, as it is sent and answered.

use serde::Serialize;
use utoipa::ToSchema;

use crate::service::CalendarView;
use crate::service::validation::CALENDAR_MODES;

/// A named set of days and windows that narrows the schedules of the tasks that name it. Fields that only the node sets may
/// be sent back and are ignored.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Calendar {
    /// Its name, from the path.
    #[schema(read_only, example = "de-holidays")]
    name: String,
    /// A text for people.
    #[serde(default)]
    #[schema(max_length = 4096)]
    description: String,
    /// Whether nothing runs then, or nothing at any other time.
    #[serde(default)]
    #[schema(value_type = CalendarMode, default = "exclude")]
    mode: &'static str,
    /// The IANA zone of its days, and of windows that name none; each task's own if it is null.
    #[serde(default)]
    timezone: Option<String>,
    /// Days and ranges of days, both ends included; without a year, those of every year.
    #[serde(default)]
    #[schema(max_items = 5000, example = json!(["2026-12-25", "2026-12-24/2027-01-01", "12-25"]))]
    days: Vec<String>,
    /// Windows of the week, or of every day, their end excluded; one may have a zone of its own.
    #[serde(default)]
    #[schema(max_items = 200, example = json!(["Sat 22:00-Sun 04:00 Europe/Paris", "22:00-04:00"]))]
    windows: Vec<String>,
    /// Counts its changes, from 1.
    #[schema(read_only)]
    version: u32,
    /// When it last changed.
    #[schema(read_only)]
    updated_at: String,
    /// How many tasks name it.
    #[schema(read_only)]
    tasks: u64,
}

/// What a calendar does with what it covers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "the shape of a schema")]
pub(in crate::http) enum CalendarMode {
    /// Nothing is run then.
    Exclude,
    /// Nothing is run at any other time.
    Only,
}

impl From<CalendarView> for Calendar {
    fn from(view: CalendarView) -> Self {
        let calendar = &view.calendar;
        let mode = CALENDAR_MODES.iter().find(|(_, mode)| *mode == calendar.mode);
        Self {
            name: view.name.to_string(),
            description: calendar.description.clone(),
            mode: mode.map_or("exclude", |(name, _)| *name),
            timezone: calendar.timezone.clone(),
            days: calendar.days.iter().map(ToString::to_string).collect(),
            windows: calendar.windows.iter().map(ToString::to_string).collect(),
            version: view.version,
            updated_at: view.updated_at.to_string(),
            tasks: view.tasks,
        }
    }
}
