//! Which node to ask, as whom, and how to print the answer: the options that every command takes.
//!
//! A token that is found by itself is sent to this machine only. Absent on purpose: a configuration file of the
//! client; two variables and four options do.

use std::fs;
use std::path::{Path, PathBuf};

use reqwest::Url;

use super::failure::Failure;

/// The node that is asked when none is named.
pub(crate) const ADDRESS: &str = "http://127.0.0.1:7070";
/// Where a development node leaves its administrator's token.
const ADMIN_TOKEN: &str = "data/admin.token";

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Output {
    /// Aligned columns for people.
    #[default]
    Table,
    /// The API's answer as it is, for scripts.
    Json,
}

/// Options that every command takes.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct ConnectionOptions {
    /// Any node of the cluster [env: ESCAPEMENT_ADDRESS] [default: http://127.0.0.1:7070]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) address: Option<String>,
    /// A JSON Web Token [env: ESCAPEMENT_TOKEN] [default: what ./data/admin.token holds, for a node on this machine]
    #[arg(long, global = true, value_name = "TOKEN", conflicts_with = "token_file", hide_short_help = true)]
    pub(crate) token: Option<String>,
    /// A file that holds the token
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// What to print
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) output: Output,
}

/// A node and the token to show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) address: Url,
    pub(crate) token: Option<String>,
}

impl ConnectionOptions {
    /// Settles which node to ask and as whom, from options, variables and the working directory.
    ///
    /// # Errors
    /// [`Failure`], when the address is none or the token cannot be read.
    pub(crate) fn resolve(&self) -> Result<Connection, Failure> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        self.resolve_with(variable, Path::new(ADMIN_TOKEN))
    }

    fn resolve_with(
        &self,
        variable: impl Fn(&str) -> Option<String>,
        found: &Path,
    ) -> Result<Connection, Failure> {
        let address = self.address.clone().or_else(|| variable("ESCAPEMENT_ADDRESS"));
        let address = parse_address(address.as_deref().unwrap_or(ADDRESS))?;
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(path)) => Some(read_token(path)?),
            (None, None) => match variable("ESCAPEMENT_TOKEN") {
                Some(token) => Some(token),
                None if is_loopback(&address) && found.exists() => Some(read_token(found)?),
                None => None,
            },
        };
        Ok(Connection { address, token: token.map(|token| token.trim().to_owned()) })
    }
}

fn read_token(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| {
        Failure::file("read the token in", path, &error).advise("pass another with --token-file")
    })
}

/// `node-1:7070` is taken for `http://node-1:7070`.
fn parse_address(text: &str) -> Result<Url, Failure> {
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&full).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| Failure::Usage(format!("`{text}` is not an address such as {ADDRESS}")))
}

/// Says whether an address is of this machine.
pub(crate) fn is_loopback(address: &Url) -> bool {
    let host = address.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn without_a_word_the_local_node_is_asked_with_the_token_it_left() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let found = directory.path().join("admin.token");
        let options = ConnectionOptions::default();
        let connection = options.resolve_with(nothing, &found).expect("resolved");
        assert_eq!((connection.address.as_str(), connection.token), ("http://127.0.0.1:7070/", None));
        fs::write(&found, "abc\n").expect("written");
        assert_eq!(options.resolve_with(nothing, &found).expect("resolved").token.as_deref(), Some("abc"));
    }

    #[test]
    fn a_token_that_is_found_by_itself_stays_on_this_machine() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let found = directory.path().join("admin.token");
        fs::write(&found, "abc").expect("written");
        let options =
            ConnectionOptions { address: Some("https://cluster.example".into()), ..Default::default() };
        assert_eq!(options.resolve_with(nothing, &found).expect("resolved").token, None);
    }

    #[test]
    fn an_option_goes_before_a_variable() {
        let variable =
            |name: &str| Some(if name == "ESCAPEMENT_TOKEN" { "v" } else { "http://[::1]:1" }.to_owned());
        let options = ConnectionOptions::default();
        let connection = options.resolve_with(variable, Path::new("/none")).expect("resolved");
        assert_eq!(
            (connection.address.as_str(), connection.token.as_deref()),
            ("http://[::1]:1/", Some("v"))
        );
        let options =
            ConnectionOptions { address: Some("host:2".into()), token: Some("o".into()), ..options };
        let connection = options.resolve_with(variable, Path::new("/none")).expect("resolved");
        assert_eq!((connection.address.as_str(), connection.token.as_deref()), ("http://host:2/", Some("o")));
    }

    #[test]
    fn what_is_no_address_is_wrong_usage() {
        for text in ["ftp://host", "http://", "not an address"] {
            assert!(matches!(parse_address(text), Err(Failure::Usage(_))), "{text}");
        }
    }

    #[test]
    fn loopback_is_known_by_name_and_number() {
        for (text, expected) in
            [("localhost:1", true), ("127.0.0.9:1", true), ("[::1]:1", true), ("10.0.0.1:1", false)]
        {
            assert_eq!(is_loopback(&parse_address(text).expect("an address")), expected, "{text}");
        }
    }
}
