//! How the page writes values. Numbers and sentences are written as everywhere.

pub(super) use crate::domain::prose::{number, share, spaced};
