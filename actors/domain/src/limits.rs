//! Every maximum, with its unit, and how they relate.

use crate::timestamp::Span;

/// Bytes of one encoded command.
pub const COMMAND_BYTES_MAX: usize = 256 * 1024;
/// Bytes of one encoded event body.
pub const EVENT_BYTES_MAX: usize = 512 * 1024;
/// Bytes of one encoded definition: room is left in its command for the rest.
pub const DEFINITION_BYTES_MAX: usize = 192 * 1024;
/// Bytes of one message of the snapshot.
pub const SNAPSHOT_PART_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Due occurrences that one fire command carries.
pub const FIRES_PER_COMMAND_MAX: usize = 2_048;
/// Tasks that one create command carries.
pub const CREATES_PER_COMMAND_MAX: usize = 512;
/// Results that one report carries.
pub const RESULTS_PER_COMMAND_MAX: usize = 1_024;
/// Attempts that one command may grant; the leader continues with the rest.
pub const GRANTS_PER_COMMAND_MAX: usize = 2_048;
/// Attempts of a lost worker that one command takes back; the leader continues with the rest.
pub const LOSSES_PER_COMMAND_MAX: usize = 512;
/// Open executions that one task may have.
pub const OPEN_EXECUTIONS_PER_TASK_MAX: usize = 1_000;
/// Executions whose waits end in one command.
pub const WAITS_PER_COMMAND_MAX: usize = 1_024;

/// Tasks of one bulk.
pub const BULK_TASKS_MAX: usize = 10_000;

/// Executions for which one idempotency key may stand.
pub const EXECUTIONS_CHOSEN_MAX: usize = 1_000;
/// Nodes that may be drained at once, those that were removed since among them.
pub const DRAINED_NODES_MAX: usize = 1_024;
/// Attempts at once on one worker.
pub const SLOTS_MAX: u32 = 65_536;
/// Attempts that a definition may ask for.
pub const ATTEMPTS_MAX: u32 = 1_000;
/// The highest priority.
pub const PRIORITY_MAX: u8 = 9;
/// Tenants of one cluster.
pub const TENANTS_MAX: usize = 100_000;
/// Tasks of one cluster.
pub const TASKS_MAX: usize = 50_000_000;

/// Bytes of a task's name.
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes of a task's description.
pub const DESCRIPTION_BYTES_MAX: usize = 4_096;
/// Labels of one task.
pub const LABELS_MAX: usize = 64;
/// Bytes of a label's name or value.
pub const LABEL_BYTES_MAX: usize = 256;
/// Bytes of an attempt's result that are kept.
pub const RESULT_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an attempt's error that are kept.
pub const ERROR_BYTES_MAX: usize = 4 * 1024;
/// Bytes of an idempotency key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Calendars of one tenant.
pub const CALENDARS_MAX: usize = 1_000;
/// Calendars that one task names.
pub const CALENDARS_PER_TASK_MAX: usize = 16;
/// Pools of one tenant.
pub const POOLS_MAX: usize = 1_000;
/// Limits of one tenant.
pub const LIMITS_MAX: usize = 1_000;
/// Pools that one task asks for shares of.
pub const RESOURCES_PER_TASK_MAX: usize = 16;
/// Failures in a row that a breaker may wait for.
pub const FAILURE_THRESHOLD_MAX: u32 = 1_000;
/// The most that a pool or a limit can hold.
pub const CAPACITY_MAX: u32 = 1_000_000;
/// Targets of one tenant of which something is remembered.
pub const BREAKERS_MAX: usize = 10_000;
/// Queues of one tenant that are paused.
pub const PAUSED_QUEUES_MAX: usize = 10_000;
/// Days and ranges of days of one calendar.
pub const CALENDAR_DAYS_MAX: usize = 5_000;
/// Windows of one calendar.
pub const CALENDAR_WINDOWS_MAX: usize = 200;
/// Coming occurrences of one task that are skipped or moved by hand.
pub const OVERRIDES_PER_TASK_MAX: usize = 1_000;
/// Instants of one backfill.
pub const BACKFILL_INSTANTS_MAX: usize = 10_000;
/// Executions of one backfill at once.
pub const BACKFILL_CONCURRENCY_MAX: u32 = 100;
/// Backfills of one task that have not ended.
pub const BACKFILLS_PER_TASK_MAX: usize = 10;
/// Tasks after which one task runs.
pub const AWAITED_PER_TASK_MAX: usize = 32;
/// Tasks that run after one task.
pub const SUCCESSORS_PER_TASK_MAX: usize = 64;
/// Tasks that hang together by running after each other.
pub const CHAIN_TASKS_MAX: usize = 256;
/// Tasks of which each runs after the one before.
pub const CHAIN_DEPTH_MAX: usize = 64;
/// Steps of chains that one command begins or skips; the leader continues with the rest.
pub const STEPS_PER_COMMAND_MAX: usize = 512;
/// Tasks that one command plans anew.
pub const REPLANS_PER_COMMAND_MAX: usize = 4_096;

/// Executions that one lease command takes from a queue.
pub const LEASES_PER_COMMAND_MAX: usize = 100;
/// Leases that one command ends.
pub const LEASE_ENDS_PER_COMMAND_MAX: usize = 1_024;
/// How much longer than a worker waits its queue counts as attended: until it has had time to ask again.
pub const ATTENDANCE_GRACE: Span = Span::seconds(10);
/// Queues whose attendance one command ends.
pub const ATTENDANCES_PER_COMMAND_MAX: usize = 64;
/// The shortest lease of a worker outside the cluster.
pub const LEASE_MIN: Span = Span::seconds(1);
/// The longest lease of a worker outside the cluster.
pub const LEASE_MAX: Span = Span::hours(1);
/// Bytes of what a worker outside the cluster calls itself, and of a queue's name.
pub const WORKER_NAME_BYTES_MAX: usize = 128;
/// Bytes of a message about progress.
pub const PROGRESS_BYTES_MAX: usize = 1_024;
/// Breakers whose time is over in one command.
pub const BREAKERS_PER_COMMAND_MAX: usize = 1_024;
/// Ranges of statuses, or of exit codes, that a definition may list.
pub const RETRY_ON_RANGES_MAX: usize = 32;
/// The longest wait that a target may ask for; longer ones are cut to it.
pub const RETRY_AFTER_MAX: Span = Span::hours(24);
/// Bytes of the list of an attempt's failed items.
pub const FAILED_ITEMS_BYTES_MAX: usize = RESULT_BYTES_MAX;

/// Bytes of an event's name.
pub const EVENT_NAME_BYTES_MAX: usize = 256;
/// Bytes of an event's payload.
pub const EVENT_PAYLOAD_BYTES_MAX: usize = 16 * 1024;
/// Values of an event's payload that one filter holds against others.
pub const FILTER_VALUES_MAX: usize = 16;
/// Bytes of one value of a filter.
pub const FILTER_VALUE_BYTES_MAX: usize = 1_024;
/// Bytes of a JSON Pointer.
pub const POINTER_BYTES_MAX: usize = 1_024;
/// Listening tasks that one command holds an event against; the leader continues with the rest.
pub const LISTENERS_PER_COMMAND_MAX: usize = 512;
/// Events of one tenant that are being handed out or have open executions.
pub const EVENTS_KEPT_MAX: usize = 10_000;
/// Executions of an event that the answer to its publisher names.
pub const EVENT_EXECUTIONS_TOLD_MAX: usize = 20;
/// Values of its cause that an execution takes over.
pub const INPUTS_MAX: usize = 64;
/// Bytes of an action's JSON with the values of its cause in it.
pub const RESOLVED_BYTES_MAX: usize = DEFINITION_BYTES_MAX;

/// The shortest distance between two instants of an interval.
pub const INTERVAL_MIN: Span = Span::seconds(1);
/// The longest time-out of an attempt.
pub const TIMEOUT_MAX: Span = Span::hours(24 * 7);
/// The longest span that a definition may hold anywhere.
pub const SPAN_MAX: Span = Span::hours(24 * 366 * 10);
/// How long a command's outcome is remembered by the command's id.
pub const COMMAND_WINDOW: Span = Span::minutes(10);
/// How long a client's idempotency key is remembered.
pub const IDEMPOTENCY_WINDOW: Span = Span::hours(1);
/// How long the parts of an atomic bulk wait for its commit.
pub const STAGE_LIFETIME: Span = Span::minutes(2);

const _: () = assert!(DEFINITION_BYTES_MAX < COMMAND_BYTES_MAX, "a definition fits into its command");
const _: () = assert!(
    EXECUTIONS_CHOSEN_MAX * 20 <= COMMAND_BYTES_MAX,
    "the executions for which a key stands fit into their command"
);
const _: () = assert!(COMMAND_BYTES_MAX <= EVENT_BYTES_MAX, "what a command carries fits into an event");
const _: () =
    assert!(FIRES_PER_COMMAND_MAX * 64 <= COMMAND_BYTES_MAX, "a full fire command fits into an entry");
const _: () = assert!(
    RESULT_BYTES_MAX + ERROR_BYTES_MAX + FAILED_ITEMS_BYTES_MAX < COMMAND_BYTES_MAX / 4,
    "several results fit into a report"
);
const _: () = assert!(
    BACKFILL_INSTANTS_MAX * 10 < COMMAND_BYTES_MAX,
    "the instants of a backfill fit into its command"
);
const _: () = assert!(
    FILTER_VALUES_MAX * (FILTER_VALUE_BYTES_MAX + POINTER_BYTES_MAX) < DEFINITION_BYTES_MAX / 4,
    "a full filter leaves room in its definition"
);
const _: () = assert!(EVENT_PAYLOAD_BYTES_MAX < COMMAND_BYTES_MAX / 4, "a payload fits into its command");
const _: () = assert!(REPLANS_PER_COMMAND_MAX * 32 <= COMMAND_BYTES_MAX, "a full replan fits into an entry");
const _: () = assert!(COMMAND_WINDOW.0 <= IDEMPOTENCY_WINDOW.0, "a key outlives the command that it named");
