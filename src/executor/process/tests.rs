//! Real programs under real guardians; this test binary stands in for `escapement launch-process`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use escapement_domain::execution::usage::Usage;
use escapement_domain::task::action::ProcessLimits;
use escapement_domain::timestamp::Timestamp;
use tempfile::TempDir;

use super::super::fixtures::{Lines as Captured, as_nobody, clock, order};
use super::super::launcher::tests::AS_LAUNCHER;
use super::*;

/// Where a second test process finds its directory: the node that is killed.
const VICTIM_VARIABLE: &str = "ESCAPEMENT_TEST_VICTIM";
const PATIENCE: Duration = Duration::from_secs(20);

fn shell(script: &str) -> ProcessAction {
    ProcessAction {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: BTreeMap::new(),
        stdin: None,
        limits: ProcessLimits::default(),
    }
}

fn executor(work: &Path, policy: ProcessPolicy) -> ProcessExecutor {
    let launcher = LauncherCommand { arguments: AS_LAUNCHER.map(Into::into).into() };
    ProcessExecutor::new(policy, None, work.join("work"), 10_000, launcher, clock()).expect("work directory")
}

struct Ran {
    end: AttemptEnd,
    usage: Option<Usage>,
    captured: Arc<Captured>,
    directory: TempDir,
}

impl Ran {
    /// What the program wrote; the test harness of guardian and starter writes, too.
    fn stdout(&self) -> Vec<String> {
        self.captured
            .of(OutputStream::Stdout)
            .into_iter()
            .filter(|line| !line.is_empty() && line != "running 1 test")
            .collect()
    }
}

async fn run_for(action: ProcessAction, timeout: Span, cancel: CancellationToken) -> Ran {
    let directory = tempfile::tempdir().expect("temporary directory");
    let captured = Captured::new();
    let order = AttemptOrder { timeout, ..order(Action::Process(action)) };
    let end = executor(directory.path(), ProcessPolicy::Any).run(order, captured.clone(), cancel).await;
    Ran { end: end.end, usage: end.usage, captured, directory }
}

async fn run(action: ProcessAction) -> Ran {
    run_for(action, Span::minutes(1), CancellationToken::new()).await
}

fn exit(code: i32) -> AttemptEnd {
    let result = Some(format!(r#"{{"exit_code":{code}}}"#));
    if code == 0 {
        return AttemptEnd::Succeeded { result };
    }
    let failure = failure(FailureClass::ExitCode(code), format!("exit code {code}"));
    AttemptEnd::Failed(AttemptFailure { result, ..failure })
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie is dead; only its parent has not looked yet.
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "never: {what}");
}

fn pids_in(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// A script that starts children and grandchildren, in its group and out of it, and writes down each.
fn family(pids: &Path) -> String {
    let pids = pids.display();
    format!(
        "trap '' TERM; echo $$ >> {pids}
         (trap '' TERM; sleep 1000 & echo $! >> {pids}; wait) &
         setsid sh -c 'echo $$ >> {pids}; trap \"\" TERM; (sleep 1000 & echo $! >> {pids}; wait) & sleep 1000' &
         while true; do sleep 1000; done"
    )
}

const FAMILY_SIZE: usize = 4;

#[test]
fn what_an_earlier_start_left_keeps_no_node_from_starting() {
    let directory = tempfile::tempdir().expect("temporary directory");
    as_nobody(directory.path(), || {
        let work = directory.path().join("work");
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its owner's");
        };
        let leave = || {
            std::fs::create_dir_all(work.join("left/closed/inside")).expect("made");
            set(&work.join("left/closed"), 0);
        };
        leave();
        executor(directory.path(), ProcessPolicy::Any);
        assert_eq!(std::fs::read_dir(&work).expect("work").count(), 0);
        leave();
        set(&work, 0o500);
        executor(directory.path(), ProcessPolicy::Any);
        assert_eq!(std::fs::read_dir(&work).expect("work").count(), 1, "what cannot be removed stays");
        set(&work, 0o700);
    });
}

#[tokio::test]
async fn the_exit_code_is_the_end() {
    assert_eq!(run(shell("exit 0")).await.end, exit(0));
    assert_eq!(run(shell("exit 3")).await.end, exit(3));
    assert_eq!(run(shell("exit 127")).await.end, exit(127));
    let killed = AttemptFailure {
        result: Some(r#"{"signal":9}"#.into()),
        ..failure(FailureClass::Signal(9), "killed by SIGKILL")
    };
    assert_eq!(run(shell("kill -9 $$")).await.end, killed.into());
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let missing = ProcessAction { program: "/nowhere/tool".into(), ..shell("") };
    let error = "/nowhere/tool cannot be started: No such file or directory (os error 2)";
    assert_eq!(run(missing).await.end, failed(error));
    let not_a_program = ProcessAction { program: "/etc/passwd".into(), ..shell("") };
    let AttemptEnd::Failed(AttemptFailure { error, .. }) = run(not_a_program).await.end else {
        panic!("started")
    };
    assert!(error.starts_with("/etc/passwd cannot be started: "), "{error}");
}

#[tokio::test]
async fn what_is_not_listed_does_not_run() {
    let directory = tempfile::tempdir().expect("temporary directory");
    for (policy, expected) in [
        (
            ProcessPolicy::Listed(vec![]),
            "programs do not run on this node: its `execution.process_allow` is empty",
        ),
        (
            ProcessPolicy::Listed(vec!["/bin/sh2".into()]),
            "`execution.process_allow` of this node does not list /bin/sh",
        ),
    ] {
        let order = order(Action::Process(shell("exit 0")));
        let end = executor(directory.path(), policy)
            .run(order, Captured::new(), CancellationToken::new())
            .await
            .end;
        assert_eq!(end, failure(FailureClass::NotAllowed, expected).into());
    }
    let listed = ProcessPolicy::Listed(vec!["/bin/sh".into()]);
    let order = order(Action::Process(shell("exit 0")));
    let end =
        executor(directory.path(), listed).run(order, Captured::new(), CancellationToken::new()).await.end;
    assert_eq!(end, exit(0));
}

#[tokio::test]
async fn a_program_finds_nothing_but_what_it_was_given() {
    let mut action = shell("env; echo files: $(ls -A); pwd; cat; echo error >&2");
    action.env = [("MINE", "1"), ("ESCAPEMENT_ATTEMPT", "forged")]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
    action.stdin = Some("line of input\n".into());
    let ran = run(action).await;
    assert_eq!(ran.end, exit(0));
    let lines = ran.stdout();
    let variables: Vec<_> =
        lines.iter().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let mut expected = vec![
        "ESCAPEMENT_ATTEMPT",
        "ESCAPEMENT_EXECUTION_ID",
        "ESCAPEMENT_FAILED_ITEMS_FILE",
        "ESCAPEMENT_FENCING_TOKEN",
        "ESCAPEMENT_IDEMPOTENCY_KEY",
        "ESCAPEMENT_SCHEDULED_AT",
        "ESCAPEMENT_TASK_ID",
        "ESCAPEMENT_TRACEPARENT",
        "MINE",
        "PATH",
    ];
    // Set by the shell itself.
    let mut found: Vec<_> =
        variables.into_iter().filter(|name| !["PWD", "SHLVL", "_", "OLDPWD"].contains(name)).collect();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
    for line in ["ESCAPEMENT_ATTEMPT=2", "ESCAPEMENT_FENCING_TOKEN=77", "files:", "line of input"] {
        assert!(lines.iter().any(|found| found == line), "no `{line}` in {lines:?}");
    }
    assert!(ran.captured.of(OutputStream::Stderr).contains(&"error".to_owned()));
    let work = ran.directory.path().join("work");
    assert!(lines.iter().any(|line| line.starts_with(&*work.to_string_lossy())), "{lines:?}");
    assert_eq!(std::fs::read_dir(work).expect("work").count(), 0, "the working directory is gone");
}

#[tokio::test]
async fn a_program_names_what_failed_and_is_told_what_failed_before() {
    let script = r#"printf '%s\n' "$ESCAPEMENT_RETRY_ITEMS" b > "$ESCAPEMENT_FAILED_ITEMS_FILE"; exit "#;
    let named = |code: u8, items: &str| {
        let action = Action::Process(shell(&format!("{script}{code}")));
        let order = AttemptOrder { retry_items: Some(items.into()), ..order(action) };
        async move {
            let directory = tempfile::tempdir().expect("temporary directory");
            let captured = Captured::new();
            let executor = executor(directory.path(), ProcessPolicy::Any);
            let end = executor.run(order, captured.clone(), CancellationToken::new()).await.end;
            (end, captured.of(OutputStream::System))
        }
    };
    let AttemptEnd::Failed(failure) = named(3, "a").await.0 else { panic!("it failed") };
    assert_eq!(failure.failed_items.as_deref(), Some(r#"["a","b"]"#));
    let (end, said) = named(3, r#"["a"#).await;
    assert!(matches!(end, AttemptEnd::Failed(AttemptFailure { failed_items: None, .. })), "{end:?}");
    assert!(said.iter().any(|line| line.contains("begins as a JSON list")), "{said:?}");
    assert_eq!(named(0, "a").await.0, exit(0), "what succeeded did not fail");
}

#[tokio::test]
async fn a_program_inherits_no_descriptor_of_the_node() {
    let given = std::fs::File::open("/dev/null").expect("a descriptor");
    // As if whoever started the node had left it open.
    rustix::io::fcntl_setfd(&given, rustix::io::FdFlags::empty()).expect("set");
    let list = ProcessAction { program: "/bin/ls".into(), args: vec!["/proc/self/fd".into()], ..shell("") };
    assert_eq!(run(list).await.stdout(), ["0", "1", "2", "3"], "the standard three, and the list's own");
}

#[tokio::test]
async fn too_much_output_is_cut_and_does_not_hold_the_program_up() {
    let ran = run(shell("i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done")).await;
    assert_eq!(ran.end, exit(0));
    let cut = "the output was cut off here: it is longer than 10000 bytes".to_owned();
    assert_eq!(ran.captured.of(OutputStream::System), [cut, "exit code 0".into()]);
    assert!(ran.stdout().len() < 1_000);
}

#[tokio::test]
async fn limits_hold() {
    let mut action = shell("ulimit -n; ulimit -c; ulimit -v");
    action.limits = ProcessLimits { memory: Some(1 << 30), open_files: Some(17), ..ProcessLimits::default() };
    assert_eq!(run(action).await.stdout(), ["17", "0", "1048576"]);

    let mut busy = shell("while true; do :; done");
    busy.limits.cpu_time = Some(Span(500));
    let AttemptEnd::Failed(AttemptFailure { error, .. }) = run(busy).await.end else {
        panic!("it should have been stopped")
    };
    assert!(error.contains("used up its processor time"), "{error}");
}

#[tokio::test]
async fn what_a_program_used_is_told() {
    let busy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
    let hungry = "head -c 60000000 /dev/zero | tail -c 1 | wc -c";
    let used = run(shell(&format!("{busy}; {hungry}"))).await.usage.expect("it was counted");
    assert!(used.cpu_ms >= 20, "{used:?}");
    let more = run(shell("v=$(head -c 80000000 /dev/zero | tr '\\0' 'x'); echo ${#v}")).await.usage;
    let more = more.expect("it was counted");
    assert!(more.peak_memory_bytes > 70_000_000, "{more:?}");
    let idle = run(shell("sleep 0.3")).await.usage.expect("it was counted");
    assert!(idle.cpu_ms < 300 && idle.peak_memory_bytes < more.peak_memory_bytes, "{idle:?}");
}

/// A clock that goes on, unlike that of the other tests.
struct Ticking(tokio::time::Instant);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Its wait for a place among those that are being started is a part of its time.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the clock of the test has to begin")]
async fn a_program_that_was_started_late_ends_at_its_timeout_all_the_same() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let launcher = LauncherCommand { arguments: AS_LAUNCHER.map(Into::into).into() };
    let (clock, work) = (Arc::new(Ticking(tokio::time::Instant::now())), directory.path().join("work"));
    let executor = ProcessExecutor::new(ProcessPolicy::Any, None, work, 10_000, launcher, clock.clone());
    let executor = executor.expect("work directory");
    let places = executor.0.starting.available_permits();
    let all = u32::try_from(places).expect("few");
    let taken = executor.0.starting.clone().acquire_many_owned(all).await.expect("nobody else starts");
    let (timeout, waits) = (Span::seconds(4), Duration::from_secs(3));
    let order = AttemptOrder { timeout, ..order(Action::Process(shell("sleep 60"))) };
    let begun = clock.monotonic();
    let running = tokio::spawn(executor.run(order, Captured::new(), CancellationToken::new()));
    tokio::time::sleep(waits).await;
    drop(taken);
    assert_eq!(running.await.expect("no panic").end, AttemptEnd::TimedOut);
    let took = clock.monotonic() - begun;
    assert!(took < waits + Duration::from(timeout), "{took:?}");
}

#[tokio::test]
async fn a_program_may_end_in_its_own_way_when_it_is_cancelled() {
    let cancel = CancellationToken::new();
    let script = "trap 'echo ending; exit 0' TERM; echo ready; while true; do sleep 0.01; done";
    let directory = tempfile::tempdir().expect("temporary directory");
    let captured = Captured::new();
    let order = order(Action::Process(shell(script)));
    let running = executor(directory.path(), ProcessPolicy::Any).run(order, captured.clone(), cancel.clone());
    let running = tokio::spawn(running);
    until("ready", || captured.of(OutputStream::Stdout).contains(&"ready".into())).await;
    cancel.cancel();
    assert_eq!(running.await.expect("no panic").end, AttemptEnd::Cancelled);
    assert!(captured.of(OutputStream::Stdout).contains(&"ending".into()));
}

#[tokio::test]
async fn a_whole_family_is_gone_after_the_timeout() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let pids = directory.path().join("pids");
    let ran = run_for(shell(&family(&pids)), Span::seconds(3), CancellationToken::new()).await;
    assert_eq!(ran.end, AttemptEnd::TimedOut);
    let family = pids_in(&pids);
    assert!((1..=FAMILY_SIZE).contains(&family.len()), "a busy machine may not have started all of it");
    assert!(
        !family.iter().any(|pid| is_alive(pid)),
        "when the attempt has ended, so has all that it started"
    );
}

#[tokio::test]
async fn what_a_program_leaves_behind_ends_with_it() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let pids = directory.path().join("pids");
    let script =
        format!("setsid sleep 1000 & echo $! >> {0}; sleep 1000 & echo $! >> {0}; exit 0", pids.display());
    assert_eq!(run(shell(&script)).await.end, exit(0));
    assert!(pids_in(&pids).len() == 2 && !pids_in(&pids).iter().any(|pid| is_alive(pid)));
}

#[tokio::test]
async fn a_whole_family_is_gone_when_the_future_is_dropped() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let pids = directory.path().join("pids");
    let order = order(Action::Process(shell(&family(&pids))));
    let executor = executor(directory.path(), ProcessPolicy::Any);
    let running = tokio::spawn(executor.run(order, Captured::new(), CancellationToken::new()));
    until("the family is there", || pids_in(&pids).len() == FAMILY_SIZE).await;
    assert!(pids_in(&pids).iter().all(|pid| is_alive(pid)));
    running.abort();
    until("the family is gone", || !pids_in(&pids).iter().any(|pid| is_alive(pid))).await;
    let work = directory.path().join("work");
    until("its directory is gone", || std::fs::read_dir(&work).expect("work").count() == 0).await;
}

/// Not a test but the node that the next one kills; does nothing when the tests are run.
#[tokio::test]
async fn node_that_is_killed() {
    let Some(directory) = std::env::var_os(VICTIM_VARIABLE).map(PathBuf::from) else { return };
    let order = order(Action::Process(shell(&family(&directory.join("pids")))));
    executor(&directory, ProcessPolicy::Any).run(order, Captured::new(), CancellationToken::new()).await;
}

#[tokio::test]
async fn a_whole_family_is_gone_when_the_node_is_killed() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let pids = directory.path().join("pids");
    let mut node = Command::new("/proc/self/exe")
        .args(["executor::process::tests::node_that_is_killed", "--exact", "--nocapture"])
        .env(VICTIM_VARIABLE, directory.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("a second node");
    until("the family is there", || pids_in(&pids).len() == FAMILY_SIZE).await;
    assert!(pids_in(&pids).iter().all(|pid| is_alive(pid)));
    node.kill().await.expect("SIGKILL");
    until("the family is gone", || !pids_in(&pids).iter().any(|pid| is_alive(pid))).await;
    let work = directory.path().join("work");
    until("its directory is gone", || std::fs::read_dir(&work).expect("work").count() == 0).await;
}

#[tokio::test]
async fn a_guardian_that_is_killed_takes_the_group_with_it() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let pids = directory.path().join("pids");
    let script =
        format!("echo $PPID >> {0}; echo $$ >> {0}; sleep 1000 & echo $! >> {0}; wait", pids.display());
    let order = order(Action::Process(shell(&script)));
    let executor = executor(directory.path(), ProcessPolicy::Any);
    let running = tokio::spawn(executor.run(order, Captured::new(), CancellationToken::new()));
    until("the program is there", || pids_in(&pids).len() == 3).await;
    let guardian = pids_in(&pids)[0].parse().ok().and_then(Pid::from_raw).expect("a process id");
    rustix::process::kill_process(guardian, Signal::KILL).expect("SIGKILL");
    let AttemptEnd::Failed(AttemptFailure { error, .. }) = running.await.expect("no panic").end else {
        panic!("it did not end well")
    };
    assert_eq!(error, "the program's guardian went without a word; the program was killed");
    until("the group is gone", || !pids_in(&pids).iter().any(|pid| is_alive(pid))).await;
}
