//! Which functions each level of rights opens. The levels do not overlap, so that taking one away
//! never takes part of another; `admin` is all of them.

use crate::error::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Validate,
    Manage,
    Vault,
    Admin,
}

const VALIDATE: &[&str] = &[
    "api_token_validate",
    "api_token_validate_hash",
    "api_token_validate_many",
    "api_token_touch",
    "api_token_authenticate",
    "api_token_require",
    "api_token_deauthenticate",
    "api_token_pre_request",
    "api_token_events",
    "api_token_events_end",
];

const MANAGE: &[&str] = &[
    "api_token_create",
    "api_token_refresh",
    "api_token_refresh_by_id",
    "api_token_invalidate",
    "api_token_invalidate_by_id",
    "api_token_invalidate_all",
    "api_token_invalidate_owner",
    "api_token_list",
    "api_token_get",
    "api_token_update",
    "api_token_set_enabled",
    "api_token_set_namespace_limit",
    "api_token_set_metadata_schema",
    "api_token_cleanup",
    "api_token_import",
    "api_token_stats",
    "api_token_usage",
];

const VAULT: &[&str] = &[
    "api_vault_store",
    "api_vault_get",
    "api_vault_list",
    "api_vault_versions",
    "api_vault_rollback",
    "api_vault_delete",
    "api_vault_undelete",
    "api_vault_destroy",
    "api_vault_shred",
    "api_vault_store_encrypted",
    "api_vault_get_encrypted",
    "api_vault_encrypt_value",
    "api_vault_decrypt_value",
];

const ADMIN_ONLY: &[&str] = &[
    "api_vault_rekey",
    "api_vault_rekey_step",
    "api_vault_rotate_dek",
    "api_vault_rotate_dek_begin",
    "api_vault_rotate_dek_step",
    "api_vault_key_status",
    "api_vault_verify",
    "api_tokens_doctor",
    "api_tokens_grant",
    "api_tokens_revoke",
];

impl Level {
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "validate" => Ok(Self::Validate),
            "manage" => Ok(Self::Manage),
            "vault" => Ok(Self::Vault),
            "admin" => Ok(Self::Admin),
            _ => Err(Error::UnknownLevel),
        }
    }

    /// Names of the functions, each unique in the extension's schema.
    pub fn functions(self) -> Vec<&'static str> {
        match self {
            Self::Validate => VALIDATE.to_vec(),
            Self::Manage => MANAGE.to_vec(),
            Self::Vault => VAULT.to_vec(),
            Self::Admin => [VALIDATE, MANAGE, VAULT, ADMIN_ONLY].concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_do_not_overlap() {
        let mut all = Level::Admin.functions();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(Level::parse("root"), Err(Error::UnknownLevel));
    }
}
