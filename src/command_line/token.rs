//! `token mint`: a JSON Web Token made with the cluster's key, without a node.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::connection::Output;
use super::failure::Failure;
use super::screen::Screen;
use super::system;
use crate::security::{Keys, MintError, Role};

const MINT_EXAMPLES: &str = "\
Examples:
  escapement token mint --key-file keys/jwt.key --subject ci --tenant acme --role editor
  escapement token mint --key-file keys/jwt.key --subject ada --tenant acme --role admin --role cluster-admin --ttl 8h

viewer reads its tenant's tasks and executions; editor also writes and runs its own tasks; operator also runs, pauses, \
cancels and retries all of the tenant's; admin also audits and manages the tenant. cluster-admin stands beside them: \
membership, backup, every tenant's audit. A token cannot be called back: keep --ttl short.";

/// Commands on tokens.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and print it
    #[command(after_long_help = MINT_EXAMPLES)]
    Mint {
        /// The cluster's key: an HS256 secret or a private key in PEM, `security.jwt_key_file` of its configuration
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
        /// Whom the token names
        #[arg(long)]
        subject: String,
        /// Whose tasks it opens
        #[arg(long)]
        tenant: String,
        /// What its bearer may do; can be given more than once
        #[arg(long = "role", value_name = "ROLE", value_enum, required = true, value_delimiter = ',')]
        roles: Vec<RoleName>,
        /// How long it is good for
        #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = parse_ttl)]
        ttl: Duration,
    },
}

/// A role as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum RoleName {
    Viewer,
    Editor,
    Operator,
    Admin,
    ClusterAdmin,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Viewer => Self::Viewer,
            RoleName::Editor => Self::Editor,
            RoleName::Operator => Self::Operator,
            RoleName::Admin => Self::Admin,
            RoleName::ClusterAdmin => Self::ClusterAdmin,
        }
    }
}

impl TokenCommand {
    pub(super) fn run(self, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let Self::Mint { key_file, subject, tenant, roles, ttl } = self;
        let keys = Keys::load(&key_file).map_err(|error| {
            let advice = "a cluster's key is `security.jwt_key_file` of its configuration; `dev` keeps one in its data directory";
            Failure::caused_by(&error).advise(advice)
        })?;
        let mut distinct: Vec<Role> = Vec::new();
        for role in roles.into_iter().map(Role::from) {
            if !distinct.contains(&role) {
                distinct.push(role);
            }
        }
        let token =
            keys.mint(&subject, &tenant, &distinct, ttl, system::now()).map_err(|error| match error {
                MintError::Name(_) | MintError::TimeToLive => Failure::Usage(error.to_string()),
                other => Failure::caused_by(&other),
            })?;
        match screen.output {
            Output::Table => screen.line(&token),
            Output::Json => screen.line(&json!({ "token": token }).to_string()),
        }
    }
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text)
        .map_err(|_| "a duration such as 90s, 1h or 1h30m is needed".to_owned())?;
    if ttl < Duration::from_secs(1) {
        Err("a token that is good for less than a second is good for nothing".into())
    } else {
        Ok(ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_can_be_typed_by_its_name() {
        for role in Role::ALL {
            let typed = RoleName::from_str(role.name(), false).map(Role::from);
            assert_eq!(typed, Ok(role));
        }
    }

    #[test]
    fn a_time_to_live_is_a_duration_of_a_second_or_more() {
        assert_eq!(parse_ttl("1h30m"), Ok(Duration::from_secs(5_400)));
        for text in ["0s", "1", "soon", "999ms"] {
            assert!(parse_ttl(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_is_one_line_that_the_key_accepts() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let key_file = directory.path().join("jwt.key");
        std::fs::write(&key_file, "0123456789abcdef0123456789abcdef\n").expect("written");
        let command = TokenCommand::Mint {
            key_file: key_file.clone(),
            subject: "ada".into(),
            tenant: "acme".into(),
            roles: vec![RoleName::Admin, RoleName::ClusterAdmin, RoleName::Admin],
            ttl: Duration::from_secs(60),
        };
        let mut out = Vec::new();
        let zone = crate::command_line::zone::Zone(chrono_tz::Tz::UTC);
        command.run(&mut Screen { out: &mut out, output: Output::Table, zone }).expect("minted");
        let token = String::from_utf8(out).expect("a text");
        let principal =
            Keys::load(&key_file).expect("a key").verify(token.trim_end(), system::now()).expect("accepted");
        assert_eq!((principal.subject.as_str(), principal.tenant.as_str()), ("ada", "acme"));
        assert_eq!(principal.roles, [Role::Admin, Role::ClusterAdmin]);
    }
}
