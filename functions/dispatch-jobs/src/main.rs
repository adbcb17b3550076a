//! The Lambda function `dispatch-jobs`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    shared::lambda::serve(dispatch_jobs::handle).await
}
