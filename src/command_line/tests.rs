//! Every command of the contract, as people type it.

use clap::CommandFactory as _;
use clap::error::ErrorKind;

use super::*;

const ID: &str = "01900000-0000-7000-8000-000000000001";

fn parse(line: &str) -> Result<CommandLine, clap::Error> {
    let line = line.replace("ID", ID);
    let mut words = vec!["escapement".to_owned()];
    let mut quoted = false;
    for part in line.split('\'') {
        if quoted {
            words.push(part.to_owned())
        } else {
            words.extend(part.split_whitespace().map(Into::into))
        }
        quoted = !quoted;
    }
    CommandLine::try_parse_from(words)
}

#[track_caller]
fn good(line: &str) {
    if let Err(error) = parse(line) {
        panic!("{line}: {error}");
    }
}

#[track_caller]
fn bad(line: &str) {
    let error = parse(line).expect_err(line);
    assert_eq!(error.exit_code(), 2, "{line}");
}

#[test]
fn the_definition_of_the_command_line_is_sound() {
    CommandLine::command().debug_assert();
}

#[test]
fn every_command_of_the_contract_is_understood() {
    for line in [
        "",
        "dev",
        "dev --listen 127.0.0.1:7071 --data ./elsewhere --insecure-listen",
        "server --config cluster.toml --node 1",
        "server --config cluster.toml --node 4 --join",
        "config check cluster.toml",
        "token mint --key-file k --subject s --tenant t --role viewer",
        "token mint --key-file k --subject s --tenant t --role admin --role cluster-admin --ttl 90s",
        "task create -f -",
        "task create -f task.json --idempotency-key a",
        "task list --state paused --kind test_execution --label team=qa --name n --limit 10 --cursor c",
        "task show ID",
        "task update ID -f task.json --if-version 3",
        "task delete ID",
        "task run ID",
        "task pause ID",
        "task resume ID",
        "task next ID --count 7",
        "task explain ID",
        "task explain ID --at 2026-03-29T02:30:00+02:00 --count 2",
        "task list --calendar de-holidays",
        "task skip ID --at 2026-12-24T02:00:00+01:00",
        "task move ID --at 2026-12-24T02:00:00+01:00 --to 2026-12-24T06:00:00+01:00",
        "task restore ID --at 2026-12-24T02:00:00+01:00",
        "task occurrences ID",
        "task backfill ID --from 2026-03-01T00:00:00Z --to 2026-03-02T00:00:00Z",
        "task backfill ID --from 2026-03-01T00:00:00Z --to 2026-03-02T00:00:00Z --concurrency 4 --follow",
        "task backfills ID",
        "task cancel-backfill ID ID",
        "calendar put de-holidays -f -",
        "calendar list --limit 10 --cursor c",
        "calendar show de-holidays",
        "calendar delete de-holidays",
        "schedule preview --cron '0 2 * * 1-5' --timezone Europe/Berlin --from 2026-03-01T00:00:00Z --count 3",
        "schedule preview --cron '30 2 * * *' --gap shift --fold both",
        "schedule check vectors.jsonl",
        "schedule forecast",
        "schedule forecast --horizon 7d --step 1h30m --all --output json",
        "cluster status",
        "cluster add-node 4 --api 127.0.0.1:7073 --peer 127.0.0.1:7173 --no-wait",
        "cluster promote 4",
        "cluster remove-node 2",
        "cluster transfer-leadership",
        "cluster transfer-leadership 3",
        "audit export --format csv --from 2026-03-01T00:00:00Z --to 2026-04-01T00:00:00Z --tenant acme --task ID",
        "audit export --format jsonl --data copy",
        "audit verify --data copy",
        "audit replay --until 17 --task ID --data copy",
        "audit replay --until 2026-03-01T00:00:00Z",
        "audit fires --from 2026-03-01T00:00:00Z --to 2026-04-01T00:00:00Z",
        "audit fires --from 2026-03-01T00:00:00Z --to 2026-04-01T00:00:00Z --task ID --tenant acme --data copy",
        "bench fires --nodes 3 --tasks 1000 --data d",
        "bench creates --clients 8 --seconds 2",
        "bench lateness --rate 50 --seconds 2",
        "bench memory --tasks 10",
        "bench restart --tasks 10 --nodes 1",
        "bench creates --address http://127.0.0.1:7070",
    ] {
        good(line);
    }
}

#[test]
fn what_decides_who_runs_when_is_understood() {
    for line in [
        "pool put staging --capacity 4",
        "pool list --limit 10 --cursor c",
        "pool show staging",
        "pool delete staging",
        "limit put label team=qa --max-concurrent 5",
        "limit list",
        "limit show queue ios",
        "limit delete tenant acme",
        "breaker list",
        "breaker show http:runner.example",
        "breaker open http:runner.example",
        "breaker close process:/usr/bin/true",
        "queue list",
        "queue pause ios",
        "queue resume ios",
        "execution priority ID 9",
    ] {
        good(line);
    }
}

#[test]
fn commands_on_executions_are_understood() {
    for line in [
        "execution list --task ID --status timed_out",
        "execution show ID",
        "execution logs ID --follow --attempt 2",
        "execution cancel ID",
        "execution retry ID",
        "execution retry --all",
        "execution retry --all --task ID --from 2026-03-01T00:00:00Z --to 2026-03-02T00:00:00Z",
        "execution dead-letters --task ID --limit 20",
    ] {
        good(line);
    }
}

#[test]
fn common_options_may_stand_before_or_behind_the_command() {
    for line in [
        "--address http://h:1 --output json task list",
        "task list --output json --token-file f",
        "task --token t list",
    ] {
        good(line);
    }
    let parsed = parse("task list --output json --address h:1").expect("understood");
    assert_eq!(parsed.connection.output, connection::Output::Json);
    assert_eq!(parsed.connection.address.as_deref(), Some("h:1"));
}

#[test]
fn wrong_usage_ends_with_two() {
    for line in [
        "dance",
        "task",
        "task create",
        "task show",
        "task show 7",
        "execution retry",
        "execution retry ID --all",
        "task list --limit 0",
        "task skip ID",
        "task move ID --at 2026-12-24T02:00:00Z",
        "task backfill ID --from 2026-12-24T02:00:00Z",
        "task backfill ID --from 2026-12-24T02:00:00Z --to 2026-12-24T02:00:00Z --concurrency 0",
        "task cancel-backfill ID 7",
        "calendar put de-holidays",
        "calendar show",
        "pool put staging",
        "pool put staging --capacity -1",
        "limit put colour red --max-concurrent 1",
        "limit put label team=qa",
        "breaker shut http:x",
        "execution priority ID 10",
        "task list --limit 1001",
        "task list --output xml",
        "task list --token a --token-file b",
        "token mint --key-file k --subject s --tenant t",
        "token mint --key-file k --subject s --tenant t --role king",
        "execution list --status done",
        "schedule preview",
        "schedule preview --cron '* * * * *' --from tomorrow",
        "schedule forecast --horizon soon",
        "dev --listen here",
        "server --config c",
        "cluster add-node 4 --api a:1",
        "audit export",
        "audit fires --from 2026-03-01T00:00:00Z",
        "bench fires --nodes 2",
        "bench",
        "bench dance",
    ] {
        bad(line);
    }
}

#[test]
fn help_and_version_are_no_failure() {
    for (line, kind) in [
        ("--help", ErrorKind::DisplayHelp),
        ("help task create", ErrorKind::DisplayHelp),
        ("-V", ErrorKind::DisplayVersion),
    ] {
        let error = parse(line).expect_err("shown");
        assert_eq!((error.kind(), error.exit_code()), (kind, 0), "{line}");
    }
}

/// Walks over every command, so that none is added without a word of help.
#[test]
fn every_command_and_option_explains_itself() {
    fn walk(command: &clap::Command) {
        assert!(command.get_about().is_some(), "{} has no help", command.get_name());
        for argument in command.get_arguments() {
            assert!(
                argument.get_help().is_some(),
                "{} {} has no help",
                command.get_name(),
                argument.get_id()
            );
        }
        command.get_subcommands().for_each(walk);
    }
    walk(&CommandLine::command());
}
