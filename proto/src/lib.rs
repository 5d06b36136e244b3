//! weft's wire protocol: types and services generated from `proto/weft/v1`.

/// Version 1 of the protocol.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated from the protobuf files, which carry the comments"
)]
pub mod v1 {
    tonic::include_proto!("weft.v1");
}
