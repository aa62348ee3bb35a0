//! `pool` and `limit`: how much of something is used at once.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, Request};
use super::failure::Failure;
use super::screen::{Screen, exactly_when, field, note, optional, when};
use super::table::{Sheet, Table};
use super::zone::Zone;

const PUT_POOL_EXAMPLES: &str = "\
Examples:
  escapement pool put staging --capacity 4
  escapement pool put gpu --capacity 0     nothing that needs it is started until there is more

A task asks for shares of pools: \"resources\": {\"staging\": 1}. An execution gets all of its shares or none, in order of \
priority and queueing, and gives them back however it ends. A smaller capacity tears nothing away: nothing new is granted \
until it fits.";

const PUT_LIMIT_EXAMPLES: &str = "\
Examples:
  escapement limit put label team=qa --max-concurrent 5
  escapement limit put queue ios --max-concurrent 2
  escapement limit put tenant acme --max-concurrent 200

How many of one task run at once is in its definition: \"max_concurrent\": 2, with \"overlap\": \"allow\". What is over a limit \
waits in the queue; `escapement execution show` says for what.";

const LIST_EXAMPLES: &str = "\
Examples:
  escapement pool list
  escapement pool list --output json | jq '.items[] | select(.waiting > 0)'";

/// Commands on pools.
#[derive(Debug, Subcommand)]
pub(super) enum PoolCommand {
    /// Make a pool, or give it another capacity
    #[command(after_long_help = PUT_POOL_EXAMPLES)]
    Put {
        #[command(flatten)]
        pool: PoolName,
        /// How much there is
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
        capacity: u32,
    },
    /// List pools
    #[command(after_long_help = LIST_EXAMPLES)]
    List(ListOptions),
    /// Show a pool, with who holds it and who waits
    Show(PoolName),
    /// Delete a pool that no task names
    Delete(PoolName),
}

/// Commands on limits.
#[derive(Debug, Subcommand)]
pub(super) enum LimitCommand {
    /// Limit how many executions with a label, of a queue or of the tenant run at once
    #[command(after_long_help = PUT_LIMIT_EXAMPLES)]
    Put {
        #[command(flatten)]
        limit: LimitName,
        /// How many run at once
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
        max_concurrent: u32,
    },
    /// List limits
    List(ListOptions),
    /// Show a limit, with what runs and what waits
    Show(LimitName),
    /// Delete a limit
    Delete(LimitName),
}

/// The pool that is meant.
#[derive(Debug, Args)]
pub(super) struct PoolName {
    /// The pool's name: letters, digits, `-`, `_` and `.`
    #[arg(value_name = "NAME")]
    name: String,
}

/// The limit that is meant.
#[derive(Debug, Args)]
pub(super) struct LimitName {
    /// What it limits
    #[arg(value_name = "KIND", value_parser = ["label", "queue", "tenant"])]
    kind: String,
    /// The label as `name=value`, the queue, or the tenant
    #[arg(value_name = "NAME")]
    name: String,
}

/// Which of them to list.
#[derive(Debug, Args)]
pub(super) struct ListOptions {
    /// How many to show at most, up to 1000
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// Where the page before ended
    #[arg(long)]
    cursor: Option<String>,
}

impl PoolName {
    fn path(&self) -> [&str; 3] {
        ["api", "pools", &self.name]
    }
}

impl LimitName {
    fn path(&self) -> [&str; 4] {
        ["api", "limits", &self.kind, &self.name]
    }
}

impl ListOptions {
    /// The request for a page of a list.
    pub(super) fn request(&self, list: &str) -> Request {
        Request::get(["api", list, ""]).query("limit", Some(self.limit)).query("cursor", self.cursor.as_ref())
    }
}

impl PoolCommand {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Self::Put { pool, capacity } => {
                let body = json!({ "capacity": capacity }).to_string();
                let answer = client.ask(&Request::put(pool.path()).keyed()?.body(body)).await?;
                screen.answer(&answer, |pool, _| {
                    let (name, capacity, held) =
                        (field(pool, "/name"), field(pool, "/capacity"), field(pool, "/held"));
                    format!("pool {name} has a capacity of {capacity}, of which {held} is held\n")
                })
            }
            Self::List(options) => screen.list(&client.ask(&options.request("pools")).await?, pools),
            Self::Show(pool) => {
                let answer = client.ask(&Request::get(pool.path())).await?;
                screen.answer(&answer, |pool, zone| {
                    let lines = ["name", "capacity", "held", "waiting", "tasks"];
                    sheet(pool, &lines, [("held by", "held_by"), ("waiting", "waiting_by")], zone)
                })
            }
            Self::Delete(pool) => {
                client.ask(&Request::delete(pool.path()).keyed()?).await?;
                note(&format!("deleted pool {}", pool.name));
                Ok(())
            }
        }
    }
}

impl LimitCommand {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Self::Put { limit, max_concurrent } => {
                let body = json!({ "max_concurrent": max_concurrent }).to_string();
                let answer = client.ask(&Request::put(limit.path()).keyed()?.body(body)).await?;
                screen.answer(&answer, |limit, _| {
                    let name = format!("{} {}", field(limit, "/kind"), field(limit, "/name"));
                    let (most, running) = (field(limit, "/max_concurrent"), field(limit, "/running"));
                    format!("of {name}, {most} run at once; {running} run now\n")
                })
            }
            Self::List(options) => screen.list(&client.ask(&options.request("limits")).await?, limits),
            Self::Show(limit) => {
                let answer = client.ask(&Request::get(limit.path())).await?;
                screen.answer(&answer, |limit, zone| {
                    let lines = ["kind", "name", "max_concurrent", "running", "waiting"];
                    sheet(limit, &lines, [("running", "running_by"), ("waiting", "waiting_by")], zone)
                })
            }
            Self::Delete(limit) => {
                client.ask(&Request::delete(limit.path()).keyed()?).await?;
                note(&format!("deleted the limit on {} {}", limit.kind, limit.name));
                Ok(())
            }
        }
    }
}

fn pools(pools: &[Value], zone: Zone) -> String {
    if pools.is_empty() {
        return "no pools; make one with `escapement pool put NAME --capacity N`\n".into();
    }
    let changed = format!("CHANGED ({})", zone.name());
    let mut table = Table::new(["NAME", ">CAPACITY", ">HELD", ">WAITING", ">TASKS", &changed]);
    for pool in pools {
        let [name, capacity, held, waiting, tasks] =
            ["/name", "/capacity", "/held", "/waiting", "/tasks"].map(|pointer| field(pool, pointer));
        table.row([name, capacity, held, waiting, tasks, when(pool, "/updated_at", zone)]);
    }
    table.to_string()
}

fn limits(limits: &[Value], zone: Zone) -> String {
    if limits.is_empty() {
        return "no limits; make one with `escapement limit put KIND NAME --max-concurrent N`\n".into();
    }
    let changed = format!("CHANGED ({})", zone.name());
    let mut table = Table::new(["KIND", "NAME", ">AT ONCE", ">RUNNING", ">WAITING", &changed]);
    for limit in limits {
        let [kind, name, most, running, waiting] =
            ["/kind", "/name", "/max_concurrent", "/running", "/waiting"]
                .map(|pointer| field(limit, pointer));
        table.row([kind, name, most, running, waiting, when(limit, "/updated_at", zone)]);
    }
    table.to_string()
}

fn sheet(value: &Value, lines: &[&str], claimants: [(&str, &str); 2], zone: Zone) -> String {
    let mut sheet = Sheet::default();
    for name in lines {
        sheet.line(&name.replace('_', " "), optional(value, &format!("/{name}")));
    }
    sheet.line("version", field(value, "/version"));
    sheet.line("changed", exactly_when(value, "/updated_at", zone));
    let mut text = sheet.to_string();
    for (title, name) in claimants {
        let listed = value[name].as_array().map_or(&[][..], Vec::as_slice);
        if listed.is_empty() {
            continue;
        }
        let mut table = Table::new([&*title.to_uppercase(), "TASK", ">SHARE"]);
        for claimant in listed {
            table.row(["/execution_id", "/task_id", "/share"].map(|pointer| field(claimant, pointer)));
        }
        text.push_str(&format!("\n{table}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;

    const UTC: Zone = Zone(Tz::UTC);

    #[test]
    fn a_list_of_pools_says_how_much_is_held_and_how_many_wait() {
        let pool = json!({ "name": "staging", "capacity": 4, "held": 3, "waiting": 12, "tasks": 2,
                           "updated_at": "2026-03-01T12:00:00.000Z" });
        let expected = "\
NAME     CAPACITY  HELD  WAITING  TASKS  CHANGED (UTC)
staging         4     3       12      2  2026-03-01 12:00:00
";
        assert_eq!(pools(&[pool], UTC), expected);
        assert!(pools(&[], UTC).contains("escapement pool put"));
    }

    #[test]
    fn a_sheet_names_who_holds_it() {
        let limit = json!({ "kind": "label", "name": "team=qa", "max_concurrent": 1, "running": 1, "waiting": 0,
                            "running_by": [{ "execution_id": "e", "task_id": "t", "share": 1 }], "waiting_by": [],
                            "version": 1, "updated_at": "2026-03-01T12:00:00.000Z" });
        let text = sheet(
            &limit,
            &["kind", "name", "max_concurrent"],
            [("running", "running_by"), ("waiting", "waiting_by")],
            UTC,
        );
        let expected = "\
kind            label
name            team=qa
max concurrent  1
version         1
changed         2026-03-01 12:00:00.000 +00:00

RUNNING  TASK  SHARE
e        t         1
";
        assert_eq!(text, expected);
    }
}
