//! What a job may publish: rules over verified claims, and why a decision came out as it did.

pub mod yaml;
