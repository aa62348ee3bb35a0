//! Calls on all schedules at once.

use actix_web::HttpResponse;
use escapement_domain::timestamp::Span;

use super::dto::forecast::LoadForecast;
use super::problem::{Problem, ProblemBody};
use super::request::Call;
use crate::service::ForecastQuery;
use crate::service::validation::parse_span;

/// How far a forecast looks, unless the client says.
const HORIZON_DEFAULT: Span = Span::hours(24);
/// How far it looks at most.
const HORIZON_MAX: Span = Span::hours(7 * 24);
/// The length of a step, unless the client says.
const STEP_DEFAULT: Span = Span::minutes(1);
/// The shortest step.
const STEP_MIN: Span = Span::seconds(1);
/// Steps of one forecast: a week of minutes.
const STEPS_MAX: u64 = HORIZON_MAX.0 / STEP_DEFAULT.0;

/// Forecasts the load: how many fires each step of the time to come will see, as long as nothing changes.
///
/// Counted are the instants of active tasks, within `start_at`, `end_at` and `max_runs`, each later by its jitter. Whether an
/// execution comes of an instant, its overlap policy decides when it is there; runs by hand, events and retries are not foreseen.
#[utoipa::path(
    get, path = "/api/schedules/forecast", tag = "schedules",
    params(
        ("horizon" = Option<String>, Query, description = "How far to look: up to `7d`; `24h` if it is left out"),
        ("step" = Option<String>, Query, description = "How long each step is: from `1s` to the horizon, at most 10080 of them; `1m` if it is left out"),
        ("all" = Option<bool>, Query, description = "Of every tenant and in all: takes cluster-admin"),
        ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has"),
    ),
    responses(
        (status = 200, description = "The forecast", body = LoadForecast),
        (status = 400, description = "A parameter is wrong", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 403, description = "Not for this role", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn forecast(call: Call) -> Result<HttpResponse, Problem> {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    let within = |least: Span, most: Span| {
        move |text: &str| match parse_span(text)? {
            span if (least..=most).contains(&span) => Ok(span),
            _ => Err(format!("a duration from {least} to {most} is allowed")),
        }
    };
    let horizon = parameters.read("horizon", within(STEP_MIN, HORIZON_MAX)).unwrap_or(HORIZON_DEFAULT);
    let step = parameters.read("step", within(STEP_MIN, HORIZON_MAX)).unwrap_or(STEP_DEFAULT.min(horizon));
    if step > horizon || horizon.0.div_ceil(step.0) > STEPS_MAX {
        let least = Span::seconds(horizon.0.div_ceil(STEPS_MAX).div_ceil(1_000));
        parameters
            .refuse("step", format!("with this horizon a duration from {least} to {horizon} is allowed"));
    }
    let all = parameters.flag("all");
    parameters.finish()?;
    let load = call.service.forecast(&caller, &ForecastQuery { horizon, step, all }).await?;
    Ok(HttpResponse::Ok().json(LoadForecast::from(load)))
}
