//! Good files, and every fault that can be in one.

use super::*;

const NODES: &str = r#"
[[node]]
id = 2
api = "127.0.0.1:7071"
peer = "127.0.0.1:7171"
data = "data/2"
[[node]]
id = 1
api = "127.0.0.1:7070"
peer = "127.0.0.1:7170"
data = "/var/lib/escapement/1"
"#;

fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(Path::new("etc/cluster.toml"), text, variables)
}

/// The smallest good file, with more behind it.
fn with(more: &str) -> String {
    format!("[cluster]\nname = \"test\"\n[security]\njwt_key_file = \"jwt.key\"\n{more}\n{NODES}")
}

/// The faults of a file, without its name.
fn faults(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let error = parse(text, variables).expect_err("faulty").to_string();
    error.lines().map(|line| line.trim_start_matches("etc/cluster.toml").to_owned()).collect()
}

/// What is wrong with this beside an otherwise good file, whose line 5 it begins in.
#[track_caller]
fn check(more: &str, expected: &[&str]) {
    assert_eq!(faults(&with(more), &[]), expected);
}

#[test]
fn a_small_file_gets_defaults_and_paths_beside_itself() {
    let config = parse(&with(""), &[]).expect("good");
    assert_eq!(config.cluster, "test");
    let ids: Vec<_> = config.nodes.iter().map(|node| node.id.0).collect();
    assert_eq!(ids, [1, 2], "in order");
    assert_eq!(config.nodes[0].data, Path::new("/var/lib/escapement/1"));
    assert_eq!(config.nodes[1].data, Path::new("etc/data/2"));
    assert_eq!(config.nodes[0].public_url, "http://127.0.0.1:7070");
    assert_eq!(config.keys, KeySource::KeyFile("etc/jwt.key".into()));
    assert_eq!(config.raft.heartbeat, Duration::from_millis(50));
    assert_eq!(
        (config.raft.election_min, config.raft.election_max),
        (Duration::from_millis(200), Duration::from_millis(400))
    );
    assert_eq!(config.execution.process, ProcessPolicy::Listed(vec![]));
    assert_eq!(config.telemetry, TelemetryConfig { log_format: LogFormat::Human, level: "info".into() });
    assert_eq!(config.node(NodeId(2)).expect("there").api.port(), 7071);
    assert_eq!(
        config.node(NodeId(9)).expect_err("none").to_string(),
        "there is no node 9; the file lists [1, 2]"
    );
}

#[test]
fn every_key_is_read() {
    let config = parse(
        &with(
            r#"[raft]
            heartbeat = "100ms"
            election = ["1s", "2s"]
            snapshot_entries = 1000
            log_entries_kept = 2000
            [execution]
            slots = 7
            builtin = false
            process_allow = ["/usr/bin/true"]
            egress_allow = ["127.0.0.0/8", "::1"]
            output_bytes = 2048
            keep_output = "1d"
            [storage]
            cache_bytes = 16777216
            [telemetry]
            log_format = "json"
            level = "warn,escapement=debug""#,
        ),
        &[],
    )
    .expect("good");
    assert_eq!(config.raft.election_max, Duration::from_secs(2));
    assert_eq!((config.raft.snapshot_entries, config.raft.log_entries_kept), (1_000, 2_000));
    assert_eq!((config.execution.slots, config.execution.output_bytes), (7, 2_048));
    assert_eq!((config.execution.http, config.execution.builtin), (true, false));
    assert_eq!(config.execution.process, ProcessPolicy::Listed(vec!["/usr/bin/true".into()]));
    assert!(config.execution.egress.check("127.3.2.1".parse().expect("an address")).is_ok());
    assert!(config.execution.egress.check("10.0.0.1".parse().expect("an address")).is_err());
    assert_eq!(config.execution.keep_output, DAY);
    assert_eq!(config.storage.cache_bytes, 16 << 20);
    assert_eq!(config.telemetry.log_format, LogFormat::Json);
}

#[test]
fn a_node_may_be_found_elsewhere_than_it_listens() {
    let found = |url: &str| parse(&with(""), &[("ESCAPEMENT__NODE__1__PUBLIC_URL", url)]);
    let config = found("https://scheduler.example/prefix/").expect("good");
    assert_eq!(config.nodes[0].public_url, "https://scheduler.example/prefix");
    for (api, url) in [("0.0.0.0:8000", "http://127.0.0.1:8000"), ("[::]:8000", "http://127.0.0.1:8000")] {
        let everywhere = parse(&with(""), &[("ESCAPEMENT__NODE__1__API", api)]).expect("good");
        assert_eq!(everywhere.nodes[0].public_url, url, "as its peers find it");
    }
    for wrong in ["scheduler.example", "ftp://x", "https://x/?a=b", "https://me@x", "https://x#y", ""] {
        let error = found(wrong).expect_err(wrong).to_string();
        assert!(error.contains("node.public_url: must be an http or https URL"), "{error}");
    }
}

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn every_fault_is_told_with_its_line_and_what_is_allowed() {
    check(
        "[raft]\nelection = [\"20ms\", \"400ms\"]\nheartbeet = \"1s\"\n[execution]\nslots = 0\nprocess_allow = [\"true\", \"/bin/sh\"]",
        &[
            r#":6: raft.election: must be two durations, the first at least three times the heartbeat (50ms), the second longer and at most 1m; found ["20ms", "400ms"]"#,
            ":7: raft.heartbeet: there is no such key; did you mean raft.heartbeat?",
            ":9: execution.slots: must be a whole number from 1 to 65536; found 0",
            ":10: execution.process_allow: must be a list of absolute paths of programs: `true` is not one",
        ],
    );
}

#[test]
fn wrong_values_say_what_is_allowed() {
    check("[raft]\nheartbeat = 50", &[":6: raft.heartbeat: must be a duration from 5ms to 5s; found 50"]);
    check(
        "[execution]\nslots = \"many\"",
        &[r#":6: execution.slots: must be a whole number from 1 to 65536; found "many""#],
    );
    check(
        "[execution]\negress_allow = \"127.0.0.0/8\"",
        &[r#":6: execution.egress_allow: must be a list of ranges of addresses; found "127.0.0.0/8""#],
    );
    check(
        "[execution]\negress_allow = [\"10.0.0.1/8\"]",
        &[":6: execution.egress_allow: must be a list of ranges of addresses: \
           `10.0.0.1/8` has bits set behind its prefix; did you mean 10.0.0.0/8?"],
    );
    check(
        "[telemetry]\nlog_format = \"xml\"",
        &[r#":6: telemetry.log_format: must be human or json; found "xml""#],
    );
    // No more is kept of an attempt, whatever was asked for.
    check(
        "[execution]\noutput_bytes = 1048577",
        &[":6: execution.output_bytes: must be a whole number from 1024 to 1048576; found 1048577"],
    );
    check("[execution]\nhttp = \"off\"", &[":6: execution.http: must be true or false; found \"off\""]);
}

#[test]
fn unknown_names_get_the_nearest_known_one() {
    check("[excution]\nslots = 1", &[":5: excution: there is no such section; did you mean [execution]?"]);
    check(
        "[telemetry]\nslots = 1",
        &[":6: telemetry.slots: there is no such key; did you mean execution.slots?"],
    );
    check("[storage]\nzzz = 1", &[":6: storage.zzz: there is no such key; [storage] has cache_bytes"]);
    let text = format!("slots = 1\n{}", with(""));
    assert_eq!(
        faults(&text, &[]),
        [":1: slots: there is no such key outside of a section; did you mean execution.slots?"]
    );
}

#[test]
fn what_is_missing_is_told() {
    assert_eq!(
        faults("", &[]),
        [
            ": node: is missing: must be one section [[node]] for each node",
            ": cluster.name: is missing: must be 1 to 64 letters, digits, dashes, dots and underscores",
            ": security.jwt_key_file: is missing: must be the file of an HS256 secret or a PEM key; or security.jwks_file that of a key set",
        ]
    );
    check(
        "jwks_file = \"keys.json\"",
        &[":5: security.jwks_file: must not be there beside security.jwt_key_file"],
    );
    check(
        "[[node]]\nid = 3\napi = \"localhost:1\"\npeer = \"0.0.0.0:2\"",
        &[
            ":5: node.data: is missing: must be a directory",
            r#":7: node.api: must be an address and a port, such as 10.0.0.1:7070 or [fd00::1]:7070; found "localhost:1""#,
            r#":8: node.peer: must be an address and a port that the other nodes reach, such as 10.0.0.1:7170; found "0.0.0.0:2""#,
        ],
    );
    let single = "[cluster]\nname = \"test\"\n[security]\njwt_key_file = \"jwt.key\"\n[node]\nid = 1";
    assert_eq!(
        faults(single, &[])[1..],
        [":5: node: must be one section [[node]] for each node, in double brackets"]
    );
}

#[test]
fn nodes_share_nothing() {
    check(
        "[[node]]\nid = 2\napi = \"127.0.0.1:7170\"\npeer = \"127.0.0.1:7173\"\ndata = \"./data//2/\"",
        &[
            ":12: node.id: must be this node's own; found 2, which is node.id in line 6",
            r#":15: node.data: must be this node's own; found "data/2", which is node.data in line 9"#,
            r#":19: node.peer: must be this node's own; found "127.0.0.1:7170", which is node.api in line 7"#,
        ],
    );
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    let found = faults("[cluster]\nname = test\n[raft\n", &[]);
    assert!(found.len() >= 2 && found[0].starts_with(":2: this is not TOML: "), "{found:?}");
}

#[test]
fn variables_override_every_key() {
    let config = parse(
        &with("[execution]\nslots = 1"),
        &[
            ("ESCAPEMENT__EXECUTION__SLOTS", "16"),
            ("ESCAPEMENT__CLUSTER__NAME", "42"),
            ("ESCAPEMENT__RAFT__HEARTBEAT", "20ms"),
            ("ESCAPEMENT__RAFT__ELECTION", r#"["100ms","200ms"]"#),
            ("ESCAPEMENT__EXECUTION__PROCESS_ALLOW", r#"["/usr/bin/true"]"#),
            ("ESCAPEMENT__NODE__2__DATA", "/elsewhere"),
            ("ESCAPEMENT_TOKEN", "not ours to read"),
        ],
    )
    .expect("good");
    assert_eq!((config.execution.slots, config.cluster.as_str()), (16, "42"));
    assert_eq!(config.raft.election_min, Duration::from_millis(100));
    assert_eq!(config.nodes[1].data, Path::new("/elsewhere"));
    assert_eq!(config.execution.process, ProcessPolicy::Listed(vec!["/usr/bin/true".into()]));
}

#[test]
fn a_fault_in_a_variable_names_the_variable() {
    let check = |name: &str, value: &str, expected: &str| {
        assert_eq!(faults(&with(""), &[(name, value)]), [format!("{name}: {expected}")]);
    };
    check(
        "ESCAPEMENT__EXECUTION__SLOTS",
        "many",
        "execution.slots: must be a whole number from 1 to 65536; found many",
    );
    check("ESCAPEMENT__EXECUTION__SLOT", "1", "there is no such key; did you mean execution.slots?");
    check("ESCAPEMENT__RAFTS__HEARTBEAT", "1s", "there is no such section; did you mean [raft]?");
    check("ESCAPEMENT__SLOTS", "1", "a key is overridden by ESCAPEMENT__SECTION__KEY");
    check("ESCAPEMENT__NODE__DATA", "x", "a node's key is overridden by ESCAPEMENT__NODE__ID__KEY");
    check("ESCAPEMENT__NODE__7__DATA", "x", "the file has no node 7");
}

#[test]
fn a_developer_runs_anything_on_this_machine_and_may_still_set_keys() {
    let [api, peer] = ["127.0.0.1:7070", "127.0.0.1:7170"].map(|text| text.parse().expect("an address"));
    let slots = ("ESCAPEMENT__EXECUTION__SLOTS".to_owned(), "3".to_owned());
    let config = Config::dev(api, peer, Path::new("a \"quoted\" place"), [slots]).expect("good");
    assert_eq!((config.nodes.len(), config.nodes[0].api), (1, api));
    assert_eq!(config.nodes[0].data, Path::new("a \"quoted\" place"));
    assert_eq!(config.keys, KeySource::KeyFile("a \"quoted\" place/jwt.key".into()));
    assert_eq!((config.execution.process, config.execution.slots), (ProcessPolicy::Any, 3));
    assert!(config.execution.egress.check("::1".parse().expect("an address")).is_ok());
}

#[test]
fn the_example_is_good() {
    let example = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/cluster.toml"));
    let text = std::fs::read_to_string(example).expect("read");
    let config = Config::parse(example, &text, []).expect("good");
    assert_eq!(config.nodes.len(), 3);
    assert_eq!(config.raft.election_max, Duration::from_millis(400));
}
