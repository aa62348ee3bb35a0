//! Which page of a list is wanted.

use clap::Args;

use super::client::Request;

/// Which of them to list.
#[derive(Debug, Args)]
pub(super) struct ListOptions {
    /// How many to show at most, up to 1000
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// Where the page before ended
    #[arg(long)]
    cursor: Option<String>,
}

impl ListOptions {
    /// The request for a page of a list.
    pub(super) fn request(&self, list: &str) -> Request {
        Request::get(["api", list, ""]).query("limit", Some(self.limit)).query("cursor", self.cursor.as_ref())
    }
}
