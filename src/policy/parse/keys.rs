//! The keys that the parser knows, by what they stand in: for whoever describes policies.

pub(in crate::policy) use super::SECTIONS;
pub(in crate::policy) use super::bundle_source::KEYS as BUNDLE;
pub(in crate::policy) use super::condition::ANY_OF;
pub(in crate::policy) use super::condition::NEGATABLE;
pub(in crate::policy) use super::condition::OPERATORS;
pub(in crate::policy) use super::grant::ACTIONS;
pub(in crate::policy) use super::issuer::KEYS as ISSUER;
pub(in crate::policy) use super::registry::KEYS as REGISTRY;
pub(in crate::policy) use super::registry::LIMIT_KEYS as LIMITS;
pub(in crate::policy) use super::registry::MAX_LIMIT;
pub(in crate::policy) use super::registry::TOKEN_KEYS as TOKEN;
pub(in crate::policy) use super::routes::KEYS as ROUTES;
pub(in crate::policy) use super::routes::ROUTE_KEYS as ROUTE;
pub(in crate::policy) use super::rule::KEYS as RULE;
pub(in crate::policy) use super::rule_test::EXPECT_KEYS as EXPECT;
pub(in crate::policy) use super::rule_test::KEYS as TEST;
