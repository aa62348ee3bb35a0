//! Programs under a user of their own and under limits: what they can reach, and what they leave.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::definitions::{await_status, cancel, manual, run, script, with};
use crate::harness::development::Development;
use crate::harness::notice::notice;
use crate::harness::program::{behind, command, lives};
use crate::harness::wait::{eventually, until};

const USER: &str = "ESCAPEMENT__EXECUTION__PROCESS_USER";

/// A node that runs programs as another user, if whoever runs the tests may do that.
fn with_user(user: &str) -> Option<Development> {
    if !rustix::process::geteuid().is_root() {
        notice("SKIPPED: only root can run programs as another user");
        return None;
    }
    let mut development = Development::start();
    assert_eq!(development.node.terminate(std::time::Duration::from_secs(12)), Some(0));
    fs::set_permissions(development.place(), Permissions::from_mode(0o711)).expect("set");
    development.restart_as(|mut command| {
        command.env(USER, user);
        command
    });
    Some(development)
}

#[test]
fn a_programs_variables_reach_the_program_and_nothing_that_starts_it() {
    let development = Development::start();
    let api = development.api();
    let mut task = script("linked", &manual(), "echo _$_kept_; echo ${COLOUR-none}");
    task["action"]["env"] = json!({ "LD_PRELOAD": "/nowhere/library.so", "_kept_": "1", "COLOUR": "blue" });
    let (_, lines) = finished(&api, &task, "succeeded");
    let (told, said): (Vec<&String>, Vec<&String>) =
        lines.iter().partition(|line| line.contains("/nowhere/library.so"));
    assert_eq!(told.len(), 1, "the program's own linker, and not that of the launcher: {told:?}");
    assert_eq!(said, ["_1", "blue"]);
}

/// Runs a script to its end under limits.
#[track_caller]
fn ran(api: &Api, text: &str, limits: Value, status: &str) -> (Value, Vec<String>) {
    let mut task = script("isolated", &manual(), text);
    task["action"]["limits"] = limits;
    finished(api, &task, status)
}

/// Runs a task to its end, and returns the execution and what it wrote, line by line.
#[track_caller]
fn finished(api: &Api, task: &Value, status: &str) -> (Value, Vec<String>) {
    let id = run(api, &api.create_id(task));
    let ended = await_status(api, &id, status);
    let lines = items(&api.get(&format!("/api/executions/{id}/logs?limit=1000")));
    let written =
        |line: &Value| (line["stream"] != "system").then(|| line["text"].as_str().map(str::to_owned));
    (ended, lines.iter().filter_map(written).flatten().collect())
}

#[test]
fn a_program_runs_as_its_own_user_and_reaches_nothing_of_the_nodes() {
    let Some(development) = with_user("61234:61235") else { return };
    let api = development.api();
    let token = development.data().join("admin.token");
    let look = format!(
        "id -u; id -g; id -G; grep -c 'NoNewPrivs:.1' /proc/self/status; pwd; echo mine > file && cat file
         echo told > /dev/stdout; cat {0} 2>/dev/null || echo refused; touch ../../mine 2>/dev/null || echo refused",
        token.display()
    );
    let (_, lines) = ran(&api, &look, json!({}), "succeeded");
    let directory = lines[4].clone();
    let expected = ["61234", "61235", "61235", "1", &directory, "mine", "told", "refused", "refused"];
    assert_eq!(lines, expected);
    assert!(!fs::exists(&directory).expect("told"), "{directory} was removed");
    let (ended, _) = ran(&api, "echo a > $ESCAPEMENT_FAILED_ITEMS_FILE; exit 1", json!({}), "failed");
    assert_eq!(ended["retry_items"], json!(["a"]));
    for stolen in ["ln -s", "ln"] {
        let steal = format!("{stolen} {} $ESCAPEMENT_FAILED_ITEMS_FILE; exit 1", token.display());
        let (ended, _) = ran(&api, &steal, json!({}), "failed");
        assert_eq!(ended["retry_items"], Value::Null, "{stolen}");
    }
    let pretend = format!("ln -s {} ../refusal; exit 127", token.display());
    let (ended, _) = ran(&api, &pretend, json!({}), "failed");
    assert_eq!(ended["error"], "exit code 127");
}

#[test]
fn programs_of_another_user_die_with_their_node() {
    let Some(mut development) = with_user("61236:61236") else { return };
    let api = development.api();
    let stubborn = "trap '' TERM; setsid sleep 300 & echo $$ $!; wait";
    let id = run(&api, &api.create_id(&script("stubborn", &manual(), stubborn)));
    let pids = eventually("it runs", || {
        let lines = items(&api.get(&format!("/api/executions/{id}/logs")));
        lines.iter().find(|line| line["stream"] == "stdout").map(|line| text(line, "text"))
    });
    let lives = |pid: &str| lives(pid.parse().expect("a number"));
    assert!(pids.split(' ').all(lives), "{pids}");
    development.node.kill();
    until("all of it is gone", || !pids.split(' ').any(lives));
}

#[test]
fn a_program_starts_no_more_processes_than_it_may() {
    let Some(development) = with_user("61237:61237") else { return };
    let api = development.api();
    let spread = "for i in 1 2 3 4 5 6 7 8; do sleep 5 & echo $i; done";
    let (_, all) = ran(&api, spread, json!({ "processes": 30 }), "succeeded");
    assert_eq!(all.len(), 8, "{all:?}");
    let (_, some) = ran(&api, spread, json!({ "processes": 4 }), "failed");
    assert!(some.len() < 6 && some.iter().any(|line| line.contains("fork")), "{some:?}");
}

/// A node that modes bind: not root's, also if root runs the tests.
fn unprivileged(development: &mut Development) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    assert_eq!(development.node.terminate(std::time::Duration::from_secs(12)), Some(0));
    let given = Command::new("chown").args(["-R", "61238:61238"]).arg(development.place()).status();
    assert!(given.expect("runs").success());
    restart_unprivileged(development);
}

fn restart_unprivileged(development: &mut Development) {
    const BECOME: [&str; 6] =
        ["setpriv", "--reuid=61238", "--regid=61238", "--clear-groups", "--pdeathsig", "KILL"];
    let is_root = rustix::process::geteuid().is_root();
    development.restart_as(|command| if is_root { behind(&BECOME, &command) } else { command });
}

#[test]
fn a_program_cannot_leave_what_keeps_its_node_from_starting() {
    let mut development = Development::start();
    unprivileged(&mut development);
    let close = "pwd; mkdir -p closed/inside; echo > closed/file; chmod 000 closed; chmod 500 .";
    let (_, lines) = ran(&development.api(), close, json!({}), "succeeded");
    assert!(!fs::exists(&lines[0]).expect("told"), "{} was removed", lines[0]);
    development.node.kill();
    let work = development.data().join("work");
    fs::create_dir(work.join("left")).expect("made");
    // Nothing can be removed from it, nor made in it.
    fs::set_permissions(&work, Permissions::from_mode(0o500)).expect("set");
    restart_unprivileged(&mut development);
    let printed = development.node.printed();
    let path = work.join("left").display().to_string();
    let warning = printed.lines().find(|line| line.contains("what a program left cannot be removed"));
    assert!(warning.is_some_and(|line| line.contains(&path)), "{printed}");
    fs::set_permissions(&work, Permissions::from_mode(0o700)).expect("set");
}

/// Runs a program that leaves what is hard to remove and ends as it is told to. Returns the execution, the directory of
/// its attempt and its guardian, when all is left.
#[track_caller]
fn littering(api: &Api, end: &str, fields: Value) -> (String, PathBuf, Pid) {
    let litter = format!(
        "here=$(pwd); mkdir -p deep/er/still/empty shut read-only
         echo > deep/er/still/file; echo > read-only/file
         chmod 000 deep/er/still/file deep/er/still shut
         chmod 100 deep/er; chmod 300 deep; chmod 500 read-only; chmod 000 .
         echo $here $PPID; {end}"
    );
    let id = run(api, &api.create_id(&with(script("litter", &manual(), &litter), fields)));
    let (directory, guardian) = eventually("all is left", || {
        let lines = items(&api.get(&format!("/api/executions/{id}/logs?limit=1000")));
        let told = lines.iter().find(|line| line["stream"] == "stdout").map(|line| text(line, "text"))?;
        let (directory, guardian) = told.split_once(' ')?;
        let guardian = Pid::from_raw(guardian.parse().ok()?)?;
        Some((Path::new(directory).parent()?.to_path_buf(), guardian))
    });
    (id, directory, guardian)
}

fn is_there(path: &Path) -> bool {
    fs::exists(path).expect("told")
}

#[test]
fn what_a_program_leaves_in_its_directory_goes_with_its_attempt_however_that_ends() {
    let mut development = Development::start();
    unprivileged(&mut development);
    let api = development.api();
    // It is killed ten seconds after it was told to end; the others come and go meanwhile.
    let (stubborn, longest, _) = littering(&api, "trap '' TERM; exec sleep 300", json!({}));
    assert!(is_there(&longest), "{}", longest.display());
    api.post(&format!("/api/executions/{stubborn}/cancel"), &Value::Null).expect(202);
    for (end, status) in [
        ("exit 0", "succeeded"),
        ("exit 3", "failed"),
        ("kill -9 $PPID; exec sleep 300", "failed"),
        ("exec sleep 300", "timed_out"),
    ] {
        let fields = if status == "timed_out" { json!({ "timeout": "6s" }) } else { json!({}) };
        let (id, directory, _) = littering(&api, end, fields);
        await_status(&api, &id, status);
        assert!(!is_there(&directory), "{end}: {} was removed", directory.display());
    }
    let (polite, directory, _) = littering(&api, "exec sleep 300", json!({}));
    assert!(is_there(&directory), "{}", directory.display());
    cancel(&api, &polite);
    assert!(!is_there(&directory), "{} was removed", directory.display());
    await_status(&api, &stubborn, "cancelled");
    assert!(!is_there(&longest), "{} was removed", longest.display());
    assert_eq!(fs::read_dir(development.data().join("work")).expect("read").count(), 0);
}

/// A guardian removes it when its node is gone. Where both are gone at once, as after a power cut, the node's next
/// start does.
#[test]
fn what_a_program_leaves_in_its_directory_goes_with_its_node() {
    let mut development = Development::start();
    unprivileged(&mut development);
    let (_, directory, _) = littering(&development.api(), "exec sleep 300", json!({}));
    assert!(is_there(&directory), "{}", directory.display());
    development.node.kill();
    until("its guardian has removed it", || !is_there(&directory));
    restart_unprivileged(&mut development);
    let (_, directory, guardian) = littering(&development.api(), "exec sleep 300", json!({}));
    development.node.freeze();
    until("the node stands still", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", development.node.pid())).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    });
    kill_process(guardian, Signal::KILL).expect("the signal is sent");
    development.node.kill();
    assert!(is_there(&directory), "nobody is left who could remove {}", directory.display());
    restart_unprivileged(&mut development);
    assert!(!is_there(&directory), "{} was removed", directory.display());
}

/// The variables that the documentation lists, and that a program finds whose task sets none and for which nothing is done
/// again.
fn documented() -> Vec<&'static str> {
    let tables = include_str!("../../docs/executions.md").lines().filter_map(|line| line.strip_prefix("| "));
    let names = tables.flat_map(|row| row.split(" | ").next().unwrap_or_default().split('`'));
    let mut names: Vec<_> = names
        .filter(|name| *name == "PATH" || name.starts_with("ESCAPEMENT_"))
        .filter(|name| *name != "ESCAPEMENT_RETRY_ITEMS")
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn a_program_finds_no_variable_and_no_descriptor_of_the_nodes() {
    let development = Development::start_as(|mut command| {
        command.env("SECRET_OF_THE_NODE", "s3cret").env("PATH", "/usr/bin:/bin:/nodes/own");
        command
    });
    let api = development.api();
    let found = |program: &str, args: &[&str]| {
        let mut task = script(program, &manual(), "");
        task["action"] = json!({ "type": "process", "program": program, "args": args });
        finished(&api, &task, "succeeded").1
    };
    let environment = found("/usr/bin/env", &[]);
    let mut names: Vec<&str> = environment.iter().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    assert_eq!(names, documented(), "{environment:?}");
    assert!(!environment.iter().any(|line| line.contains("s3cret") || line.contains("/nodes/own")));
    // Its standard three, and the directory that it reads. Whoever runs the tests may have left the node others.
    assert_eq!(found("/bin/ls", &["/proc/self/fd"]), ["0", "1", "2", "3"]);
    assert_eq!(found("/usr/bin/readlink", &["/proc/self/fd/0"]), ["/dev/null"]);
}

#[test]
fn limits_of_memory_processor_time_and_open_files_hold() {
    let development = Development::start();
    let api = development.api();
    let allocate = "dd if=/dev/zero of=/dev/null bs=200M count=1 2>&1 && echo allocated";
    let open = "exec 3</dev/null 4</dev/null 5</dev/null 6</dev/null 7</dev/null; echo opened; ulimit -n";
    for (script, word, enough, too_little) in [
        (allocate, "allocated", json!({ "memory": "1GiB" }), json!({ "memory": "64MiB" })),
        (open, "opened", json!({ "open_files": 64 }), json!({ "open_files": 6 })),
    ] {
        let (_, written) = ran(&api, script, enough, "succeeded");
        assert!(written.iter().any(|line| line == word), "{written:?}");
        let (ended, written) = ran(&api, script, too_little, "failed");
        assert_eq!(ended["attempts"][0]["failure"]["class"], "exit_code", "{ended}");
        assert!(!written.iter().any(|line| line == word), "{written:?}");
    }
    let (ended, _) = ran(&api, "while :; do :; done", json!({ "cpu_time": "1s" }), "failed");
    assert_eq!(ended["attempts"][0]["failure"], json!({ "class": "signal", "code": 24 }), "{ended}");
    assert!(text(&ended, "error").contains("SIGXCPU, for it used up its processor time"), "{ended}");
    let used = ended["attempts"][0]["cpu_seconds"].as_f64();
    assert!(used.is_some_and(|seconds| (0.9..2.0).contains(&seconds)), "{ended}");
    // It hears the first word, and goes on: a second later it hears none.
    let (ended, _) = ran(&api, "trap : XCPU; while :; do :; done", json!({ "cpu_time": "1s" }), "failed");
    assert_eq!(ended["attempts"][0]["failure"], json!({ "class": "signal", "code": 9 }), "{ended}");
}

#[test]
fn a_limit_that_would_not_hold_is_not_pretended() {
    let development = Development::start();
    let api = development.api();
    if rustix::process::geteuid().is_root() {
        let (ended, _) = ran(&api, "exit 0", json!({ "processes": 4 }), "failed");
        let error = text(&ended, "error");
        assert!(error.contains("limits.processes") && error.contains("process_user"), "{error}");
    }
    let mut task = script("wrong", &manual(), "exit 0");
    task["action"]["limits"] = json!({ "processes": 0 });
    let refused = api.post("/api/scheduled-tasks/", &task).expect(422);
    assert_eq!(refused["errors"][0]["pointer"], "/action/limits/processes");
}

#[test]
fn a_node_that_cannot_run_programs_as_their_user_says_why_and_does_not_start() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).expect("set");
    let data = directory.path().join("data").display().to_string();
    let start = |user: &str| -> Output {
        let mut command = command(&["dev", "--listen", "127.0.0.1:9", "--data", &data]);
        command.env(USER, user).output().expect("the program starts")
    };
    let is_root = rustix::process::geteuid().is_root();
    let barred = if is_root { "chmod o+x" } else { "only a node that runs as root" };
    for (user, why) in
        [("nobody-at-all", "no user `nobody-at-all`"), ("61234:61235", barred), ("root", "not root")]
    {
        let ended = start(user);
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{told}");
        assert!(told.contains("process_user") && told.contains(why), "{told}");
    }
}
