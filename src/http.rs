//! HTTP/1.1 in both directions, without a socket or a file: requests, responses and plans as plain
//! data, with parsers and writers.

pub(crate) mod chunked;
mod client_fields;
pub(crate) mod client_response;
pub(crate) mod conditional;
mod credentials;
pub(crate) mod date;
pub(crate) mod digest_fields;
pub(crate) mod disposition;
mod exchange;
mod field_values;
pub(crate) mod forwarded;
pub(crate) mod link_field;
mod media;
mod negotiate;
pub(crate) mod parse;
pub(crate) mod policy;
mod query;
pub(crate) mod query_secrets;
pub(crate) mod range;
mod refusal;
mod request;
pub(crate) mod respond;
pub(crate) mod validator;

pub use crate::meta::Meta;
pub(crate) use crate::meta::Timestamp;
pub use client_fields::ClientFields;
pub(crate) use credentials::Credentials;
pub use digest_fields::DigestAnswer;
pub(crate) use exchange::{ContentKind, Protocol, Response};
pub use exchange::{Persistence, Plan, Segment, Target, percent_encode_component};
pub(crate) use media::MediaType;
pub(crate) use negotiate::{Coding, Explanation, ListingFormat, MetricsFormat};
pub(crate) use query::{Query, SortKey, SortOrder};
pub use range::RangeSpec;
pub(crate) use refusal::Refusal;
pub(crate) use request::{Audience, Expectation, Request, Version};
pub use request::{BodyLength, Method};
pub(crate) use validator::Strength;
pub use validator::Validators;
