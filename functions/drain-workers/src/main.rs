//! The Lambda function `drain-workers`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    shared::lambda::serve(drain_workers::handle).await
}
