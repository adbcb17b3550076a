//! The Lambda function `check-rollback`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    shared::lambda::serve(check_rollback::handle).await
}
