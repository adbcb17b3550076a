//! Lambda: handing a job to the function that does it.

use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use serde_json::Value;
use shared::error::failure;
use shared::{Aws, Error};

/// Invokes `function` asynchronously with the job.
///
/// Safe to repeat: the function takes the same job twice without doing anything twice.
///
/// # Errors
/// The call's.
pub(crate) async fn invoke(aws: &Aws, function: &str, event: &Value) -> Result<(), Error> {
    let call = Client::new(aws.config()).invoke().function_name(function).invocation_type(InvocationType::Event);
    let sent = call.payload(Blob::new(event.to_string())).send().await;
    sent.map(drop).map_err(|error| failure("lambda:Invoke", &error))
}
