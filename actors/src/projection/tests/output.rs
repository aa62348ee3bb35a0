//! Captured output: all of it, in order, bounded.

use std::time::Duration;

use escapement_domain::identifier::ExecutionId;
use escapement_domain::timestamp::Timestamp;

use super::*;
use crate::ports::{OutputChunk, OutputStore, OutputStream};

fn chunk(text: impl Into<String>) -> OutputChunk {
    OutputChunk { at: Timestamp(5), stream: OutputStream::Stdout, text: text.into() }
}

fn texts(output: &CapturedOutput, execution: ExecutionId, attempt: Option<u32>, limit: usize) -> Vec<String> {
    let (mut after, mut found) = (None, Vec::new());
    loop {
        let page = output.read(execution, attempt, after, limit).expect("memory");
        found.extend(page.lines.into_iter().map(|line| line.text));
        match page.next {
            Some(next) => after = Some(next),
            None => return found,
        }
    }
}

#[test]
fn lines_are_read_in_order_from_memory_and_from_storage() {
    local(async {
        let world = World::default();
        let storage = Arc::new(FakeStorage::default());
        let projections = Projections::start(world.machine.clone(), storage.clone()).expect("empty");
        let capture = OutputCapture(projections.output().clone());
        let execution = ExecutionId::from_parts(1_000, 1 << 100);
        let (first, second) = (capture.sink("acme", execution, 1), capture.sink("acme", execution, 2));
        let other = capture.sink("acme", ExecutionId::from_parts(1_000, 2 << 100), 1);
        let mut expected = Vec::new();
        for round in 0..3 {
            for line in 0..4 {
                first.write(chunk(format!("first {round} {line}")));
                other.write(chunk("another execution's"));
                expected.push(format!("first {round} {line}"));
            }
            tokio::time::sleep(Duration::from_millis(if round == 2 { 0 } else { 600 })).await;
        }
        second.write(chunk("second"));
        assert!(!dump(&*storage, Tree::Output).expect("memory").is_empty(), "some of it is written");
        for limit in [1, 5, 100] {
            assert_eq!(texts(projections.output(), execution, Some(1), limit), expected);
            assert_eq!(texts(projections.output(), execution, Some(2), limit), ["second"]);
            assert_eq!(texts(projections.output(), execution, None, limit).len(), expected.len() + 1);
        }
        projections.stop().await.expect("written");
        let reopened = CapturedOutput::new(storage.clone());
        assert_eq!(texts(&reopened, execution, Some(1), 5), expected);
        assert_eq!(reopened.prune(Timestamp(1_000), 100).expect("memory"), 0, "not old enough");
        assert!(reopened.prune(Timestamp(1_001), 100).expect("memory") > 0);
        assert!(dump(&*storage, Tree::Output).expect("memory").is_empty());
    });
}

#[test]
fn too_much_is_cut_off_with_a_word_and_the_end_is_told_still() {
    let output = CapturedOutput::new(Arc::new(FakeStorage::default()));
    let execution = ExecutionId::from_parts(1, 1);
    let sink = OutputCapture(output.clone()).sink("acme", execution, 1);
    for _ in 0..100 {
        sink.write(chunk("ä".repeat(20_000)));
    }
    sink.write(OutputChunk { stream: OutputStream::System, ..chunk("exit code 0") });
    let lines = texts(&output, execution, None, 1_000);
    let bytes: usize = lines.iter().map(String::len).sum();
    assert!(bytes <= OUTPUT_BYTES_MAX + 200, "{bytes}");
    assert!(bytes > OUTPUT_BYTES_MAX - 1_000, "{bytes}");
    assert_eq!(lines[lines.len() - 2..], ["output beyond 1 MiB was cut off", "exit code 0"]);
}
