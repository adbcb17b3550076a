//! The Lambda function `tail-logs`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    shared::lambda::serve(tail_logs::handle).await
}
