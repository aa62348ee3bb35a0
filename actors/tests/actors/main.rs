//! The actors on a stage: a log in memory, paused time, and executors that do as they are told.

mod cast;
mod dispatcher;
mod outside;
mod schedules;
mod speed;
mod stage;
mod storm;
mod task;
mod wheel;
mod worker;
