//! Names of packages and what may be done to them: canonical names, patterns, and sets of (action, pattern) pairs.
//!
//! A [`PackageName`] is canonical by construction, so two spellings of one package can never be two packages. A
//! [`Pattern`] is a literal or a literal prefix that ends in a separator, so a grant for `acme-*` can never reach
//! `acmeevil`. This module does not know who may do what: that is policy.

mod ecosystem;
mod name;
mod pattern;
mod permission;

pub use ecosystem::Ecosystem;
pub use name::MAX_NAME;
pub use name::NameError;
pub use name::PackageName;
pub use pattern::Pattern;
pub use permission::Action;
pub use permission::Permission;
pub use permission::Permissions;

#[cfg(test)]
mod tests;
