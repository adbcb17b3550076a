//! The Lambda function `run-tasks`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    shared::lambda::serve(run_tasks::handle).await
}
