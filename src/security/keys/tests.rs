//! Every kind of key, and every known way to fool one.

use std::sync::LazyLock;
use std::time::Duration;

use escapement_domain::timestamp::Timestamp;
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};

use super::super::permission::Role;
use super::*;

/// A key of each kind, made for this run of the tests.
struct Pair {
    private: Vec<u8>,
    public: Vec<u8>,
}

/// The pair of a private key that can write itself and its public key.
fn pair(private: &impl EncodePrivateKey, public: &impl EncodePublicKey) -> Pair {
    Pair {
        private: private.to_pkcs8_pem(LineEnding::LF).expect("a key").as_bytes().to_vec(),
        public: public.to_public_key_pem(LineEnding::LF).expect("a key").into_bytes(),
    }
}

fn rsa_pair(bits: usize) -> Pair {
    let private = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits).expect("a key");
    pair(&private, &private.to_public_key())
}

static RSA: LazyLock<Pair> = LazyLock::new(|| rsa_pair(2048));
static P256: LazyLock<Pair> = LazyLock::new(|| {
    let private = p256::SecretKey::random(&mut rsa::rand_core::OsRng);
    pair(&private, &private.public_key())
});
static P384: LazyLock<Pair> = LazyLock::new(|| {
    let private = p384::SecretKey::random(&mut rsa::rand_core::OsRng);
    pair(&private, &private.public_key())
});
static ED: LazyLock<Pair> = LazyLock::new(|| {
    let private = ed25519_dalek::SigningKey::generate(&mut rsa::rand_core::OsRng);
    // Without the public key in it, as tools write it (RFC 8410, section 7).
    let bytes = ed25519_dalek::pkcs8::KeypairBytes { secret_key: private.to_bytes(), public_key: None };
    pair(&bytes, &private.verifying_key())
});

const NOW: Timestamp = Timestamp(1_800_000_000_000);

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn keys(contents: &[u8]) -> Keys {
    Keys::from_bytes(contents).expect("a key")
}

fn mint(keys: &Keys) -> Result<String, MintError> {
    keys.mint("ada", "acme", &[Role::Viewer], Duration::from_secs(60), NOW)
}

/// A token by `private` is good for itself and for `public`, names `algorithm`, and `public` makes none.
#[track_caller]
fn check_pair(pair: &Pair, algorithm: Algorithm) {
    let (private, public) = (pair.private.as_slice(), pair.public.as_slice());
    let token = mint(&keys(private)).expect("minted");
    assert_eq!(jsonwebtoken::decode_header(&token).expect("header").alg, algorithm);
    assert_eq!(keys(private).verify(&token, NOW).expect("good").subject, "ada");
    assert_eq!(keys(public).verify(&token, NOW).expect("good").subject, "ada");
    assert!(matches!(mint(&keys(public)), Err(MintError::CannotSign)));
}

#[test]
fn private_keys_sign_and_public_keys_check() {
    check_pair(&RSA, Algorithm::RS256);
    check_pair(&P256, Algorithm::ES256);
    check_pair(&P384, Algorithm::ES384);
    check_pair(&ED, Algorithm::EdDSA);
}

#[test]
fn a_signing_key_makes_secrets_and_a_public_one_makes_none() {
    let of_secret = keys(SECRET);
    let secret = of_secret.secret_for("one").expect("a secret");
    assert_eq!(keys(&[SECRET, b"\n"].concat()).secret_for("one"), Some(secret), "as an editor leaves it");
    assert_ne!(of_secret.secret_for("another"), Some(secret));
    assert_ne!(keys(b"another-secret-of-at-least-32-bytes").secret_for("one"), Some(secret));
    for pair in [&RSA, &P256, &P384, &ED] {
        let private = keys(&pair.private).secret_for("one");
        assert!(private.is_some_and(|found| found != secret));
        assert_eq!(keys(&pair.private).secret_for("one"), private, "on whichever node");
        assert_eq!(keys(&pair.public).secret_for("one"), None);
    }
}

#[test]
fn a_public_key_taken_for_a_secret_signs_nothing_that_is_accepted() {
    for public in [&RSA.public, &P256.public, &ED.public] {
        let forger = EncodingKey::from_secret(public);
        let claims =
            serde_json::json!({"sub": "eve", "tenant": "acme", "roles": ["admin"], "exp": 4_000_000_000_u64});
        let forged = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &forger).expect("signs");
        assert_eq!(keys(public).verify(&forged, NOW), Err(TokenError::Algorithm));
    }
}

#[test]
fn an_unsigned_token_is_refused() {
    // {"alg":"none","typ":"JWT"} . {"sub":"eve","tenant":"acme","roles":["admin"],"exp":4000000000} . nothing
    let claims = "eyJzdWIiOiJldmUiLCJ0ZW5hbnQiOiJhY21lIiwicm9sZXMiOlsiYWRtaW4iXSwiZXhwIjo0MDAwMDAwMDAwfQ";
    for header in ["eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"] {
        let token = format!("{header}.{claims}.");
        assert!(keys(SECRET).verify(&token, NOW).is_err(), "{token}");
    }
}

#[test]
fn a_changed_token_or_another_key_is_a_wrong_signature() {
    let token = mint(&keys(SECRET)).expect("minted");
    let other = keys(b"another secret of 32 bytes length");
    assert_eq!(other.verify(&token, NOW), Err(TokenError::Signature));
    let (rest, signature) = token.rsplit_once('.').expect("three parts");
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    assert_eq!(
        keys(SECRET).verify(&format!("{rest}.{flipped}{}", &signature[1..]), NOW),
        Err(TokenError::Signature)
    );
    for nonsense in ["", ".", "..", "a.b.c", "nonsense", &"x".repeat(100_000)] {
        assert!(keys(SECRET).verify(nonsense, NOW).is_err(), "{nonsense:.20}");
    }
}

#[test]
fn a_line_break_after_a_secret_is_no_part_of_it() {
    let with_break = [SECRET, b"\n"].concat();
    let token = mint(&keys(&with_break)).expect("minted");
    assert!(keys(SECRET).verify(&token, NOW).is_ok());
    let raw = Keys {
        signing: Some(SigningKey::new(EncodingKey::from_secret(&with_break), Algorithm::HS256, &with_break)),
        ..keys(SECRET)
    };
    let token = mint(&raw).expect("minted");
    assert!(keys(&with_break).verify(&token, NOW).is_ok(), "signed by a tool that took the file as it is");
    let binary = [[0xff_u8; 32].as_slice(), b"\n"].concat();
    assert!(keys(&binary).verify(&mint(&keys(&binary)).expect("minted"), NOW).is_ok());
}

#[test]
fn a_key_of_no_use_says_why() {
    let check = |contents: &[u8], expected: &str| {
        let fault = Keys::from_bytes(contents).expect_err("of no use").to_string();
        assert!(fault.contains(expected), "{fault}");
    };
    check(b"", "the secret has 0 bytes; HS256 takes at least 32");
    check(b"0123456789abcdef0123456789abcde\n", "the secret has 31 bytes");
    check(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "holds no RSA");
    check(&rsa_pair(1024).private, "the RSA key has 1024 bits; at least 2048");
    let missing = Keys::load(Path::new("/nowhere/jwt.key")).expect_err("missing").to_string();
    assert!(missing.starts_with("the key file /nowhere/jwt.key cannot be read"), "{missing}");
}

#[test]
fn a_key_set_checks_by_key_id_and_kind() {
    let jwk = |private: &EncodingKey, algorithm, id: &str| {
        let mut jwk = Jwk::from_encoding_key(private, algorithm).expect("public half");
        jwk.common.key_id = Some(id.into());
        jwk
    };
    let p256 = EncodingKey::from_ec_pem(&P256.private).expect("key");
    let ed = EncodingKey::from_ed_pem(&ED.private).expect("key");
    let set = JwkSet { keys: vec![jwk(&p256, Algorithm::ES256, "a"), jwk(&ed, Algorithm::EdDSA, "b")] };
    let json = serde_json::to_vec(&set).expect("JSON");
    let set = Keys::from_key_set(&json).expect("key set");
    assert!(matches!(mint(&set), Err(MintError::CannotSign)));

    let claims =
        serde_json::json!({"sub": "ada", "tenant": "acme", "roles": ["viewer"], "exp": 4_000_000_000_u64});
    let signed = |algorithm, id: Option<&str>, key: &EncodingKey| {
        let header = Header { kid: id.map(Into::into), ..Header::new(algorithm) };
        jsonwebtoken::encode(&header, &claims, key).expect("signs")
    };
    assert!(set.verify(&signed(Algorithm::ES256, Some("a"), &p256), NOW).is_ok());
    assert!(
        set.verify(&signed(Algorithm::EdDSA, None, &ed), NOW).is_ok(),
        "without an id every key is tried"
    );
    assert!(set.verify(&signed(Algorithm::ES256, Some("b"), &p256), NOW).is_err());
    assert!(set.verify(&mint(&keys(&RSA.private)).expect("minted"), NOW).is_err());

    for nonsense in ["", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"c2hvcnQ"}]}"#] {
        assert!(Keys::from_key_set(nonsense.as_bytes()).is_err(), "{nonsense}");
    }
}

#[test]
fn key_material_is_never_shown() {
    assert_eq!(format!("{:?}", keys(SECRET)), "Keys { checks: [HS256], signs: true }");
}
