//! SQS: what cannot be done goes to a queue that people look at. What is asked for, Lambda delivers (fact 53).

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::MessageAttributeValue;

use crate::aws::{Aws, allowance};
use crate::error::{Error, Verdict, failure};
use crate::text;

impl Aws {
    /// Sends a message to a queue, with why it is there as its attribute `reason`.
    ///
    /// Repeating it leaves the message there twice, which people see and which does no harm.
    ///
    /// # Errors
    /// The call's.
    pub async fn send(&self, queue: &str, body: &str, reason: &str) -> Result<(), Error> {
        let config = aws_sdk_sqs::config::Builder::from(self.config()).retry_partition(allowance()).build();
        // What SQS may refuse must not keep a message from being seen (its "unsupported characters").
        let is_refused = |char: char| char.is_control() && char != '\n' || matches!(char, '\u{fffe}' | '\u{ffff}');
        let reason = text::fit(&reason.replace(is_refused, " "), 1000);
        let reason = MessageAttributeValue::builder().data_type("String").string_value(reason).build();
        let reason = reason.map_err(|error| Verdict::failed(format!("a message cannot be made: {error}")))?;
        let call = Client::from_conf(config).send_message().queue_url(queue).message_body(body);
        let sent = call.message_attributes("reason", reason).send().await;
        sent.map(drop).map_err(|error| failure("sqs:SendMessage", &error))
    }
}
