//! Encryption under a secret that the caller brings along, as the npm package does it.

use crate::api::Answer;
use crate::error::Result;
use crate::guc;
use crate::pg::random;
use crate::pg::record::{Record, Shape, Text, value};
use api_tokens_logic::input::{self, required};
use api_tokens_logic::vault::passphrase;
use pgrx::{pg_extern, pg_sys};

thread_local! {
    static ENCRYPTED: Shape = const { Shape::new(&[
        (c"encrypted_value", pg_sys::TEXTOID),
        (c"iv", pg_sys::TEXTOID),
    ]) };
}

#[pg_extern(volatile, parallel_safe)]
fn api_vault_encrypt_value(plaintext: Option<&str>, secret: Option<&str>) -> Answer<Record> {
    Ok(encrypt(plaintext, secret)?)
}

fn encrypt(plaintext: Option<&str>, secret: Option<&str>) -> Result<Record> {
    let plaintext = required("plaintext", plaintext)?;
    input::value(Some(plaintext), guc::vault_max_value_bytes())?;
    let secret = required("secret", secret)?;
    let made = passphrase::encrypt(plaintext, secret, &random::bytes(), interruptible);
    let row = [value(made.encrypted_value), value(made.iv)];
    Ok(ENCRYPTED.with(|shape| shape.form(&row)))
}

#[pg_extern(volatile, parallel_safe)]
fn api_vault_decrypt_value(
    encrypted_value: Option<&str>,
    iv: Option<&str>,
    secret: Option<&str>,
) -> Answer<Text> {
    Ok(decrypt(encrypted_value, iv, secret)?)
}

fn decrypt(encrypted_value: Option<&str>, iv: Option<&str>, secret: Option<&str>) -> Result<Text> {
    let encrypted_value = required("encrypted_value", encrypted_value)?;
    let iv = required("iv", iv)?;
    let secret = required("secret", secret)?;
    let plaintext = passphrase::decrypt(encrypted_value, iv, secret, interruptible)?;
    super::read::text(&plaintext)
}

fn interruptible() {
    pgrx::check_for_interrupts!();
}
