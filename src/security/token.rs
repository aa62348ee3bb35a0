//! Tokens: what they claim, what a checked one says, and how they are made.

use std::time::Duration;

use escapement_domain::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

use super::keys::Keys;
use super::permission::Role;

/// Bytes of the longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the longest subject or tenant.
const NAME_BYTES_MAX: usize = 256;
/// How far the clock of whoever made a token may be from this node's, in seconds.
const LEEWAY_SECONDS: i64 = 5;

/// Who asks, by a token that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The token's `sub`.
    pub subject: String,
    /// The token's `tenant`: all that it may see, but for a cluster-admin.
    pub tenant: String,
    /// The roles that this program knows, out of the token's `roles`.
    pub roles: Vec<Role>,
}

/// What a token of ours claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// Who.
    pub sub: String,
    /// Of which tenant.
    pub tenant: String,
    /// In which roles.
    pub roles: Vec<&'static str>,
    /// Made when, in seconds since 1970.
    pub iat: i64,
    /// Not good from when on, in seconds since 1970.
    pub exp: i64,
}

/// What any token may claim. All is optional, so that what is missing can be named.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ReceivedClaims {
    sub: Option<String>,
    tenant: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
}

/// Why a token does not say who asks. Do not retry with the same token; answer 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is none.
    #[error("there is no token: send `Authorization: Bearer …`")]
    Missing,
    /// It is not a JSON Web Token with the claims `sub`, `tenant`, `roles` and `exp`.
    #[error("the token is not a JSON Web Token with the claims sub, tenant, roles and exp")]
    Malformed,
    /// Its algorithm is not the one of this cluster's key.
    #[error("the token is signed with an algorithm that this cluster's key does not use")]
    Algorithm,
    /// Its signature is not by this cluster's key.
    #[error("the token is not signed by this cluster's key")]
    Signature,
    /// It was good once.
    #[error("the token has expired")]
    Expired,
    /// It will be good later.
    #[error("the token is not good yet")]
    NotYet,
    /// It never expires.
    #[error("the token has no `exp`: tokens must expire")]
    NoExpiry,
    /// It names nobody.
    #[error("the token has no `sub`")]
    NoSubject,
    /// It names no tenant.
    #[error("the token has no `tenant`")]
    NoTenant,
}

/// Why a token cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The key can only check.
    #[error("this key can only check tokens: it takes an HS256 secret or a private key to make one")]
    CannotSign,
    /// A name is empty, too long, or holds control characters.
    #[error("the {0} must be 1 to {NAME_BYTES_MAX} bytes without control characters")]
    Name(&'static str),
    /// It would be good for nothing.
    #[error("a token needs at least one role")]
    NoRole,
    /// It would expire at once, or after the calendar ends.
    #[error("the time to live must be at least a second and end before the year 9999")]
    TimeToLive,
    /// The key does not sign.
    #[error("the key does not sign")]
    Signing(#[source] jsonwebtoken::errors::Error),
}

/// Takes the token out of an `Authorization` header.
///
/// # Errors
/// [`TokenError::Missing`] when there is no header, [`TokenError::Malformed`] when it is of another scheme.
pub fn bearer(header: Option<&str>) -> Result<&str, TokenError> {
    let header = header.ok_or(TokenError::Missing)?;
    let (scheme, token) = header.split_once(' ').ok_or(TokenError::Malformed)?;
    let token = token.trim();
    match token.is_empty() || !scheme.eq_ignore_ascii_case("bearer") {
        true => Err(TokenError::Malformed),
        false => Ok(token),
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Rounds a NumericDate of RFC 7519 down to whole seconds; what no calendar holds becomes the far end of it.
#[allow(clippy::cast_possible_truncation, reason = "a cast from a float saturates")]
fn whole_seconds(date: f64) -> i64 {
    date.floor() as i64
}

impl ReceivedClaims {
    /// Checks the claims of a token whose signature was found good.
    fn check(self, now: Timestamp) -> Result<Principal, TokenError> {
        let seconds = now.0.div_euclid(1_000);
        let expires = whole_seconds(self.exp.ok_or(TokenError::NoExpiry)?);
        if expires.saturating_add(LEEWAY_SECONDS) <= seconds {
            return Err(TokenError::Expired);
        }
        if self.nbf.is_some_and(|begins| whole_seconds(begins) > seconds.saturating_add(LEEWAY_SECONDS)) {
            return Err(TokenError::NotYet);
        }
        let subject = self.sub.filter(|subject| is_name(subject)).ok_or(TokenError::NoSubject)?;
        let tenant = self.tenant.filter(|tenant| is_name(tenant)).ok_or(TokenError::NoTenant)?;
        // Roles that this program does not know may mean something to others.
        let roles = self.roles.iter().filter_map(|role| role.parse().ok()).collect();
        Ok(Principal { subject, tenant, roles })
    }
}

impl Keys {
    /// Checks a token and says who asks.
    ///
    /// # Errors
    /// [`TokenError`], for whose every variant the answer is 401.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Principal, TokenError> {
        match token.len() {
            0 => Err(TokenError::Missing),
            1..=TOKEN_BYTES_MAX => self.received_claims(token)?.check(now),
            _ => Err(TokenError::Malformed),
        }
    }

    /// Makes a token that is good from now on for `time_to_live`.
    ///
    /// # Errors
    /// [`MintError`] when the key can only check, or the claims would not be accepted.
    pub fn mint(
        &self,
        subject: &str,
        tenant: &str,
        roles: &[Role],
        time_to_live: Duration,
        now: Timestamp,
    ) -> Result<String, MintError> {
        if !is_name(subject) {
            return Err(MintError::Name("subject"));
        }
        if !is_name(tenant) {
            return Err(MintError::Name("tenant"));
        }
        if roles.is_empty() {
            return Err(MintError::NoRole);
        }
        let iat = now.0.div_euclid(1_000);
        let exp = i64::try_from(time_to_live.as_secs()).ok().and_then(|seconds| iat.checked_add(seconds));
        let exp =
            exp.filter(|exp| *exp > iat && *exp <= Timestamp::MAX.0 / 1_000).ok_or(MintError::TimeToLive)?;
        let roles = roles.iter().map(|role| role.name()).collect();
        self.sign(&Claims { sub: subject.to_owned(), tenant: tenant.to_owned(), roles, iat, exp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn keys() -> Keys {
        Keys::from_bytes(SECRET).expect("a key")
    }

    /// What a correctly signed token with these claims, as JSON, comes to.
    fn verify(claims: &serde_json::Value) -> Result<Principal, TokenError> {
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).expect("signs");
        keys().verify(&token, NOW)
    }

    #[test]
    fn a_token_of_ours_says_who_asks() {
        let roles = [Role::Editor, Role::ClusterAdmin];
        let token = keys().mint("ada", "acme", &roles, Duration::from_secs(60), NOW).expect("minted");
        let principal = keys().verify(&token, NOW).expect("good");
        assert_eq!(
            principal,
            Principal { subject: "ada".into(), tenant: "acme".into(), roles: roles.to_vec() }
        );
    }

    #[test]
    fn a_token_is_good_until_it_expires_and_a_little_longer() {
        let token =
            keys().mint("ada", "acme", &[Role::Viewer], Duration::from_secs(60), NOW).expect("minted");
        assert!(keys().verify(&token, Timestamp(NOW.0 + 64_999)).is_ok());
        assert_eq!(keys().verify(&token, Timestamp(NOW.0 + 65_000)), Err(TokenError::Expired));
    }

    #[test]
    fn what_is_missing_is_named() {
        let exp = NOW.0 / 1_000 + 60;
        let json = |text: String| serde_json::from_str(&text).expect("JSON");
        let check = |text: String, expected| assert_eq!(verify(&json(text)), Err(expected));
        check(r#"{"sub":"ada","tenant":"acme","roles":[]}"#.into(), TokenError::NoExpiry);
        check(format!(r#"{{"tenant":"acme","exp":{exp}}}"#), TokenError::NoSubject);
        check(format!(r#"{{"sub":"ada","exp":{exp}}}"#), TokenError::NoTenant);
        check(format!(r#"{{"sub":"ada","tenant":"","exp":{exp}}}"#), TokenError::NoTenant);
        check(format!(r#"{{"sub":"ada","tenant":7,"exp":{exp}}}"#), TokenError::Malformed);
        check(format!(r#"{{"sub":"ada","tenant":"acme","exp":{exp},"nbf":{exp}}}"#), TokenError::NotYet);
        let strangers =
            format!(r#"{{"sub":"ada","tenant":"acme","exp":{exp}.5,"aud":"x","roles":["root","viewer"]}}"#);
        assert_eq!(
            verify(&json(strangers)).expect("good").roles,
            [Role::Viewer],
            "unknown roles mean nothing"
        );
    }

    #[test]
    fn a_token_that_would_not_be_accepted_is_not_made() {
        let mint = |subject, roles: &[Role], seconds| {
            keys()
                .mint(subject, "acme", roles, Duration::from_secs(seconds), NOW)
                .expect_err("refused")
                .to_string()
        };
        assert!(mint("", &[Role::Viewer], 60).starts_with("the subject must be"));
        assert!(mint("ada", &[], 60).contains("at least one role"));
        assert!(mint("ada", &[Role::Viewer], 0).contains("time to live"));
        assert!(mint("ada", &[Role::Viewer], u64::MAX).contains("time to live"));
    }

    #[test]
    fn a_header_must_be_a_bearer_token() {
        assert_eq!(bearer(None), Err(TokenError::Missing));
        assert_eq!(bearer(Some("Basic abc")), Err(TokenError::Malformed));
        assert_eq!(bearer(Some("Bearer")), Err(TokenError::Malformed));
        assert_eq!(bearer(Some("Bearer ")), Err(TokenError::Malformed));
        assert_eq!(bearer(Some("bearer abc")), Ok("abc"));
    }
}
