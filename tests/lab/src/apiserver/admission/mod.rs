//! What the real server's default admission plugins do to objects, in their order: service accounts,
//! classes and limit ranges change pods; Pod Security and quotas refuse.

pub mod classes;
pub mod limits;
pub mod pod_security;
pub mod quota;
pub mod service_account;
