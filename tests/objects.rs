//! Objects in S3 as Cutover keeps them, under what can happen to the calls.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::collections::BTreeMap;
use std::sync::Mutex;

use local::template::{self, Stack};
use local::world::Request;
use shared::Error;
use shared::aws::s3::{Bucket, Written};
use tests::{Call, Meddling, Setting, play_denied};

/// Plays with the stack's bucket as the account's owner; `happens` says what becomes of the calls of an operation, one after the
/// other.
fn with_bucket<F: Future<Output = ()>>(
    operation: &'static str,
    happens: impl IntoIterator<Item = Meddling, IntoIter: Send + 'static>,
    scenario: impl FnOnce(Bucket) -> F,
) {
    let happens = Mutex::new(happens.into_iter());
    let meddle = move |call: &Call<'_>| match call.operation == operation {
        true => happens.lock().unwrap().next().unwrap_or(Meddling::Pass),
        false => Meddling::Pass,
    };
    play_denied(Setting { meddle: Box::new(meddle), ..Setting::default() }, async |stage| {
        scenario(stage.aws_of_owner().bucket("cutover-artifacts")).await;
    });
}

fn etag(written: Written) -> String {
    match written {
        Written::Done(etag) => etag,
        Written::Refused => panic!("it was refused"),
    }
}

#[test]
fn an_object_is_created_once_and_replaced_only_by_who_has_read_it() {
    with_bucket("", [], async |bucket| {
        assert_eq!(bucket.get("releases/a.json").await.unwrap(), None);
        let first = etag(bucket.create("releases/a.json", b"1".to_vec()).await.unwrap());
        assert_eq!(bucket.create("releases/a.json", b"2".to_vec()).await.unwrap(), Written::Refused);
        let read = bucket.get("releases/a.json").await.unwrap().unwrap();
        assert_eq!((read.body.as_slice(), &read.etag), (&b"1"[..], &first));
        let second = etag(bucket.replace("releases/a.json", b"3".to_vec(), &first).await.unwrap());
        assert_ne!(first, second);
        assert_eq!(bucket.replace("releases/a.json", b"4".to_vec(), &first).await.unwrap(), Written::Refused);
        assert_eq!(bucket.get("releases/a.json").await.unwrap().unwrap().body, b"3");
        bucket.delete("releases/a.json").await.unwrap();
        bucket.delete("releases/a.json").await.unwrap();
        assert_eq!(bucket.get("releases/a.json").await.unwrap(), None);
        assert_eq!(bucket.replace("releases/a.json", b"5".to_vec(), &second).await.unwrap(), Written::Refused);
        etag(bucket.create("releases/a.json", b"6".to_vec()).await.unwrap());
    });
}

#[test]
fn what_is_there_is_listed_in_order_whatever_the_pages_and_the_keys_are() {
    let keys = ["a", "releases/1 & <2>.json", "releases/10+%41.json", "releases/9/ü.json", "released/x"];
    with_bucket("ListObjectsV2", std::iter::repeat(Meddling::SmallPage(1)), async |bucket| {
        for key in keys {
            etag(bucket.create(key, b"{}".to_vec()).await.unwrap());
        }
        let listed = bucket.list("releases/").await.unwrap();
        assert_eq!(listed.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(), &keys[1..4]);
        assert!(listed.iter().all(|one| one.size == 2 && one.modified > tests::BEGIN), "{listed:?}");
        assert_eq!(bucket.get(keys[2]).await.unwrap().unwrap().body, b"{}");
        assert_eq!(bucket.list("nothing/").await.unwrap(), []);
    });
}

#[test]
fn a_write_whose_reply_is_lost_is_refused_when_the_client_repeats_it_and_is_there() {
    with_bucket("PutObject", [Meddling::LoseReply], async |bucket| {
        assert_eq!(bucket.create("a", b"1".to_vec()).await.unwrap(), Written::Refused);
        assert_eq!(bucket.get("a").await.unwrap().unwrap().body, b"1");
    });
}

#[test]
fn a_conflict_is_to_be_tried_again_and_has_written_nothing() {
    with_bucket("PutObject", [Meddling::Conflict; 3], async |bucket| {
        let conflict = bucket.create("a", b"1".to_vec()).await.unwrap_err();
        assert!(
            matches!(&conflict, Error::Again(why) if why.contains("another write of it is under way")),
            "{conflict}"
        );
        assert_eq!(bucket.get("a").await.unwrap(), None);
    });
}

#[test]
fn what_is_not_there_is_forbidden_to_who_may_not_list_and_nothing_is_there_for_other_accounts() {
    let reads_alone = "Resources:\n  Role:\n    Type: AWS::IAM::Role\n    Properties:\n      Policies: [{PolicyName: own, PolicyDocument: \
                       {Statement: [{Effect: Allow, Action: 's3:GetObject', Resource: '*'}]}}]\n";
    let reads_alone = template::role(reads_alone, "Role", &BTreeMap::new(), "111122223333").unwrap();
    let change_stack = move |stack: &mut Stack| {
        let is_it = |one: &&mut template::Function| one.name == "cutover-notify";
        stack.functions.iter_mut().filter(is_it).for_each(|one| one.permissions = reads_alone.clone());
    };
    play_denied(Setting { change_stack: Box::new(change_stack), ..Setting::default() }, async |stage| {
        let asked = |method: &str, key: &str, who: &str| {
            let signed = format!("AWS4-HMAC-SHA256 Credential={who}/20231114/us-east-1/s3/aws4_request");
            let request = Request {
                method: method.into(),
                path: format!("/cutover-artifacts/{key}"),
                headers: [("authorization".to_owned(), signed)].into(),
                ..Request::default()
            };
            stage.handle(&request).status
        };
        assert_eq!(asked("PUT", "there", "owner"), 200);
        for (method, key, who, status) in [
            ("GET", "there", "cutover-halt-release", 200),
            ("GET", "missing", "cutover-halt-release", 404),
            ("GET", "there", "cutover-notify", 200),
            ("GET", "missing", "cutover-notify", 403),
            ("PUT", "there", "cutover-halt-release", 403),
            ("DELETE", "there", "cutover-halt-release", 403),
            ("GET", "missing", "owner", 404),
            ("GET", "there", "ASIAARTIFACTCREDENTI", 200),
            ("PUT", "there", "ASIAARTIFACTCREDENTI", 403),
            ("GET", "there", "ASIA444455556666", 403),
        ] {
            assert_eq!(asked(method, key, who), status, "{method} {key} as {who}");
        }
    });
}
