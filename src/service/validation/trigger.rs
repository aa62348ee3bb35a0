//! Reads what makes a task due.

use escapement_domain::identifier::TaskId;
use escapement_domain::limits::{AWAITED_PER_TASK_MAX, INTERVAL_MIN, SPAN_MAX};
use escapement_domain::schedule::{EXPRESSION_BYTES_MAX, Schedule};
use escapement_domain::task::trigger::{AfterCondition, Dst, Fold, Gap, IfPast, Trigger};

use super::event;
use super::fields::{Faults, Field, Fields};
use super::nearest::{instead, shown};
use super::{Purpose, Surroundings};

const AVAILABLE: [&str; 6] = ["cron", "interval", "once", "event", "after", "manual"];

/// Reads a trigger.
pub(super) fn read(
    field: &Field<'_>,
    surroundings: &Surroundings<'_>,
    faults: &mut Faults,
) -> Option<Trigger> {
    let mut fields = field.object(faults)?;
    let kind = fields.required("type", faults)?;
    let name = kind.string(faults)?;
    let before = faults.len();
    let trigger = match name.as_str() {
        "cron" => cron(&mut fields, faults),
        "interval" => interval(&mut fields, faults),
        "once" => once(&mut fields, surroundings, faults),
        "event" => event::trigger(&mut fields, faults),
        "after" => after(&mut fields, faults),
        "manual" => Some(Trigger::Manual),
        other => {
            faults.add(
                &kind.pointer,
                format!("`{}` is not a trigger; {}", shown(other), instead(other, &AVAILABLE)),
            );
            return None;
        }
    };
    fields.finish(&format!("a trigger of type {name}"), faults);
    let trigger = trigger.filter(|_| faults.len() == before)?;
    compiled(&trigger, field, surroundings, faults).then_some(trigger)
}

fn cron(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<Trigger> {
    let expression = fields.required("expression", faults);
    let expression = expression.and_then(|field| field.text(1..=EXPRESSION_BYTES_MAX, |_| true, "", faults));
    let timezone = fields.read("timezone", faults, Field::string);
    let dst = fields.read("dst", faults, dst);
    Some(Trigger::Cron {
        expression: expression?,
        timezone: timezone.unwrap_or_else(|| "UTC".into()),
        dst: dst.unwrap_or_default(),
    })
}

fn dst(field: &Field<'_>, faults: &mut Faults) -> Option<Dst> {
    let mut fields = field.object(faults)?;
    let gaps = [("cron", Gap::Cron), ("skip", Gap::Skip), ("shift", Gap::Shift)];
    let folds =
        [("cron", Fold::Cron), ("first", Fold::First), ("second", Fold::Second), ("both", Fold::Both)];
    let gap = fields.read("gap", faults, |field, faults| field.choice(&gaps, faults));
    let fold = fields.read("fold", faults, |field, faults| field.choice(&folds, faults));
    fields.finish("dst", faults);
    Some(Dst { gap: gap.unwrap_or_default(), fold: fold.unwrap_or_default() })
}

fn interval(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<Trigger> {
    let every = fields.required("every", faults);
    let every = every.and_then(|field| field.span(INTERVAL_MIN..=SPAN_MAX, faults));
    let anchor = fields.read("anchor", faults, Field::instant);
    Some(Trigger::Interval { every: every?, anchor })
}

fn once(fields: &mut Fields<'_>, surroundings: &Surroundings<'_>, faults: &mut Faults) -> Option<Trigger> {
    let at_field = fields.required("at", faults);
    let at = at_field.as_ref().and_then(|field| field.instant(faults));
    let choices = [("refuse", IfPast::Refuse), ("run", IfPast::Run)];
    let before = faults.len();
    let if_past = fields.read("if_past", faults, |field, faults| field.choice(&choices, faults));
    let understood = faults.len() == before;
    let (at, if_past) = (at?, if_past.unwrap_or_default());
    let may_be_past = match surroundings.purpose {
        Purpose::Create => false,
        Purpose::CreateUnderKey => true,
        Purpose::Replace { once_at } => once_at == Some(at),
    };
    if at <= surroundings.now && if_past == IfPast::Refuse && understood && !may_be_past {
        let pointer = at_field.map_or_else(String::new, |field| field.pointer);
        faults.add(
            pointer,
            format!("{at} is past; a later instant is allowed, or `if_past`: `run` to run it at once"),
        );
    }
    Some(Trigger::Once { at, if_past })
}

fn after(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<Trigger> {
    let field = fields.required("tasks", faults);
    let conditions = AfterCondition::ALL.map(|condition| (condition.name(), condition));
    let before = faults.len();
    let condition = fields.read("condition", faults, |field, faults| field.choice(&conditions, faults));
    let elements = field.as_ref().and_then(|field| field.elements(faults)).unwrap_or_default();
    let mut tasks: Vec<TaskId> = Vec::with_capacity(elements.len());
    for element in &elements {
        let Some(text) = element.string(faults) else { continue };
        match text.parse() {
            Ok(task) if tasks.contains(&task) => {
                faults.add(&element.pointer, format!("{task} is named twice; each task is waited for once"));
            }
            Ok(task) => tasks.push(task),
            Err(_) => faults.add(
                &element.pointer,
                format!("the id of a task, a UUID, is expected, not `{}`", shown(&text)),
            ),
        }
    }
    if let Some(field) = field.filter(|_| !(1..=AWAITED_PER_TASK_MAX).contains(&elements.len()))
        && faults.len() == before
    {
        let (most, found) = (AWAITED_PER_TASK_MAX, elements.len());
        faults.add(&field.pointer, format!("1 to {most} tasks are allowed; these are {found}"));
    }
    Some(Trigger::After { tasks, condition: condition.unwrap_or_default() })
}

/// Whether the schedule compiles; what is wrong with it is told with its column.
fn compiled(
    trigger: &Trigger,
    field: &Field<'_>,
    surroundings: &Surroundings<'_>,
    faults: &mut Faults,
) -> bool {
    let found = match Schedule::compile(trigger, TaskId(0), surroundings.now) {
        Ok(_) => return true,
        Err(error) => error.faults,
    };
    for fault in found {
        let detail = match fault.column {
            Some(column) => format!("column {column}: {}", fault.detail),
            None => fault.detail,
        };
        faults.add(format!("{}{}", field.pointer, fault.pointer), detail);
    }
    false
}
