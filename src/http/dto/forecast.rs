//! The fires to come.

use escapement_domain::task::forecast::Peak;
use serde::Serialize;
use utoipa::ToSchema;

use crate::service::{Load, TenantLoad};

/// How many fires each step of the time to come will see.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct LoadForecast {
    /// Where the first step begins; what of it has passed is not counted.
    from: String,
    /// Where the last step ends.
    to: String,
    /// How long each step is.
    step: String,
    /// All fires that are counted.
    total: u64,
    /// How many active tasks are counted.
    tasks: u64,
    /// How many active tasks are not: together they have more instants than are looked at. The largest herds are counted
    /// first.
    left_out: u64,
    /// Whether no task is left out.
    complete: bool,
    /// The first of the steps with the most fires; null where nothing fires.
    #[schema(required = true)]
    peak: Option<LoadPeak>,
    /// The fires of each step, in order.
    counts: Vec<u64>,
    /// The tenants that have fires to come.
    tenants: Vec<TenantForecast>,
}

/// The step with the most fires.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct LoadPeak {
    /// Where it begins.
    at: String,
    /// Its fires.
    fires: u64,
}

/// The fires to come of one tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct TenantForecast {
    /// Its name.
    tenant: String,
    /// Its fires.
    total: u64,
    /// The first of the steps with the most of them.
    #[schema(required = true)]
    peak: Option<LoadPeak>,
}

impl From<Peak> for LoadPeak {
    fn from(peak: Peak) -> Self {
        Self { at: peak.at.to_string(), fires: peak.fires }
    }
}

impl From<TenantLoad> for TenantForecast {
    fn from(load: TenantLoad) -> Self {
        Self { tenant: load.tenant.to_string(), total: load.total, peak: load.peak.map(LoadPeak::from) }
    }
}

impl From<Load> for LoadForecast {
    fn from(load: Load) -> Self {
        Self {
            from: load.steps.from.to_string(),
            to: load.steps.end().to_string(),
            step: load.steps.step.to_string(),
            total: load.counts.iter().sum(),
            tasks: load.tasks,
            left_out: load.left_out,
            complete: load.left_out == 0,
            peak: Peak::of(&load.steps, &load.counts).map(LoadPeak::from),
            counts: load.counts,
            tenants: load.tenants.into_iter().map(TenantForecast::from).collect(),
        }
    }
}
