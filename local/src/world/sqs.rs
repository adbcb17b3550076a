//! SQS, and how Lambda receives from it (fact 53): batches, messages that failed by themselves, and where those go that were
//! received too often.
//!
//! Invariant: a message is gone only when the function did not say that it failed, or somebody deleted it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use shared::Time;

use super::{Fault, Request, Timer, World};
use crate::template::{On, Queue as Declared};

/// How long a message is on its way to who receives it.
const DELIVERY: Duration = Duration::from_millis(20);

/// The queues, by name.
#[derive(Debug, Default)]
pub(super) struct Sqs(BTreeMap<String, Queue>);

#[derive(Debug)]
struct Queue {
    declared: Declared,
    messages: Vec<Message>,
    /// How many invocations have messages of it.
    at_work: usize,
}

/// A message in a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// What it says.
    pub body: String,
    /// Its attributes.
    pub attributes: Value,
    /// When it was sent.
    pub sent: Time,
    visible: Time,
    received: u32,
}

impl Sqs {
    pub(super) fn new(declared: &[Declared]) -> Self {
        let queue = |one: &Declared| Queue { declared: one.clone(), messages: Vec::new(), at_work: 0 };
        Self(declared.iter().map(|one| (one.name.clone(), queue(one))).collect())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct SendMessage {
    queue_url: String,
    message_body: String,
    message_attributes: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct OfQueue {
    queue_url: String,
    attribute_names: Option<Vec<String>>,
    message_attribute_names: Option<Vec<String>>,
    message_system_attribute_names: Option<Vec<String>>,
    max_number_of_messages: Option<usize>,
    visibility_timeout: Option<u64>,
    wait_time_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct DeleteMessage {
    queue_url: String,
    receipt_handle: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GetQueueUrl {
    queue_name: String,
}

/// A queue's name, from its URL or its ARN.
fn name(queue: &str) -> &str {
    queue.rsplit(['/', ':']).next().unwrap_or(queue)
}

impl World {
    /// The messages of a queue, oldest first.
    #[must_use]
    pub fn messages(&self, queue: &str) -> Vec<Message> {
        self.sqs.0.get(queue).map(|queue| queue.messages.clone()).unwrap_or_default()
    }

    fn queue(&mut self, queue: &str) -> Result<&mut Queue, Fault> {
        let missing = || Fault::new("QueueDoesNotExist", "The specified queue does not exist.");
        self.sqs.0.get_mut(name(queue)).ok_or_else(missing)
    }

    pub(super) fn sqs_operation(&mut self, operation: &str, request: &Request) -> Result<Value, Fault> {
        let now = self.now;
        match operation {
            "SendMessage" => {
                let input: SendMessage = request.input()?;
                self.queue(&input.queue_url)?;
                let attributes = input.message_attributes.unwrap_or(json!({}));
                let id = self.send(name(&input.queue_url), input.message_body, attributes);
                Ok(json!({"MessageId": id}))
            }
            "ReceiveMessage" => {
                let input: OfQueue = request.input()?;
                let _ = (&input.attribute_names, &input.message_attribute_names, &input.message_system_attribute_names);
                let _ = input.wait_time_seconds;
                let queue = self.queue(&input.queue_url)?;
                let hidden = Duration::from_secs(input.visibility_timeout.unwrap_or(queue.declared.visibility));
                let visible = queue.messages.iter_mut().filter(|one| one.visible <= now);
                let received = visible.take(input.max_number_of_messages.unwrap_or(1)).map(|one| {
                    one.visible = now.plus(hidden);
                    one.received += 1;
                    json!({"MessageId": one.id, "ReceiptHandle": one.id, "Body": one.body,
                        "MessageAttributes": one.attributes})
                });
                Ok(json!({"Messages": received.collect::<Vec<_>>()}))
            }
            "DeleteMessage" => {
                let input: DeleteMessage = request.input()?;
                self.queue(&input.queue_url)?.messages.retain(|one| one.id != input.receipt_handle);
                Ok(Value::Null)
            }
            "GetQueueUrl" => {
                let input: GetQueueUrl = request.input()?;
                self.queue(&input.queue_name)?;
                let (region, account) = (&self.region, &self.account);
                Ok(json!({"QueueUrl": format!("https://sqs.{region}.amazonaws.com/{account}/{}", input.queue_name)}))
            }
            "GetQueueAttributes" => {
                let input: OfQueue = request.input()?;
                let queue = self.queue(&input.queue_url)?;
                let visible = queue.messages.iter().filter(|one| one.visible <= now).count();
                let hidden = queue.messages.len() - visible;
                Ok(json!({"Attributes": {"ApproximateNumberOfMessages": visible.to_string(),
                    "ApproximateNumberOfMessagesNotVisible": hidden.to_string()}}))
            }
            _ => Err(Fault::unknown(format!("the operation {operation}"))),
        }
    }

    /// Puts a message into a queue; its id.
    pub(super) fn send(&mut self, queue: &str, body: String, attributes: Value) -> String {
        let id = self.uuid();
        let message = Message { id: id.clone(), body, attributes, sent: self.now, visible: self.now, received: 0 };
        if let Some(queue) = self.sqs.0.get_mut(queue) {
            queue.messages.push(message);
        }
        self.look_at_queue(queue, DELIVERY);
        id
    }

    /// Whether a queue holds anything, seen by somebody or not.
    pub(super) fn has_messages(&self, queue: &str) -> bool {
        self.sqs.0.get(queue).is_some_and(|queue| !queue.messages.is_empty())
    }

    fn look_at_queue(&mut self, queue: &str, delay: Duration) {
        let timer = Timer::Queue(queue.to_owned());
        let due = self.now.plus(delay);
        if !self.timers.iter().any(|((at, _), one)| *at == due && *one == timer) {
            self.after(delay, timer);
        }
    }

    /// Lambda receives what can be received, and invokes the function with it.
    pub(super) fn receive(&mut self, queue: &str) {
        let now = self.now;
        let mapping = self.rules.iter().find_map(|rule| match &rule.on {
            On::Queue { queue: of, batch, at_once } if of == queue => Some((rule.function.clone(), *batch, *at_once)),
            On::Queue { .. } | On::Pattern(_) | On::Rate(_) => None,
        });
        let Some((function, batch, at_once)) = mapping else { return };
        // Lambda receives and deletes as the function.
        for action in ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"] {
            let arn = format!("arn:aws:sqs:{}:{}:{queue}", self.region, self.account);
            if self.allow(&function, &super::iam::need(action, arn)).is_err() {
                return;
            }
        }
        loop {
            let Some(own) = self.sqs.0.get_mut(queue).filter(|own| own.at_work < at_once) else { return };
            let hidden = Duration::from_secs(own.declared.visibility);
            let mut dead = Vec::new();
            if let Some((to, most)) = &own.declared.redrive {
                let is_dead = |one: &Message| one.visible <= now && one.received >= *most;
                dead.extend(own.messages.iter().filter(|one| is_dead(one)).map(|one| (to.clone(), one.clone())));
                own.messages.retain(|one| !is_dead(one));
            }
            let mut records = Vec::new();
            for one in own.messages.iter_mut().filter(|one| one.visible <= now).take(batch) {
                one.visible = now.plus(hidden);
                one.received += 1;
                records.push(json!({"messageId": one.id, "receiptHandle": one.id, "body": one.body,
                    "attributes": {"ApproximateReceiveCount": one.received.to_string(),
                        "SentTimestamp": one.sent.millis().to_string()},
                    "messageAttributes": {}, "eventSource": "aws:sqs", "awsRegion": self.region,
                    "eventSourceARN": format!("arn:aws:sqs:{}:{}:{queue}", self.region, self.account)}));
            }
            let has_some = !records.is_empty();
            if has_some {
                own.at_work += 1;
            }
            for (to, message) in dead {
                self.send(&to, message.body, message.attributes);
            }
            if !has_some {
                return;
            }
            self.invoke_with_messages(&function, queue, json!({"Records": records}));
            // What it does not answer for is received again.
            self.look_at_queue(queue, hidden);
        }
    }

    /// The function has answered, or died: what it has not said to have failed is deleted.
    pub(super) fn messages_handled(&mut self, queue: &str, payload: &Value, answer: Option<Value>) {
        let Some(own) = self.sqs.0.get_mut(queue) else { return };
        own.at_work = own.at_work.saturating_sub(1);
        if let Some(answer) = answer {
            let failed = answer.get("batchItemFailures").and_then(Value::as_array).cloned().unwrap_or_default();
            let given = payload.get("Records").and_then(Value::as_array).into_iter().flatten();
            for id in given.filter_map(|one| one.get("messageId")) {
                if !failed.iter().any(|one| one.get("itemIdentifier") == Some(id)) {
                    own.messages.retain(|one| *id != one.id);
                }
            }
        }
        self.look_at_queue(queue, DELIVERY);
    }
}
