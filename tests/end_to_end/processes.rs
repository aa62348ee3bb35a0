//! Programs: their output, their end, and that nothing of them is left behind.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use rustix::fs::OFlags;
use rustix::process::Pid;
use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::cluster::Cluster;
use crate::harness::definitions::{await_status, cancel, executions, manual, run, script, with};
use crate::harness::development::Development;
use crate::harness::program::{lives, watch};
use crate::harness::wait::{eventually, now_ms, until};

/// A script that starts a child, writes down both numbers, and waits.
fn family(place: &Path) -> String {
    let place = place.display();
    format!(
        "sleep 300 & echo $! > {place}/child; echo $$ > {place}/parent; mv {place}/parent {place}/pids; wait"
    )
}

/// The numbers that a [`family`] wrote down.
fn pids(place: &Path) -> Vec<u32> {
    eventually("the script runs", || {
        let read = |name: &str| fs::read_to_string(place.join(name)).ok()?.trim().parse().ok();
        Some(vec![read("pids")?, read("child")?])
    })
}

fn output(api: &Api, id: &str, stream: &str) -> String {
    let lines = api.all(&format!("/api/executions/{id}/logs?limit=1000"));
    lines.iter().filter(|line| line["stream"] == stream).map(|line| text(line, "text")).collect()
}

#[test]
fn what_a_program_writes_is_kept_by_stream() {
    let development = Development::start();
    let api = development.api();
    let task = api.create_id(&with(
        json!({ "name": "writer", "trigger": manual() }),
        json!({ "action": { "type": "process", "program": "/bin/sh", "stdin": "from stdin",
                "env": { "COLOUR": "blue" },
                "args": ["-c", "cat; echo $COLOUR; echo $ESCAPEMENT_ATTEMPT $ESCAPEMENT_TASK_ID; echo bad >&2; exit 3"] } }),
    ));
    let id = run(&api, &task);
    let ended = await_status(&api, &id, "failed");
    assert!(ended["error"].as_str().is_some_and(|error| error.contains('3')), "{ended}");
    let out = output(&api, &id, "stdout");
    assert!(
        out.contains("from stdin") && out.contains("blue") && out.contains(&format!("1 {task}")),
        "{out}"
    );
    assert_eq!(output(&api, &id, "stderr").trim(), "bad");
    let first = items(&api.get(&format!("/api/executions/{id}/logs?attempt=1")));
    assert!(!first.is_empty());
    assert!(items(&api.get(&format!("/api/executions/{id}/logs?attempt=9"))).is_empty());
}

#[test]
fn what_a_program_used_is_kept_with_its_attempt() {
    let development = Development::start();
    let api = development.api();
    let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exit 1";
    let id = run(&api, &api.create_id(&script("busy", &manual(), busy)));
    let attempt = await_status(&api, &id, "failed")["attempts"][0].clone();
    assert!(attempt["cpu_seconds"].as_f64() > Some(0.0), "{attempt}");
    assert!(attempt["peak_memory_bytes"].as_u64() > Some(100_000), "{attempt}");
}

/// Uses half a second of processor time, however quick the machine is, and then 60 MB of memory.
const HUNGRY: &str = "
    while :; do
        n=0; while [ $n -lt 20000 ]; do n=$((n+1)); done
        times > times; read -r used rest < times
        case $used in 0m0.[0-4]*) ;; *) break ;; esac
    done
    head -c 60000000 /dev/zero | tail -c 60000000 > /dev/null";

/// Demands that what an attempt used is what a [`HUNGRY`] script uses.
#[track_caller]
fn check_used(attempt: &Value) {
    let seconds = attempt["cpu_seconds"].as_f64();
    assert!(seconds.is_some_and(|seconds| (0.5..5.0).contains(&seconds)), "{attempt}");
    let bytes = attempt["peak_memory_bytes"].as_u64();
    assert!(bytes.is_some_and(|bytes| (60_000_000..600_000_000).contains(&bytes)), "{attempt}");
}

#[test]
fn what_a_program_used_is_kept_however_its_attempt_ended_and_of_each_attempt_alone() {
    let development = Development::start();
    let api = development.api();
    let begin = |name: &str, text: String, fields: Value| {
        run(&api, &api.create_id(&with(script(name, &manual(), &text), fields)))
    };
    let timed_out = begin("timed-out", format!("{HUNGRY}; exec sleep 300"), json!({ "timeout": "25s" }));
    let succeeded = begin("succeeded", HUNGRY.into(), json!({}));
    let cancelled = begin("cancelled", format!("{HUNGRY}; echo used; exec sleep 300"), json!({}));
    let retry = json!({ "retry": { "max_attempts": 2, "initial_delay": "50ms", "jitter": 0 } });
    let retried = begin("retried", format!("[ $ESCAPEMENT_ATTEMPT = 2 ] || exit 1; {HUNGRY}"), retry);
    until("it has used all that it uses", || output(&api, &cancelled, "stdout").contains("used"));
    cancel(&api, &cancelled);
    for (id, status) in [(succeeded, "succeeded"), (cancelled, "cancelled"), (timed_out, "timed_out")] {
        let ended = await_status(&api, &id, status);
        assert_eq!(ended["attempts"][0]["outcome"], status, "{ended}");
        check_used(&ended["attempts"][0]);
    }
    let ended = await_status(&api, &retried, "succeeded");
    let modest = &ended["attempts"][0];
    assert_eq!(modest["outcome"], "failed", "{ended}");
    assert!(modest["cpu_seconds"].as_f64().is_some_and(|seconds| seconds < 0.5), "{ended}");
    assert!(modest["peak_memory_bytes"].as_u64().is_some_and(|bytes| bytes < 60_000_000), "{ended}");
    check_used(&ended["attempts"][1]);
}

#[test]
fn a_cancel_stops_a_program_with_its_children_soon() {
    let development = Development::start();
    let api = development.api();
    let task = api.create_id(&script("long", &manual(), &family(&development.place())));
    let id = run(&api, &task);
    let pids = pids(&development.place());
    assert!(pids.iter().all(|&pid| lives(pid)));
    let start = now_ms();
    api.post(&format!("/api/executions/{id}/cancel"), &Value::Null).expect(202);
    await_status(&api, &id, "cancelled");
    let took = now_ms() - start;
    assert!(took < 2_500, "{took} ms");
    until("all of it is gone", || !pids.iter().any(|&pid| lives(pid)));
}

#[test]
fn a_cancel_by_way_of_another_node_stops_a_program_within_a_second() {
    let cluster = Cluster::start(3);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let mut quickest = i64::MAX;
    for asked in [leader, follower, leader] {
        let place = tempfile::tempdir().expect("a directory");
        let api = cluster.api(asked);
        let id = run(&api, &api.create_id(&script("long", &manual(), &family(place.path()))));
        let pids = pids(place.path());
        let running = await_status(&api, &id, "running");
        let worker = text(&running["attempts"][0], "worker");
        let elsewhere = cluster.running().into_iter().find(|id| worker != format!("node-{id}"));
        let start = now_ms();
        let path = format!("/api/executions/{id}/cancel");
        cluster.api(elsewhere.expect("two of them")).post(&path, &Value::Null).expect(202);
        until("all of it is gone", || !pids.iter().any(|&pid| lives(pid)));
        quickest = quickest.min(now_ms() - start);
        await_status(&api, &id, "cancelled");
    }
    // Other tests run beside this one: how long it takes at best is how long it takes.
    assert!(quickest < 1_000, "{quickest} ms");
}

#[test]
fn a_timeout_kills_the_whole_process_group() {
    let development = Development::start();
    let api = development.api();
    // It does not want to go.
    let stubborn = format!("trap '' TERM; {}", family(&development.place()));
    let task = api.create_id(&with(script("stubborn", &manual(), &stubborn), json!({ "timeout": "1500ms" })));
    let id = run(&api, &task);
    let pids = pids(&development.place());
    await_status(&api, &id, "timed_out");
    until("all of it is gone", || !pids.iter().any(|&pid| lives(pid)));
}

/// The children of a process, each with its state: a letter.
fn children(parent: Pid) -> Vec<(u32, char)> {
    let parent = parent.as_raw_nonzero().to_string();
    let all = fs::read_dir("/proc").expect("read").flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let child = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?.chars().next()?;
        (fields.next()? == parent).then_some((pid, state))
    };
    numbers.filter_map(child).collect()
}

/// Half of them end by themselves, each with a child of its own; the others are cancelled.
#[test]
fn a_hundred_programs_at_once_leave_nothing_behind_and_no_zombie() {
    const PROGRAMS: usize = 100;
    let development = Development::start();
    let api = development.api();
    let [gate, place] = ["gate", "pids"].map(|name| development.place().join(name));
    fs::create_dir(&place).expect("made");
    assert!(Command::new("mkfifo").arg(&gate).status().expect("runs").success());
    let wait = format!(
        "sleep 300 & echo $! > {0}/$$.new; mv {0}/$$.new {0}/$$; read -r line < {1}; exit 0",
        place.display(),
        gate.display()
    );
    let task = api.create_id(&with(script("many", &manual(), &wait), json!({ "overlap": "allow" })));
    let ids: Vec<String> = (0..PROGRAMS).map(|_| run(&api, &task)).collect();
    let pids: Vec<u32> = eventually("all of them run", || {
        let names = fs::read_dir(&place).expect("read").flatten();
        let leaders: Vec<u32> = names.filter_map(|name| name.file_name().to_str()?.parse().ok()).collect();
        let child =
            |leader: &u32| fs::read_to_string(place.join(leader.to_string())).ok()?.trim().parse().ok();
        let children = leaders.iter().filter_map(child).collect::<Vec<u32>>();
        (children.len() == PROGRAMS).then(|| [leaders, children].concat())
    });
    let node = development.node.pid();
    assert!(pids.iter().all(|&pid| lives(pid)), "all at once");
    assert_eq!(children(node).iter().filter(|(_, state)| *state != 'Z').count(), PROGRAMS, "their guardians");
    let (cancelled, others) = ids.split_at(PROGRAMS / 2);
    for id in cancelled {
        api.post(&format!("/api/executions/{id}/cancel"), &Value::Null).expect(202);
    }
    cancelled.iter().for_each(|id| drop(await_status(&api, id, "cancelled")));
    until("the others' guardians alone are left", || children(node).len() == others.len());
    let without_waiting = i32::try_from(OFlags::NONBLOCK.bits()).expect("one bit");
    until("the others end", || {
        // Whoever waits at the gate goes on; nobody may wait just now.
        let _ = fs::File::options().write(true).custom_flags(without_waiting).open(&gate);
        executions(&api, &task).iter().all(|execution| execution["status"] != "running")
    });
    others.iter().for_each(|id| drop(await_status(&api, id, "succeeded")));
    until("the node has no child, not even a zombie", || children(node).is_empty());
    assert!(!pids.iter().any(|&pid| lives(pid)), "what ended has left nothing");
}

#[test]
fn programs_die_with_their_node() {
    let mut development = Development::start();
    let api = development.api();
    let task = api.create_id(&script("orphan", &manual(), &family(&development.place())));
    run(&api, &task);
    let pids = pids(&development.place());
    development.node.kill();
    until("all of it is gone", || !pids.iter().any(|&pid| lives(pid)));
}

#[test]
fn output_without_end_is_cut_off_and_does_not_hurt() {
    let development = Development::start();
    let api = development.api();
    let flood = script("flood", &manual(), "head -c 30000000 /dev/zero | tr '\\0' 'x'; echo done >&2");
    let task = api.create_id(&flood);
    let id = run(&api, &task);
    await_status(&api, &id, "succeeded");
    let kept = output(&api, &id, "stdout").len();
    assert!((1_000_000..=1 << 20).contains(&kept), "{kept} bytes are kept");
    let said = output(&api, &id, "system");
    assert!(said.contains("cut off here: it is longer than 1048576 bytes"), "{said}");
    assert!(said.contains("exit code 0"), "how it ended is told still: {said}");
}

#[test]
fn only_the_programs_that_a_node_allows_are_run() {
    let cluster = Cluster::start(1);
    let api = cluster.any();
    let program = |program: &str| {
        let action = json!({ "type": "process", "program": program, "args": [] });
        api.post("/api/scheduled-tasks/", &json!({ "name": program, "trigger": manual(), "action": action }))
    };
    let allowed = text(&program("/bin/echo").expect(201), "id");
    let id = run(&api, &allowed);
    await_status(&api, &id, "succeeded");
    for barred in ["/usr/bin/env", "/bin/../bin/echo", "echo"] {
        let refused = program(barred).expect(422);
        assert_eq!(refused["errors"][0]["pointer"], "/action/program", "{refused}");
    }
}

/// The script ends only when somebody has seen its first line: a log that is not followed as it grows waits for ever.
#[test]
fn a_log_is_followed_as_it_is_written_until_the_execution_ends() {
    let development = Development::start();
    let api = development.api();
    let seen = development.place().join("seen");
    let talk = format!("echo first; while [ ! -e {} ]; do sleep 0.05; done; echo last >&2", seen.display());
    for output in ["table", "json"] {
        let task = api.create_id(&script(output, &manual(), &talk));
        let id = run(&api, &task);
        let mut lines = Vec::new();
        watch(&api, &["execution", "logs", &id, "--follow", "--output", output], |line| {
            if lines.is_empty() {
                assert_eq!(api.get(&format!("/api/executions/{id}"))["status"], "running", "{line}");
                fs::write(&seen, "").expect("written");
            }
            lines.push(line.to_owned());
        });
        let told: Vec<bool> = ["first", "last", "exit code 0"]
            .iter()
            .zip(&lines)
            .map(|(word, line)| line.contains(word))
            .collect();
        assert_eq!((told, lines.len()), (vec![true; 3], 3), "{lines:?}");
        assert!(output == "table" || lines.iter().all(|line| serde_json::from_str::<Value>(line).is_ok()));
        fs::remove_file(&seen).expect("removed");
    }
}

#[test]
fn a_program_that_kills_what_watches_it_is_not_made_again_if_it_may_be_made_once() {
    let development = Development::start();
    let api = development.api();
    let rules = |delivery: &str| json!({ "delivery": delivery, "retry": { "max_attempts": 2, "initial_delay": "50ms", "jitter": 0 } });
    let rebel =
        |delivery: &str| with(script("rebel", &manual(), "kill -9 $PPID; sleep 300"), rules(delivery));
    for (delivery, attempts) in [("at_most_once", 1), ("at_least_once", 2)] {
        let id = run(&api, &api.create_id(&rebel(delivery)));
        let ended = await_status(&api, &id, "failed");
        assert_eq!(ended["attempt"], attempts, "{ended}");
        assert_eq!(ended["attempts"][0]["failure"]["class"], "other", "{ended}");
    }
}

/// The command under a lower limit on open files than the system has.
fn under_a_low_limit(command: Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "ulimit -Sn 300; exec \"$@\"", "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    shell.envs(variables);
    shell
}

#[test]
fn a_node_opens_as_much_as_the_system_lets_it_and_its_programs_begin_with_what_it_was_given() {
    let development = Development::start_as(under_a_low_limit);
    let api = development.api();
    let limits = fs::read_to_string(format!("/proc/{}/limits", development.node.pid())).expect("it runs");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a limit");
    let [soft, hard] = [0, 1].map(|nth| line.split_whitespace().nth(nth).unwrap_or_default());
    assert!(soft == hard && soft != "300", "{line}");
    let task = script("limits", &manual(), "echo $(ulimit -Sn) $(ulimit -Hn)");
    let id = run(&api, &api.create_id(&task));
    await_status(&api, &id, "succeeded");
    assert_eq!(output(&api, &id, "stdout").trim(), format!("300 {hard}"));
    let mut bounded = with(task, json!({ "name": "bounded" }));
    bounded["action"]["limits"] = json!({ "open_files": 64 });
    let id = run(&api, &api.create_id(&bounded));
    await_status(&api, &id, "succeeded");
    assert_eq!(output(&api, &id, "stdout").trim(), "64 64");
}
