//! `audit fires`: the account of a range of instants, from a node's pages or from an archive, and its exit status.
//!
//! Absent on purpose: judging instants, which is the audit's.

use escapement_domain::identifier::TaskId;
use serde_json::{Value, json};

use super::client::{Client, Request};
use super::connection::Output;
use super::failure::Failure;
use super::progress::Progress;
use super::screen::{Screen, field, items, note, optional};
use super::table::Table;
use crate::audit::Archive;
use crate::audit::fires::{
    Fire, FireStatus, FiresOptions, Range, Totals, archived_fires, fire_json, totals_json,
};

/// Instants of one page.
const PAGE: u32 = 1_000;

/// What became of the instants of a range.
#[derive(Debug)]
pub(super) struct Account {
    items: Vec<Value>,
    totals: Value,
    as_of: Value,
}

impl Account {
    /// Reads a node's account, page by page.
    pub(super) async fn fetch(
        client: &Client,
        range: Range,
        tenant: Option<String>,
        task: Option<TaskId>,
    ) -> Result<Self, Failure> {
        let (mut found, mut cursor): (Vec<Value>, Option<String>) = (Vec::new(), None);
        loop {
            let request = Request::get(["api", "audit", "fires"])
                .query("from", Some(range.from))
                .query("to", Some(range.to))
                .query("task", task)
                .query("tenant", tenant.as_ref())
                .query("limit", Some(PAGE))
                .query("cursor", cursor.as_ref());
            let page = client.ask(&request).await?.json()?;
            found.extend_from_slice(items(&page));
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() || items(&page).is_empty() {
                return Ok(Self {
                    items: found,
                    totals: page["totals"].clone(),
                    as_of: page["as_of"].clone(),
                });
            }
        }
    }

    /// Gives the account of an archive.
    pub(super) fn archived(archive: &Archive, options: FiresOptions) -> Result<Self, Failure> {
        let mut progress = Progress::new("events read");
        let (as_of, tenants) = archived_fires(archive, &options, &mut |done, all| progress.show(done, all))?;
        progress.finish();
        let all: Vec<Fire> = tenants.iter().flat_map(|tenant| tenant.fires.iter().cloned()).collect();
        let told =
            tenants.iter().flat_map(|tenant| tenant.fires.iter().map(|fire| fire_json(fire, &tenant.tenant)));
        Ok(Self {
            items: told.collect(),
            totals: totals_json(&Totals::of(&all)),
            as_of: as_of.to_string().into(),
        })
    }

    /// Prints the account, and fails if anything was missed.
    pub(super) fn show(self, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match screen.output {
            Output::Json => {
                let told = json!({ "items": self.items, "totals": self.totals, "as_of": self.as_of });
                screen.line(&told.to_string())?;
            }
            Output::Table => screen.text(&self.table())?,
        }
        if self.totals[FireStatus::Unexpected.name()].as_u64().is_some_and(|count| count > 0) {
            note(
                "some fires were named by no definition, or were not to be: were they planned by other zone data than this program has?",
            );
        }
        match self.totals[FireStatus::Missed.name()].as_u64() {
            Some(0) => Ok(()),
            _ => Err(Failure::Told),
        }
    }

    fn table(&self) -> String {
        let mut table =
            Table::new(["INSTANT", "TASK", "STATUS", "REASON", ">LATE MS", "EXECUTION", ">LOG INDEX"]);
        for fire in &self.items {
            table.row([
                field(fire, "/at"),
                field(fire, "/task_id"),
                field(fire, "/status"),
                optional(fire, "/reason"),
                optional(fire, "/lateness_ms"),
                field(fire, "/execution_id"),
                field(fire, "/log_index"),
            ]);
        }
        let totals = FireStatus::ALL.map(|status| {
            let name = status.name();
            format!("{} {name}", field(&self.totals, &format!("/{name}")))
        });
        let listed = if table.is_empty() { String::new() } else { format!("{table}\n") };
        let as_of = self.as_of.as_str().unwrap_or_default();
        format!("{listed}{}; as of {as_of}\n", totals.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::super::zone::Zone;
    use super::*;

    fn account(missed: u64) -> Account {
        let totals = json!({ "on_time": 1, "late": 0, "delayed_by_overlap": 0, "skipped": 0, "missed": missed, "pending": 0,
                             "unexpected": 0 });
        let items = vec![
            json!({ "at": "2026-03-01T02:00:00.000Z", "task_id": "t", "status": "on_time", "reason": null,
                                 "lateness_ms": 3, "execution_id": "e", "log_index": 7 }),
        ];
        Account { items, totals, as_of: "2026-03-01T03:00:00.000Z".into() }
    }

    fn show(account: Account, output: Output) -> (String, bool) {
        let mut out = Vec::new();
        let shown = account.show(&mut Screen { out: &mut out, output, zone: Zone(Tz::UTC) });
        (String::from_utf8(out).expect("a text"), shown.is_ok())
    }

    #[test]
    fn an_account_ends_with_its_totals_and_a_miss_is_a_failure() {
        let expected = "\
INSTANT                   TASK  STATUS   REASON  LATE MS  EXECUTION  LOG INDEX
2026-03-01T02:00:00.000Z  t     on_time                3  e                  7

1 on_time, 0 late, 0 delayed_by_overlap, 0 skipped, 0 missed, 0 pending, 0 unexpected; as of 2026-03-01T03:00:00.000Z
";
        assert_eq!(show(account(0), Output::Table), (expected.to_owned(), true));
        let (json, sound) = show(account(1), Output::Json);
        assert!(!sound && json.contains("\"missed\":1"), "{json}");
        let nothing = Account { items: Vec::new(), ..account(0) };
        assert!(show(nothing, Output::Table).0.starts_with("1 on_time, "));
    }
}
