//! What is told of events at rest.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use escapement_actors::machine::Machine;
use escapement_actors::ports::{Storage, Tree, Write};
use escapement_actors::projection::{FaultKind, Projections, dump};
use escapement_domain::command::{
    AttemptOutcome, AttemptResult, Client, Command, Due, NewTask, Offers, Origin, Programs, Report, Request,
};
use escapement_domain::identifier::{CommandId, Incarnation, NodeId, TaskId, TenantId};
use escapement_domain::record::Hash;
use escapement_domain::replica::Replica;
use escapement_domain::task::action::{Action, Completion, HttpAction};
use escapement_domain::task::definition::{Definition, Kind, Overlap, Retry};
use escapement_domain::task::rules::Rules;
use escapement_domain::task::sealed::Sealed;
use escapement_domain::task::trigger::{Dst, Trigger};
use escapement_domain::timestamp::{Span, Timestamp};
use serde_json::Value;

use super::*;
use crate::store::{MemoryStorage, SledStorage, StorageOptions};

const NOW: i64 = 1_700_000_000_000;
const WORKER: (NodeId, Incarnation) = (NodeId(1), Incarnation(11));

fn definition() -> Definition {
    let trigger = Trigger::Cron {
        expression: "0 2 * * 1-5".into(),
        timezone: "Europe/Berlin".into(),
        dst: Dst::default(),
    };
    let action = Action::Http(HttpAction {
        method: "POST".into(),
        url: "https://runner.example/suites/7".into(),
        headers: BTreeMap::new(),
        body: Some("{\"suite\":7}".into()),
        completion: Completion::Response,
    });
    Definition {
        kind: Kind::TestExecution,
        timeout: Span::minutes(10),
        retry: Retry::DEFAULT,
        overlap: Overlap::Allow,
        ..Definition::new("nightly, \"quoted\"", trigger, action)
    }
}

/// A machine that is played with commands, one a second.
struct Player {
    machine: Arc<Machine>,
    index: u64,
}

impl Player {
    fn apply(&mut self, origin: Origin, request: Request) {
        self.index += 1;
        let at = Timestamp(NOW + 1_000 * i64::try_from(self.index).expect("few"));
        let command = Command { stamp: at.into(), origin, request };
        self.machine.apply(self.index, &[Bytes::from(command.encode())]).expect("of this version");
    }

    fn client(&mut self, tenant: &str, request: Request) {
        let client = Client {
            command: CommandId(u128::from(self.index) + 1),
            issued_at: Timestamp(NOW),
            idempotency: None,
            tenant: tenant.into(),
            subject: "ann".into(),
            correlation_id: "request-1".into(),
        };
        self.apply(Origin::Client(client), request);
    }

    fn create(&mut self, tenant: &str, id: u128, next: i64) {
        let definition = definition();
        let task = NewTask {
            task: TaskId(id),
            rules: Box::new(Rules::of(&definition)),
            definition: Sealed::definition(&definition),
            created_at: Timestamp(NOW),
            next: Some(Timestamp(NOW + next)),
            paused: false,
        };
        self.client(tenant, Request::CreateTasks(vec![task]));
    }

    fn run_through(&mut self, tenant: TenantId, id: u128) {
        let due = self.machine.read(|replica| {
            let task = replica.task(tenant, TaskId(id)).expect("there");
            let due = task.next.expect("to come");
            let next = Some(Timestamp(due.0 + 500));
            Due { slot: task.slot, revision: task.revision, due, passed: None, next, next_allowed: next }
        });
        self.apply(Origin::Scheduler, Request::Fire(vec![due]));
        let open = self.machine.read(|replica| replica.executions().values().next().cloned());
        let Some(open) = open else { return };
        let result = AttemptResult {
            execution: open.id,
            tenant,
            token: open.grant().expect("running").token,
            started_at: Timestamp(NOW),
            finished_at: Timestamp(NOW + 5),
            outcome: AttemptOutcome::Succeeded(Some(Sealed::in_clear(b"{\"passed\":12}".to_vec()))),
            usage: None,
        };
        let (node, incarnation) = WORKER;
        let report = Report { node, incarnation, sequence: self.index, results: vec![result] };
        self.apply(Origin::Scheduler, Request::Report(report));
    }
}

fn play(machine: Arc<Machine>) {
    let mut player = Player { machine, index: 0 };
    let offers = Offers { http: true, builtin: true, programs: Programs::Any };
    let (node, incarnation) = WORKER;
    player.apply(Origin::Scheduler, Request::JoinWorker { node, incarnation, slots: 4, offers });
    player.create("acme", 1, 100);
    player.create("acme", 2, 1_000_000);
    player.create("globex", 101, 100);
    for _ in 0..5 {
        player.run_through(TenantId(1), 1);
        player.run_through(TenantId(2), 101);
    }
    player.client("acme", Request::PauseTask { task: TaskId(2) });
}

/// Plays a little, and leaves what a node would have left in the storage.
fn played(storage: Arc<dyn Storage>) -> Arc<Machine> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let machine = Arc::new(Machine::default());
        let projections = Projections::start(machine.clone(), storage).expect("empty");
        play(machine.clone());
        projections.stop().await.expect("written");
        machine
    })
}

fn in_memory() -> (Arc<Machine>, Archive, Arc<MemoryStorage>) {
    let storage = Arc::new(MemoryStorage::new());
    let machine = played(storage.clone());
    (machine, Archive::of(storage.clone()).expect("readable"), storage)
}

fn everything() -> ExportOptions {
    ExportOptions { format: Format::Jsonl, from: None, to: None, tenant: None, task: None }
}

fn exported(node: &Archive, options: &ExportOptions) -> Vec<Value> {
    let mut out = Vec::new();
    let exported = export(node, options, &mut out, &mut |_, _| {}).expect("exported");
    let text = String::from_utf8(out).expect("UTF-8");
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(exported.events, events.len() as u64);
    events
}

#[test]
fn an_export_tells_every_event_once_in_the_order_of_the_log() {
    let (machine, node, _) = in_memory();
    let events = exported(&node, &everything());
    let expected: u64 =
        machine.read(|replica| replica.tenants().iter().map(|tenant| tenant.head.sequence).sum());
    assert_eq!(events.len() as u64, expected);
    assert!(events.is_sorted_by_key(|event| event["log_index"].as_u64()));
    let first = events.iter().find(|event| event["type"] == "TaskCreated").expect("created");
    let fields: Vec<&String> = first.as_object().expect("an object").keys().collect();
    assert_eq!(
        fields,
        [
            "actor",
            "at",
            "correlation_id",
            "data",
            "hash",
            "log_index",
            "previous_hash",
            "seq",
            "tenant",
            "type"
        ]
    );
    assert_eq!((first["actor"].as_str(), first["tenant"].as_str()), (Some("ann"), Some("acme")));
    assert_eq!(first["at"], "2023-11-14T22:13:22.000Z");
    assert_eq!(first["data"]["definition"]["trigger"]["timezone"], "Europe/Berlin");
    assert_eq!(first["data"]["definition"]["timeout"], "10m");
    assert_eq!(first["data"]["definition"]["retry"]["multiplier"], 2.0);
    assert_eq!(first["data"]["definition"]["action"]["body"]["suite"], 7);
    let completed = events.iter().find(|event| event["type"] == "TaskCompleted").expect("completed");
    assert_eq!(completed["data"]["result"]["passed"], 12);
    assert_eq!((completed["actor"].as_str()), Some("scheduler"));
    assert_eq!(completed["correlation_id"], completed["data"]["execution_id"]);
    let names =
        ["CommandAnswered", "TaskPaused", "TaskScheduled", "TaskStarted", "TenantAdded", "WorkerJoined"];
    for name in names {
        assert!(events.iter().any(|event| event["type"] == name && event["data"].is_object()), "{name}");
    }
}

#[test]
fn a_chain_can_be_followed_in_an_export() {
    let (_, node, _) = in_memory();
    let events = exported(&node, &ExportOptions { tenant: Some("acme".into()), ..everything() });
    assert!(events.windows(2).all(|pair| pair[0]["hash"] == pair[1]["previous_hash"]));
    assert!(events.iter().zip(1..).all(|(event, seq)| event["seq"] == seq));
}

#[test]
fn an_export_is_narrowed_by_time_and_task() {
    let (_, node, _) = in_memory();
    let all = exported(&node, &everything());
    let (from, to) = (Timestamp(NOW + 6_000), Timestamp(NOW + 9_000));
    let some = exported(&node, &ExportOptions { from: Some(from), to: Some(to), ..everything() });
    let within = |event: &&Value| {
        let at = Timestamp::parse(event["at"].as_str().expect("an instant")).expect("RFC 3339");
        from <= at && at < to
    };
    assert!(!some.is_empty());
    assert_eq!(some, all.iter().filter(within).cloned().collect::<Vec<_>>());
    let task = TaskId(101);
    let of_task = exported(&node, &ExportOptions { task: Some(task), ..everything() });
    assert!(of_task.len() > 10 && of_task.iter().all(|event| event["data"]["task_id"] == task.to_string()));
    let unknown = ExportOptions { tenant: Some("nobody".into()), ..everything() };
    assert!(matches!(
        export(&node, &unknown, &mut Vec::new(), &mut |_, _| {}),
        Err(AuditError::NoSuchTenant { .. })
    ));
}

#[test]
fn csv_quotes_what_must_be_quoted() {
    let (_, node, _) = in_memory();
    let mut out = Vec::new();
    let options = ExportOptions { format: Format::Csv, task: Some(TaskId(1)), ..everything() };
    export(&node, &options, &mut out, &mut |_, _| {}).expect("exported");
    let text = String::from_utf8(out).expect("UTF-8");
    let mut lines = text.split_terminator("\r\n");
    assert_eq!(
        lines.next(),
        Some("seq,log_index,at,tenant,actor,correlation_id,type,data,hash,previous_hash")
    );
    let created = lines.next().expect("an event");
    assert!(created.contains(",TaskCreated,\"{\"\"created_at\"\":"), "{created}");
    assert!(created.contains(r#"nightly, \""quoted\"""#), "{created}");
}

#[test]
fn a_sound_log_verifies_and_says_where_it_ends() {
    let (machine, node, _) = in_memory();
    let mut told = (0, 0);
    let verified = verify(&node, None, &mut |done, total| told = (done, total)).expect("sound");
    assert_eq!(told.0, told.1);
    let heads = machine.read(|replica| replica.tenants().to_vec());
    for (verified, tenant) in verified.tenants.iter().zip(heads) {
        assert_eq!((verified.name.as_str(), verified.head), (&*tenant.name, tenant.head));
    }
    assert_eq!(verified.log_index, machine.applied());
}

/// Changes a tenant's only block.
fn tamper(storage: &MemoryStorage, tenant: u8, change: impl FnOnce(&mut Vec<u8>)) {
    let blocks = dump(storage, Tree::EventBlocks).expect("memory");
    let (key, mut block) = blocks.into_iter().find(|(key, _)| key[7] == tenant).expect("a block");
    change(&mut block);
    storage.write(vec![Write { tree: Tree::EventBlocks, key, value: Some(block) }]).expect("memory");
}

#[test]
fn a_changed_event_is_named_with_its_tenant() {
    let (_, _, storage) = in_memory();
    tamper(&storage, 2, |block| {
        let at = block.windows(6).position(|window| window == b"Europe").expect("the definition");
        block[at] = b'e';
    });
    let node = Archive::of(storage).expect("the ends are intact");
    let error = verify(&node, None, &mut |_, _| {}).expect_err("changed");
    let AuditError::Broken { tenant, fault } = &error else { panic!("{error}") };
    assert_eq!((tenant.as_str(), fault.sequence, &fault.kind), ("globex", 1, &FaultKind::Changed));
    assert!(export(&node, &everything(), &mut Vec::new(), &mut |_, _| {}).is_err());
    assert!(replay(&node, &ReplayOptions::default(), &mut Vec::new(), &mut |_, _| {}).is_err());
}

/// Cuts the last record off the second tenant's chain, and returns its sequence.
fn cut_end_off(archive: &Archive, storage: &MemoryStorage) -> u64 {
    let last = archive.log().head(TenantId(2)).sequence;
    // Each record's end is where a shorter copy of the chain would have ended.
    let before = archive.log().record(TenantId(2), last - 1).expect("intact").expect("there");
    tamper(storage, 2, |block| {
        let end = block.windows(32).position(|window| window == before.hash.0).expect("the hash");
        block.truncate(end + 32);
    });
    last
}

#[test]
fn an_end_that_was_cut_off_a_chain_is_named_by_what_the_read_models_had_reached() {
    let (_, archive, storage) = in_memory();
    let cut = cut_end_off(&archive, &storage);
    let archive = Archive::of(storage).expect("a sound end");
    let error = verify(&archive, None, &mut |_, _| {}).expect_err("cut off");
    let AuditError::Broken { tenant, fault } = &error else { panic!("{error}") };
    assert_eq!((tenant.as_str(), fault.sequence, &fault.kind), ("globex", cut, &FaultKind::Missing));
    assert!(verify(&archive, Some("acme"), &mut |_, _| {}).is_ok(), "the other chain holds");
    assert!(replay(&archive, &ReplayOptions::default(), &mut Vec::new(), &mut |_, _| {}).is_err());
}

#[test]
fn without_read_models_the_chain_that_lost_its_end_is_the_one_that_ends_too_early() {
    let (_, archive, storage) = in_memory();
    let cut = cut_end_off(&archive, &storage);
    storage.clear(Tree::Checkpoints).expect("memory");
    let error =
        verify(&Archive::of(storage).expect("a sound end"), None, &mut |_, _| {}).expect_err("cut off");
    let AuditError::CutOff { ends, .. } = &error else { panic!("{error}") };
    assert_eq!(ends[..], [("globex".to_owned(), cut)]);
    assert!(
        error.to_string().starts_with(&format!("record {cut} of tenant globex: it is missing")),
        "{error}"
    );
}

/// The blocks of a node as another place has them, with the ends that the node's state knows.
fn fetched(machine: &Machine, storage: Arc<MemoryStorage>, tenants: &[u32], state: Option<Hash>) -> Archive {
    let chains: Vec<KnownChain> = machine.read(|replica| {
        let known = replica.tenants().iter().zip(0..).filter(|(_, number)| tenants.contains(number));
        known
            .map(|(tenant, number)| KnownChain {
                tenant: TenantId(number),
                name: tenant.name.clone(),
                head: tenant.head,
            })
            .collect()
    });
    let known = Known { chains: &chains, whole: tenants.len() == 3, state };
    Archive::fetched(storage, &known, Box::new(()))
}

#[test]
fn fetched_blocks_are_verified_and_replayed_as_a_directory_is() {
    let (machine, archive, storage) = in_memory();
    let whole = fetched(&machine, storage.clone(), &[0, 1, 2], Some(machine.read(Replica::state_hash)));
    let told = |archive: &Archive| {
        let replayed = replay(archive, &ReplayOptions::default(), &mut Vec::new(), &mut |_, _| {});
        (verify(archive, None, &mut |_, _| {}).expect("sound"), replayed.expect("sound").to_json())
    };
    assert_eq!(told(&whole), told(&archive));
    let other = fetched(&machine, storage.clone(), &[0, 1, 2], Some(Hash::of(b"another state")));
    let refused =
        replay(&other, &ReplayOptions::default(), &mut Vec::new(), &mut |_, _| {}).expect_err("differs");
    assert!(matches!(refused, AuditError::OtherState { .. }), "{refused}");
    let one = fetched(&machine, storage.clone(), &[1], None);
    assert_eq!(verify(&one, None, &mut |_, _| {}).expect("sound").tenants.len(), 1);
    let refused =
        replay(&one, &ReplayOptions::default(), &mut Vec::new(), &mut |_, _| {}).expect_err("one tenant");
    assert!(matches!(refused, AuditError::Partial), "{refused}");
    let cut = cut_end_off(&archive, &storage);
    let error = verify(&fetched(&machine, storage, &[2], None), None, &mut |_, _| {}).expect_err("cut off");
    let AuditError::Broken { fault, .. } = &error else { panic!("{error}") };
    assert_eq!((fault.sequence, &fault.kind), (cut, &FaultKind::Missing));
}

#[test]
fn a_replay_has_the_hash_of_the_replica_and_tells_a_task() {
    let (machine, node, _) = in_memory();
    let mut out = Vec::new();
    let options = ReplayOptions { task: Some(TaskId(2)), ..ReplayOptions::default() };
    let replayed = replay(&node, &options, &mut out, &mut |_, _| {}).expect("intact");
    assert_eq!(replayed.state_hash, machine.read(Replica::state_hash));
    let report = replayed.to_json();
    assert_eq!(report["task"]["state"], "paused");
    assert_eq!(report["task"]["name"], "nightly, \"quoted\"");
    assert_eq!((report["tasks"].as_u64(), report["running"].as_u64()), (Some(3), Some(0)));
    let shown = String::from_utf8(out).expect("UTF-8");
    let types: Vec<Value> = shown
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["type"].clone())
        .collect();
    assert_eq!(types, ["TaskCreated", "TaskPaused"]);
}

#[test]
fn a_replay_ends_behind_a_sequence_or_an_instant() {
    let (_, node, _) = in_memory();
    let replayed = |options: &ReplayOptions| replay(&node, options, &mut Vec::new(), &mut |_, _| {});
    let until = Some(ReplayUntil::Instant(Timestamp(NOW + 2_000)));
    let early = replayed(&ReplayOptions { until, ..ReplayOptions::default() }).expect("intact");
    assert_eq!(early.replica.tasks().len(), 1);
    let until = Some(ReplayUntil::Sequence(1));
    let which = replayed(&ReplayOptions { until, ..ReplayOptions::default() }).expect_err("two tenants");
    assert!(matches!(which, AuditError::WhichTenant { tenants: 2 }), "{which}");
    let named = ReplayOptions { until, tenant: Some("acme".into()), task: None };
    assert_eq!(replayed(&named).expect("intact").replica.tasks().len(), 1);
    let by_task = ReplayOptions { until, tenant: None, task: Some(TaskId(101)) };
    let by_task = replayed(&by_task).expect("intact");
    assert_eq!(by_task.replica.tasks().len(), 3);
    assert_eq!(by_task.task.expect("created")["version"], 1);
    let unknown = ReplayOptions { task: Some(TaskId(9)), ..ReplayOptions::default() };
    assert!(matches!(replayed(&unknown), Err(AuditError::NoSuchTask { .. })));
}

fn lock(data: &Path) -> std::fs::File {
    let file = std::fs::File::create(data.join("LOCK")).expect("a file");
    file.lock().expect("free");
    file
}

#[test]
fn a_stopped_nodes_directory_is_read_and_a_running_nodes_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path();
    assert!(matches!(Archive::open(data), Err(AuditError::NoData { .. })));
    let options = StorageOptions { cache_bytes: 8 * 1024 * 1024 };
    let machine = played(Arc::new(SledStorage::open(&data.join("store"), &options).expect("opens")));
    let held = lock(data);
    assert!(matches!(Archive::open(data), Err(AuditError::Running { .. })));
    drop(held);
    let node = Archive::open(data).expect("nobody holds it");
    assert_eq!(node.tenants().map(|(_, name)| name).collect::<Vec<_>>(), ["$cluster", "acme", "globex"]);
    let verified = verify(&node, None, &mut |_, _| {}).expect("sound");
    assert_eq!(verified.log_index, machine.applied());
    assert!(matches!(Archive::open(data), Err(AuditError::Running { .. })), "it is held while it is read");
}
