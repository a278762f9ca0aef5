//! The box byte by byte, against vectors made by others (tests/vectors).

use super::keyring::{Malformed, Problem, Ring};
use super::passphrase::{self, Encrypted};
use super::seal::{self, Context, OVERHEAD, OpenError, SALT_BYTES};
use super::secret::{Key, KeyId};
use crate::error::Error;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::Value;

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().expect("text");
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn id(bytes: &[u8]) -> KeyId {
    KeyId(bytes.try_into().expect("16 bytes"))
}

fn vectors(of: &str) -> Vec<Value> {
    let all: Value =
        serde_json::from_str(include_str!("../../../tests/vectors/seal.json")).expect("JSON");
    all[of].as_array().expect("an array").clone()
}

/// Opens what others have sealed, and seals the same.
fn agrees(key: &Key, context: &Context, sealed: &[u8], plaintext: &[u8]) {
    assert!(seal::open(key, context, sealed).is_ok_and(|opened| *opened == plaintext));
    let salt: [u8; SALT_BYTES] = sealed[18..42].try_into().expect("a salt");
    let key_id = seal::key_id(sealed).expect("a box");
    assert_eq!(seal::seal(key, &key_id, context, &salt, plaintext), sealed);
}

#[test]
fn values_are_sealed_as_others_seal_them() {
    for vector in vectors("values") {
        let key = Key::from_slice(&bytes(&vector["key"])).expect("a key");
        let (namespace, key_name) = (text(&vector["namespace"]), text(&vector["key_name"]));
        let version = vector["version"].as_u64().expect("a number");
        let context = Context::Value { namespace, key_name, version };
        agrees(&key, &context, &bytes(&vector["sealed"]), text(&vector["plaintext"]).as_bytes());
    }
}

#[test]
fn data_keys_are_wrapped_as_others_wrap_them() {
    for vector in vectors("deks") {
        let line = STANDARD.encode(bytes(&vector["key"]));
        let Ok(ring) = Ring::parse(line.as_bytes()) else { panic!("a ring") };
        assert_eq!(ring.primary().id, id(&bytes(&vector["kek_id"])));
        let dek_id = id(&bytes(&vector["dek_id"]));
        let context = Context::Dek { dek_id: &dek_id, namespace: text(&vector["namespace"]) };
        let sealed = bytes(&vector["sealed"]);
        agrees(&ring.primary().key, &context, &sealed, &bytes(&vector["plaintext"]));
    }
}

const KEY_ID: KeyId = KeyId([7; 16]);
const CONTEXT: Context = Context::Value { namespace: "acme", key_name: "stripe", version: 3 };

fn key() -> Key {
    Key::filled(|bytes| bytes.fill(9))
}

fn sealed() -> Vec<u8> {
    seal::seal(&key(), &KEY_ID, &CONTEXT, &[5; SALT_BYTES], b"a secret value")
}

#[test]
fn each_bit_counts() {
    let good = sealed();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let expected = match at {
                0..2 => OpenError::Malformed,
                2..74 => OpenError::WrongContext,
                _ => OpenError::Damaged,
            };
            assert_eq!(seal::open(&key(), &CONTEXT, &bad).err(), Some(expected), "byte {at}");
        }
    }
}

#[test]
fn each_length_counts() {
    let good = sealed();
    for length in 0..good.len() {
        let opened = seal::open(&key(), &CONTEXT, &good[..length]);
        let expected = if length < OVERHEAD { OpenError::Malformed } else { OpenError::Damaged };
        assert_eq!(opened.err(), Some(expected), "{length} bytes");
    }
    let longer = [good.as_slice(), &[0]].concat();
    assert_eq!(seal::open(&key(), &CONTEXT, &longer).err(), Some(OpenError::Damaged));
}

#[test]
fn a_box_opens_in_its_place_only() {
    let dek_id = KEY_ID;
    for elsewhere in [
        Context::Value { namespace: "acmes", key_name: "tripe", version: 3 },
        Context::Value { namespace: "stripe", key_name: "acme", version: 3 },
        Context::Value { namespace: "acme", key_name: "stripe", version: 4 },
        Context::Value { namespace: "acme", key_name: "", version: 3 },
        Context::Dek { dek_id: &dek_id, namespace: "acme" },
    ] {
        assert_eq!(seal::open(&key(), &elsewhere, &sealed()).err(), Some(OpenError::WrongContext));
    }
    let other = Key::filled(|bytes| bytes.fill(8));
    assert_eq!(seal::open(&other, &CONTEXT, &sealed()).err(), Some(OpenError::WrongContext));
}

proptest! {
    #[test]
    fn what_is_sealed_opens(plaintext: Vec<u8>, namespace: String, key_name: String, version: u64, salt: [u8; SALT_BYTES]) {
        let context = Context::Value { namespace: &namespace, key_name: &key_name, version };
        let sealed = seal::seal(&key(), &KEY_ID, &context, &salt, &plaintext);
        prop_assert_eq!(sealed.len(), plaintext.len() + OVERHEAD);
        prop_assert_eq!(seal::key_id(&sealed), Ok(KEY_ID));
        prop_assert!(seal::open(&key(), &context, &sealed).is_ok_and(|opened| *opened == plaintext));
    }

    #[test]
    fn garbage_does_not_open(mut garbage in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(seal::open(&key(), &CONTEXT, &garbage).is_err());
        garbage.splice(0..0, [1, 1]);
        prop_assert!(seal::open(&key(), &CONTEXT, &garbage).is_err());
    }

    #[test]
    fn any_text_is_a_ring_or_refused(text: Vec<u8>, lines in "([A-Za-z0-9+/=# \n\t\r]{0,60}\n){0,4}") {
        let _ = Ring::parse(&text);
        let _ = Ring::parse(lines.as_bytes());
    }

    #[test]
    fn any_text_is_an_encrypted_value_or_refused(value: String, iv: String) {
        let _ = passphrase::check(&value, &iv);
    }
}

fn refusal(text: &[u8]) -> Option<Malformed> {
    Ring::parse(text).err()
}

#[test]
fn a_ring_is_read_line_by_line() {
    let (first, second) = (STANDARD.encode([1; 32]), STANDARD.encode([2; 32]));
    let text = format!("# keys\n\n  {first}\tmain key \r\n{second}\n");
    let Ok(ring) = Ring::parse(text.as_bytes()) else { panic!("a ring") };
    assert_eq!(ring.keys().len(), 2);
    assert_eq!(ring.primary().label.as_deref(), Some("main key"));
    assert_eq!(ring.keys()[1].label, None);
    assert_eq!(ring.primary().key.as_bytes(), &[1; 32]);
    assert!(ring.find(&ring.keys()[1].id).is_some_and(|kek| kek.key.as_bytes() == &[2; 32]));
    assert!(ring.find(&KEY_ID).is_none());
}

#[test]
fn a_bad_line_is_named_and_not_quoted() {
    let good = STANDARD.encode([1; 32]);
    let line = |number, problem| Some(Malformed::Line { number, problem });
    assert_eq!(refusal(b""), Some(Malformed::Empty));
    assert_eq!(refusal(b"# nothing\n"), Some(Malformed::Empty));
    assert_eq!(refusal(b"secret!"), line(1, Problem::NotBase64));
    let short = STANDARD.encode([1; 31]);
    assert_eq!(refusal(format!("{good}\n{short}").as_bytes()), line(2, Problem::WrongLength));
    let long = STANDARD.encode([1; 200]);
    assert_eq!(refusal(long.as_bytes()), line(1, Problem::WrongLength));
    assert_eq!(refusal(format!("{good}\n\n{good} b").as_bytes()), line(3, Problem::Repeated));
    let other = STANDARD.encode([2; 32]);
    let joined = format!("{good} label {other}");
    assert_eq!(refusal(joined.as_bytes()), line(1, Problem::KeyInLabel));
    assert_eq!(refusal(b"\xff\xfe"), line(1, Problem::NotUtf8));
    assert!(!line(1, Problem::NotBase64).expect("some").to_string().contains("secret"));
}

#[test]
fn passphrases_work_as_in_the_browser() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../tests/vectors/passphrase.json")).expect("JSON");
    for vector in vectors.as_array().expect("an array") {
        let field = |name: &str| text(&vector[name]);
        let (value, iv, secret) = (field("encrypted_value"), field("iv"), field("secret"));
        let mut ticks = 0;
        let opened = passphrase::decrypt(value, iv, secret, || ticks += 1).expect("decrypts");
        assert_eq!(*opened, field("plaintext").as_bytes());
        assert_eq!(ticks, 99, "can be interrupted on the way");
        let bytes = STANDARD.decode(iv).expect("base64").try_into().expect("12 bytes");
        let made = passphrase::encrypt(field("plaintext"), secret, &bytes, || ());
        let expected = Encrypted { encrypted_value: value.to_owned(), iv: iv.to_owned() };
        assert_eq!(made, expected);
        let wrong = passphrase::decrypt(value, iv, "another", || ());
        assert_eq!(wrong.err(), Some(Error::NotDecrypted));
    }
}

#[test]
fn encrypted_values_are_checked() {
    let (value, iv) = (STANDARD.encode([1; 16]), STANDARD.encode([1; 12]));
    assert!(passphrase::check(&value, &iv).is_ok());
    assert!(passphrase::check("not base64!", &iv).is_err());
    assert!(passphrase::check(&STANDARD.encode([1; 15]), &iv).is_err());
    assert!(passphrase::check(&value, &STANDARD.encode([1; 13])).is_err());
    assert!(passphrase::check(&value, "").is_err());
}

/// The primitives as they are used here, against the vectors of Project Wycheproof.
mod wycheproof {
    use aes_gcm::aead::AeadInPlace;
    use aes_gcm::{Aes256Gcm, KeyInit};
    use hkdf::Hkdf;
    use sha2::Sha256;
    use wycheproof::TestResult;

    #[test]
    fn aes_256_gcm() {
        let set =
            wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcm).expect("vectors");
        let mut tested = 0;
        for group in set.test_groups {
            if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
                continue;
            }
            for test in group.tests {
                let cipher = Aes256Gcm::new_from_slice(&test.key).expect("32 bytes");
                let nonce = test.nonce.as_slice().into();
                let mut body = test.ct.to_vec();
                let opened = cipher.decrypt_in_place_detached(
                    nonce,
                    &test.aad,
                    &mut body,
                    test.tag.as_slice().into(),
                );
                let is_valid = test.result == TestResult::Valid;
                assert_eq!(opened.is_ok(), is_valid, "case {}", test.tc_id);
                if is_valid {
                    assert_eq!(body, test.pt.to_vec());
                    let tag = cipher
                        .encrypt_in_place_detached(nonce, &test.aad, &mut body)
                        .expect("sealed");
                    assert_eq!((body, tag.to_vec()), (test.ct.to_vec(), test.tag.to_vec()));
                }
                tested += 1;
            }
        }
        assert!(tested > 50, "{tested} cases");
    }

    #[test]
    fn hkdf_sha256() {
        let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256)
            .expect("vectors");
        for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
            let mut okm = vec![0; test.size];
            let made =
                Hkdf::<Sha256>::new(Some(&test.salt), &test.ikm).expand(&test.info, &mut okm);
            assert_eq!(made.is_ok(), test.result == TestResult::Valid, "case {}", test.tc_id);
            if made.is_ok() {
                assert_eq!(okm, test.okm.to_vec());
            }
        }
    }

    /// RFC 5869, A.1 to A.3.
    #[test]
    fn hkdf_of_the_rfc() {
        let run = |ikm: &[u8], salt: Option<&[u8]>, info: &[u8], length: usize| {
            let mut okm = vec![0; length];
            Hkdf::<Sha256>::new(salt, ikm).expand(info, &mut okm).expect("short enough");
            okm.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let salt: Vec<u8> = (0..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        assert_eq!(
            run(&[0x0b; 22], Some(&salt), &info, 42),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
        );
        let (ikm, salt, info): (Vec<u8>, Vec<u8>, Vec<u8>) =
            ((0..=0x4f).collect(), (0x60..=0xaf).collect(), (0xb0..=0xff).collect());
        assert_eq!(
            run(&ikm, Some(&salt), &info, 82),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
        );
        assert_eq!(
            run(&[0x0b; 22], None, b"", 42),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
        );
    }
}
