//! Settings while they are read: every field is empty until the variable that fills it is read.

use std::path::PathBuf;

use super::settings::SettingsDraft;

/// Defines a struct of settings together with its draft: the same fields, each of them empty until
/// a variable fills it. So a new setting is one field here and one entry of the table, and a field
/// that no variable fills cannot get into use.
///
/// Fields after `with` are such structs themselves.
macro_rules! settings {
    (
        $(#[$doc:meta])*
        pub struct $name:ident, drafted as $draft:ident {
            $($(#[$field_doc:meta])* pub $field:ident: $type:ty,)*
        }
        $(with {
            $($(#[$part_doc:meta])* pub $part:ident: $part_type:ty, drafted as $part_draft:ty;)*
        })?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
            $($($(#[$part_doc])* pub $part: $part_type,)*)?
        }

        #[doc = concat!("[`", stringify!($name), "`] while it is read.")]
        #[derive(Debug, Default)]
        pub(in crate::service::config) struct $draft {
            $(pub(in crate::service::config) $field: Option<$type>,)*
            $($(pub(in crate::service::config) $part: $part_draft,)*)?
        }

        impl $draft {
            /// The finished settings; `None` while a field is empty.
            pub(in crate::service::config) fn complete(self) -> Option<$name> {
                Some($name {
                    $($field: self.$field?,)*
                    $($($part: self.$part.complete()?,)*)?
                })
            }
        }
    };
}

pub(super) use settings;

/// All that the table's entries fill.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// The settings.
    pub(super) settings: SettingsDraft,
    /// What several variables make a setting of together.
    pub(super) pieces: Pieces,
}

/// Values of variables that are no setting alone: [`together`](super::together) makes settings of
/// them. `None` is for variables that are not set, or hold a mistake.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// `AMQP_CLIENT_CERT_FILE`, which is of use only with its key.
    pub(super) client_certificate: Option<PathBuf>,
    /// `AMQP_CLIENT_KEY_FILE`, which is of use only with its certificate.
    pub(super) client_key: Option<PathBuf>,
    /// `QUEUE_PREFETCH`, whose default depends on three other variables.
    pub(super) prefetch: Option<u16>,
    /// `REFERENCE_LISTS`, a directory: it may hold the plan that `TENANTS` is read by.
    pub(super) lists: Option<PathBuf>,
    /// `TENANTS`, a file: the relay's own users, who are in `AMQP_URL`, are none.
    pub(super) tenants: Option<PathBuf>,
}
