//! Why a schedule is refused: each fault with the field it is in, its place in the text, and what may stand there.
//!
//! Absent on purpose: wording for machines. A caller that needs a decision has the pointer and the column.

use std::fmt;

/// Why a trigger was refused; do not retry it unchanged. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ScheduleError {
    /// Each fault that was found, in the order of the text.
    pub faults: Vec<ScheduleFault>,
}

/// One fault of a trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleFault {
    /// A JSON Pointer relative to the trigger, such as `/expression`.
    pub pointer: &'static str,
    /// The column in the expression, counted in characters from 1, where the fault begins.
    pub column: Option<u32>,
    /// What is wrong and what may stand there, for people.
    pub detail: String,
}

impl ScheduleFault {
    pub(super) fn new(pointer: &'static str, detail: impl Into<String>) -> Self {
        Self { pointer, column: None, detail: detail.into() }
    }
}

impl From<ScheduleFault> for ScheduleError {
    fn from(fault: ScheduleFault) -> Self {
        Self { faults: vec![fault] }
    }
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                formatter.write_str("; ")?;
            }
            fmt::Display::fmt(fault, formatter)?;
        }
        Ok(())
    }
}

impl fmt::Display for ScheduleFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.pointer)?;
        if let Some(column) = self.column {
            write!(formatter, " column {column}")?;
        }
        write!(formatter, ": {}", self.detail)
    }
}
