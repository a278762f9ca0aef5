//! The token that an HTTP request carries.

use crate::pg::argument::TokenText;
use crate::pg::record::Text;
use api_tokens_logic::header;
use pgrx::pg_extern;

/// VOLATILE, though it is pure: what is folded into a plan is shown with it.
#[pg_extern(volatile, parallel_safe)]
fn api_token_from_header(header: Option<TokenText>) -> Option<Text> {
    let header = header.as_ref()?.bytes_up_to(header::MAX_HEADER_BYTES)?;
    header::bearer(header).map(Text::copy)
}

/// From all headers of a request, as one JSON object.
#[pg_extern(volatile, parallel_safe)]
fn presented_token(headers: Option<&str>) -> Option<Text> {
    header::presented(headers?).map(|token| Text::copy(&token))
}
