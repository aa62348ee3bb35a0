//! `calendar`: named sets of days and windows that narrow the schedules of the tasks that name them.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::{Client, Request};
use super::document::read_json;
use super::failure::Failure;
use super::listing::ListOptions;
use super::screen::{Screen, exactly_when, field, note, optional, when};
use super::table::{Sheet, Table};
use super::zone::Zone;

const PUT_EXAMPLES: &str = "\
Examples:
  escapement calendar put de-holidays -f holidays.json
  echo '{\"windows\": [\"Sat 22:00-Sun 04:00 Europe/Paris\"]}' | escapement calendar put blackout -f -

A calendar covers days, ranges of days, and windows of the week or of every day:
  { \"description\": \"public holidays\", \"mode\": \"exclude\", \"timezone\": \"Europe/Berlin\",
    \"days\": [\"2026-12-25\", \"2026-12-24/2027-01-01\", \"05-01\"],
    \"windows\": [\"Sat 22:00-Sun 04:00 Europe/Paris\", \"22:00-04:00\"] }

Nothing runs in what it covers, or, with \"mode\": \"only\", at any other time. Without a timezone, days and windows are on \
each task's own clock. A task names its calendars: \"calendars\": [\"de-holidays\"]. This replaces a calendar of this name; \
the tasks that name it are planned by it at once.";

const LIST_EXAMPLES: &str = "\
Examples:
  escapement calendar list
  escapement calendar list --output json | jq -r '.items[] | select(.tasks == 0) | .name'";

const SHOW_EXAMPLES: &str = "\
Examples:
  escapement calendar show de-holidays
  escapement calendar show de-holidays --output json > holidays.json     edit it, then: escapement calendar put de-holidays -f holidays.json";

const DELETE_EXAMPLES: &str = "\
Examples:
  escapement task list --calendar de-holidays     the tasks that name it, from which it must be taken first
  escapement calendar delete de-holidays";

/// Commands on calendars.
#[derive(Debug, Subcommand)]
pub(super) enum CalendarCommand {
    /// Make a calendar, or put another in its place
    #[command(after_long_help = PUT_EXAMPLES)]
    Put {
        #[command(flatten)]
        calendar: CalendarName,
        /// The calendar in JSON; - for standard input
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
    },
    /// List calendars
    #[command(after_long_help = LIST_EXAMPLES)]
    List(ListOptions),
    /// Show a calendar
    #[command(after_long_help = SHOW_EXAMPLES)]
    Show(CalendarName),
    /// Delete a calendar that no task names
    #[command(after_long_help = DELETE_EXAMPLES)]
    Delete(CalendarName),
}

/// The calendar that is meant.
#[derive(Debug, Args)]
pub(super) struct CalendarName {
    /// The calendar's name: letters, digits, `-`, `_` and `.`
    #[arg(value_name = "NAME")]
    name: String,
}

impl CalendarName {
    fn path(&self) -> [&str; 3] {
        ["api", "calendars", &self.name]
    }
}

impl CalendarCommand {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Self::Put { calendar, file } => {
                let body = read_json(&file, "put them one by one, each under its own name")?;
                let answer = client.ask(&Request::put(calendar.path()).keyed()?.body(body)).await?;
                screen.answer(&answer, put)
            }
            Self::List(options) => screen.list(&client.ask(&options.request("calendars")).await?, table),
            Self::Show(calendar) => screen.answer(&client.ask(&Request::get(calendar.path())).await?, sheet),
            Self::Delete(calendar) => {
                client.ask(&Request::delete(calendar.path()).keyed()?).await?;
                note(&format!("deleted calendar {}", calendar.name));
                Ok(())
            }
        }
    }
}

fn put(calendar: &Value, _: Zone) -> String {
    let (name, version) = (field(calendar, "/name"), field(calendar, "/version"));
    format!("calendar {name}, version {version}, {}\n", named_by(calendar))
}

fn named_by(calendar: &Value) -> String {
    match calendar["tasks"].as_u64().unwrap_or(0) {
        0 => "named by no task yet".into(),
        1 => "named by 1 task".into(),
        tasks => format!("named by {tasks} tasks"),
    }
}

fn entries<'v>(calendar: &'v Value, name: &str) -> Vec<&'v str> {
    calendar[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn table(calendars: &[Value], zone: Zone) -> String {
    if calendars.is_empty() {
        return "no calendars; make one with `escapement calendar put NAME -f calendar.json`\n".into();
    }
    let changed = format!("CHANGED ({})", zone.name());
    let mut table = Table::new(["NAME", "MODE", "TIMEZONE", ">DAYS", ">WINDOWS", ">TASKS", &changed]);
    for calendar in calendars {
        table.row([
            field(calendar, "/name"),
            field(calendar, "/mode"),
            field(calendar, "/timezone"),
            entries(calendar, "days").len().to_string(),
            entries(calendar, "windows").len().to_string(),
            field(calendar, "/tasks"),
            when(calendar, "/updated_at", zone),
        ]);
    }
    table.to_string()
}

fn sheet(calendar: &Value, zone: Zone) -> String {
    let mut sheet = Sheet::default();
    for name in ["name", "description", "mode", "timezone"] {
        sheet.line(name, optional(calendar, &format!("/{name}")));
    }
    for name in ["days", "windows"] {
        for (index, entry) in entries(calendar, name).into_iter().enumerate() {
            sheet.line(if index == 0 { name } else { "" }, entry);
        }
    }
    sheet.line("tasks", field(calendar, "/tasks"));
    sheet.line("version", field(calendar, "/version"));
    sheet.line("changed", exactly_when(calendar, "/updated_at", zone));
    sheet.to_string()
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;
    use serde_json::json;

    use super::*;

    const UTC: Zone = Zone(Tz::UTC);

    fn calendar() -> Value {
        json!({ "name": "de-holidays", "description": "", "mode": "exclude", "timezone": "Europe/Berlin",
                "days": ["2026-12-25", "12-31/01-01"], "windows": ["22:00-04:00"], "version": 2,
                "updated_at": "2026-03-01T12:00:00.000Z", "tasks": 1 })
    }

    #[test]
    fn a_list_counts_what_calendars_cover() {
        let expected = "\
NAME         MODE     TIMEZONE       DAYS  WINDOWS  TASKS  CHANGED (UTC)
de-holidays  exclude  Europe/Berlin     2        1      1  2026-03-01 12:00:00
";
        assert_eq!(table(&[calendar()], UTC), expected);
        assert!(table(&[], UTC).contains("escapement calendar put"));
    }

    #[test]
    fn a_sheet_has_a_line_for_each_day_and_window() {
        let expected = "\
name      de-holidays
mode      exclude
timezone  Europe/Berlin
days      2026-12-25
          12-31/01-01
windows   22:00-04:00
tasks     1
version   2
changed   2026-03-01 12:00:00.000 +00:00
";
        assert_eq!(sheet(&calendar(), UTC), expected);
        assert_eq!(put(&calendar(), UTC), "calendar de-holidays, version 2, named by 1 task\n");
    }
}
