//! What happened, as the events table and NOTIFY tell it.

use serde_json::Value;

/// One variant per change that leaves a row in `api_tokens.events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Create,
    Refresh,
    ReuseDetected,
    Invalidate,
    InvalidateById,
    InvalidateAll,
    Update,
    Enable,
    Disable,
    Cleanup,
    Import,
    SetNamespaceLimit,
    SetMetadataSchema,
    VaultStore,
    VaultDelete,
    VaultRekey,
    VaultShred,
}

impl Method {
    pub const ALL: [Self; 17] = [
        Self::Create,
        Self::Refresh,
        Self::ReuseDetected,
        Self::Invalidate,
        Self::InvalidateById,
        Self::InvalidateAll,
        Self::Update,
        Self::Enable,
        Self::Disable,
        Self::Cleanup,
        Self::Import,
        Self::SetNamespaceLimit,
        Self::SetMetadataSchema,
        Self::VaultStore,
        Self::VaultDelete,
        Self::VaultRekey,
        Self::VaultShred,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Refresh => "refresh",
            Self::ReuseDetected => "reuse_detected",
            Self::Invalidate => "invalidate",
            Self::InvalidateById => "invalidate_by_id",
            Self::InvalidateAll => "invalidate_all",
            Self::Update => "update",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Cleanup => "cleanup",
            Self::Import => "import",
            Self::SetNamespaceLimit => "set_namespace_limit",
            Self::SetMetadataSchema => "set_metadata_schema",
            Self::VaultStore => "vault_store",
            Self::VaultDelete => "vault_delete",
            Self::VaultRekey => "vault_rekey",
            Self::VaultShred => "vault_shred",
        }
    }

    /// Can it turn a token that a cache believes in into one it must not believe in? Then it is
    /// notified, and a reader with `validate` rights alone may see it. An update counts: it may
    /// have taken a scope away; and a limit, which an answer from a cache is not charged to.
    pub const fn invalidates(self) -> bool {
        match self {
            Self::Refresh
            | Self::ReuseDetected
            | Self::Invalidate
            | Self::InvalidateById
            | Self::InvalidateAll
            | Self::Update
            | Self::Disable
            | Self::SetNamespaceLimit => true,
            Self::Create
            | Self::Enable
            | Self::Cleanup
            | Self::Import
            | Self::SetMetadataSchema
            | Self::VaultStore
            | Self::VaultDelete
            | Self::VaultRekey
            | Self::VaultShred => false,
        }
    }

    pub fn invalidating() -> Vec<&'static str> {
        Self::ALL.into_iter().filter(|method| method.invalidates()).map(Self::as_str).collect()
    }
}

/// The payload of one NOTIFY: compact JSON, absent keys left out. At most about 3.3 kB: a
/// namespace of 512 control characters, escaped; NOTIFY takes 8000 bytes.
#[derive(Debug, Default)]
pub struct Notice<'a> {
    pub method: &'a str,
    pub event_id: i64,
    pub namespace: Option<&'a str>,
    pub token_id: Option<String>,
    pub replaced_by: Option<String>,
    pub count: Option<i64>,
}

impl Notice<'_> {
    pub fn to_json(&self) -> String {
        let fields = [
            ("method", Some(Value::from(self.method))),
            ("event_id", Some(Value::from(self.event_id))),
            ("namespace", self.namespace.map(Value::from)),
            ("token_id", self.token_id.as_deref().map(Value::from)),
            ("replaced_by", self.replaced_by.as_deref().map(Value::from)),
            ("count", self.count.map(Value::from)),
        ];
        let present = fields.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let members: Vec<String> =
            present.map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_keys_are_left_out() {
        let notice = Notice { method: "invalidate", event_id: 7, ..Notice::default() };
        assert_eq!(notice.to_json(), r#"{"method":"invalidate","event_id":7}"#);
    }

    #[test]
    fn the_longest_payload_fits_into_a_notify() {
        let namespace = "\u{1}".repeat(512);
        let id = || Some("x".repeat(36));
        let notice = Notice {
            method: "invalidate_by_id",
            event_id: i64::MIN,
            namespace: Some(&namespace),
            token_id: id(),
            replaced_by: id(),
            count: Some(i64::MIN),
        };
        assert!(notice.to_json().len() < 8000);
    }
}
