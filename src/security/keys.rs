//! The keys that sign and check tokens, read from a file.
//!
//! Invariant: which algorithms a key checks is decided when the key is loaded, by what the key is. A token only says which
//! of them it claims to use; `none`, and a public key taken for a secret, have no way in.
//! Absent on purpose: fetching keys over the network.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hkdf::Hkdf;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use sha2::Sha256;

use super::token::{Claims, MintError, ReceivedClaims, TokenError};

/// Bytes of the shortest HS256 secret: as many as the hash has (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;
/// Bits of the shortest RSA modulus (RFC 7518, 3.3).
const RSA_BITS_MIN: usize = 2_048;
/// Bytes of the largest key file that is read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

const RSA_ALGORITHMS: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// The keys of a cluster. Cloning is cheap.
#[derive(Clone)]
pub struct Keys {
    checking: Arc<[CheckingKey]>,
    signing: Option<Arc<SigningKey>>,
}

struct CheckingKey {
    id: Option<String>,
    key: DecodingKey,
    validation: Validation,
}

struct SigningKey {
    key: EncodingKey,
    algorithm: Algorithm,
    /// What secrets for other purposes are made of.
    root: Hkdf<Sha256>,
}

impl SigningKey {
    fn new(key: EncodingKey, algorithm: Algorithm, material: &[u8]) -> Arc<Self> {
        Arc::new(Self { key, algorithm, root: Hkdf::new(None, material) })
    }
}

impl std::fmt::Debug for Keys {
    /// Shows algorithms, never key material.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let algorithms: Vec<_> = self.checking.iter().flat_map(|key| &key.validation.algorithms).collect();
        formatter
            .debug_struct("Keys")
            .field("checks", &algorithms)
            .field("signs", &self.signing.is_some())
            .finish()
    }
}

/// Why a key is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("the key file {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("the key file {} is of no use: {fault}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        fault: KeyFault,
    },
}

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    /// The secret can be guessed.
    #[error("the secret has {0} bytes; HS256 takes at least {SECRET_BYTES_MIN} (try `openssl rand -hex 32`)")]
    ShortSecret(usize),
    /// The RSA key can be broken.
    #[error("the RSA key has {0} bits; at least {RSA_BITS_MIN} are needed")]
    ShortRsa(usize),
    /// It is not a key that is known.
    #[error(
        "it begins as PEM but holds no RSA, P-256, P-384 or Ed25519 key in PKCS#8 (or PKCS#1 for RSA); \
         `openssl pkcs8 -topk8 -nocrypt` converts others"
    )]
    Pem,
    /// It is not a key set.
    #[error("it is not a JSON Web Key Set with at least one signing key of a known kind: {0}")]
    KeySet(String),
}

impl Keys {
    /// Loads an HS256 secret, or a private or public key in PEM.
    ///
    /// # Errors
    /// [`KeyError`], which names the file and what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        Self::from_bytes(&read(path)?).map_err(|fault| KeyError::File { path: path.to_path_buf(), fault })
    }

    /// Loads a JSON Web Key Set; its keys check tokens and sign none.
    ///
    /// # Errors
    /// As [`Keys::load`].
    pub fn load_key_set(path: &Path) -> Result<Self, KeyError> {
        Self::from_key_set(&read(path)?).map_err(|fault| KeyError::File { path: path.to_path_buf(), fault })
    }

    /// Makes keys of the contents of a key file: PEM if it begins so, else an HS256 secret.
    ///
    /// A line break at the end of a text is not part of the secret, since editors and shells add one; a token that was
    /// signed with it is accepted all the same.
    ///
    /// # Errors
    /// [`KeyFault`], which says what is wrong.
    pub fn from_bytes(contents: &[u8]) -> Result<Self, KeyFault> {
        if contents.trim_ascii_start().starts_with(b"-----BEGIN ") {
            return Self::from_pem(contents);
        }
        let is_text = contents.trim_ascii_end().iter().all(|byte| (b' '..=b'~').contains(byte));
        let secret = if is_text { contents.trim_ascii_end() } else { contents };
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeyFault::ShortSecret(secret.len()));
        }
        let mut checking = vec![CheckingKey::new(DecodingKey::from_secret(secret), vec![Algorithm::HS256])];
        if secret.len() < contents.len() {
            checking.push(CheckingKey::new(DecodingKey::from_secret(contents), vec![Algorithm::HS256]));
        }
        let signing = SigningKey::new(EncodingKey::from_secret(secret), Algorithm::HS256, secret);
        Ok(Self { checking: checking.into(), signing: Some(signing) })
    }

    fn from_pem(pem: &[u8]) -> Result<Self, KeyFault> {
        let private = [
            (EncodingKey::from_rsa_pem(pem).ok(), [Algorithm::RS256].as_slice()),
            (EncodingKey::from_ec_pem(pem).ok(), &[Algorithm::ES256, Algorithm::ES384]),
            (EncodingKey::from_ed_pem(pem).ok(), &[Algorithm::EdDSA]),
        ];
        for (key, algorithms) in private {
            let Some(key) = key else { continue };
            for algorithm in algorithms {
                if let Some(keys) = Self::from_private(&key, *algorithm, pem.trim_ascii())? {
                    return Ok(keys);
                }
            }
        }
        if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            let jwk = Jwk::from_decoding_key(&key, Some(Algorithm::RS256)).map_err(|_| KeyFault::Pem)?;
            check_strength(&jwk)?;
            return Ok(Self::checking_only(vec![CheckingKey::new(key, RSA_ALGORITHMS.to_vec())]));
        }
        if let Ok(key) = DecodingKey::from_ec_pem(pem) {
            // An uncompressed point: a tag and two coordinates.
            let algorithm = match key.try_get_as_bytes().map(<[u8]>::len) {
                Ok(65) => Algorithm::ES256,
                Ok(97) => Algorithm::ES384,
                _ => return Err(KeyFault::Pem),
            };
            return Ok(Self::checking_only(vec![CheckingKey::new(key, vec![algorithm])]));
        }
        let key = DecodingKey::from_ed_pem(pem).map_err(|_| KeyFault::Pem)?;
        Ok(Self::checking_only(vec![CheckingKey::new(key, vec![Algorithm::EdDSA])]))
    }

    /// Makes keys of a private key, if it signs with the algorithm: a signature is made and checked.
    fn from_private(key: &EncodingKey, algorithm: Algorithm, pem: &[u8]) -> Result<Option<Self>, KeyFault> {
        let Ok(jwk) = Jwk::from_encoding_key(key, algorithm) else { return Ok(None) };
        check_strength(&jwk)?;
        let Ok(public) = DecodingKey::from_jwk(&jwk) else { return Ok(None) };
        let probe = b"escapement";
        let signed = jsonwebtoken::crypto::sign(probe, key, algorithm)
            .and_then(|signature| jsonwebtoken::crypto::verify(&signature, probe, &public, algorithm));
        if !matches!(signed, Ok(true)) {
            return Ok(None);
        }
        let algorithms =
            if algorithm == Algorithm::RS256 { RSA_ALGORITHMS.to_vec() } else { vec![algorithm] };
        let signing = Some(SigningKey::new(key.clone(), algorithm, pem));
        Ok(Some(Self { checking: [CheckingKey::new(public, algorithms)].into(), signing }))
    }

    fn from_key_set(json: &[u8]) -> Result<Self, KeyFault> {
        let set: JwkSet =
            serde_json::from_slice(json).map_err(|error| KeyFault::KeySet(error.to_string()))?;
        let mut checking = Vec::new();
        for jwk in &set.keys {
            if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
                continue;
            }
            check_strength(jwk)?;
            let mut algorithms = match &jwk.algorithm {
                AlgorithmParameters::RSA(_) => RSA_ALGORITHMS.to_vec(),
                AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                    vec![Algorithm::ES256]
                }
                AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => {
                    vec![Algorithm::ES384]
                }
                AlgorithmParameters::OctetKeyPair(_) => vec![Algorithm::EdDSA],
                AlgorithmParameters::OctetKey(_) => vec![Algorithm::HS256],
                _ => continue,
            };
            if let Some(only) = jwk.common.key_algorithm {
                algorithms.retain(|algorithm| KeyAlgorithm::from(*algorithm) == only);
            }
            let key = DecodingKey::from_jwk(jwk).map_err(|error| KeyFault::KeySet(error.to_string()))?;
            if !algorithms.is_empty() {
                let id = jwk.common.key_id.clone();
                checking.push(CheckingKey { id, ..CheckingKey::new(key, algorithms) });
            }
        }
        if checking.is_empty() {
            return Err(KeyFault::KeySet("there is none".into()));
        }
        Ok(Self::checking_only(checking))
    }

    fn checking_only(checking: Vec<CheckingKey>) -> Self {
        Self { checking: checking.into(), signing: None }
    }

    /// A secret for one purpose that all nodes with the same signing key have (RFC 5869), and of which none tells anything of
    /// another, or of the key. None where keys only check: what everybody may know makes no secret.
    #[must_use]
    pub fn secret_for(&self, purpose: &str) -> Option<[u8; 32]> {
        let mut secret = [0; 32];
        let root = &self.signing.as_ref()?.root;
        root.expand(purpose.as_bytes(), &mut secret).ok()?;
        Some(secret)
    }

    /// Checks the signature of a token and returns what it claims.
    pub(super) fn received_claims(&self, token: &str) -> Result<ReceivedClaims, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| token_error(error.kind()))?;
        let mut outcome = TokenError::Algorithm;
        for key in self.checking.iter() {
            let other = header.kid.is_some() && key.id.is_some() && header.kid != key.id;
            if other || !key.validation.algorithms.contains(&header.alg) {
                continue;
            }
            match jsonwebtoken::decode::<ReceivedClaims>(token, &key.key, &key.validation) {
                Ok(decoded) => return Ok(decoded.claims),
                Err(error) => outcome = token_error(error.kind()),
            }
            if outcome != TokenError::Signature {
                break;
            }
        }
        Err(outcome)
    }

    /// Signs claims.
    pub(super) fn sign(&self, claims: &Claims) -> Result<String, MintError> {
        let signing = self.signing.as_ref().ok_or(MintError::CannotSign)?;
        jsonwebtoken::encode(&Header::new(signing.algorithm), claims, &signing.key)
            .map_err(MintError::Signing)
    }
}

impl CheckingKey {
    fn new(key: DecodingKey, algorithms: Vec<Algorithm>) -> Self {
        // Claims are checked by `ReceivedClaims`, against the clock that comes in from outside.
        let mut validation =
            Validation { algorithms, validate_exp: false, validate_aud: false, ..Validation::default() };
        validation.required_spec_claims.clear();
        Self { id: None, key, validation }
    }
}

fn token_error(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::UnsupportedAlgorithm => {
            TokenError::Algorithm
        }
        _ => TokenError::Malformed,
    }
}

/// Refuses keys that are too short to be worth checking.
fn check_strength(jwk: &Jwk) -> Result<(), KeyFault> {
    // Base64 without padding: six bits a character.
    match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) if rsa.n.len() * 6 / 8 * 8 < RSA_BITS_MIN => {
            Err(KeyFault::ShortRsa(rsa.n.len() * 6 / 8 * 8))
        }
        AlgorithmParameters::OctetKey(secret) if secret.value.len() * 6 / 8 < SECRET_BYTES_MIN => {
            Err(KeyFault::ShortSecret(secret.value.len() * 6 / 8))
        }
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    let fault = |source| KeyError::Read { path: path.to_path_buf(), source };
    let size = std::fs::metadata(path).map_err(fault)?.len();
    if size > FILE_BYTES_MAX {
        return Err(fault(std::io::Error::other(format!("it has {size} bytes, more than any key"))));
    }
    std::fs::read(path).map_err(fault)
}

#[cfg(test)]
mod tests;
